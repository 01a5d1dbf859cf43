//! Keys and values of some sequences in all layers.
//!
//! A layer has one buffer of keys and one of values; each sequence has a lane of them, a ring of slots: its position `p` is in
//! slot `first + p mod slots`.  A layer that sees everything needs a slot for every position, a windowed one the window, the
//! largest chunk and some positions more, so that short rewinds need no recomputation.
//!
//! A cache of one lane grows by doubling up to the context, keys and values one after the other, so that what is replaced is
//! never more than a quarter of the whole.  Where the context is paid for anyway, and with several lanes, it starts whole.

use burn::tensor::{Int, Tensor};

use super::rope::Place;
use crate::device::Compute;
use crate::kernels::qkv::Class;

/// How far back a layer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// At every position before.
    Full,
    /// At so many positions, its own included.
    Window(usize),
}

impl Reach {
    /// The window as the kernels take it: 0 is none.
    pub fn window(self) -> usize {
        match self {
            Reach::Full => 0,
            Reach::Window(window) => window,
        }
    }

    /// Which of a step's places holds.
    pub fn class(self) -> Class {
        match self {
            Reach::Full => Class::Full,
            Reach::Window(_) => Class::Window,
        }
    }
}

/// Slots a growing cache starts with.
const SLOTS_MIN: usize = 256;

/// What a cache must have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    /// Words of a slot of keys, and of values.
    pub width: usize,
    /// Sequences.
    pub lanes: usize,
    /// Tokens of the largest chunk.
    pub chunk: usize,
    /// Positions of the longest sequence.
    pub context: usize,
    /// Whether to take the memory of the whole context at once.
    pub whole: bool,
}

/// The cache of one layer.
#[derive(Debug, Clone)]
struct LayerCache {
    keys: Tensor<2, Int>,
    values: Tensor<2, Int>,
    reach: Reach,
    /// Of a lane.
    slots: usize,
}

/// The caches of all layers.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    shape: CacheShape,
    /// Positions written of each lane.
    ends: Vec<usize>,
    /// The first position of each lane that its windowed layers still hold.  A rewind gives back no slot that was
    /// overwritten before it, so this cannot be told from the end alone.
    oldest: Vec<usize>,
}

/// The first position that a ring of `slots` still holds at `end`, where it held those from `oldest` on before.
fn oldest_held(oldest: usize, end: usize, slots: usize) -> usize {
    oldest.max(end.saturating_sub(slots))
}

/// Whether a ring holds, from `oldest` on, all that `position` may look at.
fn sees_its_window(position: usize, window: usize, oldest: usize) -> bool {
    (position + 1).saturating_sub(window) >= oldest
}

impl KvCache {
    /// Empty caches of layers that look so far back.
    pub fn new(compute: &Compute, reaches: impl IntoIterator<Item = Reach>, shape: CacheShape) -> Self {
        let whole = shape.whole || shape.lanes > 1;
        let layer = |reach| {
            let slots = match reach {
                Reach::Full if whole => shape.context.min(compute.buffer_bytes_max() / (4 * shape.width * shape.lanes)),
                Reach::Full => SLOTS_MIN.max(shape.chunk).min(shape.context),
                Reach::Window(window) => (2 * window + shape.chunk).min(shape.context),
            };
            let empty = || compute.cache_words([shape.lanes * slots, shape.width]);
            LayerCache { keys: empty(), values: empty(), reach, slots }
        };
        Self {
            layers: reaches.into_iter().map(layer).collect(),
            shape,
            ends: vec![0; shape.lanes],
            oldest: vec![0; shape.lanes],
        }
    }

    /// How many sequences it has room for.
    pub fn lanes(&self) -> usize {
        self.shape.lanes
    }

    /// Positions written of `lane`.
    pub fn end(&self, lane: usize) -> usize {
        self.ends[lane]
    }

    /// Makes room for `tokens` more positions of `lane`.
    ///
    /// # Panics
    /// If they pass the context, or are more than the largest chunk.
    pub fn reserve(&mut self, compute: &Compute, lane: usize, tokens: usize) {
        let need = self.ends[lane] + tokens;
        let CacheShape { chunk, context, .. } = self.shape;
        assert!(need <= context && tokens <= chunk, "{tokens} tokens to position {need} of {context}, chunk {chunk}");
        for layer in &mut self.layers {
            if layer.reach == Reach::Full && need > layer.slots {
                // Only a cache of one lane is not whole.
                let slots = need.next_power_of_two().min(context);
                layer.keys = grown(compute, &layer.keys, self.ends[lane], slots);
                layer.values = grown(compute, &layer.values, self.ends[lane], slots);
                layer.slots = slots;
            }
        }
    }

    /// `tokens` more positions of `lane` have been written.
    pub fn advance(&mut self, lane: usize, tokens: usize) {
        self.ends[lane] += tokens;
        let rings = self.layers.iter().filter(|layer| layer.reach != Reach::Full);
        if let Some(slots) = rings.map(|layer| layer.slots).min() {
            self.oldest[lane] = oldest_held(self.oldest[lane], self.ends[lane], slots);
        }
    }

    /// Keys, values and reach of a layer.
    pub fn layer(&self, layer: usize) -> (&Tensor<2, Int>, &Tensor<2, Int>, Reach) {
        let layer = &self.layers[layer];
        (&layer.keys, &layer.values, layer.reach)
    }

    /// Where `lane` lies in windowed layers and in full ones.
    pub fn places(&self, lane: usize) -> [Place; 2] {
        let of = |class| {
            let slots = self.layers.iter().find(|layer| layer.reach.class() == class).map_or(1, |layer| layer.slots);
            Place { first: (lane * slots) as u32, slots: slots as u32 }
        };
        [of(Class::Window), of(Class::Full)]
    }

    /// Keys and values of `tokens` positions of `lane` from `position` on, in order.
    pub fn rows(&self, layer: usize, lane: usize, position: usize, tokens: usize) -> (Tensor<2, Int>, Tensor<2, Int>) {
        let layer = &self.layers[layer];
        let (base, first) = (lane * layer.slots, position % layer.slots);
        let head = tokens.min(layer.slots - first);
        let rows = |t: &Tensor<2, Int>| {
            let start = t.clone().narrow(0, base + first, head);
            match head == tokens {
                true => start,
                false => Tensor::cat(vec![start, t.clone().narrow(0, base, tokens - head)], 0),
            }
        };
        (rows(&layer.keys), rows(&layer.values))
    }

    /// Whether every layer still holds what position `position` of `lane` may look at.
    pub fn can_rewind(&self, lane: usize, position: usize) -> bool {
        self.layers.iter().all(|layer| match layer.reach {
            Reach::Full => true,
            Reach::Window(window) => sees_its_window(position, window, self.oldest[lane]),
        })
    }

    /// Forgets everything of `lane` from `position` on; only after [`can_rewind`](Self::can_rewind), or to 0.
    pub fn rewind(&mut self, lane: usize, position: usize) {
        debug_assert!(position == 0 || self.can_rewind(lane, position));
        self.ends[lane] = self.ends[lane].min(position);
        if position == 0 {
            // All that is looked at from here on is written again.
            self.oldest[lane] = 0;
        }
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| 2 * self.shape.lanes * layer.slots * self.shape.width * 4).sum()
    }
}

fn grown(compute: &Compute, old: &Tensor<2, Int>, used: usize, slots: usize) -> Tensor<2, Int> {
    let new = compute.cache_words([slots, old.dims()[1]]);
    match used {
        0 => new,
        _ => new.slice_assign([0..used, 0..old.dims()[1]], old.clone().narrow(0, 0, used)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second rewind must not go where the first one's positions were overwritten: 384 slots that have seen 1000
    /// positions hold none before 616, also when the end is 800 again.
    #[test]
    fn a_rewind_gives_back_no_overwritten_slot() {
        let oldest = oldest_held(0, 1000, 384);
        assert_eq!(oldest, 616);
        assert!(sees_its_window(800, 128, oldest));
        let after = oldest_held(oldest, 800, 384);
        assert_eq!(after, 616, "the end alone would say 416");
        assert!(!sees_its_window(600, 128, after));
        assert!(sees_its_window(743, 128, after) && !sees_its_window(742, 128, after));
    }
}
