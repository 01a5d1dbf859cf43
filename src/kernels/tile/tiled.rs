//! The Tiled shape: a cube multiplies 64 rows with 64 tokens, both in workgroup memory, 32 columns at a time.

use cubecl::prelude::*;

use super::{Spec, row_of, store, tile_of};
use crate::kernels::codec::{F4, U4, block_vector};

/// Rows and tokens of a cube, and of its units, in the Tiled shape.
pub(super) const TILE_N: usize = 64;
pub(super) const TILE_M: usize = 64;
const UNIT_N: usize = 4;
const UNIT_M: usize = 4;
pub(super) const TILE_UNITS: usize = (TILE_N / UNIT_N) * (TILE_M / UNIT_M);
/// Units side by side along the matrix rows.
const UNITS_N: usize = TILE_N / UNIT_N;

/// Where row `row` of the tile stands in workgroup memory: even rows first, so that units side by side, each with pairs of
/// rows, load what lies side by side.
#[cube]
fn ws_place(row: usize) -> usize {
    row / 2 + row % 2 * comptime!(TILE_N / 2)
}

/// Where the rows of x begin that this unit carries into workgroup memory, a vector of each at a time.
#[cube]
fn carried_rows(perm: &[u32], start: usize, count: usize, blocks: usize, #[comptime] spec: Spec) -> Array<usize> {
    let mut carried = Array::<usize>::new(comptime!(TILE_M * 8 / TILE_UNITS));
    #[unroll]
    for c in 0..comptime!(TILE_M * 8 / TILE_UNITS) {
        let m = UNIT_POS as usize / 8 + comptime!(c * TILE_UNITS / 8);
        carried[c] = row_of(perm, start, count, m, spec) * blocks;
    }
    carried
}

/// Adds the products of one block of columns that lies in workgroup memory: vectors of a column side by side.
#[cube]
fn tiled_step(ws: &[F4], xs: &[F4], unit_n: usize, unit_m: usize, acc: &mut Array<f32>) {
    for j in 0..8usize {
        let mut weights = Array::<F4>::new(UNIT_N);
        #[unroll]
        for n in 0..UNIT_N {
            // Rows 2u, 2u + 1 of each half of the tile.
            weights[n] = ws[j * TILE_N + unit_n + comptime!(n / 2 * UNITS_N + n % 2 * (TILE_N / 2))];
        }
        #[unroll]
        for m in 0..UNIT_M {
            let v = xs[j * TILE_M + ((unit_m + m) ^ j)];
            #[unroll]
            for n in 0..UNIT_N {
                acc[comptime!(n * UNIT_M + m)] += weights[n].dot(v);
            }
        }
    }
}

#[cube(launch_unchecked)]
pub(super) fn tiled_kernel<S: Numeric>(
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
    let unit = UNIT_POS as usize;
    let (expert, start, count) = tile_of(tiles, total, first_expert, expert_count, TILE_M, spec);
    let matrix = expert * rows;
    let n0 = CUBE_POS_X as usize * TILE_N;
    let carried = carried_rows(perm, start, count, blocks, spec);
    let decoded = (matrix + min(n0 + unit % TILE_N, rows - 1)) * blocks;
    let place = ws_place(unit % TILE_N);
    let mut ws = Shared::<[F4]>::new_slice(comptime!(TILE_N * 8));
    let mut xs = Shared::<[F4]>::new_slice(comptime!(TILE_M * 8));
    let unit_n = unit % UNITS_N;
    let unit_m = unit / UNITS_N * UNIT_M;
    let mut acc = Array::<f32>::new(comptime!(UNIT_N * UNIT_M));
    #[unroll]
    for i in 0..comptime!(UNIT_N * UNIT_M) {
        acc[i] = 0.0;
    }
    for b in 0..blocks {
        // All units of a plane take the same vector of different rows.
        #[unroll]
        for part in 0..comptime!(TILE_N * 8 / TILE_UNITS) {
            let j = unit / TILE_N + comptime!(part * TILE_UNITS / TILE_N);
            ws[j * TILE_N + place] = block_vector(w, scales, decoded + b, j, spec.codec);
        }
        #[unroll]
        for c in 0..comptime!(TILE_M * 8 / TILE_UNITS) {
            let (m, j) = (unit / 8 + comptime!(c * TILE_UNITS / 8), unit % 8);
            // Eight neighbours store one row's vectors: each in another bank.
            xs[j * TILE_M + (m ^ j)] = x[(carried[c] + b) * 8 + j];
        }
        sync_cube();
        if unit_m < count {
            tiled_step(&ws, &xs, unit_n, unit_m, &mut acc);
        }
        sync_cube();
    }
    let n0 = n0 + unit_n * 2;
    #[unroll]
    for m in 0..UNIT_M {
        #[unroll]
        for pair in 0..comptime!(UNIT_N / 2) {
            let n = n0 + comptime!(pair * TILE_N / 2);
            if unit_m + m < count && n < rows {
                let a = acc[comptime!(2 * pair * UNIT_M + m)];
                let b = acc[comptime!((2 * pair + 1) * UNIT_M + m)];
                let entry = start + unit_m + m;
                store(out, bias, perm, entry, n, matrix, a, b, stride as usize, base as usize, limit, spec);
            }
        }
    }
}
