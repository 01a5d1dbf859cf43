//! Kernels of the benchmark only: how fast the adapter reads, and the path that the packed kernels replace.
//!
//! `read`: every unit sums vectors a whole grid apart; `out` f32 `[units]`.
//! `expand`: rows of one expert's MXFP4 matrix as BF16, one unit a block of 32; `out` BF16 `[rows, blocks × 32]`.

use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::{Codec, U4, block};
use super::launch::{arg, cubes, dims, empty, grid};
use super::matrix::Matrix;
use super::ops::{ExpertChunk, Words};

const UNITS: u32 = 64;
/// Enough loads under way for adapters whose memory takes half a microsecond to answer and moves terabytes a second.
const CUBES: u32 = 4096;

#[cube(launch_unchecked)]
fn read_kernel(x: &[U4], out: &mut [u32], vectors: u32) {
    let mut sum = U4::new(0u32);
    let mut i = ABSOLUTE_POS;
    while i < vectors as usize {
        sum += x[i];
        i += comptime!((UNITS * CUBES) as usize);
    }
    out[ABSOLUTE_POS] = (sum.extract(0usize) + sum.extract(1usize)) + (sum.extract(2usize) + sum.extract(3usize));
}

#[cube(launch_unchecked)]
fn expand_kernel(w: &[U4], scales: &[u32], out: &mut [u32], first: u32, blocks: u32, #[comptime] codec: Codec) {
    if ABSOLUTE_POS < blocks as usize {
        let values = block(w, scales, first as usize + ABSOLUTE_POS, codec);
        #[unroll]
        for word in 0..16usize {
            let (lo, hi) = (comptime!(2 * word), comptime!(2 * word + 1));
            let a = u32::reinterpret(values[comptime!(lo % 8)].extract(comptime!(lo / 8)));
            let b = u32::reinterpret(values[comptime!(hi % 8)].extract(comptime!(hi / 8)));
            out[ABSOLUTE_POS * 16 + word] = (a >> 16) | (b & 0xFFFF_0000);
        }
    }
}

fn cube<const D: usize>(tensor: &Words<D>) -> CubeTensor {
    tensor.clone().try_into_primitive::<CubeBackend>().unwrap_or_else(|e| panic!("{e:?}"))
}

/// Reads every byte of `x` once; the sums that prove it.
pub fn read<const D: usize>(x: &Words<D>) -> Words<1> {
    let x = cube(x);
    let out = empty(&x, [(UNITS * CUBES) as usize], DType::U32);
    let vectors = x.meta.shape().num_elements() / 4;
    // SAFETY: units stop at the last vector, and `out` has one word a unit.
    unsafe {
        read_kernel::launch_unchecked(
            &x.client,
            grid(CUBES, 1, 1),
            CubeDim::new_1d(UNITS),
            arg(&x, 4),
            arg(&out, 1),
            vectors as u32,
        );
    }
    Tensor::from_primitive::<CubeBackend>(out)
}

/// `rows` rows from row `first` of expert `expert` as a BF16 matrix.
pub fn expand(chunk: &ExpertChunk, expert: usize, first: usize, rows: usize, scale_offset: u32) -> Matrix {
    let (w, scales) = (cube(&chunk.blocks), cube(&chunk.scales));
    let [_, of_expert, words] = dims(&w);
    assert!(first + rows <= of_expert, "expand: rows");
    let per_row = words / 4;
    let out = empty(&w, [rows, per_row * 16], DType::U32);
    let (start, count) = ((expert * of_expert + first) * per_row, rows * per_row);
    // SAFETY: units stop at the last block of the rows, which lie inside the expert.
    unsafe {
        expand_kernel::launch_unchecked(
            &w.client,
            grid(cubes(count, UNITS), 1, 1),
            CubeDim::new_1d(UNITS),
            arg(&w, 4),
            arg(&scales, 1),
            arg(&out, 1),
            start as u32,
            count as u32,
            Codec::Mxfp4 { scale_offset },
        );
    }
    Matrix::new(Tensor::from_primitive::<CubeBackend>(out), Codec::Bf16)
}
