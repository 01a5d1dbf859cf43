//! Packed weights as the kernels decode them, bit for bit: a one-hot activation picks one weight of each row.
//!
//! The other products of a sum are zeros, so the sign of a weight of zero is not visible; a subnormal may be flushed.

use burn::tensor::Tensor;

use super::attention::HEADS_OF_32;
use super::dense::Dense;
use super::half;
use super::inputs::{Numbers, SENTINEL, floats, matrix, steps, swizzled, widened};
use super::packed::Packed;
use super::qkv::in_f16;
use super::tile::{few, tiled};
use super::trial::{Cell, Output, Trial, Want, Where, exact};
use crate::device::Compute;
use crate::kernels::family::Family;
use crate::kernels::ops::{ExpertSpec, experts_down, experts_tiled, linear_store, project_qkv, sink_attention};
use crate::kernels::qkv::{Class, Heads};
use crate::kernels::tile::{Epilogue, Shape};
use crate::quant::BlockType;
use crate::verify::oracle::{Rows, mxfp4};

/// Weights of a block: one token picks each.
const BLOCK: usize = 32;

pub(super) fn trials() -> Vec<Trial> {
    // As checkpoints have them, all that loading accepts; as model.bin does, all that 14 may be added to.
    let forms: [(Form, std::ops::Range<u16>); 2] =
        [(Form { scale_offset: 0, chosen: 1 }, 0..253), (Form { scale_offset: 14, chosen: 4 }, 0..242)];
    let each = |(form, scales): (Form, std::ops::Range<u16>)| {
        let scales: Vec<u8> = scales.map(|scale| scale as u8).collect();
        let tiles = [(few as fn(Family) -> Shape, Where::Families), (tiled, Where::Groups)];
        let tiles = tiles.map(|(shape, on)| scatter_trial(form, shape, &scales, 0).on(on));
        [down_trial(form, &scales, 0)].into_iter().chain(tiles)
    };
    let [(bare, _), (shifted, _)] = forms.clone();
    let mxfp4 = forms.into_iter().flat_map(each);
    let bf16 = [1, 4, 8, BLOCK].map(|tokens| bf16_trial(tokens, 0));
    let f16 = [1, 5].map(|tokens| f16_rounding_trial(tokens, f64::round_ties_even));
    // The split form, and rows.
    let read = [248, 496].map(f16_reading_trial);
    let wrong = [
        down_trial(bare, &[120, 121, 122], 1).planted("nibbles swapped"),
        scatter_trial(shifted, few, &[120, 121, 122], 1).planted("nibbles swapped in a tile"),
        scatter_trial(shifted, few, &[120, 121, 122], 1).planted("nibbles swapped between lanes").on(Where::Groups),
        scatter_trial(bare, tiled, &[120, 121, 122], 1)
            .planted("nibbles swapped in workgroup memory")
            .on(Where::Groups),
        bf16_trial(BLOCK, 1).planted("halves of a word swapped"),
        f16_rounding_trial(1, f64::ceil).planted("f16 rounded up"),
    ];
    let blocks = [1, 4, 8, BLOCK].into_iter().flat_map(|tokens| every_block(tokens, 0));
    let wrong = wrong.into_iter().chain(every_block(4, 1).map(|trial| trial.planted("the neighbour's weight")));
    mxfp4.chain(blocks).chain(bf16).chain(f16).chain(read).chain(wrong).collect()
}

/// What a kernel is compiled for: shared with the trials of experts and tiles.
#[derive(Debug, Clone, Copy)]
struct Form {
    scale_offset: u32,
    chosen: usize,
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

fn spec(compute: &Compute, form: Form) -> ExpertSpec {
    let Form { scale_offset, chosen } = form;
    ExpertSpec { first: 0, scale_offset, chosen, limit: 7.0, family: compute.family() }
}

/// Every token's first expert is there, its other ones are not.
fn down_trial(form: Form, scales: &[u8], swap: usize) -> Trial {
    let w = table(scales);
    let wants = vec![Want::new("residual", w.rows, picked(&w, swap))];
    let launch = move |compute: &Compute| {
        let first = |value: f32, rest: f32| [vec![value], vec![rest; form.chosen - 1]].concat();
        let h: Vec<f32> = one_hot(BLOCK, |t| t).chunks_exact(BLOCK).flat_map(|row| row.repeat(form.chosen)).collect();
        let h = floats(compute, &h, [BLOCK, form.chosen, BLOCK]);
        let ids = [vec![0], vec![u32::MAX; form.chosen - 1]].concat().repeat(BLOCK);
        let ids = compute.upload(&ids, [BLOCK, form.chosen]);
        let scores = [vec![SENTINEL], first(1.0, SENTINEL)].concat().repeat(BLOCK);
        let scores = floats(compute, &scores, [BLOCK, 1 + form.chosen]);
        let residual = floats(compute, &vec![0.0; BLOCK * w.rows], [BLOCK, w.rows]);
        let chunk = w.chunk(compute, 0..1, form.scale_offset);
        vec![Output::floats(experts_down(&h, &ids, &scores, &chunk, residual, spec(compute, form)))]
    };
    Trial::new(format!("every scale and code, vector form, offset {}", form.scale_offset), wants, Box::new(launch))
}

fn scatter_trial(form: Form, shape: fn(Family) -> Shape, scales: &[u8], swap: usize) -> Trial {
    // A tile's rows come in pairs.
    let mut scales = scales.to_vec();
    scales.truncate(scales.len() / 2 * 2);
    let w = table(&scales);
    let wants = vec![Want::new("y", w.rows, picked(&w, swap))];
    let launch = move |compute: &Compute| {
        let h = floats(compute, &one_hot(BLOCK, |t| t), [BLOCK, BLOCK]);
        let perm: Vec<u32> = (0..BLOCK as u32).collect();
        let shape = shape(compute.family());
        let rows = shape.rows().min(BLOCK);
        let tiles: Vec<u32> = (0..BLOCK).step_by(rows).flat_map(|first| [0, first as u32, rows as u32]).collect();
        let (perm, tiles) = (compute.upload(&perm, [BLOCK]), compute.upload(&tiles, [tiles.len() / 3, 3]));
        let dims = [BLOCK / form.chosen, form.chosen, w.rows];
        let out = floats(compute, &vec![SENTINEL; BLOCK * w.rows], dims);
        let chunk = w.chunk(compute, 0..1, form.scale_offset);
        let spec = spec(compute, form);
        vec![Output::floats(experts_tiled(&h, (&perm, &tiles), &chunk, out, Epilogue::Scatter, shape, spec))]
    };
    let of_tile = if shape(Family::Workgroup) == Shape::Tiled { "workgroup memory" } else { "tile form" };
    let name = format!("every scale and code, {of_tile}, offset {}", form.scale_offset);
    Trial::new(name, wants, Box::new(launch))
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

/// The finite F16s of every exponent and sign, low bits in turn.
fn some_f16() -> Vec<u16> {
    (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00 && bits % 16 == bits / 16 % 16).collect()
}

/// Q8_0, Q4_K, F16 and F32 under telling scales, `tokens` of a block at a time; `swap` of 1 expects each weight's neighbour.
fn every_block(tokens: usize, swap: usize) -> [Trial; 4] {
    let mut numbers = Numbers::new("blocks of every codec");
    let mut byte = || (numbers.word() >> 24) as u8;
    let scales = some_f16();
    let q8_0: Vec<u8> = scales.iter().flat_map(|d| [d.to_le_bytes().to_vec(), bytes(32, &mut byte)].concat()).collect();
    let both = scales.iter().zip(scales.iter().rev()).step_by(31);
    let q4_k: Vec<u8> = both
        .flat_map(|(d, d_min)| [d.to_le_bytes().to_vec(), d_min.to_le_bytes().to_vec(), bytes(140, &mut byte)].concat())
        .collect();
    let f16: Vec<u8> = scales.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let f32s = scales.iter().map(|bits| f32::from_bits(u32::from(*bits) << 16 | 0x1357)).filter(|x| x.is_normal());
    let f32s: Vec<u8> = f32s.flat_map(f32::to_le_bytes).collect();
    let of = |kind, width: usize, bytes: Vec<u8>| {
        let row = BlockType::row_bytes(kind, width).expect("whole blocks");
        // A tile's rows come in pairs.
        let rows = bytes.len() / row / 2 * 2;
        block_trial(Dense::of(kind, rows, width, bytes[..rows * row].to_vec()), tokens, swap)
    };
    [
        of(BlockType::Q8_0, BLOCK, q8_0),
        of(BlockType::Q4K, 512, q4_k),
        of(BlockType::F16, BLOCK, f16),
        of(BlockType::F32, BLOCK, f32s),
    ]
}

fn bytes(count: usize, byte: &mut impl FnMut() -> u8) -> Vec<u8> {
    (0..count).map(|_| byte()).collect()
}

/// Each of 32 columns of a matrix, spread over its width, by itself.
fn block_trial(w: Dense, tokens: usize, swap: usize) -> Trial {
    let (rows, columns) = (w.rows, w.columns);
    let column = move |at: usize| at * (columns / BLOCK) + at % (columns / BLOCK);
    let cell = |at: usize, row: usize| match w.weight(row, column(at) ^ swap) {
        0.0 => Cell::Bits(0),
        value => exact(value),
    };
    let cells = (0..BLOCK)
        .flat_map(|at| (0..rows).map(move |row| (at, row)))
        .map(|(at, row)| cell(at, row))
        .collect::<Vec<Cell>>();
    let wants = vec![Want::new("out", rows, cells)];
    let name = format!("{} blocks, {tokens} tokens", w.name());
    let launch = move |compute: &Compute| {
        let matrix = w.matrix(compute);
        let mut out = Vec::new();
        for first in (0..BLOCK).step_by(tokens) {
            let mut x = vec![0.0; tokens * columns];
            (0..tokens).for_each(|t| x[t * columns + column(first + t)] = 1.0);
            let x = floats(compute, &swizzled(&x), [tokens, columns]);
            let part = floats(compute, &vec![SENTINEL; tokens * rows], [tokens, rows]);
            out.push(linear_store(&x, &matrix, part, 0, compute.family()));
        }
        vec![Output::floats(Tensor::cat(out, 0))]
    };
    Trial::new(name, wants, Box::new(launch))
}

/// Heads of the trials of f16: 128 queries and 64 values a slot.
const F16_HEADS: Heads = in_f16(HEADS_OF_32);

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
    let (q_width, width) = (h.heads * h.head_dim, h.kv_heads * h.head_dim);
    let queries = Numbers::new("queries beside f16").rows(1, q_width, 3.0).values;
    let bias = [queries, f16_edges(2 * width)].concat();
    let cells = |from: usize| {
        let cell = |&x: &f32| Cell::Bits(half::widened(half::rounded(f64::from(x) + 0.0, round)));
        let row: Vec<Cell> = bias[from..from + width].iter().map(cell).collect();
        row.repeat(tokens)
    };
    let queries = bias[..q_width].iter().map(|&x| exact(f64::from(x)));
    let wants = vec![
        Want::new("queries", q_width, queries.collect::<Vec<_>>().repeat(tokens)),
        Want::halves("keys", width, cells(q_width)),
        Want::halves("values", width, cells(q_width + width)),
    ];
    let launch = move |compute: &Compute| {
        let x = floats(compute, &vec![0.0; tokens * BLOCK], [tokens, BLOCK]);
        let w = [matrix(compute, &vec![0; h.rows() * BLOCK], h.rows())];
        let bias = floats(compute, &bias, [h.rows()]);
        let words = [tokens, h.cache_words()];
        let cache = || compute.upload(&vec![SENTINEL.to_bits(); words.iter().product()], words);
        let (keys, values) = (cache(), cache());
        // No rotation: every cosine is 1, every sine 0.
        let angles = [1.0, 0.0].repeat(tokens * h.head_dim / 2);
        let step = steps(compute, Class::Full, (0..tokens).map(|p| (p, 0, tokens)), &angles, h.head_dim);
        let q = project_qkv(x, &w, &bias, &step, &keys, &values, Class::Full, h, compute.family());
        vec![Output::floats(q), Output::words(keys), Output::words(values)]
    };
    Trial::new(format!("f16 of any f32, {tokens} tokens"), wants, Box::new(launch))
}

/// Every finite f16 as a value that a query sees alone, `tokens` slots at a time: the softmax of one score is 1.
fn f16_reading_trial(tokens: usize) -> Trial {
    let h = F16_HEADS;
    let (q_width, width) = (h.heads * h.head_dim, h.kv_heads * h.head_dim);
    let finite: Vec<u16> = (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00).collect();
    assert!(finite.len().is_multiple_of(tokens * width), "slots hold all values");
    // A device's division by 1 may round; -0 adds up to +0.
    let near = |value: f64| Cell::Near(value, (value.abs() * f64::from(f32::EPSILON)).max(f64::MIN_POSITIVE));
    let seen = |slot: &[u16]| {
        let of_head = |head: usize| head / (h.heads / h.kv_heads) * h.head_dim;
        let heads = (0..h.heads).flat_map(|head| slot[of_head(head)..][..h.head_dim].to_vec());
        heads.map(|bits| near(half::value(bits))).collect::<Vec<Cell>>()
    };
    let wants = vec![Want::swizzled("attended", q_width, finite.chunks_exact(width).flat_map(seen).collect())];
    let launch = move |compute: &Compute| {
        let words: Vec<u32> = finite.as_chunks().0.iter().map(|&[a, b]| u32::from(a) | u32::from(b) << 16).collect();
        let shape = [tokens, h.cache_words()];
        let keys = compute.upload(&vec![0x3c00_b800; shape.iter().product()], shape);
        let q = floats(compute, &vec![0.125; tokens * q_width], [tokens, q_width]);
        let sinks = floats(compute, &vec![-1e4; h.heads], [h.heads]);
        let step = steps(compute, Class::Window, (0..tokens).map(|p| (p, 0, tokens)), &[], h.head_dim);
        let part = |values: &[u32]| {
            let values = compute.upload(values, shape);
            sink_attention(q.clone(), &keys, &values, &sinks, &step, 1, h, compute.family())
        };
        vec![Output::floats(Tensor::cat(words.chunks_exact(shape.iter().product()).map(part).collect(), 0))]
    };
    Trial::new(format!("every finite f16, {tokens} tokens"), wants, Box::new(launch))
}
