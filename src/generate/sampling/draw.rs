//! The draw: uniform numbers of a seed, and the token that one of them names.
//!
//! ChaCha20 (RFC 8439; 64-bit counter from 0, nonce 0) under the key `seed`, little-endian, then zeros, gives the words:
//! word i of a seed is a pure function that any language has.  `u = (word >> 11) · 2^−53`, in [0, 1).

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use super::SampleError;
use super::filters::Kept;
use super::margin::{Margin, log_odds, rounding};
use super::params::SamplingParams;
use super::penalties::noise_gain;
use super::ranked::Ranked;

/// Uniform numbers of one seed, in [0, 1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Uniforms {
    seed: u64,
    drawn: u64,
}

impl Uniforms {
    /// The first of `seed` comes next.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next; all 53 bits of an f64 in [0, 1) are random.
    pub(super) fn draw(&mut self) -> f64 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut words = ChaCha20Rng::from_seed(key);
        // Counted in words of 32 bits, of which a number takes two, low half first.
        words.set_word_pos(2 * u128::from(self.drawn));
        self.drawn += 1;
        (words.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The largest logit, of equal ones the lowest id.
pub(super) fn greedy(ranked: &Ranked, params: &SamplingParams) -> (u32, Margin) {
    let (mut top, mut second) = (ranked.all()[0], f64::NEG_INFINITY);
    for &candidate in &ranked.all()[1..] {
        if candidate.logit > top.logit {
            (top, second) = (candidate, top.logit);
        } else {
            second = second.max(candidate.logit);
        }
    }
    let rank = top.logit - second;
    (top.id, Margin { rank, draw: f64::INFINITY, filter: f64::INFINITY, gain: noise_gain(params) })
}

/// The same of logits that nothing moves, in one pass over them.
pub(super) fn largest(logits: &[f32]) -> Result<(u32, Margin), SampleError> {
    let (mut top, mut id, mut second) = (f32::NEG_INFINITY, None, f32::NEG_INFINITY);
    for (token, &logit) in (0..).zip(logits) {
        if logit > top {
            (top, id, second) = (logit, Some(token), top);
        } else if logit > second {
            second = logit;
        }
        if logit.is_nan() {
            return Err(SampleError::NotANumber { token });
        }
        if logit == f32::INFINITY {
            return Err(SampleError::Infinite { token });
        }
    }
    let id = id.ok_or(SampleError::AllMasked)?;
    let rank = f64::from(top) - f64::from(second);
    Ok((id, Margin { rank, draw: f64::INFINITY, filter: f64::INFINITY, gain: 1.0 }))
}

/// Inverse of the cumulative distribution: the first rank up to which the mass exceeds `uniform` of the kept mass.
pub(super) fn inverse(ranked: &mut Ranked, kept: &Kept, params: &SamplingParams, uniform: f64) -> (u32, Margin) {
    let target = uniform * kept.mass;
    let (mut rank, mut above, mut upto) = (0, 0.0, 0.0);
    for next in 0..kept.count {
        let Some(candidate) = ranked.get(next) else { break };
        let weight = kept.weights.of(candidate);
        // The kept mass may be a rounding more than the sum by rank: then the last that has any weight is it.
        if weight == 0.0 {
            break;
        }
        (rank, above, upto) = (next, upto, upto + weight);
        if upto > target {
            break;
        }
    }
    let neighbour = |ranked: &mut Ranked, other: usize| match (ranked.get(rank), ranked.get(other)) {
        (Some(drawn), Some(other)) => (drawn.logit - other.logit).abs(),
        _ => f64::INFINITY,
    };
    let before = if rank > 0 { neighbour(ranked, rank - 1) } else { f64::INFINITY };
    let after = if rank + 1 < kept.count { neighbour(ranked, rank + 1) } else { f64::INFINITY };
    let odds = log_odds(uniform, 1.0 - uniform);
    let rest = kept.weights.sum(&ranked.all()[rank + 1..kept.count]);
    // The first rank begins at 0 and the last ends at 1 under any noise.
    let below = if rank > 0 { odds - log_odds(above, rest + (upto - above)) } else { f64::INFINITY };
    let beyond = if rank + 1 < kept.count { log_odds(upto, rest) - odds } else { f64::INFINITY };
    let token = ranked.all()[rank].id;
    let draw = params.temperature * (below.min(beyond) - rounding(kept.count, uniform));
    (token, Margin { rank: before.min(after), draw, filter: kept.slack, gain: noise_gain(params) })
}
