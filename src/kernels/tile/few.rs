//! The Few shape: a group multiplies four rows with up to eight tokens; weights go once from memory to registers.

use cubecl::prelude::*;

use super::{Spec, row_of, store, tile_of};
use crate::kernels::codec::{F4, U4, block_vector};
use crate::kernels::family::{group, group_sum, lane};

/// Rows and tokens of a group in the Few shape, and its loops.
pub(super) const FEW_ROWS: usize = 4;
pub(super) const FEW_TOKENS: usize = 8;
const FEW_LOOPS: [usize; 4] = [1, 2, 4, FEW_TOKENS];

/// Adds the products of vector `i` of every row: [`FEW_ROWS`] matrix rows with `tokens` tokens.
#[cube]
fn few_step<S: Numeric>(
    x: &[F4],
    w: &[U4],
    scales: &[S],
    own: &Array<usize>,
    from: &Array<usize>,
    i: usize,
    acc: &mut Array<f32>,
    #[comptime] tokens: usize,
    #[comptime] spec: Spec,
) {
    let mut weights = Array::<F4>::new(FEW_ROWS);
    #[unroll]
    for r in 0..FEW_ROWS {
        weights[r] = block_vector(w, scales, own[r] + i / 8, i % 8, spec.codec);
    }
    #[unroll]
    for t in 0..tokens {
        let v = x[from[t] + i];
        #[unroll]
        for r in 0..FEW_ROWS {
            acc[comptime!(r * FEW_TOKENS + t)] += weights[r].dot(v);
        }
    }
}

/// Eight neighbouring lanes share a block, a vector each, so that what a group loads of `x` lies side by side.
#[cube(launch_unchecked)]
pub(super) fn few_kernel<S: Numeric>(
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
    let (expert, start, count) = tile_of(tiles, total, first_expert, expert_count, FEW_TOKENS, spec);
    let first = group(spec.family) * FEW_ROWS;
    let matrix = expert * rows;
    let mut from = Array::<usize>::new(FEW_TOKENS);
    let mut acc = Array::<f32>::new(comptime!(FEW_ROWS * FEW_TOKENS));
    #[unroll]
    for t in 0..FEW_TOKENS {
        from[t] = row_of(perm, start, count, t.runtime(), spec) * blocks * 8;
        #[unroll]
        for r in 0..FEW_ROWS {
            acc[comptime!(r * FEW_TOKENS + t)] = 0.0;
        }
    }
    let mut own = Array::<usize>::new(FEW_ROWS);
    #[unroll]
    for r in 0..FEW_ROWS {
        own[r] = (matrix + min(first + r, rows - 1)) * blocks;
    }
    #[unroll]
    for loop_of in 0..comptime!(FEW_LOOPS.len()) {
        let below = comptime!(if loop_of == 0 { 0 } else { FEW_LOOPS[loop_of - 1] });
        let tokens = comptime!(FEW_LOOPS[loop_of]);
        // Not a branch around the loop: barriers of the sum must be reached by all.
        let span = select(count > below && count <= tokens, blocks * 8, 0usize);
        let mut i = lane(spec.family);
        while i < span {
            few_step(x, w, scales, &own, &from, i, &mut acc, tokens, spec);
            i += comptime!(spec.family.lanes() as usize);
        }
    }
    group_sum(&mut acc, comptime!(FEW_ROWS * FEW_TOKENS), spec.family);
    if lane(spec.family) == 0 {
        #[unroll]
        for t in 0..FEW_TOKENS {
            #[unroll]
            for pair in 0..comptime!(FEW_ROWS / 2) {
                let n = first + pair * 2;
                if t < count && n < rows {
                    let a = acc[comptime!(2 * pair * FEW_TOKENS + t)];
                    let b = acc[comptime!((2 * pair + 1) * FEW_TOKENS + t)];
                    store(out, bias, perm, start + t, n, matrix, a, b, stride as usize, base as usize, limit, spec);
                }
            }
        }
    }
}
