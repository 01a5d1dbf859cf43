//! The experts over tiles of many tokens: the first matrix with SwiGLU, the second scattered back to its assignments.
//!
//! The order and the tiles are made here, so that a fault of the sort is not a fault of the product.  What the sort leaves
//! unwritten points far beyond every tensor here.

use burn::tensor::{Int, Tensor};

use super::experts::{EDGE_PAIRS, LIMIT, assigned, rule, up};
use super::group::{Spread, sorted, tiles};
use super::inputs::{Numbers, SENTINEL, floats, swizzled, to};
use super::packed::{Packed, parts};
use super::trial::{Cell, Output, Trial, UNTOUCHED, Want, Where, near};
use crate::device::Compute;
use crate::kernels::family::Family;
use crate::kernels::group::tiles_max;
use crate::kernels::ops::{ExpertSpec, experts_tiled};
use crate::kernels::tile::{Epilogue, Shape};
use crate::verify::oracle::rows::add_bias;
use crate::verify::oracle::semantics::{Experts, GateUp};
use crate::verify::oracle::{Real, Rows};

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    experts: usize,
    chosen: usize,
    tokens: usize,
    hidden: usize,
    intermediate: usize,
    scale_offset: u32,
    ends: &'static [usize],
    spread: Spread,
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
        scale_offset: 14,
        ends: &[],
        spread: Spread::Random,
        edges: false,
        on: Where::Families,
    }
}

impl Case {
    const fn as_checkpoint(self) -> Case {
        Case { scale_offset: 0, ..self }
    }

    const fn in_parts(self, ends: &'static [usize]) -> Case {
        Case { ends, ..self }
    }

    const fn spread(self, spread: Spread) -> Case {
        Case { spread, ..self }
    }
}

const CASES: [Case; 21] = [
    case("5 tokens, four of eight", [8, 4], 5, [32, 32]),
    case("1 row, one expert", [1, 1], 1, [64, 64]),
    case("2 rows, one expert", [1, 1], 2, [96, 32]),
    case("3 rows, one expert", [1, 1], 3, [32, 64]).as_checkpoint(),
    case("4 rows, one expert", [1, 1], 4, [64, 32]),
    case("16 tokens, four of 32: some rows each", [32, 4], 16, [64, 32]).in_parts(&[16]),
    case("6 tokens, all of four", [4, 4], 6, [64, 32]),
    case("7 rows, one expert", [1, 1], 7, [96, 32]).as_checkpoint(),
    case("8 rows, one expert", [1, 1], 8, [32, 96]).as_checkpoint(),
    case("9 rows, one expert", [1, 1], 9, [64, 64]).as_checkpoint(),
    case("31 rows on one of eight", [8, 1], 31, [64, 32]).as_checkpoint().spread(Spread::All(5)),
    case("32 rows on one of eight", [8, 1], 32, [64, 32]).as_checkpoint().spread(Spread::All(0)),
    case("33 rows on one of eight", [8, 1], 33, [64, 32]).as_checkpoint().spread(Spread::All(7)),
    case("65 tokens, four of 32", [32, 4], 65, [64, 32]),
    case("64 tokens, four of 32, three parts", [32, 4], 64, [32, 64]).in_parts(&[5, 20]),
    case("9 tokens, four of 128, most without rows", [128, 4], 9, [32, 32]).in_parts(&[64]),
    case("experts of other turns are passed over", [8, 4], 33, [64, 32]).spread(Spread::Gaps).in_parts(&[2]),
    case("a turn with nothing to do", [8, 4], 9, [64, 32]).spread(Spread::Nowhere),
    Case { on: Where::FamiliesAndGroupLimits, ..case("real width in", [4, 4], 5, [2880, 32]) },
    Case { on: Where::FamiliesAndGroupLimits, ..case("real width inside", [4, 4], 5, [32, 2880]) },
    Case { edges: true, ..case("gates and linear parts at the clamps and beyond", [4, 4], 6, [64, 96]) },
];

pub(super) fn trials() -> Vec<Trial> {
    let right = rule();
    // Groups have two shapes: each case in both, whichever the model would take.
    let each = |case| {
        let own = [up_trial(case, few, &right), scatter_trial(case, few, 0)].map(|trial| trial.on(case.on));
        let tiled = [up_trial(case, tiled, &right), scatter_trial(case, tiled, 0)].map(|trial| trial.on(Where::Groups));
        own.into_iter().chain(tiled)
    };
    let swapped = Experts { gate_up: GateUp::Swapped, ..right };
    let wrong = [
        up_trial(&CASES[0], few, &swapped).planted("gates and linear parts swapped"),
        up_trial(&CASES[20], few, &Experts { up_limits: (-7.0, f64::INFINITY), ..right }).planted("no upper clamp"),
        scatter_trial(&CASES[13], few, 1).planted("each tile takes the next expert"),
        up_trial(&CASES[0], tiled, &swapped).planted("gates and linear parts of a tile swapped").on(Where::Groups),
        scatter_trial(&CASES[13], tiled, 1).planted("each tile of 64 takes the next expert").on(Where::Groups),
    ];
    CASES.iter().flat_map(each).chain(wrong).collect()
}

/// The shape of a family that takes few rows; of lanes the only one.
pub(super) fn few(family: Family) -> Shape {
    Shape::experts(family, 1, 1)
}

/// The shape that takes many.
pub(super) fn tiled(_: Family) -> Shape {
    Shape::Tiled
}

fn named(what: &str, shape: fn(Family) -> Shape, case: &Case) -> String {
    let tiled = if shape(Family::Workgroup) == Shape::Tiled { ", tiled" } else { "" };
    format!("{what}: {}{tiled}", case.name)
}

/// The list of a launch: order and tiles.
struct List {
    perm: Tensor<1, Int>,
    tiles: Tensor<2, Int>,
}

fn list(case: &Case, compute: &Compute, shape: Shape, ids: &[u32]) -> List {
    let rows = shape.rows();
    let mut perm = sorted(ids, case.experts);
    perm.resize(ids.len(), u32::MAX);
    let mut words: Vec<u32> = tiles(ids, case.experts, rows).concat();
    let count = tiles_max(ids.len(), case.experts, rows);
    while words.len() < 3 * count {
        words.extend([0xdead_beef, 0xdead_beef, 0]);
    }
    List { perm: compute.upload(&perm, [ids.len()]), tiles: compute.upload(&words, [count, 3]) }
}

fn spec(case: &Case, compute: &Compute, first: usize) -> ExpertSpec {
    ExpertSpec { first, scale_offset: case.scale_offset, chosen: case.chosen, limit: LIMIT, family: compute.family() }
}

/// All parts of a matrix over the list, into sentinels.
fn product(
    case: &Case,
    compute: &Compute,
    shape: Shape,
    w: &Packed,
    x: &Tensor<2>,
    ids: &[u32],
    epilogue: Epilogue,
) -> Output {
    let width = if epilogue == Epilogue::Swiglu { w.rows / 2 } else { w.rows };
    let list = list(case, compute, shape, ids);
    let out = floats(compute, &vec![SENTINEL; ids.len() * width], [case.tokens, case.chosen, width]);
    let each = |out, part: std::ops::Range<usize>| {
        let first = part.start;
        let chunk = w.chunk(compute, part, case.scale_offset);
        experts_tiled(x, (&list.perm, &list.tiles), &chunk, out, epilogue, shape, spec(case, compute, first))
    };
    Output::floats(parts(case.experts, case.ends).into_iter().fold(out, each))
}

/// Row `entry` holds assignment `perm[entry]`; entries behind the last are untouched.
fn up_trial(case: &Case, shape: fn(Family) -> Shape, rule: &Experts) -> Trial {
    let case = *case;
    let Case { experts, chosen, tokens, hidden, intermediate, .. } = case;
    let mut numbers = Numbers::new(case.name);
    let x = numbers.rows(tokens, hidden, 3.0);
    let mut w = Packed::new(&mut numbers, [experts, 2 * intermediate, hidden], 118);
    if case.edges {
        let pairs = EDGE_PAIRS.as_flattened();
        (0..experts).for_each(|expert| w.bias.row_mut(expert)[..pairs.len()].copy_from_slice(pairs));
    }
    let ids = case.spread.ids(&mut numbers, tokens, chosen, experts);
    let of_assignments = near(&up(&x, &w, &ids, chosen, rule), &up(&x, &w, &ids, chosen, rule));
    let row = |&a: &u32| of_assignments[a as usize * intermediate..][..intermediate].to_vec();
    let mut cells: Vec<Cell> = sorted(&ids, experts).iter().flat_map(row).collect();
    cells.resize(of_assignments.len(), UNTOUCHED);
    let launch = move |compute: &Compute| {
        let x = floats(compute, &swizzled(&x.values), [tokens, hidden]);
        vec![product(&case, compute, shape(compute.family()), &w, &x, &ids, Epilogue::Swiglu)]
    };
    Trial::new(named("up", shape, &case), vec![Want::swizzled("h", intermediate, cells)], Box::new(launch))
}

/// Row `entry` of h belongs to assignment `perm[entry]`, whose row of the output it makes.
fn scatter_trial(case: &Case, shape: fn(Family) -> Shape, shift: usize) -> Trial {
    let case = *case;
    let Case { experts, chosen, tokens, intermediate, .. } = case;
    // Rows of the second matrix: no multiple of a lane's eight, nor of a tile's 64.
    let rows = case.hidden + 2;
    let mut numbers = Numbers::new(case.name);
    let h = numbers.rows(tokens * chosen, intermediate, 3.0);
    let w = Packed::new(&mut numbers, [experts, rows, intermediate], 118);
    let ids = case.spread.ids(&mut numbers, tokens, chosen, experts);
    let mut cells = near(&scattered(&h, &w, &ids, shift), &scattered(&h, &w, &ids, shift));
    super::experts::keep_absent(&mut cells, &ids, experts, rows);
    let launch = move |compute: &Compute| {
        let h = floats(compute, &swizzled(&h.values), [tokens * chosen, intermediate]);
        vec![product(&case, compute, shape(compute.family()), &w, &h, &ids, Epilogue::Scatter)]
    };
    Trial::new(named("scatter", shape, &case), vec![Want::new("y", rows, cells)], Box::new(launch))
}

fn scattered<F: Real>(h: &Rows<f32>, w: &Packed, ids: &[u32], shift: usize) -> Rows<F> {
    let h = h.to::<F>();
    let order = sorted(ids, w.experts);
    let entry = |a: &usize| order.iter().position(|&entry| entry as usize == *a).unwrap_or_default();
    assigned(ids, w.experts, w.rows, |expert, users| {
        let taken = (expert + shift) % w.experts;
        let mut products = w.times(&h.select(&users.iter().map(entry).collect::<Vec<_>>()), taken);
        add_bias(&mut products, &to::<F>(w.bias.row(taken)));
        products
    })
}
