//! Rotary embedding angles with YaRN scaling ("NTK by parts"), position-exact.
//!
//! `f_i = theta^(2i/d)`; `inv_i = ramp_i / (factor · f_i) + (1 − ramp_i) / f_i` with
//! `ramp_i = clamp((i − low) / (high − low), 0, 1)` and the correction range not rounded; cos and sin are multiplied by the
//! concentration (Peng et al., YaRN; OpenAI's gpt-oss reference).  Angles are computed in f64 and rounded once: in f32 the
//! angle itself would be off by `position · 6e-8` radians.
//!
//! ggml, and with it llama.cpp, rounds the correction range outwards and has no switch for it: [`RopeVariant::GgmlCompat`] does
//! the same, to explain or to match what llama.cpp says.  For gpt-oss it turns pairs 9 to 17 faster by −0.3 to +76 %.

use crate::checkpoint::RopeConfig;
use crate::kernels::qkv::STEP_ANGLES;

/// Where a sequence lies in the caches of a class of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first slot.
    pub first: u32,
    /// Its slots: position `p` is in slot `first + p mod slots`.
    pub slots: u32,
}

/// How the ends of YaRN's ramp are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RopeVariant {
    /// As computed: what gpt-oss was trained with.
    #[default]
    Reference,
    /// Rounded outwards to whole pairs and held to `0..=head_dim − 1`, as `ggml_rope_yarn_corr_dims` does (llama.cpp, v0.5.0).
    GgmlCompat,
}

impl RopeVariant {
    /// First pair of the ramp, and its length.
    fn ramp(self, rope: &RopeConfig, head_dim: usize) -> (f64, f64) {
        let (low, high) = rope.correction_range(head_dim);
        match self {
            RopeVariant::Reference => (low, high - low),
            RopeVariant::GgmlCompat => {
                let (low, high) = (low.floor().max(0.0), high.ceil().min(head_dim as f64 - 1.0));
                (low, (high - low).max(GGML_RAMP_MIN))
            }
        }
    }
}

/// Shortest ramp that ggml divides by (`rope_yarn_ramp`).
const GGML_RAMP_MIN: f64 = 0.001;

/// Frequencies of a head.
#[derive(Debug, Clone)]
pub struct Yarn {
    inverse_frequencies: Vec<f64>,
    concentration: f64,
}

impl Yarn {
    /// The frequencies that `rope` gives heads of `head_dim`, the ends of the ramp as `variant` takes them.
    pub fn new(rope: &RopeConfig, head_dim: usize, variant: RopeVariant) -> Self {
        let (low, length) = variant.ramp(rope, head_dim);
        let inverse = |i: usize| {
            let frequency = rope.theta.powf(2.0 * i as f64 / head_dim as f64);
            let ramp = ((i as f64 - low) / length).clamp(0.0, 1.0);
            ramp / (rope.scaling_factor * frequency) + (1.0 - ramp) / frequency
        };
        Self { inverse_frequencies: (0..head_dim / 2).map(inverse).collect(), concentration: rope.concentration() }
    }

    /// Words of a row of a step buffer.
    pub fn step_words(&self) -> usize {
        STEP_ANGLES + 2 * self.inverse_frequencies.len()
    }

    /// Appends rows of a step buffer (see [`crate::kernels::qkv`]) for `tokens` tokens from `position` on, of a sequence that
    /// lies in `places` of windowed and full caches.
    pub fn step(&self, position: usize, tokens: usize, places: [Place; 2], words: &mut Vec<u32>) {
        for p in position..position + tokens {
            let [window, full] = places;
            words.extend([p as u32, window.first, window.slots, full.first, full.slots, 0, 0, 0]);
            for inverse in &self.inverse_frequencies {
                let (sin, cos) = (p as f64 * inverse).sin_cos();
                words.push(((cos * self.concentration) as f32).to_bits());
                words.push(((sin * self.concentration) as f32).to_bits());
            }
        }
    }
}
