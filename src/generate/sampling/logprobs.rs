//! Log-probabilities of the model itself: `x_j − ln Σ exp x_i` over the raw logits.
//!
//! **Before** bias, penalties, temperature and filters: what vLLM calls `raw_logprobs`.  OpenAI's API reference speaks of
//! log-probabilities of output tokens and does not say of which distribution; ours is the model's, so that it does not
//! depend on the parameters.  A token may therefore be reported that no draw can give.

use serde::Serialize;

/// A token and its log-probability, natural logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// Its id.
    pub token: u32,
    /// At most 0, up to rounding.
    pub logprob: f64,
}

/// `ln Σ exp x_i`, summed in f64 by ascending id; `logits` hold a finite value, no NaN and no +∞.
pub(super) fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + libm::log(logits.iter().map(|&logit| libm::exp(f64::from(logit) - max)).sum())
}

/// The `count` largest logits less `norm`, largest first, equal ones by ascending id; −∞ is left out.
///
/// `out` has room for `count + 1`.
pub(super) fn top(logits: &[f32], count: usize, norm: f64, out: &mut Vec<TokenLogprob>) {
    out.clear();
    let mut bar = f64::NEG_INFINITY;
    for (token, logit) in (0..).zip(logits.iter().map(|&logit| f64::from(logit))) {
        if logit > bar && count > 0 {
            let place = out.partition_point(|better| better.logprob >= logit);
            out.insert(place, TokenLogprob { token, logprob: logit });
            out.truncate(count);
            bar = if out.len() < count { f64::NEG_INFINITY } else { out[count - 1].logprob };
        }
    }
    out.iter_mut().for_each(|token| token.logprob -= norm);
}
