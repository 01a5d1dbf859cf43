//! How far a choice was from another one, in logits: what lets a harness demand equal tokens of different adapters.
//!
//! Let no logit of one adapter differ from that of another by more than ε.  Then, after bias and penalties, none differs
//! by more than `g·ε`, g the gain, and so
//!
//! * two tokens with logits more than `2gε` apart keep their order;
//! * the log-odds of the mass of a fixed set of tokens, `ln(A / (Z − A))` with `A = Σ exp(x_i / T)`, move by at most
//!   `2gε / T`, because `A` and `Z − A` each change by a factor from `e^(−gε/T)` to `e^(gε/T)`.
//!
//! A draw is the same if the filters keep the same tokens, the same tokens rank above the one drawn, and the uniform
//! number stays between their mass and the mass with it.  Every condition is a distance that must exceed `2gε`.  Together
//! they suffice; a token outside its margin need not change.

use serde::Serialize;

/// Distances of one choice from other ones, in logits after bias and penalties; infinite where there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Margin {
    /// To the nearest token that may be drawn; of a greedy choice, the largest logit minus the second.
    pub rank: f64,
    /// From the uniform number to the nearer end of the token's interval: difference of log-odds, times T.
    pub draw: f64,
    /// To the nearest other set of tokens that the filters would keep.
    pub filter: f64,
    /// g: how much bias and penalties may enlarge a difference of logits; 1 without a repetition penalty.
    pub gain: f64,
}

impl Margin {
    /// If no logit differs by this much or more, the token is the same; 0 or less promises nothing.
    pub fn noise_max(&self) -> f64 {
        self.rank.min(self.draw).min(self.filter) / (2.0 * self.gain)
    }

    /// Whether logits that differ by at most `noise` must give the same token.
    pub fn is_safe_under(&self, noise: f64) -> bool {
        noise < self.noise_max()
    }
}

/// `ln(part / rest)`, from −∞ to ∞.
///
/// Both are sums of positive terms: `rest` as a difference from the whole would lose all its digits where it is small.
pub(super) fn log_odds(part: f64, rest: f64) -> f64 {
    libm::log(part) - libm::log(rest)
}

/// What rounding may do to the log-odds at which `share` of the mass of `terms` tokens is reached, in both of two runs.
///
/// A sum of n positive terms is right to `n · 2^−53` of itself, and so is the sum it is compared with; near a share of 1
/// that is a larger part of what remains.
pub(super) fn rounding(terms: usize, share: f64) -> f64 {
    4.0 * terms as f64 * f64::EPSILON / (1.0 - share)
}
