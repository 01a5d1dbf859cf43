//! The Lane shape: a unit multiplies eight rows with its tokens, without barriers.

use cubecl::prelude::*;

use super::{Spec, row_of, store, tile_of};
use crate::kernels::codec::{F4, U4, block};
use crate::kernels::family::common_block;

/// Rows and tokens of a Lane unit.
pub(super) const LANE_ROWS: usize = 8;
pub(super) const LANE_TOKENS: usize = 16;
/// Tokens that have a loop of their own: a tile takes the shortest that holds its rows.  Sequences that decode together send
/// one or two rows to an expert.
const LANE_LOOPS: [usize; 4] = [2, 4, 8, LANE_TOKENS];

/// Adds the products of one block of columns: [`LANE_ROWS`] blocks of weights with block `b` of `tokens` tokens.
#[cube]
fn lane_step<S: Numeric>(
    x: &[F4],
    w: &[U4],
    scales: &[S],
    at: &Array<usize>,
    from: &Array<usize>,
    b: usize,
    acc: &mut Array<f32>,
    #[comptime] tokens: usize,
    #[comptime] spec: Spec,
) {
    let mut weights = Array::<F4>::new(comptime!(LANE_ROWS * 8));
    #[unroll]
    for r in 0..LANE_ROWS {
        let decoded = block(w, scales, at[r] + b, spec.codec);
        #[unroll]
        for j in 0..8usize {
            weights[comptime!(r * 8 + j)] = decoded[j];
        }
    }
    #[unroll]
    for t in 0..tokens {
        let v = common_block(x, (from[t] + b) * 8, spec.family);
        #[unroll]
        for j in 0..8usize {
            #[unroll]
            for r in 0..LANE_ROWS {
                acc[comptime!(r * LANE_TOKENS + t)] += weights[comptime!(r * 8 + j)].dot(v[j]);
            }
        }
    }
}

#[cube(launch_unchecked)]
pub(super) fn lane_kernel<S: Numeric>(
    x: &[F4],
    w: &[U4],
    scales: &[S],
    bias: &[f32],
    tiles: &[u32],
    perm: &[u32],
    out: &mut [f32],
    blocks: u32,
    rows: u32,
    total: u32,
    first_expert: u32,
    expert_count: u32,
    stride: u32,
    base: u32,
    limit: f32,
    #[comptime] spec: Spec,
) {
    let rows = rows as usize;
    let blocks = blocks as usize;
    let (expert, start, count) = tile_of(tiles, total, first_expert, expert_count, LANE_TOKENS, spec);
    let first = ABSOLUTE_POS_X as usize * LANE_ROWS;
    let matrix = expert * rows;
    let mut from = Array::<usize>::new(LANE_TOKENS);
    let mut acc = Array::<f32>::new(comptime!(LANE_ROWS * LANE_TOKENS));
    #[unroll]
    for t in 0..LANE_TOKENS {
        from[t] = row_of(perm, start, count, t.runtime(), spec) * blocks;
        #[unroll]
        for r in 0..LANE_ROWS {
            acc[comptime!(r * LANE_TOKENS + t)] = 0.0;
        }
    }
    // Units beyond the last row go along: the others need what they load.
    let mut own = Array::<usize>::new(LANE_ROWS);
    #[unroll]
    for r in 0..LANE_ROWS {
        own[r] = (matrix + min(first + r, rows - 1)) * blocks;
    }
    #[unroll]
    for i in 0..comptime!(LANE_LOOPS.len()) {
        let below = comptime!(if i == 0 { 0 } else { LANE_LOOPS[i - 1] });
        let tokens = comptime!(LANE_LOOPS[i]);
        for b in 0..select(count > below && count <= tokens, blocks, 0usize) {
            lane_step(x, w, scales, &own, &from, b, &mut acc, tokens, spec);
        }
    }
    #[unroll]
    for t in 0..LANE_TOKENS {
        if t < count {
            #[unroll]
            for pair in 0..comptime!(LANE_ROWS / 2) {
                let n = first + pair * 2;
                if n < rows {
                    let a = acc[comptime!(2 * pair * LANE_TOKENS + t)];
                    let b = acc[comptime!((2 * pair + 1) * LANE_TOKENS + t)];
                    store(out, bias, perm, start + t, n, matrix, a, b, stride as usize, base as usize, limit, spec);
                }
            }
        }
    }
}
