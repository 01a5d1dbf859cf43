//! A device's pass against the oracle's, stage by stage: the verdict of each, and the first that diverges.
//!
//! The budget of a stage is [`NOISE_FACTOR`] times what rounding to f32 does to the oracle itself at that stage and layer
//! (never less than one f32 rounding of its scale).  Expert ids are exact: a fixture whose margins do not allow that is refused
//! by the margin audit before anything is compared.

use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::verify::oracle::noise::{Noise, Tap};

/// How many times the noise floor of f32 an honest f32 implementation may be off.
pub const NOISE_FACTOR: f64 = 3.0;

/// What was found at one stage of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Where.
    pub stage: Stage,
    /// In which layer, for a stage that has one.
    pub layer: Option<usize>,
    /// Largest |found − truth|; infinite where classes, lengths or ids differ.
    pub error: f64,
    /// What it may be.
    pub budget: f64,
    /// Row and column of the largest error.
    pub at: (usize, usize),
    /// The truth there.
    pub expected: f64,
    /// What was found there.
    pub found: f64,
}

impl Finding {
    /// Whether the stage is within its budget.
    pub fn holds(&self) -> bool {
        self.error <= self.budget
    }

    /// Budget over error: how much room an honest run has.
    pub fn headroom(&self) -> f64 {
        self.budget / self.error.max(f64::MIN_POSITIVE)
    }

    /// How many budgets the error is.
    pub fn excess(&self) -> f64 {
        self.error / self.budget
    }

    /// `layer 3 attention`, as reports call it.
    pub fn place(&self) -> String {
        match self.layer {
            Some(layer) => format!("layer {layer} {}", self.stage),
            None => self.stage.to_string(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (row, column) = self.at;
        let ulps = (self.found - self.expected).abs()
            / f64::from((self.expected as f32).abs().max(f32::MIN_POSITIVE) * f32::EPSILON);
        write!(
            f,
            "{}: error {:.3e}, budget {:.3e}; worst at position {row}, value {column}: expected {:.9}, found {:.9} ({ulps:.1} ulp)",
            self.place(),
            self.error,
            self.budget,
            self.expected,
            self.found,
        )
    }
}

/// The budget of a stage, from its noise.
pub fn budget(noise: &Noise) -> f64 {
    match noise.stage {
        Stage::Experts => 0.0,
        _ => NOISE_FACTOR * noise.max_error.max(noise.rms * f64::from(f32::EPSILON)),
    }
}

/// Compares what a device showed with the truth, in the order of the pass.
///
/// # Panics
/// If the probe did not see every stage of the truth, or the truth and its noise are not of one run.
pub fn compare(truth: &[Tap<f64>], noise: &[Noise], seen: &[Seen]) -> Vec<Finding> {
    compare_by(|_| distance, truth, noise, seen)
}

/// The error of a value that was found, against the truth.
pub type Error = fn(f64, f64) -> f64;

/// |found − truth|.
pub fn distance(truth: f64, found: f64) -> f64 {
    (found - truth).abs()
}

/// As [`compare`], with a measure for each stage.
pub fn compare_by(
    error_at: impl Fn(Stage) -> Error,
    truth: &[Tap<f64>],
    noise: &[Noise],
    seen: &[Seen],
) -> Vec<Finding> {
    assert_eq!(truth.len(), noise.len(), "truth and noise of one run");
    let find = |(tap, noise): (&Tap<f64>, &Noise)| {
        // A chunked run shows a stage once a chunk: joined, the rows are in order.
        let parts = seen.iter().filter(|s| (s.stage, s.layer) == (tap.stage, tap.layer));
        let values: Vec<f32> = parts.flat_map(|s| &s.values).copied().collect();
        assert!(!values.is_empty(), "the probe saw nothing of {} {:?}", tap.stage, tap.layer);
        finding_by(error_at(tap.stage), tap, budget(noise), &values)
    };
    truth.iter().zip(noise).map(find).collect()
}

/// One stage: lengths, then classes, then values.
pub fn finding(tap: &Tap<f64>, budget: f64, found: &[f32]) -> Finding {
    finding_by(distance, tap, budget, found)
}

/// As [`finding`], with another measure.
pub fn finding_by(error_of: Error, tap: &Tap<f64>, budget: f64, found: &[f32]) -> Finding {
    let (stage, layer, width) = (tap.stage, tap.layer, tap.rows.width);
    let mut worst = Finding { stage, layer, error: 0.0, budget, at: (0, 0), expected: 0.0, found: 0.0 };
    if found.len() != tap.rows.values.len() {
        return Finding {
            error: f64::INFINITY,
            expected: tap.rows.values.len() as f64,
            found: found.len() as f64,
            ..worst
        };
    }
    for (i, (&want, &got)) in tap.rows.values.iter().zip(found).enumerate() {
        let got = f64::from(got);
        let error = error_of(want, got);
        let differs = stage == Stage::Experts && got != want;
        let error = if error.is_nan() || differs { f64::INFINITY } else { error };
        if error > worst.error {
            worst = Finding { error, at: (i / width, i % width), expected: want, found: got, ..worst };
        }
    }
    worst
}

/// The first stage over its budget, in the order of the pass.
pub fn first_divergence(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().find(|finding| !finding.holds())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::oracle::rows::Rows;

    fn tap(stage: Stage) -> Tap<f64> {
        Tap { stage, layer: Some(1), rows: Rows { width: 2, values: vec![1.0, -2.0, 3.0, 4.0] } }
    }

    #[test]
    fn every_element_flipped_in_turn_is_red() {
        for i in 0..4 {
            let mut found = [1.0f32, -2.0, 3.0, 4.0];
            assert!(finding(&tap(Stage::Query), 1e-6, &found).holds());
            found[i] += 1e-3;
            let red = finding(&tap(Stage::Query), 1e-6, &found);
            assert!(!red.holds() && red.at == (i / 2, i % 2), "{red}");
            found[i] = f32::NAN;
            assert!(!finding(&tap(Stage::Query), f64::MAX, &found).holds());
        }
    }

    #[test]
    fn lengths_and_ids_are_exact() {
        assert!(!finding(&tap(Stage::Query), f64::MAX, &[1.0, -2.0, 3.0]).holds());
        assert!(!finding(&tap(Stage::Experts), 1e9, &[1.0, -2.0, 3.0, 5.0]).holds());
    }

    #[test]
    fn a_nan_in_the_truth_is_red_too() {
        let mut tap = tap(Stage::Query);
        tap.rows.values[2] = f64::NAN;
        assert!(!finding(&tap, f64::MAX, &[1.0, -2.0, f32::NAN, 4.0]).holds());
    }
}
