//! The router: `logits = W · t + b`; the `experts_per_token` highest choose, a softmax over those few weighs.
//!
//! Equal logits: the lowest expert id comes first, as in OpenAI's Metal kernels (PyTorch's `topk` leaves it open).

use super::real::Real;
use super::rows::Rows;
use super::semantics::{Router, RouterWeights, Ties};

/// Experts of each position of a layer, in the order of their weights.
pub type Chosen = Vec<Vec<usize>>;

/// The experts of each row of `logits`, `[experts]`: highest logit first.
pub fn choose<F: Real>(logits: &Rows<F>, rule: &Router) -> Chosen {
    logits.iter().map(|logits| choose_row(logits, rule)).collect()
}

fn choose_row<F: Real>(logits: &[F], rule: &Router) -> Vec<usize> {
    let mut experts: Vec<usize> = (0..logits.len()).collect();
    if rule.ties == Ties::HighestId {
        experts.reverse();
    }
    // Stable, so that ties keep their order.  NaN is equal to anything: it then shows in the weights.
    experts.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap_or(std::cmp::Ordering::Equal));
    experts.truncate(rule.experts_per_token);
    experts
}

/// The weight of each chosen expert: `[experts_per_token]`.
pub fn weigh<F: Real>(logits: &Rows<F>, chosen: &[Vec<usize>], rule: &Router) -> Rows<F> {
    assert_eq!(chosen.len(), logits.count());
    Rows::each(rule.experts_per_token, logits.count(), |p| {
        let mut weights = weigh_row(logits.row(p), &chosen[p], rule.weights);
        if rule.weights_reversed {
            weights.reverse();
        }
        weights
    })
}

fn weigh_row<F: Real>(logits: &[F], chosen: &[usize], rule: RouterWeights) -> Vec<F> {
    let of_chosen: Vec<F> = chosen.iter().map(|&expert| logits[expert]).collect();
    match rule {
        RouterWeights::SoftmaxOfChosen => softmax(&of_chosen),
        RouterWeights::SoftmaxOfAll => {
            let all = softmax(logits);
            chosen.iter().map(|&expert| all[expert]).collect()
        }
        RouterWeights::Sigmoid => of_chosen.iter().map(|&x| F::one() / (F::one() + (-x).exp())).collect(),
        RouterWeights::Uniform => vec![F::one() / F::from_f64(chosen.len() as f64); chosen.len()],
    }
}

fn softmax<F: Real>(logits: &[F]) -> Vec<F> {
    let max = logits.iter().fold(logits[0], |max, &logit| max.larger(logit));
    let powers: Vec<F> = logits.iter().map(|&logit| (logit - max).exp()).collect();
    let sum = powers.iter().fold(F::zero(), |sum, &power| sum + power);
    powers.iter().map(|&power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::fixture::Recipe;
    use crate::verify::oracle::Semantics;

    fn right() -> Router {
        Semantics::gpt_oss(&Recipe::built_in("T3").config()).router
    }

    fn logits(values: &[f64]) -> Rows<f64> {
        Rows { width: values.len(), values: values.to_vec() }
    }

    #[test]
    fn the_highest_are_chosen_and_ties_go_to_the_lowest_id() {
        let logits = logits(&[1.0, 5.0, 3.0, 5.0, 3.0, 3.0]);
        assert_eq!(choose(&logits, &right()), [[1, 3, 2, 4]]);
        assert_eq!(choose(&logits, &Router { ties: Ties::HighestId, ..right() }), [[3, 1, 5, 4]]);
        assert_eq!(choose(&logits, &Router { experts_per_token: 3, ..right() }), [[1, 3, 2]]);
    }

    #[test]
    fn weights_are_a_softmax_over_the_chosen_in_their_order() {
        let logits = logits(&[8f64.ln(), 4f64.ln(), 1f64.ln(), 2f64.ln(), 1f64.ln()]);
        let weights = |rule: Router| {
            let chosen = choose(&logits, &rule);
            weigh(&logits, &chosen, &rule).values.iter().map(|w| (w * 1e12).round() / 1e12).collect::<Vec<f64>>()
        };
        let of = |parts: [f64; 4], whole: f64| parts.map(|part| (part / whole * 1e12).round() / 1e12).to_vec();
        assert_eq!(weights(right()), of([8.0, 4.0, 2.0, 1.0], 15.0));
        assert_eq!(weights(Router { weights_reversed: true, ..right() }), of([1.0, 2.0, 4.0, 8.0], 15.0));
        assert_eq!(weights(Router { weights: RouterWeights::SoftmaxOfAll, ..right() }), of([8.0, 4.0, 2.0, 1.0], 16.0));
        assert_eq!(weights(Router { weights: RouterWeights::Uniform, ..right() }), [0.25; 4]);
        let sigmoid = [8.0 / 9.0, 4.0 / 5.0, 2.0 / 3.0, 1.0 / 2.0];
        assert_eq!(weights(Router { weights: RouterWeights::Sigmoid, ..right() }), of(sigmoid, 1.0));
    }

    #[test]
    fn forced_experts_are_weighed_by_their_own_logits() {
        let logits = logits(&[0.0, 3f64.ln(), 9.0]);
        let rule = Router { experts_per_token: 2, ..right() };
        let weights = weigh(&logits, &[vec![0, 1]], &rule);
        assert!((weights.values[0] - 0.25).abs() < 1e-15 && (weights.values[1] - 0.75).abs() < 1e-15);
    }
}
