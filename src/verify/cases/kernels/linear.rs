//! Dense projections: the decode form up to four tokens, tiles above.

use super::dense::{Dense, KINDS};
use super::inputs::{Numbers, SENTINEL, floats, matrix, matrix_row, swizzled, to};
use super::trial::{Cell, Output, Trial, UNTOUCHED, Want, Where, near};
use crate::device::Compute;
use crate::kernels::ops::{linear_residual, linear_store};
use crate::quant::BlockType;
use crate::verify::oracle::rows::{add_bias, linear};
use crate::verify::oracle::{Real, Rows};

/// What becomes of the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Stored from a column on, in rows of so many columns.
    Store { base: usize, stride: usize },
    /// Added with the bias, in rows with so many columns to spare.
    Residual { spare: usize },
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    form: Form,
    tokens: usize,
    rows: usize,
    hidden: usize,
    on: Where,
}

const fn store(name: &'static str, tokens: usize, [rows, hidden]: [usize; 2], [base, stride]: [usize; 2]) -> Case {
    Case { name, form: Form::Store { base, stride }, tokens, rows, hidden, on: Where::Families }
}

const fn add(name: &'static str, tokens: usize, [rows, hidden]: [usize; 2], spare: usize) -> Case {
    Case { name, form: Form::Residual { spare }, tokens, rows, hidden, on: Where::Families }
}

impl Case {
    const fn under_limits(self) -> Case {
        Case { on: Where::FamiliesAndGroupLimits, ..self }
    }

    /// Columns of the output, and the first that is written.
    fn columns(&self) -> (usize, usize) {
        match self.form {
            Form::Store { base, stride } => (stride, base),
            Form::Residual { spare } => (self.rows + spare, 0),
        }
    }
}

/// Rows of a cube in the decode form: 32 (Lane), 16 (Workgroup), 64 (planes of 8); in a tile 64, or 8 a lane.
const CASES: [Case; 37] = [
    store("one row, one token, one block", 1, [1, 32], [0, 1]),
    store("rows one over a group, columns before and behind", 2, [5, 64], [3, 11]),
    store("rows one under a cube of workgroups", 3, [15, 96], [1, 17]),
    store("rows one over a cube of workgroups", 4, [17, 96], [0, 18]),
    store("rows one under a cube of lanes", 1, [31, 64], [2, 34]),
    store("rows one over a cube of lanes", 1, [33, 64], [0, 33]),
    store("rows one over a cube of planes", 4, [65, 32], [5, 75]),
    store("blocks no multiple of the lanes, real width", 4, [50, 2880], [0, 50]).under_limits(),
    store("first token count in tiles", 5, [2, 32], [0, 2]),
    store("6 tokens, rows no multiple of 4", 6, [62, 64], [1, 64]),
    store("7 tokens, rows one pair over a tile", 7, [66, 96], [4, 71]),
    store("8 tokens, a full lane loop", 8, [64, 64], [0, 64]),
    store("9 tokens, one over a lane loop", 9, [130, 32], [2, 134]),
    store("18 tokens, two over a lane tile", 18, [34, 64], [1, 36]),
    store("19 tokens, three over a lane tile", 19, [18, 96], [0, 18]),
    store("21 tokens, five over a lane tile", 21, [66, 32], [0, 67]),
    store("31 tokens, one under four of the few", 31, [34, 64], [0, 35]),
    store("32 tokens, four of the few", 32, [64, 96], [0, 64]),
    store("33 tokens, one over four of the few", 33, [130, 96], [3, 133]),
    store("64 tokens, the most of the few", 64, [8, 64], [0, 9]),
    store("65 tokens, the least of tiles, one over a tile", 65, [6, 32], [1, 8]),
    store("129 tokens, one over two tiles", 129, [6, 32], [1, 8]),
    store("66 tokens, rows one pair over two tiles", 66, [130, 64], [3, 140]),
    store("128 tokens, two full tiles", 128, [64, 64], [0, 64]),
    store("few tokens of the real width", 10, [70, 2880], [6, 80]).under_limits(),
    store("tiles of the real width", 70, [70, 2880], [6, 80]).under_limits(),
    add("residual: one row, one token", 1, [1, 32], 0),
    add("residual: rows no multiple of a group, columns behind", 3, [37, 64], 3),
    add("residual: four tokens", 4, [66, 96], 0),
    add("residual: real width", 2, [96, 2880], 0).under_limits(),
    add("residual: 5 tokens", 5, [34, 64], 2),
    add("residual: 9 tokens", 9, [66, 96], 0),
    add("residual: 20 tokens, four over a lane tile", 20, [34, 64], 1),
    add("residual: 31 tokens", 31, [2, 32], 0),
    add("residual: 33 tokens, columns behind", 33, [14, 64], 5),
    add("residual: 65 tokens", 65, [10, 64], 0),
    add("residual: few tokens, real width", 6, [96, 2880], 0).under_limits(),
];

pub(super) fn trials() -> Vec<Trial> {
    let right = CASES.iter().map(|case| trial(case, None).on(case.on));
    let wrong = [
        trial(&CASES[3], Some(Fault::NextRow)).planted("decode form takes the next row"),
        trial(&CASES[18], Some(Fault::NextRow)).planted("a tile takes the next row"),
        trial(&CASES[11], Some(Fault::NextRow)).planted("few tokens take the next row").on(Where::Groups),
        trial(&CASES[20], Some(Fault::NextRow)).planted("a tile of 64 takes the next row").on(Where::Groups),
        trial(&CASES[27], Some(Fault::NoBias)).planted("the bias is missing"),
        trial(&CASES[33], Some(Fault::NoBias)).planted("the bias of a tile is missing"),
        trial(&CASES[30], Some(Fault::NoBias)).planted("the bias of few tokens is missing").on(Where::Groups),
        trial(&CASES[35], Some(Fault::NoBias)).planted("the bias of a tile of 64 is missing").on(Where::Groups),
    ];
    let other = KINDS.iter().flat_map(|&kind| {
        let cases = OF_EVERY_CODEC.iter().map(move |case| of_kind(case, kind, None).on(case.on));
        cases.chain([of_kind(&OF_EVERY_CODEC[1], kind, Some(Fault::NextRow)).planted("takes the next row")])
    });
    right.chain(wrong).chain(other).collect()
}

/// Both forms and both outputs once more for codecs other than BF16, whose tiles and groups are the same.
const OF_EVERY_CODEC: [Case; 5] = [
    store("one row, one token", 1, [1, 256], [0, 1]),
    store("rows one over a cube of planes, 4 tokens", 4, [65, 512], [2, 70]),
    store("9 tokens, rows one pair over a tile", 9, [66, 512], [1, 68]),
    add("residual: 3 tokens, wide", 3, [37, 4096], 3).under_limits(),
    add("residual: 66 tokens, wide", 66, [14, 4096], 5).under_limits(),
];

/// The matrix of a case: random blocks of a type.
fn of_kind(case: &Case, kind: BlockType, fault: Option<Fault>) -> Trial {
    let name = format!("{}: {}", <&str>::from(kind), case.name);
    let mut input = input(case);
    input.w = Weights::Dense(Dense::new(&mut Numbers::new(&name), kind, case.rows, case.hidden));
    judged(name, case, input, fault)
}

/// The matrix: BF16, or blocks.
enum Weights {
    Bf16(Vec<u16>),
    Dense(Dense),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    NextRow,
    NoBias,
}

struct Input {
    x: Rows<f32>,
    w: Weights,
    bias: Vec<f32>,
    /// What the output holds before.
    before: Rows<f32>,
}

fn input(case: &Case) -> Input {
    let &Case { name, tokens, rows, hidden, form, .. } = case;
    let mut numbers = Numbers::new(name);
    let mut x = numbers.rows(tokens, hidden, 4.0);
    // Both zeros and a subnormal take part in every case.
    x.row_mut(0)[7..10].copy_from_slice(&[0.0, -0.0, 1e-40]);
    let mut w = numbers.bf16(rows, hidden, -8, 6);
    w[3..6].copy_from_slice(&[0x8000, 0x0000, 0x0003]);
    let bias = numbers.rows(1, rows, 1.0).values;
    let (columns, _) = case.columns();
    let mut before = Rows { width: columns, values: vec![SENTINEL; tokens * columns] };
    if let Form::Residual { .. } = form {
        let residual = numbers.rows(tokens, rows, 2.0);
        for t in 0..tokens {
            before.row_mut(t)[..rows].copy_from_slice(residual.row(t));
        }
    }
    Input { x, w: Weights::Bf16(w), bias, before }
}

fn trial(case: &Case, fault: Option<Fault>) -> Trial {
    judged(case.name.into(), case, input(case), fault)
}

fn judged(name: String, case: &Case, input: Input, fault: Option<Fault>) -> Trial {
    let &Case { form, tokens, rows, hidden, .. } = case;
    let (columns, base) = case.columns();
    let products = near(&reference(&input, rows, form, fault), &reference(&input, rows, form, fault));
    let mut cells: Vec<Cell> = vec![UNTOUCHED; tokens * columns];
    for (t, products) in products.chunks_exact(rows).enumerate() {
        cells[t * columns + base..][..rows].copy_from_slice(products);
    }
    let launch = move |compute: &Compute| {
        let x = floats(compute, &swizzled(&input.x.values), [tokens, hidden]);
        let w = match &input.w {
            Weights::Bf16(values) => matrix(compute, values, rows),
            Weights::Dense(dense) => dense.matrix(compute),
        };
        let out = floats(compute, &input.before.values, [tokens, columns]);
        let out = match form {
            Form::Store { base, .. } => linear_store(&x, &w, out, base, compute.family()),
            Form::Residual { .. } => {
                linear_residual(x, &w, &floats(compute, &input.bias, [rows]), out, compute.family())
            }
        };
        vec![Output::floats(out)]
    };
    Trial::new(name, vec![Want::new("out", columns, cells)], Box::new(launch))
}

fn reference<F: Real>(input: &Input, rows: usize, form: Form, fault: Option<Fault>) -> Rows<F> {
    let hidden = input.x.width;
    let shift = usize::from(fault == Some(Fault::NextRow));
    let weights = |row: usize| match &input.w {
        Weights::Bf16(values) => matrix_row(values, row, hidden),
        Weights::Dense(dense) => dense.row(row),
    };
    let mut y = linear(&input.x.to::<F>(), rows, |row| weights((row + shift) % rows));
    if let Form::Residual { .. } = form {
        if fault != Some(Fault::NoBias) {
            add_bias(&mut y, &to::<F>(&input.bias));
        }
        y = y.scaled_plus(1.0, &input.before.columns(0..rows).to::<F>());
    }
    y
}
