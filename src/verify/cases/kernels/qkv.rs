//! Query, key and value: projection, bias, rotation and cache write, in the decode form and (as `rope`) in tiles.
//!
//! The angles of a step are random here, sine and cosine unrelated, so that each must be taken from its own place; that
//! the runtime's angles are right is [`super::rope`]'s matter.

use super::inputs::{Numbers, SENTINEL, audit, floats, matrix, matrix_f32, matrix_row, steps, swizzled, to, widened};
use super::trial::{Cell, Output, Trial, UNTOUCHED, Want, Where, near};
use crate::device::Compute;
use crate::kernels::codec::KvType;
use crate::kernels::ops::project_qkv;
use crate::kernels::qkv::{Class, Heads};
use crate::quant::bf16;
use crate::verify::oracle::rows::{add_bias, linear};
use crate::verify::oracle::{Real, Rows};

pub(super) const fn heads(heads: usize, kv_heads: usize, head_dim: usize, interleaved: bool) -> Heads {
    Heads { heads, kv_heads, head_dim, interleaved, kv: KvType::F32 }
}

/// The same heads over a cache of f16.
pub(super) const fn in_f16(heads: Heads) -> Heads {
    Heads { kv: KvType::F16, ..heads }
}

struct Case {
    name: &'static str,
    heads: Heads,
    hidden: usize,
    tokens: usize,
    position: usize,
    slots: usize,
    on: Where,
}

const fn case(name: &'static str, heads: Heads, hidden: usize, tokens: usize, [position, slots]: [usize; 2]) -> Case {
    Case { name, heads, hidden, tokens, position, slots, on: Where::Families }
}

const HEADS_OF_4: Heads = heads(8, 8, 4, false);
const HEADS_OF_8: Heads = heads(8, 1, 8, true);
const HEADS_OF_32: Heads = heads(4, 2, 32, false);
const HEADS_OF_64: Heads = heads(8, 1, 64, true);
const HEADS_OF_96: Heads = heads(2, 2, 96, false);

/// Up to four tokens; pairs of a cube are 16 (Lane), 8 (Workgroup), 32 (planes of 8).
const DECODE: [Case; 9] = [
    case("smallest heads, first token", HEADS_OF_4, 32, 1, [0, 1]),
    case("8 queries to a key, interleaved, slots to spare", HEADS_OF_8, 64, 2, [3, 9]),
    case("interleaved, the ring wraps inside the chunk", HEADS_OF_8, 96, 3, [14, 8]),
    case("heads of 32, position far beyond the slots", HEADS_OF_32, 96, 4, [1_000_003, 7]),
    case("heads of 32, one token, real width", HEADS_OF_32, 2880, 1, [129, 130]),
    Case { on: Where::FamiliesAndLimits, ..case("heads of 64 as in model.bin", HEADS_OF_64, 96, 4, [126, 128]) },
    case("heads of 96, half-split", HEADS_OF_96, 64, 2, [5, 6]),
    case("as many tokens as slots", HEADS_OF_4, 64, 4, [6, 4]),
    case("a cache of f16, interleaved", in_f16(HEADS_OF_8), 64, 3, [14, 8]),
];

const PREFILL: [Case; 10] = [
    case("5 tokens, smallest heads", HEADS_OF_4, 32, 5, [0, 5]),
    case("6 tokens, interleaved, behind others", HEADS_OF_8, 64, 6, [4, 12]),
    case("7 tokens, interleaved, the ring wraps inside the chunk", HEADS_OF_8, 96, 7, [13, 8]),
    case("8 tokens, heads of 32, as many slots", HEADS_OF_32, 64, 8, [17, 8]),
    case("9 tokens, heads of 32, real width", HEADS_OF_32, 2880, 9, [127, 140]),
    case("31 tokens, heads of 96", HEADS_OF_96, 32, 31, [3, 33]),
    Case {
        on: Where::FamiliesAndLimits,
        ..case("33 tokens, heads of 64 as in model.bin", HEADS_OF_64, 96, 33, [100, 128])
    },
    case("64 tokens, heads of 4", HEADS_OF_4, 64, 64, [1, 65]),
    case("65 tokens, interleaved, ring of 65", HEADS_OF_8, 32, 65, [200, 65]),
    case("a cache of f16, interleaved, 9 tokens", in_f16(HEADS_OF_8), 64, 9, [14, 16]),
];

pub(super) fn decode_trials() -> Vec<Trial> {
    trials(&DECODE)
}

pub(super) fn prefill_trials() -> Vec<Trial> {
    trials(&PREFILL)
}

fn trials(cases: &[Case]) -> Vec<Trial> {
    let right = cases.iter().map(|case| trial(case, None).on(case.on));
    // The same rows in three matrices of two codecs, as a GGUF may have them.
    let apart = [&cases[2], &cases[3]].map(|case| in_parts(case, None, true).on(case.on));
    let plant = |fault, says| trial(&cases[3], Some(fault)).planted(says);
    let wrong = [
        plant(Fault::Neighbours, "neighbours rotate together"),
        plant(Fault::Backward, "keys rotate backward"),
        plant(Fault::NoKeyBias, "the keys' bias is missing"),
    ];
    right.chain(apart).chain(wrong).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Neighbours,
    Backward,
    NoKeyBias,
}

struct Input {
    heads: Heads,
    x: Rows<f32>,
    /// Rows in natural order, not scaled.
    w: Vec<u16>,
    bias: Vec<u16>,
    /// cos, sin of each pair: a row for each token.
    angles: Rows<f32>,
}

fn input(case: &Case) -> Input {
    let mut numbers = Numbers::new(case.name);
    let mut x = numbers.rows(case.tokens, case.hidden, 3.0);
    x.row_mut(0)[..3].copy_from_slice(&[-0.0, 1e-41, 0.0]);
    Input {
        heads: case.heads,
        w: numbers.bf16(case.heads.rows(), case.hidden, -6, 4),
        bias: numbers.bf16(1, case.heads.rows(), -4, 5),
        angles: numbers.rows(case.tokens, case.heads.head_dim, 1.35),
        x,
    }
}

/// Where a row of the file comes from, and its factor: model.bin interleaves the halves of a head and scales.
fn stored(row: usize, heads: Heads) -> (usize, f32) {
    let (head, i) = (row / heads.head_dim, row % heads.head_dim);
    let rotated = head < heads.heads + heads.kv_heads;
    if !heads.interleaved || !rotated {
        return (row, 1.0);
    }
    let from = head * heads.head_dim + i / 2 + i % 2 * (heads.head_dim / 2);
    (from, if head < heads.heads { 0.5 } else { 0.25 })
}

/// `values`, of `width` a row, as the file holds them.
fn file_order(values: &[u16], width: usize, heads: Heads) -> Vec<u16> {
    let row = |row| {
        let (from, factor) = stored(row, heads);
        values[from * width..][..width].iter().map(move |&bits| bf16::scale(bits, factor)).collect::<Vec<_>>()
    };
    (0..heads.rows()).flat_map(row).collect()
}

fn trial(case: &Case, fault: Option<Fault>) -> Trial {
    in_parts(case, fault, false)
}

fn in_parts(case: &Case, fault: Option<Fault>, apart: bool) -> Trial {
    let input = input(case);
    let (h, slots, tokens, hidden) = (case.heads, case.slots, case.tokens, case.hidden);
    let (q_width, kv_width) = (h.heads * h.head_dim, h.kv_heads * h.head_dim);
    let (truth, rounded) = (reference::<f64>(&input, fault), reference::<f32>(&input, fault));
    let part = |columns: std::ops::Range<usize>| near(&truth.columns(columns.clone()), &rounded.columns(columns));
    let cache = |new: Vec<Cell>| {
        let mut cells = vec![UNTOUCHED; slots * kv_width];
        for (t, row) in new.chunks_exact(kv_width).enumerate() {
            cells[(case.position + t) % slots * kv_width..][..kv_width].copy_from_slice(row);
        }
        cells
    };
    let wants = vec![
        Want::new("queries", q_width, part(0..q_width)),
        Want::cache("keys", kv_width, cache(part(q_width..q_width + kv_width)), h.kv),
        Want::cache("values", kv_width, cache(part(q_width + kv_width..h.rows())), h.kv),
    ];
    let (w, bias) = (file_order(&input.w, hidden, h), widened(&file_order(&input.bias, 1, h)));
    let (first, angles) = (case.position, input.angles.clone());
    let class = if tokens.is_multiple_of(2) { Class::Window } else { Class::Full };
    audit(&input.angles);
    let launch = move |compute: &Compute| {
        let x = floats(compute, &swizzled(&input.x.values), [tokens, hidden]);
        let bias = floats(compute, &bias, [h.rows()]);
        let w = match apart {
            false => vec![matrix(compute, &w, h.rows())],
            true => {
                let (q, kv) = w.split_at(q_width * hidden);
                let (k, v) = kv.split_at(kv_width * hidden);
                vec![matrix_f32(compute, q, q_width), matrix(compute, k, kv_width), matrix_f32(compute, v, kv_width)]
            }
        };
        let words = [slots, h.cache_words()];
        let cache = || compute.upload(&vec![SENTINEL.to_bits(); words.iter().product()], words);
        let (keys, values) = (cache(), cache());
        let rows = (first..first + tokens).map(|p| (p, 0, slots));
        let step = steps(compute, class, rows, &angles.values, h.head_dim);
        let q = project_qkv(x, &w, &bias, &step, &keys, &values, class, h, compute.family());
        vec![Output::floats(q), Output::words(keys), Output::words(values)]
    };
    let name = if apart { format!("{}, apart", case.name) } else { case.name.into() };
    Trial::new(name, wants, Box::new(launch))
}

/// Queries, keys and values of every token, rotated; rows in natural order.
fn reference<F: Real>(input: &Input, fault: Option<Fault>) -> Rows<F> {
    let (h, hidden) = (input.heads, input.x.width);
    let mut y = linear(&input.x.to::<F>(), h.rows(), |row| matrix_row(&input.w, row, hidden));
    let mut bias = to::<F>(&widened(&input.bias));
    let keys = h.heads * h.head_dim..(h.heads + h.kv_heads) * h.head_dim;
    if fault == Some(Fault::NoKeyBias) {
        bias[keys.clone()].fill(F::zero());
    }
    add_bias(&mut y, &bias);
    for t in 0..y.count() {
        let angles = to::<F>(input.angles.row(t));
        for (n, head) in y.row_mut(t)[..keys.end].chunks_exact_mut(h.head_dim).enumerate() {
            for (i, angle) in angles.chunks_exact(2).enumerate() {
                let backward = fault == Some(Fault::Backward) && n >= h.heads;
                let (cos, sin) = (angle[0], if backward { -angle[1] } else { angle[1] });
                let (first, second) = match fault {
                    Some(Fault::Neighbours) => (2 * i, 2 * i + 1),
                    _ => (i, i + h.head_dim / 2),
                };
                let (x1, x2) = (head[first], head[second]);
                head[first] = x1 * cos - x2 * sin;
                head[second] = x2 * cos + x1 * sin;
            }
        }
    }
    y
}
