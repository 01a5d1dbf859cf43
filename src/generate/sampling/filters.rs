//! Top-k, top-p and min-p: which candidates stay, after bias, penalties and temperature.
//!
//! All three keep a prefix of the ranks.  On weights `w_i = exp((x_i − max x) / T)`, with `Z` their sum:
//!
//! * top-k: `x_i ≥ ` the k-th largest, so everything equal to it too; its survivors alone make up `Z`
//! * top-p: fewest ranks whose mass reaches `p · Z`: rank i stays if the mass of the ranks before it is less
//! * min-p: `w_i ≥ m`, for the largest weight is 1; renormalising after top-p changes no ratio
//!
//! The largest always stays.  These are transformers' `TopKLogitsWarper`, `TopPLogitsWarper` and `MinPLogitsWarper` in
//! their order; where equal logits straddle the end of top-p, the lowest ids stay (transformers leaves that open).
//!
//! Sums have a fixed order, so that they are the same on every platform: `Z` by ascending id, masses by rank.

use super::margin::{log_odds, rounding};
use super::params::SamplingParams;
use super::ranked::{Candidate, Ranked};

/// From logits to weights: `exp((x − max) / T)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    max: f64,
    temperature: f64,
}

impl Weights {
    /// Weights of `candidates` at a temperature above 0.
    fn new(candidates: &[Candidate], temperature: f64) -> Self {
        let max = candidates.iter().fold(f64::NEG_INFINITY, |max, candidate| max.max(candidate.logit));
        Self { max, temperature }
    }

    /// From 0 to 1, and 1 for the largest.  `libm`, for the platform's own `exp` differs in the last bit.
    pub(super) fn of(&self, candidate: Candidate) -> f64 {
        libm::exp((candidate.logit - self.max) / self.temperature)
    }

    /// Of several, summed in their order.
    pub(super) fn sum(&self, candidates: &[Candidate]) -> f64 {
        candidates.iter().map(|&candidate| self.of(candidate)).sum()
    }
}

/// What the filters leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Ranks that stay, at least 1.
    pub(super) count: usize,
    /// Sum of their weights.
    pub(super) mass: f64,
    /// How to weigh them.
    pub(super) weights: Weights,
    /// Twice the noise of logits under which exactly these stay: see [`super::Margin::filter`].
    pub(super) slack: f64,
}

/// Filters `ranked`, which is not empty and in ascending order of ids.  `scratch` has room for as many.
pub(super) fn keep(ranked: &mut Ranked, params: &SamplingParams, scratch: &mut Vec<f64>) -> Kept {
    let gap = keep_top_k(ranked, params.top_k as usize, scratch);
    let weights = Weights::new(ranked.all(), params.temperature);
    let total = weights.sum(ranked.all());
    let mut kept = match params.top_p < 1.0 || params.min_p > 0.0 {
        true => cut(ranked, params, weights, total),
        false => Kept { count: ranked.all().len(), mass: total, weights, slack: f64::INFINITY },
    };
    kept.slack = kept.slack.min(gap);
    kept
}

/// Keeps the `k` largest and those equal to the last of them; the distance from rank k to rank k + 1.
///
/// That distance is 0 where equal ones stay: the least noise would part them.
fn keep_top_k(ranked: &mut Ranked, k: usize, scratch: &mut Vec<f64>) -> f64 {
    if k == 0 || k >= ranked.all().len() {
        return f64::INFINITY;
    }
    scratch.clear();
    scratch.extend(ranked.all().iter().map(|candidate| candidate.logit));
    let (_, &mut last, below) = scratch.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let next = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    ranked.retain_from(last);
    last - next
}

/// Top-p and min-p in one walk down the ranks.
fn cut(ranked: &mut Ranked, params: &SamplingParams, weights: Weights, total: f64) -> Kept {
    let (mut count, mut mass, mut before_last, mut last) = (0, 0.0, 0.0, 0.0);
    while let Some(next) = ranked.get(count) {
        let weight = weights.of(next);
        if count > 0 && (is_reached(params, mass, total) || weight < params.min_p) {
            break;
        }
        (before_last, last, mass, count) = (mass, weight, mass + weight, count + 1);
    }
    let rest = weights.sum(&ranked.all()[count..]);
    let inside = slack_inside(ranked, params, count, log_odds(before_last, last + rest));
    let outside = slack_outside(ranked, params, count, log_odds(mass, rest));
    Kept { count, mass, weights, slack: inside.min(outside) }
}

fn is_reached(params: &SamplingParams, mass: f64, total: f64) -> bool {
    params.top_p < 1.0 && mass >= params.top_p * total
}

/// How far the last of `count` ranks is from being dropped; `odds` are those of the mass before it.
///
/// A noise of ε moves the log-odds of the mass of the first n ranks by at most 2ε / T, whatever their order.
fn slack_inside(ranked: &mut Ranked, params: &SamplingParams, count: usize, odds: f64) -> f64 {
    if count == 1 {
        return f64::INFINITY; // the largest stays in any case
    }
    let by_top_p = match params.top_p < 1.0 {
        true => params.temperature * (top_p_odds(params) - odds - top_p_rounding(ranked, params)),
        false => f64::INFINITY,
    };
    by_top_p.min(above_min_p(ranked, params, count - 1))
}

/// How far rank `count`, the first that was dropped, is from staying; `odds` are those of the mass before it.
fn slack_outside(ranked: &mut Ranked, params: &SamplingParams, count: usize, odds: f64) -> f64 {
    let (Some(last), Some(next)) = (ranked.get(count - 1), ranked.get(count)) else { return f64::INFINITY };
    let by_top_p = match params.top_p < 1.0 {
        true => params.temperature * (odds - top_p_odds(params) - top_p_rounding(ranked, params)),
        false => f64::NEG_INFINITY,
    };
    // Noise may also swap it with the last that stays.
    by_top_p.min(last.logit - next.logit).max(-above_min_p(ranked, params, count))
}

fn top_p_odds(params: &SamplingParams) -> f64 {
    log_odds(params.top_p, 1.0 - params.top_p)
}

fn top_p_rounding(ranked: &Ranked, params: &SamplingParams) -> f64 {
    rounding(ranked.all().len(), params.top_p)
}

/// How far `rank` is above min-p's threshold, `max + T · ln m`, logits.
fn above_min_p(ranked: &mut Ranked, params: &SamplingParams, rank: usize) -> f64 {
    let (Some(top), Some(candidate)) = (ranked.get(0), ranked.get(rank)) else { return f64::INFINITY };
    match params.min_p > 0.0 {
        true => candidate.logit - top.logit - params.temperature * libm::log(params.min_p),
        false => f64::INFINITY,
    }
}
