//! Rows of a table: exact, and only those of the chunk.

use super::dense::{Dense, KINDS};
use super::inputs::{Numbers, SENTINEL, floats, matrix, widened};
use super::trial::{Output, Trial, UNTOUCHED, Want, Where, exact};
use crate::kernels::ops::embedding_rows;
use crate::quant::BlockType;

struct Case {
    name: &'static str,
    hidden: usize,
    rows: usize,
    base: usize,
    ids: &'static [u32],
}

const fn case(name: &'static str, hidden: usize, rows: usize, base: usize, ids: &'static [u32]) -> Case {
    Case { name, hidden, rows, base, ids }
}

const CASES: [Case; 6] = [
    case("one row of one block", 32, 3, 0, &[1]),
    case("ids below, inside and above the chunk", 64, 5, 10, &[9, 10, 14, 15, 0, u32::MAX, 12]),
    case("a row asked for twice", 96, 4, 7, &[8, 10, 8, 7, 8]),
    case("a row longer than a cube, of the real width", 2880, 6, 3, &[3, 8, 5, 4]),
    case("ids past the top bit", 32, 2, 1 << 31, &[0x8000_0001, 1, 0x7fff_ffff, 0x8000_0000]),
    case("no id in the chunk", 32, 2, 5, &[4, 7, 0]),
];

/// Both zeros, subnormals, the smallest normal, the largest finite: in the first row of every table.
const EDGES: [u16; 10] = [0x0000, 0x8000, 0x0001, 0x8001, 0x007f, 0x807f, 0x0080, 0x8080, 0x7f7f, 0xff7f];

pub(super) fn trials() -> Vec<Trial> {
    let right = CASES.iter().map(|case| trial(case, 0).on(Where::Once));
    let other =
        KINDS.iter().flat_map(|&kind| [(0, None), (1, Some("each id takes the next row"))].map(|f| of_kind(kind, f)));
    right.chain(other).chain([trial(&CASES[1], 1).planted("each id takes the next row")]).collect()
}

/// A table of blocks of a type: rows of two super-blocks, around the chunk's edges.
fn of_kind(kind: BlockType, (shift, planted): (usize, Option<&'static str>)) -> Trial {
    const IDS: [u32; 7] = [9, 10, 14, 15, 0, u32::MAX, 12];
    let (rows, hidden, base) = (5, 512, 10);
    let name = format!("{}: ids below, inside and above the chunk", <&str>::from(kind));
    let table = Dense::new(&mut Numbers::new(&name), kind, rows, hidden);
    let cell = |row: usize, column: usize| exact(table.weight(row, column));
    let row = |&id: &u32| match (id as usize).checked_sub(base).filter(|&row| row < rows) {
        None => vec![UNTOUCHED; hidden],
        Some(row) => (0..hidden).map(|column| cell((row + shift) % rows, column)).collect(),
    };
    let wants = vec![Want::new("rows", hidden, IDS.iter().flat_map(row).collect())];
    let launch = move |compute: &crate::device::Compute| {
        let out = floats(compute, &[SENTINEL; 7 * 512], [IDS.len(), hidden]);
        let ids = compute.upload(&IDS, [IDS.len()]);
        vec![Output::floats(embedding_rows(&ids, &table.matrix(compute), out, base))]
    };
    let trial = Trial::new(name, wants, Box::new(launch)).on(Where::Once);
    match planted {
        Some(fault) => trial.planted(fault),
        None => trial,
    }
}

fn trial(case: &'static Case, shift: usize) -> Trial {
    let &Case { name, hidden, rows, base, ids } = case;
    let mut table = Numbers::new(name).bf16(rows, hidden, -8, 12);
    table[..EDGES.len()].copy_from_slice(&EDGES);
    let row = |&id: &u32| {
        let inside = (id as usize).checked_sub(base).filter(|&row| row < rows);
        match inside.map(|row| (row + shift) % rows) {
            None => vec![UNTOUCHED; hidden],
            Some(row) => widened(&table[row * hidden..][..hidden]).iter().map(|&x| exact(f64::from(x))).collect(),
        }
    };
    let wants = vec![Want::new("rows", hidden, ids.iter().flat_map(row).collect())];
    let launch = move |compute: &crate::device::Compute| {
        let out = floats(compute, &vec![SENTINEL; ids.len() * hidden], [ids.len(), hidden]);
        let ids = compute.upload(ids, [ids.len()]);
        vec![Output::floats(embedding_rows(&ids, &matrix(compute, &table, rows), out, base))]
    };
    Trial::new(name, wants, Box::new(launch))
}
