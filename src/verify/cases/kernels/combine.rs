//! The weighted sum of the chosen experts' outputs.

use super::inputs::{Numbers, SENTINEL, floats};
use super::trial::{Output, Trial, Want, Where, near};
use crate::device::Compute;
use crate::kernels::ops::combine_slots;
use crate::verify::oracle::{Real, Rows};

struct Case {
    name: &'static str,
    tokens: usize,
    chosen: usize,
    experts: usize,
    hidden: usize,
}

const fn case(name: &'static str, tokens: usize, chosen: usize, experts: usize, hidden: usize) -> Case {
    Case { name, tokens, chosen, experts, hidden }
}

const CASES: [Case; 6] = [
    case("one expert of one, one block", 1, 1, 1, 32),
    case("two of eight", 5, 2, 8, 96),
    case("three of 32, row one vector over a cube", 3, 3, 32, 260),
    case("all of four", 33, 4, 4, 64),
    case("four of 128, real width", 7, 4, 128, 2880),
    case("65 tokens", 65, 4, 32, 32),
];

pub(super) fn trials() -> Vec<Trial> {
    let right = CASES.iter().map(|case| trial(case, false).on(Where::Once));
    right.chain([trial(&CASES[1], true).planted("weights are taken in reverse")]).collect()
}

struct Input {
    y: Rows<f32>,
    weights: Rows<f32>,
    residual: Rows<f32>,
}

fn trial(case: &Case, reversed: bool) -> Trial {
    let &Case { name, tokens, chosen, experts, hidden } = case;
    let mut numbers = Numbers::new(name);
    let y = numbers.rows(tokens * chosen, hidden, 3.0);
    let input = Input { y, weights: numbers.rows(tokens, chosen, 1.0), residual: numbers.rows(tokens, hidden, 2.0) };
    let cells = near(&reference(&input, reversed), &reference(&input, reversed));
    // The logits before the weights are not to be read.
    let scores: Vec<f32> =
        input.weights.iter().flat_map(|weights| [vec![SENTINEL; experts], weights.to_vec()].concat()).collect();
    let launch = move |compute: &Compute| {
        let y = floats(compute, &input.y.values, [tokens, chosen, hidden]);
        let scores = floats(compute, &scores, [tokens, experts + chosen]);
        let residual = floats(compute, &input.residual.values, [tokens, hidden]);
        vec![Output::floats(combine_slots(y, &scores, residual))]
    };
    Trial::new(name, vec![Want::new("residual", hidden, cells)], Box::new(launch))
}

fn reference<F: Real>(input: &Input, reversed: bool) -> Rows<F> {
    let (tokens, chosen) = (input.weights.count(), input.weights.width);
    let (y, weights, residual) = (input.y.to::<F>(), input.weights.to::<F>(), input.residual.to::<F>());
    Rows::each(input.y.width, tokens, |t| {
        let mut sum = residual.row(t).to_vec();
        for slot in 0..chosen {
            let taken = if reversed { chosen - 1 - slot } else { slot };
            let weight = weights.row(t)[taken];
            sum.iter_mut().zip(y.row(t * chosen + slot)).for_each(|(sum, &y)| *sum += weight * y);
        }
        sum
    })
}
