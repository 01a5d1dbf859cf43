//! Dense matrix × few vectors: the decode form of every projection.
//!
//! A group owns [`ROWS`] neighbouring rows of one token and strides over their blocks; group `g` of cube `x` takes rows
//! `4 (x · groups + g) ..`, `CUBE_POS_Y` is the token.
//!
//! - `x` f32 `[tokens, blocks × 32]`, swizzled
//! - `w` `[rows, blocks × 32]` in 16-byte pieces, and `scales`, as the codec has them
//! - `bias` f32 `[rows]` (read unless the output is [`Output::Logits`])
//! - `out` f32 `[tokens, stride]`: columns `base .. base + rows` are written (logits) or added to (residual)
//!
//! Twin: `verify::oracle::matrix`.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::{BLOCK, Codec, F4, U4, block};
use super::family::{Family, common_block, group, group_sum, lane};
use super::launch::{arg, cubes, dims, grid};
use super::matrix::MatrixArg;

/// Rows of a group: x is loaded once for all of them.
pub const ROWS: usize = 4;

/// What becomes of the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// `out = w·x`.
    Logits,
    /// `out += w·x + bias`.
    Residual,
}

/// Adds the products of the [`ROWS`] rows with one token into `acc`, over this lane's share of the first `span` blocks.
#[cube]
pub fn dot_rows<S: CubePrimitive>(
    x: &[F4],
    w: &[U4],
    scales: &[S],
    x_block: usize,
    rows: &Array<usize>,
    blocks: usize,
    span: usize,
    acc: &mut Array<f32>,
    #[comptime] codec: Codec,
    #[comptime] family: Family,
) {
    let lanes = comptime!(family.lanes() as usize);
    let mut b = lane(family);
    while b < span {
        let v = common_block(x, (x_block + b) * 8, family);
        #[unroll]
        for i in 0..ROWS {
            let weights = block(w, scales, rows[i] * blocks + b, codec);
            let mut sum = weights[0] * v[0];
            #[unroll]
            for j in 1..8usize {
                sum += weights[j] * v[j];
            }
            acc[i] += (sum.extract(0usize) + sum.extract(1usize)) + (sum.extract(2usize) + sum.extract(3usize));
        }
        b += lanes;
    }
}

#[cube(launch_unchecked)]
fn linear_kernel<S: Numeric>(
    x: &[F4],
    w: &[U4],
    scales: &[S],
    bias: &[f32],
    out: &mut [f32],
    blocks: u32,
    rows: u32,
    stride: u32,
    base: u32,
    #[comptime] output: Output,
    #[comptime] codec: Codec,
    #[comptime] family: Family,
) {
    let token = CUBE_POS_Y as usize;
    let blocks = blocks as usize;
    let rows = rows as usize;
    let first = group(family) * ROWS;
    let mut own = Array::<usize>::new(ROWS);
    let mut acc = Array::<f32>::new(ROWS);
    #[unroll]
    for i in 0..ROWS {
        own[i] = min(first + i, rows - 1);
        acc[i] = 0.0;
    }
    dot_rows(x, w, scales, token * blocks, &own, blocks, blocks, &mut acc, codec, family);
    group_sum(&mut acc, ROWS, family);
    if lane(family) == 0 {
        #[unroll]
        for i in 0..ROWS {
            if first + i < rows {
                let at = token * stride as usize + base as usize + first + i;
                match output {
                    Output::Logits => out[at] = acc[i],
                    Output::Residual => out[at] += acc[i] + bias[first + i],
                }
            }
        }
    }
}

/// Multiplies `x` `[tokens, in]` by `w` into `out` at column `base`, as `output` says; `out` is changed in place.
pub fn linear(
    x: &CubeTensor,
    w: &MatrixArg,
    bias: &CubeTensor,
    out: &CubeTensor,
    base: usize,
    output: Output,
    family: Family,
) {
    let [tokens, width] = dims(x);
    let rows = w.check(width);
    let [out_tokens, stride] = dims(out);
    assert_eq!(out_tokens, tokens, "linear: output rows");
    assert!(base + rows <= stride, "linear: columns {base}+{rows} of {stride}");
    let count = grid(cubes(rows, ROWS as u32 * family.groups()), tokens as u32, 1);
    macro_rules! launch {
        ($scale:ty, $scales:expr) => {
            // SAFETY: the shapes were checked above; the kernel clamps rows and stores only below `rows`.
            unsafe {
                linear_kernel::launch_unchecked::<$scale>(
                    &x.client,
                    count,
                    family.cube(),
                    arg(x, 4),
                    arg(w.words, 4),
                    $scales,
                    arg(bias, 1),
                    arg(out, 1),
                    (width / BLOCK) as u32,
                    rows as u32,
                    stride as u32,
                    base as u32,
                    output,
                    w.codec,
                    family,
                );
            }
        };
    }
    match w.codec.has_scales() {
        true => launch!(u32, arg(w.scales, 1)),
        false => launch!(f32, arg(bias, 1)),
    }
}
