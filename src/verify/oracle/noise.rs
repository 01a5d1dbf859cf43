//! What rounding alone does: the same pass in f32 and in f64, and the margins of its discrete decisions.

use super::forward::{Oracle, Request};
use super::real::Real;
use super::router::Chosen;
use super::rows::Rows;
use crate::models::gpt_oss::stage::Stage;

/// The values of one stage of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Tap<F> {
    /// Where.
    pub stage: Stage,
    /// In which layer, for a stage that has one.
    pub layer: Option<usize>,
    /// A row for each position (final norm and logits: for each position asked for).
    pub rows: Rows<F>,
}

/// Runs the forward pass and keeps every stage, in the order of the pass; logits are last.
pub fn trace<F: Real>(oracle: &Oracle, tokens: &[u32], ask: &Request) -> Vec<Tap<F>> {
    let mut taps = Vec::new();
    oracle.forward(tokens, ask, &mut |stage, layer, rows: &Rows<F>| {
        taps.push(Tap { stage, layer, rows: rows.clone() });
    });
    taps
}

/// The experts of each layer and position of a run, as [`Request::routing`] takes them.
pub fn routing<F: Real>(trace: &[Tap<F>]) -> Vec<Chosen> {
    let ids = |tap: &Tap<F>| tap.rows.iter().map(|ids| ids.iter().map(|id| id.to_f64() as usize).collect()).collect();
    trace.iter().filter(|tap| tap.stage == Stage::Experts).map(ids).collect()
}

/// What f32 does to one stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Where.
    pub stage: Stage,
    /// In which layer, for a stage that has one.
    pub layer: Option<usize>,
    /// Largest |f32 − f64|; NaN if any difference is.
    pub max_error: f64,
    /// Root mean square of f32 − f64.
    pub rms_error: f64,
    /// Root mean square of the f64 values: the scale the errors are to be seen against.
    pub rms: f64,
}

/// Largest and root mean square difference of f32 from `truth` at each stage, the truth's routing forced on the f32
/// run: a flipped expert is no rounding error.
///
/// `ask` must be what `truth` was made with; its routing, if any, is replaced by the truth's.
pub fn noise_floor(oracle: &Oracle, tokens: &[u32], ask: &Request, truth: &[Tap<f64>]) -> Vec<Noise> {
    let routing = routing(truth);
    let mut floor = Vec::with_capacity(truth.len());
    oracle.forward(tokens, &Request { routing: Some(&routing), ..*ask }, &mut |stage, layer, rows: &Rows<f32>| {
        let tap = &truth[floor.len()];
        assert_eq!((stage, layer, rows.width), (tap.stage, tap.layer, tap.rows.width), "the truth is of this run");
        floor.push(noise(tap, rows));
    });
    floor
}

/// What f32 did to one stage: `rows` of the same run.
///
/// # Panics
/// If there are not as many values.
pub fn noise(truth: &Tap<f64>, rows: &Rows<f32>) -> Noise {
    assert_eq!(truth.rows.values.len(), rows.values.len());
    let errors = || rows.values.iter().zip(&truth.rows.values).map(|(got, want)| got.to_f64() - want);
    let mean_square = |sum: f64| (sum / rows.values.len() as f64).sqrt();
    Noise {
        stage: truth.stage,
        layer: truth.layer,
        max_error: errors().fold(0.0, |max: f64, error| max.larger(error.abs())),
        rms_error: mean_square(errors().map(|error| error * error).sum()),
        rms: mean_square(truth.rows.values.iter().map(|want| want * want).sum()),
    }
}

impl Noise {
    /// The floor that two runs of the same stage show: the larger of each measure.
    pub fn or(self, other: Noise) -> Noise {
        debug_assert_eq!((self.stage, self.layer), (other.stage, other.layer));
        Noise {
            max_error: self.max_error.larger(other.max_error),
            rms_error: self.rms_error.larger(other.rms_error),
            ..self
        }
    }
}

/// `rows` with every value moved by one unit in its last place, up or down by a hash of its index: input that rounding alone
/// could have made.
///
/// One f32 run is one throw of the dice; over a short prompt the largest of some sixty errors may be small by luck.
pub fn nudged(rows: &Rows<f32>) -> Rows<f32> {
    let nudge = |(i, x): (usize, &f32)| {
        let hash = (i as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let moved = if hash & 1 == 0 { x.next_up() } else { x.next_down() };
        if moved.is_normal() { moved } else { *x }
    };
    Rows { width: rows.width, values: rows.values.iter().enumerate().map(nudge).collect() }
}

/// How close the discrete decisions of a run were.
#[derive(Debug, Clone, PartialEq)]
pub struct Margins {
    /// Smallest gap between the last chosen expert's logit and the next; `None` where every expert is chosen.
    pub choice: Option<Gap>,
    /// Smallest gap between neighbours among the chosen: their order.
    pub order: Option<Gap>,
    /// For each position asked for: the highest logit less the second highest.
    pub top: Vec<f64>,
}

/// A gap between two router logits.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Gap {
    pub layer: usize,
    pub position: usize,
    pub gap: f64,
}

/// The margins of a run that chose `experts_per_token` experts, over all its layers and positions.
pub fn margins(trace: &[Tap<f64>], experts_per_token: usize) -> Margins {
    let mut margins = Margins { choice: None, order: None, top: Vec::new() };
    for tap in trace {
        match tap.stage {
            Stage::RouterLogits => {
                for (position, logits) in tap.rows.iter().enumerate() {
                    let gaps = gaps(logits, experts_per_token + 1);
                    let gap = |gap: f64| Gap { layer: tap.layer.unwrap_or_default(), position, gap };
                    let of_order = gaps.iter().take(experts_per_token - 1).copied();
                    margins.order = of_order.map(gap).chain(margins.order).min_by(|a, b| a.gap.total_cmp(&b.gap));
                    let of_choice = gaps.get(experts_per_token - 1).copied();
                    margins.choice =
                        of_choice.map(gap).into_iter().chain(margins.choice).min_by(|a, b| a.gap.total_cmp(&b.gap));
                }
            }
            Stage::Logits => margins.top.extend(tap.rows.iter().filter_map(|row| gaps(row, 2).first().copied())),
            _ => {}
        }
    }
    margins
}

/// Differences between neighbours of the `count` highest values, highest first.
fn gaps(values: &[f64], count: usize) -> Vec<f64> {
    let mut highest: Vec<f64> = Vec::with_capacity(count + 1);
    for &value in values {
        let place = highest.partition_point(|&other| other >= value);
        if place < count {
            highest.insert(place, value);
            highest.truncate(count);
        }
    }
    highest.windows(2).map(|pair| pair[0] - pair[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(stage: Stage, layer: Option<usize>, width: usize, values: &[f64]) -> Tap<f64> {
        Tap { stage, layer, rows: Rows { width, values: values.to_vec() } }
    }

    #[test]
    fn margins_are_the_smallest_gaps_of_all_rows() {
        let trace = [
            tap(Stage::RouterLogits, Some(0), 4, &[1.0, 4.0, 2.5, 0.0, 9.0, 8.0, 5.0, 5.5]),
            tap(Stage::RouterLogits, Some(3), 4, &[7.0, 0.0, 6.75, 6.0, 0.0, 3.0, 2.0, 1.0]),
            tap(Stage::Logits, None, 3, &[1.0, 3.0, 2.5, -1.0, -1.0, -4.0]),
        ];
        let margins = margins(&trace, 2);
        assert_eq!(margins.choice, Some(Gap { layer: 3, position: 0, gap: 0.75 }));
        assert_eq!(margins.order, Some(Gap { layer: 3, position: 0, gap: 0.25 }));
        assert_eq!(margins.top, [0.5, 0.0]);
    }

    #[test]
    fn where_all_are_chosen_there_is_no_margin_of_choice() {
        let trace = [tap(Stage::RouterLogits, Some(1), 2, &[1.0, 4.0])];
        let margins = margins(&trace, 2);
        assert_eq!((margins.choice, margins.order), (None, Some(Gap { layer: 1, position: 0, gap: 3.0 })));
    }

    #[test]
    fn gaps_are_between_the_highest_in_order() {
        assert_eq!(gaps(&[1.0, 7.0, 4.0, 7.0, -2.0], 4), [0.0, 3.0, 3.0]);
        assert_eq!(gaps(&[1.0], 2), [0.0; 0]);
    }

    #[test]
    fn noise_is_the_difference_and_never_hides_nan() {
        let truth = tap(Stage::Logits, None, 2, &[1.0, -2.0]);
        let of = |values: [f32; 2]| noise(&truth, &Rows { width: 2, values: values.to_vec() });
        let found = of([1.0, -2.5]);
        assert_eq!((found.max_error, found.rms_error, found.rms), (0.5, 0.125f64.sqrt(), 2.5f64.sqrt()));
        assert!(of([f32::NAN, -2.0]).max_error.is_nan());
    }
}
