//! The chosen experts of few tokens: MXFP4 matrix × vector, the decode form.  No expert is ever expanded: a lane holds one
//! block of 32 weights in registers.
//!
//! `up`: `h = SwiGLU(W1 t + b1)`.  A group owns two gate/up pairs (rows `4g .. 4g + 4`) of one chosen expert of one token:
//! `CUBE_POS_Y` is `token × chosen + slot`.
//! `down`: `residual += Σ weight · (W2 h + b2)`.  The groups of a cube share four rows of one token and each takes slots of
//! its own, so that a single token keeps a GPU busy; a lane takes all slots of its rows.
//!
//! - `x` f32 `[tokens, hidden]`, swizzled; `h` f32 `[tokens, chosen, intermediate]`, swizzled rows
//! - `ids` u32 `[tokens, chosen]`; `scores` f32 `[tokens, experts + chosen]`: the last `chosen` are the weights
//! - `blocks` MXFP4 `[experts of this chunk, rows, blocks of a row]` 16 bytes each; `scales` a byte for each block
//! - `bias` f32 `[experts of this chunk, rows]`
//! - experts outside `first .. first + count` belong to other chunks and are left alone
//!
//! Twin: `verify::oracle::experts`.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::{BLOCK, Codec, F4, U4, swizzled};
use super::family::{Family, group, group_sum, lane};
use super::launch::{arg, cubes, dims, grid};
use super::linear::{ROWS, dot_rows};

/// Slope of the SwiGLU's sigmoid (`alpha` of OpenAI's reference).
pub const SWIGLU_ALPHA: f32 = 1.702;

/// One matrix of the experts, or the part of it that fits a buffer.
pub struct ExpertMatrix<'a> {
    /// `[experts, rows, columns / 8]` u32.
    pub blocks: &'a CubeTensor,
    /// `[words]` u32: a byte for each block.
    pub scales: &'a CubeTensor,
    /// `[experts, rows]` f32.
    pub bias: &'a CubeTensor,
    /// The first expert it holds.
    pub first: usize,
    /// What the file added to every scale.
    pub scale_offset: u32,
}

/// `SwiGLU` of a gate and an up value, clamped: `g·σ(α g)·(u + 1)`.
#[cube]
pub fn swiglu(gate: f32, up: f32, limit: f32) -> f32 {
    let g = min(gate, limit);
    let u = clamp(up, -limit, limit);
    g / (1.0 + (-SWIGLU_ALPHA * g).exp()) * (u + 1.0)
}

#[cube(launch_unchecked)]
fn up_kernel(
    x: &[F4],
    ids: &[u32],
    w: &[U4],
    scales: &[u32],
    bias: &[f32],
    h: &mut [f32],
    blocks: u32,
    rows: u32,
    first_expert: u32,
    expert_count: u32,
    limit: f32,
    #[comptime] chosen: usize,
    #[comptime] codec: Codec,
    #[comptime] family: Family,
) {
    let slot = CUBE_POS_Y as usize;
    let id = ids[slot];
    let rows = rows as usize;
    let blocks = blocks as usize;
    let here = id >= first_expert && id - first_expert < expert_count;
    let first = group(family) * ROWS;
    let base = select(here, id - first_expert, 0u32) as usize * rows;
    let mut own = Array::<usize>::new(ROWS);
    let mut acc = Array::<f32>::new(ROWS);
    #[unroll]
    for i in 0..ROWS {
        own[i] = base + min(first + i, rows - 1);
        acc[i] = 0.0;
    }
    // Not an early return: barriers of the sum must be reached by all.
    let span = select(here, blocks, 0usize);
    dot_rows(x, w, scales, slot / chosen * blocks, &own, blocks, span, &mut acc, codec, family);
    group_sum(&mut acc, ROWS, family);
    if lane(family) == 0 && here && first < rows {
        #[unroll]
        for pair in 0..2usize {
            let row = first + pair * 2;
            if row < rows {
                let value = swiglu(acc[2 * pair] + bias[base + row], acc[2 * pair + 1] + bias[base + row + 1], limit);
                h[slot * (rows / 2) + swizzled(row / 2)] = value;
            }
        }
    }
}

#[cube(launch_unchecked)]
fn down_kernel(
    h: &[F4],
    ids: &[u32],
    scores: &[f32],
    w: &[U4],
    scales: &[u32],
    bias: &[f32],
    residual: &mut [f32],
    blocks: u32,
    rows: u32,
    first_expert: u32,
    expert_count: u32,
    score_width: u32,
    #[comptime] chosen: usize,
    #[comptime] codec: Codec,
    #[comptime] family: Family,
) {
    let token = CUBE_POS_Y as usize;
    let rows = rows as usize;
    let blocks = blocks as usize;
    let parts = comptime!(slot_parts(family, chosen));
    let (first, part) = match family {
        Family::Lane { .. } => (group(family) * ROWS, 0usize.runtime()),
        _ => (CUBE_POS_X as usize * ROWS, UNIT_POS as usize / comptime!(family.lanes() as usize)),
    };
    let mut total = Array::<f32>::new(ROWS);
    let mut acc = Array::<f32>::new(ROWS);
    let mut own = Array::<usize>::new(ROWS);
    #[unroll]
    for i in 0..ROWS {
        total[i] = 0.0;
    }
    for turn in 0..comptime!(chosen.div_ceil(parts)) {
        let slot = min(turn * parts + part, chosen - 1);
        let id = ids[token * chosen + slot];
        let here = id >= first_expert && id - first_expert < expert_count && turn * parts + part < chosen;
        let base = select(here, id - first_expert, 0u32) as usize * rows;
        let weight = select(here, scores[(token + 1) * score_width as usize - chosen + slot], 0.0f32);
        let share = select(lane(family) == 0 && here, 1.0f32, 0.0f32);
        #[unroll]
        for i in 0..ROWS {
            own[i] = base + min(first + i, rows - 1);
            acc[i] = share * bias[own[i]];
        }
        let span = select(here, blocks, 0usize);
        dot_rows(h, w, scales, (token * chosen + slot) * blocks, &own, blocks, span, &mut acc, codec, family);
        #[unroll]
        for i in 0..ROWS {
            total[i] += weight * acc[i];
        }
    }
    group_sum(&mut total, ROWS, family);
    add_rows(&total, residual, token * rows, first, rows, part, parts, family);
}

/// Adds what the parts of a cube found of [`ROWS`] rows from `first` on.
#[cube]
fn add_rows(
    total: &Array<f32>,
    residual: &mut [f32],
    base: usize,
    first: usize,
    rows: usize,
    part: usize,
    #[comptime] parts: usize,
    #[comptime] family: Family,
) {
    if comptime!(parts > 1) {
        let mut sums = Shared::<[f32]>::new_slice(comptime!(parts * ROWS));
        if lane(family) == 0 {
            #[unroll]
            for i in 0..ROWS {
                sums[part * ROWS + i] = total[i];
            }
        }
        sync_cube();
        let row = UNIT_POS as usize;
        if row < ROWS && first + row < rows {
            let mut sum = 0.0f32;
            for p in 0..parts {
                sum += sums[p * ROWS + row];
            }
            residual[base + first + row] += sum;
        }
    } else if lane(family) == 0 {
        #[unroll]
        for i in 0..ROWS {
            if first + i < rows {
                residual[base + first + i] += total[i];
            }
        }
    }
}

/// Groups of a cube that take slots of the same rows.
const fn slot_parts(family: Family, chosen: usize) -> usize {
    match family {
        Family::Lane { .. } => 1,
        _ => {
            let groups = family.groups() as usize;
            if chosen < groups { chosen } else { groups }
        }
    }
}

/// Checks a chunk of an expert matrix; experts and rows.
fn check(m: &ExpertMatrix, columns: usize) -> (usize, usize) {
    let [experts, rows, words] = dims(m.blocks);
    let [scale_words] = dims(m.scales);
    assert_eq!(words * 8, columns, "experts: columns");
    assert!(scale_words * 4 >= experts * rows * columns / BLOCK, "experts: scales");
    assert_eq!(dims(m.bias), [experts, rows], "experts: bias");
    (experts, rows)
}

/// SwiGLU of the chosen experts' first matrix, into `h`.
pub fn up(x: &CubeTensor, ids: &CubeTensor, m: &ExpertMatrix, h: &CubeTensor, limit: f32, family: Family) {
    let [tokens, hidden] = dims(x);
    let (experts, rows) = check(m, hidden);
    let [id_tokens, chosen] = dims(ids);
    assert_eq!((id_tokens, dims(h)), (tokens, [tokens, chosen, rows / 2]), "experts up: ids, output");
    let count = grid(cubes(rows, ROWS as u32 * family.groups()), (tokens * chosen) as u32, 1);
    // SAFETY: shapes were checked above; ids outside the chunk read its first expert and store nothing.
    unsafe {
        up_kernel::launch_unchecked(
            &x.client,
            count,
            family.cube(),
            arg(x, 4),
            arg(ids, 1),
            arg(m.blocks, 4),
            arg(m.scales, 1),
            arg(m.bias, 1),
            arg(h, 1),
            (hidden / BLOCK) as u32,
            rows as u32,
            m.first as u32,
            experts as u32,
            limit,
            chosen,
            Codec::Mxfp4 { scale_offset: m.scale_offset },
            family,
        );
    }
}

/// Adds the weighted outputs of the chosen experts' second matrix to `residual`.
pub fn down(
    h: &CubeTensor,
    ids: &CubeTensor,
    scores: &CubeTensor,
    m: &ExpertMatrix,
    residual: &CubeTensor,
    family: Family,
) {
    let [tokens, chosen, intermediate] = dims(h);
    let (experts, rows) = check(m, intermediate);
    let [score_tokens, score_width] = dims(scores);
    assert_eq!((dims(ids), score_tokens), ([tokens, chosen], tokens), "experts down: routing");
    assert_eq!(dims(residual), [tokens, rows], "experts down: residual");
    let (of_cube, cube) = match family {
        Family::Lane { .. } => (ROWS as u32 * family.groups(), family.cube()),
        _ => (ROWS as u32, CubeDim::new_1d(family.lanes() * slot_parts(family, chosen) as u32)),
    };
    let count = grid(cubes(rows, of_cube), tokens as u32, 1);
    // SAFETY: shapes were checked above; ids outside the chunk read its first expert and add nothing.
    unsafe {
        down_kernel::launch_unchecked(
            &h.client,
            count,
            cube,
            arg(h, 4),
            arg(ids, 1),
            arg(scores, 1),
            arg(m.blocks, 4),
            arg(m.scales, 1),
            arg(m.bias, 1),
            arg(residual, 1),
            (intermediate / BLOCK) as u32,
            rows as u32,
            m.first as u32,
            experts as u32,
            score_width as u32,
            chosen,
            Codec::Mxfp4 { scale_offset: m.scale_offset },
            family,
        );
    }
}
