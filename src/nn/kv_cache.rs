//! Keys and values of one layer: a ring of slots, position `p` in slot `p mod slots`.
//!
//! A layer that sees everything grows by doubling up to the context, keys and values one after the other, so that what is
//! replaced is never more than a quarter of the whole; where the context is paid for anyway, it starts with all of it.  A
//! windowed one holds the window, the largest chunk and some positions more, so that short rewinds need no recomputation.

use burn::tensor::{Int, Tensor};

use crate::device::Compute;

/// How far back a layer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// At every position before.
    Full,
    /// At so many positions, its own included.
    Window(usize),
}

/// Slots a growing cache starts with.
const SLOTS_MIN: usize = 256;

/// The cache of one layer.
#[derive(Debug, Clone)]
pub struct LayerCache {
    keys: Tensor<2, Int>,
    values: Tensor<2, Int>,
    reach: Reach,
    slots: usize,
    /// Positions written, from 0; those below `end − slots` are overwritten.
    end: usize,
}

impl LayerCache {
    /// An empty cache for rows of `width` words; chunks have at most `chunk` tokens, the context `context`.
    ///
    /// `whole` takes the memory of the whole context at once, or as much of it as one buffer may hold.
    pub fn new(compute: &Compute, width: usize, reach: Reach, chunk: usize, context: usize, whole: bool) -> Self {
        let slots = match reach {
            Reach::Full if whole => context.min(compute.buffer_bytes_max() / (4 * width)),
            Reach::Full => SLOTS_MIN.max(chunk).min(context),
            Reach::Window(window) => (2 * window + chunk).min(context),
        };
        let empty = || compute.cache_words([slots, width]);
        Self { keys: empty(), values: empty(), reach, slots, end: 0 }
    }

    /// Keys, values and the window (0: everything), with room for `tokens` more positions.
    pub fn extend(
        &mut self,
        compute: &Compute,
        tokens: usize,
        context: usize,
    ) -> (&Tensor<2, Int>, &Tensor<2, Int>, usize) {
        let need = self.end + tokens;
        if self.reach == Reach::Full && need > self.slots {
            let slots = need.next_power_of_two().min(context.max(need));
            self.keys = grown(compute, &self.keys, self.end, slots);
            self.values = grown(compute, &self.values, self.end, slots);
            self.slots = slots;
        }
        self.end = need;
        let window = match self.reach {
            Reach::Full => 0,
            Reach::Window(window) => window,
        };
        (&self.keys, &self.values, window)
    }

    /// Whether the cache still holds everything that position `position` may look at.
    pub fn can_rewind(&self, position: usize) -> bool {
        let oldest = self.end.saturating_sub(self.slots);
        match self.reach {
            Reach::Full => true,
            Reach::Window(window) => (position + 1).saturating_sub(window) >= oldest,
        }
    }

    /// Forgets everything from `position` on; only after [`can_rewind`](Self::can_rewind), or to 0.
    pub fn rewind(&mut self, position: usize) {
        debug_assert!(position == 0 || self.can_rewind(position));
        self.end = self.end.min(position);
    }

    /// Keys and values of the last `tokens` positions, in order.
    pub fn last(&self, tokens: usize) -> (Tensor<2, Int>, Tensor<2, Int>) {
        let first = (self.end - tokens) % self.slots;
        let rows = |t: &Tensor<2, Int>| match first + tokens <= self.slots {
            true => t.clone().narrow(0, first, tokens),
            false => {
                let head = t.clone().narrow(0, first, self.slots - first);
                Tensor::cat(vec![head, t.clone().narrow(0, 0, first + tokens - self.slots)], 0)
            }
        };
        (rows(&self.keys), rows(&self.values))
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        2 * self.slots * self.keys.dims()[1] * 4
    }
}

fn grown(compute: &Compute, old: &Tensor<2, Int>, used: usize, slots: usize) -> Tensor<2, Int> {
    let new = compute.cache_words([slots, old.dims()[1]]);
    match used {
        0 => new,
        _ => new.slice_assign([0..used, 0..old.dims()[1]], old.clone().narrow(0, 0, used)),
    }
}
