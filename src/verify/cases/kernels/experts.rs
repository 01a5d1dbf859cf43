//! The chosen experts of few tokens, in the decode form: SwiGLU of the first matrix, weighted sum of the second.
//!
//! Ids beyond the experts stand for those of other turns of a pager: they leave their rows alone and add nothing.

use super::inputs::{Numbers, SENTINEL, audit, floats, swizzled, to};
use super::packed::{Packed, parts};
use super::trial::{Cell, Output, Trial, UNTOUCHED, Want, Where, near};
use crate::device::Compute;
use crate::kernels::ops::{ExpertSpec, experts_down, experts_up};
use crate::verify::fixture::Recipe;
use crate::verify::oracle::experts::swiglu;
use crate::verify::oracle::rows::add_bias;
use crate::verify::oracle::semantics::{Experts, GateUp, Mlp2Bias};
use crate::verify::oracle::{Real, Rows, Semantics};

/// Which experts the tokens are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// Different ones for each token, at random.
    Spread,
    /// These, token by token.
    These(&'static [u32]),
}

/// Clamp of the SwiGLU in every case.
pub(super) const LIMIT: f32 = 7.0;

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    experts: usize,
    chosen: usize,
    tokens: usize,
    hidden: usize,
    intermediate: usize,
    scale_offset: u32,
    /// Where one buffer ends and the next begins.
    ends: &'static [usize],
    ids: Ids,
    /// Biases at the clamps and far beyond them.
    edges: bool,
    on: Where,
}

const fn case(
    name: &'static str,
    [experts, chosen]: [usize; 2],
    tokens: usize,
    [hidden, intermediate]: [usize; 2],
) -> Case {
    Case {
        name,
        experts,
        chosen,
        tokens,
        hidden,
        intermediate,
        scale_offset: 0,
        ends: &[],
        ids: Ids::Spread,
        edges: false,
        on: Where::Families,
    }
}

impl Case {
    const fn as_model_bin(self) -> Case {
        Case { scale_offset: 14, ..self }
    }

    const fn in_parts(self, ends: &'static [usize]) -> Case {
        Case { ends, ..self }
    }

    const fn ids(self, ids: &'static [u32]) -> Case {
        Case { ids: Ids::These(ids), ..self }
    }

    fn ids_of(&self, numbers: &mut Numbers) -> Vec<u32> {
        match self.ids {
            Ids::These(ids) => ids.to_vec(),
            Ids::Spread => (0..self.tokens).flat_map(|_| numbers.distinct(self.chosen, self.experts)).collect(),
        }
    }
}

const GONE: u32 = u32::MAX;

const CASES: [Case; 12] = [
    case("one expert, one block", [1, 1], 1, [32, 32]),
    case("one of four, three parts", [4, 1], 3, [64, 32]).in_parts(&[1, 3]),
    case("all of four, two parts", [4, 4], 2, [96, 64]).in_parts(&[3]),
    case("four of eight, as in model.bin", [8, 4], 4, [64, 96]).as_model_bin(),
    case("three of 32, as in model.bin, two parts", [32, 3], 3, [64, 32]).as_model_bin().in_parts(&[17]),
    case("four of 128", [128, 4], 1, [32, 32]),
    Case { on: Where::FamiliesAndLimits, ..case("real width in", [4, 4], 1, [2880, 32]).as_model_bin() },
    Case { on: Where::FamiliesAndLimits, ..case("real width inside", [4, 4], 1, [32, 2880]).as_model_bin() },
    case("experts of other turns are passed over", [4, 4], 2, [64, 32]).ids(&[GONE, 2, 4, 0, 3, GONE, 1, 9]),
    case("a token of which no expert is here", [4, 4], 2, [64, 32]).ids(&[GONE, 4, 5, GONE, 3, 2, 1, 0]),
    case("the same expert for every token", [8, 1], 4, [96, 32]).ids(&[6, 6, 6, 6]),
    Case { edges: true, ..case("gates and linear parts at the clamps and beyond", [4, 4], 2, [64, 96]) },
];

pub(super) fn trials() -> Vec<Trial> {
    let right = rule();
    let up = CASES.iter().map(|case| up_trial(case, &right).on(case.on));
    let down = CASES.iter().map(|case| down_trial(case, Mlp2Bias::Weighted).on(case.on));
    let edges = &CASES[11];
    let wrong = [
        up_trial(edges, &Experts { up_offset: 0.0, ..right }).planted("no 1 is added to the linear part"),
        up_trial(edges, &Experts { gate_limits: (-7.0, 7.0), ..right }).planted("gates are limited below"),
        up_trial(edges, &Experts { alpha: 1.7, ..right }).planted("a sigmoid of slope 1.7"),
        up_trial(&CASES[3], &Experts { gate_up: GateUp::Halves, ..right }).planted("gates come before linear parts"),
        down_trial(&CASES[3], Mlp2Bias::Unweighted).planted("the second bias is not weighted"),
    ];
    up.chain(down).chain(wrong).collect()
}

/// The experts' rule, as OpenAI's reference has it.
pub(super) fn rule() -> Experts {
    Semantics::gpt_oss(&Recipe::built_in("T3").config()).experts
}

/// Biases of the first pairs of an expert: both sides of each clamp, and where a sigmoid's exponential overflows.
pub(super) const EDGE_PAIRS: [[f32; 2]; 10] = [
    [7.0, 0.0],
    [30.0, 30.0],
    [1.0, -30.0],
    [6.5, 7.0],
    [-1e4, 3.0],
    [-60.0, -7.5],
    [-52.2, 1.0],
    [1e4, -1e4],
    [-0.0, 0.0],
    [0.5, -7.0],
];

fn spec(case: &Case, compute: &Compute, first: usize) -> ExpertSpec {
    ExpertSpec { first, scale_offset: case.scale_offset, chosen: case.chosen, limit: LIMIT, family: compute.family() }
}

/// Cells of `[tokens × chosen]` rows, those of absent experts untouched; `rows` gives the products of an expert's users.
pub(super) fn assigned<F: Real>(
    ids: &[u32],
    experts: usize,
    width: usize,
    rows: impl Fn(usize, &[usize]) -> Rows<F>,
) -> Rows<F> {
    let mut all = Rows::zeros(width, ids.len());
    for expert in 0..experts {
        let users: Vec<usize> = (0..ids.len()).filter(|&a| ids[a] as usize == expert).collect();
        if !users.is_empty() {
            let of_users = rows(expert, &users);
            users.iter().enumerate().for_each(|(i, &a)| all.row_mut(a).copy_from_slice(of_users.row(i)));
        }
    }
    all
}

/// The cells of absent experts' rows are untouched whatever was computed for them.
pub(super) fn keep_absent(cells: &mut [Cell], ids: &[u32], experts: usize, width: usize) {
    for (row, &id) in cells.chunks_exact_mut(width).zip(ids) {
        if id as usize >= experts {
            row.fill(UNTOUCHED);
        }
    }
}

fn up_trial(case: &Case, rule: &Experts) -> Trial {
    let case = *case;
    let Case { experts, chosen, tokens, hidden, intermediate, .. } = case;
    let mut numbers = Numbers::new(case.name);
    let mut x = numbers.rows(tokens, hidden, 3.0);
    x.row_mut(0)[4..7].copy_from_slice(&[-0.0, 0.0, -1e-40]);
    let mut w = Packed::new(&mut numbers, [experts, 2 * intermediate, hidden], 118);
    if case.edges {
        let pairs = EDGE_PAIRS.as_flattened();
        (0..experts).for_each(|expert| w.bias.row_mut(expert)[..pairs.len()].copy_from_slice(pairs));
    }
    let ids = case.ids_of(&mut numbers);
    let mut cells = near(&up(&x, &w, &ids, chosen, rule), &up(&x, &w, &ids, chosen, rule));
    keep_absent(&mut cells, &ids, experts, intermediate);
    let launch = move |compute: &Compute| {
        let x = floats(compute, &swizzled(&x.values), [tokens, hidden]);
        let ids = compute.upload(&ids, [tokens, chosen]);
        let shape = [tokens, chosen, intermediate];
        let h = floats(compute, &vec![SENTINEL; shape.iter().product()], shape);
        let each = |h, part: std::ops::Range<usize>| {
            let first = part.start;
            experts_up(&x, &ids, &w.chunk(compute, part, case.scale_offset), h, spec(&case, compute, first))
        };
        vec![Output::floats(parts(experts, case.ends).into_iter().fold(h, each))]
    };
    Trial::new(format!("up: {}", case.name), vec![Want::swizzled("h", intermediate, cells)], Box::new(launch))
}

/// SwiGLU of the first matrix for every assignment.
pub(super) fn up<F: Real>(x: &Rows<f32>, w: &Packed, ids: &[u32], chosen: usize, rule: &Experts) -> Rows<F> {
    let x = x.to::<F>();
    assigned(ids, w.experts, w.rows / 2, |expert, users| {
        let rows = x.select(&users.iter().map(|a| a / chosen).collect::<Vec<_>>());
        let (products, bias) = (w.times(&rows, expert), to::<F>(w.bias.row(expert)));
        Rows::each(w.rows / 2, users.len(), |i| swiglu(products.row(i), &bias, rule))
    })
}

struct Down {
    h: Rows<f32>,
    w: Packed,
    ids: Vec<u32>,
    weights: Rows<f32>,
    residual: Rows<f32>,
}

fn down_trial(case: &Case, bias: Mlp2Bias) -> Trial {
    let case = *case;
    let Case { experts, chosen, tokens, intermediate, .. } = case;
    // Rows of the second matrix: no multiple of a group's four.
    let rows = case.hidden + 2;
    let mut numbers = Numbers::new(case.name);
    let input = Down {
        h: numbers.rows(tokens * chosen, intermediate, 3.0),
        w: Packed::new(&mut numbers, [experts, rows, intermediate], 118),
        ids: case.ids_of(&mut numbers),
        weights: numbers.rows(tokens, chosen, 1.0),
        residual: numbers.rows(tokens, rows, 2.0),
    };
    audit(&input.weights);
    let cells = near(&down(&input, bias), &down(&input, bias));
    let scores: Vec<f32> =
        input.weights.iter().flat_map(|weights| [vec![SENTINEL; experts], weights.to_vec()].concat()).collect();
    let launch = move |compute: &Compute| {
        let h = floats(compute, &swizzled(&input.h.values), [tokens, chosen, intermediate]);
        let ids = compute.upload(&input.ids, [tokens, chosen]);
        let scores = floats(compute, &scores, [tokens, experts + chosen]);
        let residual = floats(compute, &input.residual.values, [tokens, rows]);
        let each = |residual, part: std::ops::Range<usize>| {
            let first = part.start;
            let chunk = input.w.chunk(compute, part, case.scale_offset);
            experts_down(&h, &ids, &scores, &chunk, residual, spec(&case, compute, first))
        };
        vec![Output::floats(parts(experts, case.ends).into_iter().fold(residual, each))]
    };
    Trial::new(format!("down: {}", case.name), vec![Want::new("residual", rows, cells)], Box::new(launch))
}

/// The residual stream with the weighted outputs of the experts that are there.
fn down<F: Real>(input: &Down, bias: Mlp2Bias) -> Rows<F> {
    let Down { h, w, ids, weights, residual } = input;
    let (h, weights, residual) = (h.to::<F>(), weights.to::<F>(), residual.to::<F>());
    let outputs = assigned(ids, w.experts, w.rows, |expert, users| {
        let mut products = w.times(&h.select(users), expert);
        if bias == Mlp2Bias::Weighted {
            add_bias(&mut products, &to::<F>(w.bias.row(expert)));
        }
        products
    });
    Rows::each(w.rows, residual.count(), |t| {
        let mut sum = residual.row(t).to_vec();
        for (slot, &weight) in weights.row(t).iter().enumerate() {
            let a = t * weights.width + slot;
            sum.iter_mut().zip(outputs.row(a)).for_each(|(sum, &y)| *sum += weight * y);
            if bias == Mlp2Bias::Unweighted {
                let bias = to::<F>(w.bias.row(ids[a] as usize));
                sum.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
            }
        }
        sum
    })
}
