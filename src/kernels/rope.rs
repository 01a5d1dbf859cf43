//! Bias, rotary embedding and cache write of a projected chunk: what [`super::qkv`] does in its epilogue, for prefill.
//!
//! One unit two neighbouring pairs of one token; `projected` f32 `[tokens, (heads + 2 kv_heads) × head_dim]`, rows as the file has them, without bias.
//! The other operands are those of [`super::qkv`].
//!
//! Twin: `verify::oracle::rope`.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{arg, cubes, dims, grid};
use super::qkv::{Class, Heads, check, pair_rows, store_pairs};

const UNITS: u32 = 64;

#[cube(launch_unchecked)]
fn rope_kernel(
    projected: &[f32],
    bias: &[f32],
    step: &[u32],
    q: &mut [f32],
    keys: &mut [u32],
    values: &mut [u32],
    place: u32,
    #[comptime] spec: Heads,
) {
    let token = CUBE_POS_Y as usize;
    let half = comptime!(spec.head_dim / 2);
    let pair = ABSOLUTE_POS_X as usize * 2;
    if pair < comptime!(spec.rows() / 2) {
        let head = pair / half;
        let i = pair % half;
        let (a, distance) = pair_rows(head, i, spec);
        let (b, _) = pair_rows(head, i + 1, spec);
        let row = token * comptime!(spec.rows());
        let lo0 = projected[row + a] + bias[a];
        let hi0 = projected[row + a + distance] + bias[a + distance];
        let lo1 = projected[row + b] + bias[b];
        let hi1 = projected[row + b + distance] + bias[b + distance];
        store_pairs(lo0, lo1, hi0, hi1, step, q, keys, values, token, place, head, i, spec);
    }
}

/// Rotates the projected chunk into `q` and into the slots of `keys` and `values`.
pub fn rope(
    projected: &CubeTensor,
    bias: &CubeTensor,
    step: &CubeTensor,
    q: &CubeTensor,
    keys: &CubeTensor,
    values: &CubeTensor,
    class: Class,
    heads: Heads,
) {
    let [tokens, rows] = dims(projected);
    assert_eq!(rows, heads.rows(), "rope: projected rows");
    check(tokens, bias, step, q, keys, values, heads);
    let count = grid(cubes(rows / 4, UNITS), tokens as u32, 1);
    // SAFETY: shapes were checked above; units beyond the last pairs do nothing.
    unsafe {
        rope_kernel::launch_unchecked(
            &projected.client,
            count,
            CubeDim::new_1d(UNITS),
            arg(projected, 1),
            arg(bias, 1),
            arg(step, 1),
            arg(q, 1),
            arg(keys, 1),
            arg(values, 1),
            class.word() as u32,
            heads,
        );
    }
}
