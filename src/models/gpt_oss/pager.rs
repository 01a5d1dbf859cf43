//! Experts that come and go: a fixed number of slots on the device, filled from the checkpoint's mapped bytes, the least
//! recently used one first to leave.
//!
//! All blocks share the slots.  A block that routes to more experts than there are slots is computed in turns.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::experts::Packed;
use crate::telemetry::events::Paging;

/// Writes an expert of a layer into a slot.
pub type Fetch = dyn Fn(usize, usize, usize) + Send + Sync;

/// The slots and what is in them.
pub struct Pager {
    packed: Packed,
    slots: usize,
    expert_bytes: u64,
    fetch: Box<Fetch>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slot_of: HashMap<(usize, usize), usize>,
    /// For each slot in use, what is in it and when it was last used.
    held: Vec<((usize, usize), u64)>,
    clock: u64,
    stats: Paging,
}

impl std::fmt::Debug for Pager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pager of {} slots", self.slots)
    }
}

impl Pager {
    /// `slots` empty slots in `packed`; `fetch` fills one with `expert_bytes` bytes.
    pub fn new(packed: Packed, slots: usize, expert_bytes: u64, fetch: Box<Fetch>) -> Self {
        assert!(slots > 0, "a pager needs a slot");
        Self { packed, slots, expert_bytes, fetch, state: Mutex::default() }
    }

    /// The slots' buffers.
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// How many there are.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// What it has done so far.
    pub fn stats(&self) -> Paging {
        self.state().stats
    }

    /// The turns in which the experts `routed` of `layer` are computed: for each, `routed` with slots for experts that have
    /// their turn and `u32::MAX` for the others.  A turn's experts are on the device when it is taken.
    pub fn turns<'a>(&'a self, layer: usize, routed: &'a [u32]) -> impl Iterator<Item = Vec<u32>> + 'a {
        let mut wanted: Vec<u32> = routed.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        // Those already here first: a turn must not evict what the next one wants.
        let state = self.state();
        wanted.sort_by_key(|&e| !state.slot_of.contains_key(&(layer, e as usize)));
        drop(state);
        let turns = wanted.len().div_ceil(self.slots);
        (0..turns).map(move |turn| {
            let group = &wanted[turn * self.slots..wanted.len().min((turn + 1) * self.slots)];
            let slot_of = self.bring(layer, group);
            routed.iter().map(|id| slot_of.get(id).map_or(u32::MAX, |&slot| slot as u32)).collect()
        })
    }

    fn bring(&self, layer: usize, group: &[u32]) -> HashMap<u32, usize> {
        let mut state = self.state();
        state.clock += 1;
        let now = state.clock;
        let (here, missing): (Vec<u32>, Vec<u32>) =
            group.iter().partition(|&&e| state.slot_of.contains_key(&(layer, e as usize)));
        let mut out = HashMap::new();
        for e in here {
            let slot = state.slot_of[&(layer, e as usize)];
            state.held[slot].1 = now;
            state.stats.hits += 1;
            out.insert(e, slot);
        }
        for e in missing {
            let slot = state.free_slot(self.slots, now);
            let key = (layer, e as usize);
            (self.fetch)(layer, e as usize, slot);
            state.held[slot] = (key, now);
            state.slot_of.insert(key, slot);
            state.stats.misses += 1;
            state.stats.bytes_paged += self.expert_bytes;
            out.insert(e, slot);
        }
        out
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A slot that nothing of this turn (`now`) is in.
    fn free_slot(&mut self, slots: usize, now: u64) -> usize {
        if self.held.len() < slots {
            self.held.push(((usize::MAX, usize::MAX), now));
            return self.held.len() - 1;
        }
        let oldest = (0..slots).min_by_key(|&slot| self.held[slot].1).unwrap_or(0);
        debug_assert!(self.held[oldest].1 < now, "a turn has no more experts than slots");
        let (key, _) = self.held[oldest];
        self.slot_of.remove(&key);
        self.stats.evictions += 1;
        oldest
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Layer, expert and slot of every fetch.
    type Log = Arc<Mutex<Vec<(usize, usize, usize)>>>;

    fn pager(slots: usize) -> (Pager, Log) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = log.clone();
        let fetch =
            move |layer, expert, slot| seen.lock().unwrap_or_else(PoisonError::into_inner).push((layer, expert, slot));
        (Pager::new(Packed::default(), slots, 10, Box::new(fetch)), log)
    }

    #[test]
    fn the_least_recently_used_expert_leaves() {
        let (pager, log) = pager(2);
        assert_eq!(pager.turns(0, &[3, 1]).collect::<Vec<_>>(), [vec![1, 0]]);
        assert_eq!(pager.turns(0, &[3]).collect::<Vec<_>>(), [vec![1]]);
        assert_eq!(pager.turns(1, &[3]).collect::<Vec<_>>(), [vec![0]], "expert 1 of layer 0 was used least recently");
        assert_eq!(pager.turns(0, &[3]).collect::<Vec<_>>(), [vec![1]]);
        assert_eq!(*log.lock().unwrap_or_else(PoisonError::into_inner), [(0, 1, 0), (0, 3, 1), (1, 3, 0)]);
        assert_eq!(pager.stats(), Paging { hits: 2, misses: 3, evictions: 1, bytes_paged: 30 });
    }

    #[test]
    fn more_experts_than_slots_take_turns_that_cover_each_once() {
        let (pager, _) = pager(2);
        pager.turns(0, &[4]).for_each(drop);
        let routed = [0, 1, 2, 3, 4, 0, 4, 2];
        let turns: Vec<_> = pager.turns(0, &routed).collect();
        assert_eq!(turns.len(), 3);
        for i in 0..routed.len() {
            assert_eq!(turns.iter().filter(|t| t[i] != u32::MAX).count(), 1, "assignment {i}");
        }
        assert!(turns[0][4] != u32::MAX, "what is on the device has its turn first");
    }
}
