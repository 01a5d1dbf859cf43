//! Discrete decisions of the router: which are too close for f32 to decide, and whether a device decided all others right.
//!
//! Rounding may move two router logits by a budget each.  A choice whose gap is at most [`MARGIN_FACTOR`] budgets is a close
//! call: it is listed, and may fall either way.  Every other choice is exact.

use std::fmt;

use super::stages::budget;
use crate::checkpoint::ModelConfig;
use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::verify::oracle::noise::{Noise, Tap};
use crate::verify::oracle::router::Chosen;

/// Gaps of more budgets than this are decided alike by every honest device: two logits may be off by a budget each, and as
/// much again for safety.
pub const MARGIN_FACTOR: f64 = 4.0;

/// A choice of experts that rounding could turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CloseCall {
    /// In which layer.
    pub layer: usize,
    /// For which position.
    pub position: usize,
    /// Smallest gap between neighbours among the chosen and the first one left out.
    pub gap: f64,
    /// What it would have to exceed.
    pub margin: f64,
}

impl fmt::Display for CloseCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {} position {}: gap {:.2e} of {:.2e}", self.layer, self.position, self.gap, self.margin)
    }
}

/// What a gap between router logits of noise `noise` must exceed to be decided.
pub fn margin(noise: &Noise) -> f64 {
    MARGIN_FACTOR * budget(noise)
}

/// The close calls of a run whose router chose `chosen` experts, in the order of the pass.
pub fn close_calls(taps: &[Tap<f64>], noise: &[Noise], chosen: usize) -> Vec<CloseCall> {
    let of_layer = |(tap, noise): (&Tap<f64>, &Noise)| {
        let (layer, margin) = (tap.layer.unwrap_or_default(), margin(noise));
        let call = |(position, gap)| CloseCall { layer, position, gap, margin };
        let calls: Vec<CloseCall> = tap.rows.iter().map(|logits| gap(logits, chosen)).enumerate().map(call).collect();
        calls
    };
    let routers = taps.iter().zip(noise).filter(|(tap, _)| tap.stage == Stage::RouterLogits);
    routers.flat_map(of_layer).filter(|call| call.gap <= call.margin).collect()
}

/// Smallest difference between neighbours of the `chosen` highest values and the next.
fn gap(values: &[f64], chosen: usize) -> f64 {
    let mut highest = values.to_vec();
    highest.sort_by(|a, b| b.total_cmp(a));
    highest.truncate(chosen + 1);
    highest.windows(2).map(|pair| pair[0] - pair[1]).fold(f64::INFINITY, f64::min)
}

/// The experts that a device showed for a layer; `None` where ids are missing, repeated or no ids at all.
pub fn chosen_of(seen: &[Seen], layer: usize, config: &ModelConfig) -> Option<Chosen> {
    let parts = seen.iter().filter(|s| (s.stage, s.layer) == (Stage::Experts, Some(layer)));
    let ids: Vec<f32> = parts.flat_map(|s| s.values.iter().copied()).collect();
    let is_id = |id: &f32| *id >= 0.0 && (*id as usize) < config.experts && id.fract() == 0.0;
    if ids.is_empty() || !ids.len().is_multiple_of(config.experts_per_token) || !ids.iter().all(is_id) {
        return None;
    }
    let rows: Chosen =
        ids.chunks_exact(config.experts_per_token).map(|row| row.iter().map(|&id| id as usize).collect()).collect();
    let differ = |row: &Vec<usize>| row.iter().enumerate().all(|(i, id)| !row[..i].contains(id));
    rows.iter().all(differ).then_some(rows)
}

/// Whether `chosen` is a right choice by the router logits of `tap`, where gaps of at most `margin` may fall either way.
pub fn is_right(tap: &Tap<f64>, chosen: &Chosen, margin: f64) -> bool {
    let right = |(logits, chosen): (&[f64], &Vec<usize>)| {
        let of_chosen: Vec<f64> = chosen.iter().map(|&id| logits[id]).collect();
        let left_out = (0..logits.len()).filter(|id| !chosen.contains(id)).map(|id| logits[id]);
        let last = of_chosen.last().copied().unwrap_or(f64::NAN);
        of_chosen.windows(2).all(|pair| pair[0] >= pair[1] - margin) && left_out.into_iter().all(|x| last >= x - margin)
    };
    tap.rows.count() == chosen.len() && tap.rows.iter().zip(chosen).all(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::oracle::rows::Rows;

    fn router(values: &[f64]) -> Tap<f64> {
        Tap { stage: Stage::RouterLogits, layer: Some(2), rows: Rows { width: 4, values: values.to_vec() } }
    }

    fn noise(max_error: f64) -> Noise {
        Noise { stage: Stage::RouterLogits, layer: Some(2), max_error, rms_error: 0.0, rms: 1.0 }
    }

    #[test]
    fn gaps_within_the_margin_are_listed() {
        let tap = router(&[1.0, 4.0, 2.0, 0.0, 3.0, 2.9, 1.0, 0.95]);
        // 12 × 0.01: the order of the second row's chosen, and its choice.
        let calls = close_calls(&[tap], &[noise(0.01)], 2);
        assert_eq!(calls.iter().map(|c| (c.layer, c.position)).collect::<Vec<_>>(), [(2, 1)]);
        assert!((calls[0].gap - 0.1).abs() < 1e-12 && (calls[0].margin - 0.12).abs() < 1e-12);
    }

    #[test]
    fn nan_is_no_close_call_and_no_right_choice() {
        let tap = router(&[1.0, f64::NAN, 2.0, 0.0]);
        assert_eq!(close_calls(std::slice::from_ref(&tap), &[noise(f64::INFINITY)], 2).len(), 1);
        assert_eq!(close_calls(std::slice::from_ref(&tap), &[noise(f64::NAN)], 2), []);
        assert!(!is_right(&tap, &vec![vec![1, 2]], 1e9) && !is_right(&tap, &vec![vec![2, 0]], 1e9));
    }

    #[test]
    fn a_choice_may_be_wrong_by_the_margin_only() {
        let tap = router(&[1.0, 4.0, 3.9, 0.99]);
        let right = |chosen: [usize; 3], margin| is_right(&tap, &vec![chosen.to_vec()], margin);
        assert!(right([1, 2, 0], 0.0) && !right([2, 1, 0], 0.05) && right([2, 1, 0], 0.11));
        assert!(!right([1, 2, 3], 0.0) && right([1, 2, 3], 0.02) && !right([1, 0, 2], 0.5));
        assert!(!is_right(&tap, &Vec::new(), 1.0), "a position without a choice");
    }

    #[test]
    fn ids_of_a_device_must_be_ids() {
        let config = crate::verify::fixture::Recipe::built_in("T3").config();
        let seen = |values: &[f32]| [Seen { stage: Stage::Experts, layer: Some(1), values: values.to_vec() }];
        assert_eq!(chosen_of(&seen(&[3.0, 0.0, 7.0, 1.0]), 1, &config), Some(vec![vec![3, 0, 7, 1]]));
        for wrong in
            [&[3.0, 0.0, 8.0, 1.0][..], &[3.0, 0.0, 0.0, 1.0], &[1.0, 2.0, 3.0], &[f32::NAN, 0.0, 1.0, 2.0], &[]]
        {
            assert_eq!(chosen_of(&seen(wrong), 1, &config), None, "{wrong:?}");
        }
    }
}
