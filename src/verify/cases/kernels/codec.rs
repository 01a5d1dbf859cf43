//! Packed weights as the kernels decode them, bit for bit: a one-hot activation picks one weight of each row.
//!
//! The other products of a sum are zeros, so the sign of a weight of zero is not visible; a subnormal may be flushed.

use burn::tensor::Tensor;

use super::half;
use super::inputs::{Numbers, SENTINEL, floats, matrix, swizzled, widened};
use super::packed::Packed;
use super::qkv::{heads, in_f16};
use super::trial::{Cell, Output, Trial, Want, Where, exact};
use crate::device::Compute;
use crate::kernels::ops::{ExpertSpec, experts_down, experts_tiled, linear_store, project_qkv, sink_attention};
use crate::kernels::qkv::Heads;
use crate::kernels::tile::{Epilogue, tile_rows};
use crate::verify::oracle::{Rows, mxfp4};

/// Weights of a block: one token picks each.
const BLOCK: usize = 32;

pub(super) fn trials() -> Vec<Trial> {
    let each = |(scale_offset, scales): (u32, std::ops::Range<u16>)| {
        let scales: Vec<u8> = scales.map(|scale| scale as u8).collect();
        [
            down_trial(scale_offset, &scales, 0).on(Where::FamiliesAndLimits),
            scatter_trial(scale_offset, &scales, 0).on(Where::FamiliesAndLimits),
        ]
    };
    // As checkpoints have them, all that loading accepts; as model.bin does, all that 14 may be added to.
    let mxfp4 = [(0, 0..253), (14, 0..242)].into_iter().flat_map(each);
    let bf16 = [1, 4, BLOCK].map(|tokens| bf16_trial(tokens, 0).on(Where::FamiliesAndLimits));
    let wrong = [
        down_trial(0, &[120, 121, 122], 1).planted("nibbles swapped"),
        scatter_trial(14, &[120, 121, 122], 1).planted("nibbles swapped in a tile"),
        bf16_trial(BLOCK, 1).planted("halves of a word swapped"),
        f16_rounding_trial(1, f64::ceil).planted("f16 rounded up"),
    ];
    let f16 = [1, 5].map(|tokens| f16_rounding_trial(tokens, f64::round_ties_even).on(Where::FamiliesAndLimits));
    let f16 = f16.into_iter().chain([100, 128].map(|tokens| f16_reading_trial(tokens).on(Where::FamiliesAndLimits)));
    mxfp4.chain(bf16).chain(f16).chain(wrong).collect()
}

/// A row for each scale; over the block its codes go round twice, shifted by a place from row to row.
fn table(scales: &[u8]) -> Packed {
    let code = |row: usize, i: usize| ((i + row) % 16) as u8;
    let byte = |row: usize, j: usize| code(row, 2 * j) | code(row, 2 * j + 1) << 4;
    let rows = scales.len();
    Packed {
        experts: 1,
        rows,
        columns: BLOCK,
        blocks: (0..rows).flat_map(|row| (0..BLOCK / 2).map(move |j| byte(row, j))).collect(),
        scales: scales.to_vec(),
        bias: Rows { width: rows, values: vec![0.0; rows] },
    }
}

/// Cell (token, row): the value that the token picks of the row; `swap` of 1 takes its neighbour.
fn picked(w: &Packed, swap: usize) -> Vec<Cell> {
    let value = |token: usize, row: usize| mxfp4::value(&w.blocks[row * 16..][..16], w.scales[row], token ^ swap);
    // A weight of −0 among other zeros adds up to +0.
    let cell = |value: f64| if value == 0.0 { Cell::Bits(0) } else { exact(value) };
    (0..BLOCK).flat_map(|token| (0..w.rows).map(move |row| cell(value(token, row)))).collect()
}

/// One-hot rows: token t of `tokens` has its 1 at `at(t)`.
fn one_hot(tokens: usize, at: impl Fn(usize) -> usize) -> Vec<f32> {
    let mut rows = vec![0.0; tokens * BLOCK];
    (0..tokens).for_each(|t| rows[t * BLOCK + at(t)] = 1.0);
    swizzled(&rows)
}

fn spec(compute: &Compute, scale_offset: u32) -> ExpertSpec {
    ExpertSpec { first: 0, scale_offset, chosen: 1, limit: 7.0, family: compute.family() }
}

fn down_trial(scale_offset: u32, scales: &[u8], swap: usize) -> Trial {
    let w = table(scales);
    let wants = vec![Want::new("residual", w.rows, picked(&w, swap))];
    let launch = move |compute: &Compute| {
        let h = floats(compute, &one_hot(BLOCK, |t| t), [BLOCK, 1, BLOCK]);
        let ids = compute.upload(&[0; BLOCK], [BLOCK, 1]);
        let scores = floats(compute, &[SENTINEL, 1.0].repeat(BLOCK), [BLOCK, 2]);
        let residual = floats(compute, &vec![0.0; BLOCK * w.rows], [BLOCK, w.rows]);
        let chunk = w.chunk(compute, 0..1, scale_offset);
        vec![Output::floats(experts_down(&h, &ids, &scores, &chunk, residual, spec(compute, scale_offset)))]
    };
    Trial::new(format!("every scale and code, vector form, offset {scale_offset}"), wants, Box::new(launch))
}

fn scatter_trial(scale_offset: u32, scales: &[u8], swap: usize) -> Trial {
    // A tile's rows come in pairs.
    let mut scales = scales.to_vec();
    scales.truncate(scales.len() / 2 * 2);
    let w = table(&scales);
    let wants = vec![Want::new("y", w.rows, picked(&w, swap))];
    let launch = move |compute: &Compute| {
        let h = floats(compute, &one_hot(BLOCK, |t| t), [BLOCK, BLOCK]);
        let perm: Vec<u32> = (0..BLOCK as u32).collect();
        let rows = tile_rows(compute.family());
        let tiles: Vec<u32> = (0..BLOCK).step_by(rows).flat_map(|first| [0, first as u32, rows as u32]).collect();
        let (perm, tiles) = (compute.upload(&perm, [BLOCK]), compute.upload(&tiles, [tiles.len() / 3, 3]));
        let out = floats(compute, &vec![SENTINEL; BLOCK * w.rows], [BLOCK, 1, w.rows]);
        let chunk = w.chunk(compute, 0..1, scale_offset);
        let spec = spec(compute, scale_offset);
        vec![Output::floats(experts_tiled(&h, (&perm, &tiles), &chunk, out, Epilogue::Scatter, spec))]
    };
    Trial::new(format!("every scale and code, tile form, offset {scale_offset}"), wants, Box::new(launch))
}

/// Every finite BF16, `tokens` of a block at a time.
fn bf16_trial(tokens: usize, swap: usize) -> Trial {
    let finite: Vec<u16> = (0..=u16::MAX).filter(|bits| bits & 0x7f80 != 0x7f80).collect();
    let rows = finite.len() / BLOCK;
    let values = widened(&finite);
    let cell = move |at: usize, row: usize| match values[row * BLOCK + (at ^ swap)] {
        0.0 => Cell::Bits(0),
        value => exact(f64::from(value)),
    };
    let cells = (0..BLOCK).flat_map(|at| (0..rows).map(move |row| (at, row)));
    let wants = vec![Want::new("out", rows, cells.map(|(at, row)| cell(at, row)).collect())];
    let launch = move |compute: &Compute| {
        let w = matrix(compute, &finite, rows);
        let mut out = Vec::new();
        for first in (0..BLOCK).step_by(tokens) {
            let x = floats(compute, &one_hot(tokens, |t| first + t), [tokens, BLOCK]);
            let part = floats(compute, &vec![SENTINEL; tokens * rows], [tokens, rows]);
            out.push(linear_store(&x, &w, part, 0, compute.family()));
        }
        vec![Output::floats(Tensor::cat(out, 0))]
    };
    Trial::new(format!("every finite BF16, {tokens} tokens"), wants, Box::new(launch))
}

/// Heads of the trials of f16: 256 values a slot.
const F16_HEADS: Heads = in_f16(heads(8, 8, 32, false));

/// Values at every edge of f16: ties of both kinds, subnormals and what rounds to them, the largest and beyond; then others.
fn f16_edges(count: usize) -> Vec<f32> {
    let steps = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 1022.5, 1023.25, 1023.5, 1024.0, 1024.5, 1025.5];
    let small = steps.iter().flat_map(|step| [step * 2f32.powi(-24), step * 2f32.powi(-23)]);
    let normal = [1.0, 1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 1.0 + 1.0001 / 2048.0, 1.999_99, 2047.5, 2049.0, 2051.0];
    let large = [65_503.0, 65_504.0, 65_519.9, 65_520.0, 65_536.0, 1e9, f32::MAX, 1e-40, f32::MIN_POSITIVE, 6e-8];
    let mut edges: Vec<f32> = small.chain(normal).chain(large).flat_map(|x| [x, -x]).collect();
    let mut numbers = Numbers::new("values for f16");
    while edges.len() < count {
        let exponent = numbers.below(40) as i32 - 22;
        edges.push(numbers.float(2f32.powi(exponent)));
    }
    edges
}

/// Keys and values whose weights are zero and whose bias is any f32: the cache holds the bias, rounded once by `round`.
fn f16_rounding_trial(tokens: usize, round: fn(f64) -> f64) -> Trial {
    let h = F16_HEADS;
    let width = h.kv_heads * h.head_dim;
    let bias = f16_edges(h.rows());
    let cells = |from: usize| {
        let cell = |&x: &f32| Cell::Bits(half::widened(half::rounded(f64::from(x) + 0.0, round)));
        let row: Vec<Cell> = bias[from..from + width].iter().map(cell).collect();
        row.repeat(tokens)
    };
    let queries = bias[..width].iter().map(|&x| if x == 0.0 { Cell::Open } else { exact(f64::from(x)) });
    let wants = vec![
        Want::new("queries", width, queries.collect::<Vec<_>>().repeat(tokens)),
        Want::halves("keys", width, cells(width)),
        Want::halves("values", width, cells(2 * width)),
    ];
    let launch = move |compute: &Compute| {
        let x = floats(compute, &vec![0.0; tokens * BLOCK], [tokens, BLOCK]);
        let w = matrix(compute, &vec![0; h.rows() * BLOCK], h.rows());
        let bias = floats(compute, &bias, [h.rows()]);
        let words = [tokens, h.cache_words()];
        let cache = || compute.upload(&vec![SENTINEL.to_bits(); words.iter().product()], words);
        let (keys, values) = (cache(), cache());
        // No rotation: every cosine is 1, every sine 0.
        let angles = [1f32.to_bits(), 0].repeat(tokens * h.head_dim / 2);
        let step = compute.upload(&[vec![0; 4], angles].concat(), [4 + tokens * h.head_dim]);
        let q = project_qkv(x, &w, &bias, &step, &keys, &values, h, compute.family());
        vec![Output::floats(q), Output::words(keys), Output::words(values)]
    };
    Trial::new(format!("f16 of any f32, {tokens} tokens"), wants, Box::new(launch))
}

/// Every finite f16 as a value that a query sees alone, `tokens` slots at a time: the softmax of one score is 1.
fn f16_reading_trial(tokens: usize) -> Trial {
    let h = F16_HEADS;
    let width = h.kv_heads * h.head_dim;
    let mut finite: Vec<u16> = (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00).collect();
    finite.resize(finite.len().next_multiple_of(tokens * width), 0x3c00);
    // A device's division by 1 may round; -0 adds up to +0.
    let near = |value: f64| Cell::Near(value, (value.abs() * f64::from(f32::EPSILON)).max(f64::MIN_POSITIVE));
    let wants = vec![Want::swizzled("attended", width, finite.iter().map(|&bits| near(half::value(bits))).collect())];
    let launch = move |compute: &Compute| {
        let words: Vec<u32> = finite.as_chunks().0.iter().map(|&[a, b]| u32::from(a) | u32::from(b) << 16).collect();
        let shape = [tokens, h.cache_words()];
        let keys = compute.upload(&vec![0x3c00_b800; shape.iter().product()], shape);
        let q = floats(compute, &vec![0.125; tokens * width], [tokens, width]);
        let sinks = floats(compute, &[-1e4; 8], [h.heads]);
        let step = compute.upload(&[0; 4], [4]);
        let part = |values: &[u32]| {
            let values = compute.upload(values, shape);
            sink_attention(q.clone(), &keys, &values, &sinks, &step, 1, h, compute.family())
        };
        vec![Output::floats(Tensor::cat(words.chunks_exact(shape.iter().product()).map(part).collect(), 0))]
    };
    Trial::new(format!("every finite f16, {tokens} tokens"), wants, Box::new(launch))
}
