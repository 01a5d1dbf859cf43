//! Norm, router logits, choice and weights against the oracle's; ids exact, ties to the lowest.

use super::inputs::{Numbers, floats, matrix, matrix_f32, matrix_row, to};
use super::rms_norm::RULE;
use super::trial::{Cell, Output, Trial, Want, Where, near};
use crate::device::Compute;
use crate::kernels::ops::route_tokens;
use crate::kernels::route::Choice;
use crate::verify::oracle::rms_norm::rms_norm;
use crate::verify::oracle::router::{Chosen, choose, weigh};
use crate::verify::oracle::rows::{add_bias, linear};
use crate::verify::oracle::semantics::{MlpInput, Router, RouterWeights, Ties};
use crate::verify::oracle::{Real, Rows};

/// A gap between logits that decides must be so many budgets wide, unless it is planted as exactly none.
const MARGIN: f64 = 4.0;
/// Inputs tried for a case.
const INPUTS_MAX: usize = 50;

/// What the router's weights are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fill {
    /// Random rows.
    Usual,
    /// The same row and bias for every expert.
    AllEqual,
    /// These experts share a row and the highest bias.
    Equal(&'static [usize]),
    /// Biases so far apart that all weights but the first underflow.
    Far,
    /// Two logits of 120 share the weight, the others have none.
    High,
}

struct Case {
    name: &'static str,
    experts: usize,
    chosen: usize,
    tokens: usize,
    hidden: usize,
    fill: Fill,
    on: Where,
}

const fn case(name: &'static str, [experts, chosen]: [usize; 2], tokens: usize, hidden: usize, fill: Fill) -> Case {
    Case { name, experts, chosen, tokens, hidden, fill, on: Where::Families }
}

const CASES: [Case; 15] = [
    case("one expert", [1, 1], 3, 32, Fill::Usual),
    case("all of four", [4, 4], 5, 64, Fill::Usual),
    case("one of four", [4, 1], 9, 96, Fill::Usual),
    case("two of eight", [8, 2], 33, 64, Fill::Usual),
    case("three of 32", [32, 3], 31, 32, Fill::Usual),
    case("four of 32", [32, 4], 65, 96, Fill::Usual),
    Case { on: Where::FamiliesAndLimits, ..case("four of 32, real width", [32, 4], 4, 2880, Fill::Usual) },
    Case { on: Where::FamiliesAndLimits, ..case("four of 128, real width", [128, 4], 2, 2880, Fill::Usual) },
    case("32 equal logits: the first four", [32, 4], 2, 64, Fill::AllEqual),
    case("eight equal logits: the first two", [8, 2], 1, 64, Fill::AllEqual),
    case("ties at the top go to the lowest id", [32, 4], 3, 64, Fill::Equal(&[5, 9, 30])),
    case("a tie between last chosen and first left", [32, 4], 3, 96, Fill::Equal(&[31, 2, 17, 8, 30])),
    case("128 experts, ties across units", [128, 4], 3, 64, Fill::Equal(&[127, 64, 63, 32, 31])),
    case("weights that underflow", [8, 2], 3, 32, Fill::Far),
    case("logits of 120", [32, 4], 3, 96, Fill::High),
];

pub(super) fn trials() -> Vec<Trial> {
    let right = CASES.iter().map(|case| trial(case, &rule(case)).on(case.on));
    let wrong = [
        trial(&CASES[10], &Router { ties: Ties::HighestId, ..rule(&CASES[10]) }).planted("ties go to the highest id"),
        trial(&CASES[5], &Router { weights: RouterWeights::SoftmaxOfAll, ..rule(&CASES[5]) })
            .planted("softmax over all experts"),
        trial(&CASES[5], &Router { bias: false, ..rule(&CASES[5]) }).planted("no bias"),
    ];
    // The same weights as F32, as a GGUF has them.
    let widened = [&CASES[2], &CASES[5], &CASES[7]].map(|case| with_weights(case, &rule(case), true).on(case.on));
    right.chain(wrong).chain(widened).collect()
}

fn rule(case: &Case) -> Router {
    Router {
        bias: true,
        input: MlpInput::Normed,
        experts_per_token: case.chosen,
        ties: Ties::LowestId,
        weights: RouterWeights::SoftmaxOfChosen,
        weights_reversed: false,
    }
}

struct Input {
    x: Rows<f32>,
    gain: Vec<f32>,
    w: Vec<u16>,
    bias: Vec<f32>,
}

/// The first input of the case's that leaves no choice to rounding: ids are then exact on every device.
fn input(case: &Case) -> Input {
    let leaves_none = |input: &Input| {
        let (logits, rounded) = (reference::<f64>(input, &rule(case)).1, reference::<f32>(input, &rule(case)).1);
        has_margins(&logits, &near(&logits, &rounded), case.chosen)
    };
    let mut inputs = (0..INPUTS_MAX).map(|attempt| candidate(case, attempt));
    inputs.find(leaves_none).expect("some input has margins")
}

fn candidate(case: &Case, attempt: usize) -> Input {
    let &Case { experts, hidden, tokens, .. } = case;
    let mut numbers = Numbers::new(&format!("{}, attempt {attempt}", case.name));
    let mut input = Input {
        x: numbers.rows(tokens, hidden, 3.0),
        gain: numbers.rows(1, hidden, 1.5).values,
        w: numbers.bf16(experts, hidden, -5, 4),
        bias: numbers.rows(1, experts, 1.0).values,
    };
    input.x.row_mut(tokens - 1)[2..5].copy_from_slice(&[-0.0, 0.0, 1e-40]);
    let share = |input: &mut Input, expert: usize, from: usize, bias: f32| {
        let row = input.w[from * hidden..][..hidden].to_vec();
        input.w[expert * hidden..][..hidden].copy_from_slice(&row);
        input.bias[expert] = bias;
    };
    match case.fill {
        Fill::Usual => {}
        Fill::AllEqual => (0..experts).for_each(|expert| share(&mut input, expert, 0, 0.5)),
        Fill::Equal(equal) => equal.iter().for_each(|&expert| share(&mut input, expert, equal[0], 16.0)),
        Fill::Far => (0..experts).for_each(|expert| input.bias[expert] = -200.0 * expert as f32),
        Fill::High => [3, 11].iter().for_each(|&expert| share(&mut input, expert, 3, 120.0)),
    }
    input
}

fn trial(case: &Case, rule: &Router) -> Trial {
    with_weights(case, rule, false)
}

fn with_weights(case: &Case, rule: &Router, are_f32: bool) -> Trial {
    let &Case { name, experts, chosen, tokens, hidden, .. } = case;
    let input = input(case);
    let (normed, logits) = reference::<f64>(&input, rule);
    let (normed_f32, logits_f32) = reference::<f32>(&input, rule);
    let ids = choose(&logits, rule);
    let logit_cells = near(&logits, &logits_f32);
    let weight_cells = near(&weigh(&logits, &ids, rule), &weigh(&logits_f32, &ids, rule));
    let scores: Vec<Cell> = logit_cells
        .chunks_exact(experts)
        .zip(weight_cells.chunks_exact(chosen))
        .flat_map(|(logits, weights)| [logits, weights].concat())
        .collect();
    let wants = vec![
        Want::swizzled("normed", hidden, near(&normed, &normed_f32)),
        Want::new("scores", experts + chosen, scores),
        Want::new("ids", chosen, id_cells(&ids)),
    ];
    let launch = move |compute: &Compute| {
        let x = floats(compute, &input.x.values, [tokens, hidden]);
        let params = floats(compute, &[&input.gain[..], &input.bias].concat(), [hidden + experts]);
        let w = match are_f32 {
            true => matrix_f32(compute, &input.w, experts),
            false => matrix(compute, &input.w, experts),
        };
        let (normed, scores, ids) = route_tokens(&x, &params, &w, Choice { experts, chosen }, compute.family());
        vec![Output::floats(normed), Output::floats(scores), Output::words(ids)]
    };
    let name = if are_f32 { format!("{name}, F32 weights") } else { name.into() };
    Trial::new(name, wants, Box::new(launch))
}

fn id_cells(ids: &Chosen) -> Vec<Cell> {
    ids.iter().flatten().map(|&id| Cell::Bits(id as u32)).collect()
}

/// Whether rounding cannot change an order that matters; gaps of exactly zero are planted.
fn has_margins(logits: &Rows<f64>, cells: &[Cell], chosen: usize) -> bool {
    logits.iter().zip(cells.chunks_exact(logits.width)).all(|(row, cells)| {
        let Cell::Near(_, budget) = cells[0] else { return false };
        let mut sorted = row.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let gaps = sorted.windows(2).take(chosen).map(|pair| pair[0] - pair[1]);
        gaps.into_iter().all(|gap| gap == 0.0 || gap > MARGIN * budget)
    })
}

fn reference<F: Real>(input: &Input, rule: &Router) -> (Rows<F>, Rows<F>) {
    let hidden = input.x.width;
    let normed = rms_norm(&input.x.to::<F>(), &to(&input.gain), &RULE);
    let mut logits = linear(&normed, input.bias.len(), |expert| matrix_row(&input.w, expert, hidden));
    if rule.bias {
        add_bias(&mut logits, &to::<F>(&input.bias));
    }
    (normed, logits)
}
