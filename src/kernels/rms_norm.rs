//! RMSNorm: `x · rsqrt(mean(x²) + ε) · gain`, written swizzled for the matrix that follows.
//!
//! One cube a row; its units stride over the row.
//!
//! - `x` f32 `[rows, hidden]`
//! - `gain` f32 `[hidden]`
//! - `out` f32 `[rows, hidden]`, swizzled
//!
//! Twin: `verify::oracle::rms_norm`.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::{F4, swizzled};
use super::family::{Family, cube_sum};
use super::launch::{arg, dims, grid};
use crate::checkpoint::config::RMS_NORM_EPSILON;

/// What row `row` of `x` is multiplied with, besides the gain.  Must be reached by every unit of the cube.
#[cube]
pub fn inverse_rms(x: &[F4], row: usize, vectors: usize, #[comptime] units: usize) -> f32 {
    let mut sum = F4::new(0.0);
    let mut i = UNIT_POS as usize;
    while i < vectors {
        let v = x[row * vectors + i];
        sum += v * v;
        i += units;
    }
    let own = (sum.extract(0usize) + sum.extract(1usize)) + (sum.extract(2usize) + sum.extract(3usize));
    let total = cube_sum(own, units);
    (total / (vectors * 4) as f32 + RMS_NORM_EPSILON).inverse_sqrt()
}

/// Writes a normalised row; element `i` of the row goes to its swizzled place.
#[cube]
pub fn write_normed(
    x: &[F4],
    gain: &[f32],
    out: &mut [f32],
    row: usize,
    vectors: usize,
    factor: f32,
    #[comptime] units: usize,
) {
    let mut i = UNIT_POS as usize;
    while i < vectors {
        let v = x[row * vectors + i];
        #[unroll]
        for j in 0..4usize {
            let at = i * 4 + j;
            out[row * vectors * 4 + swizzled(at)] = v.extract(j) * factor * gain[at];
        }
        i += units;
    }
}

#[cube(launch_unchecked)]
fn rms_norm_kernel(x: &[F4], gain: &[f32], out: &mut [f32], vectors: u32, #[comptime] units: usize) {
    let row = CUBE_POS_X as usize;
    let vectors = vectors as usize;
    let factor = inverse_rms(x, row, vectors, units);
    write_normed(x, gain, out, row, vectors, factor, units);
}

/// Normalises the rows of `x` into `out`.
pub fn rms_norm(x: &CubeTensor, gain: &CubeTensor, out: &CubeTensor, family: Family) {
    let [rows, hidden] = dims(x);
    assert_eq!((dims(gain), dims(out)), ([hidden], [rows, hidden]), "rms_norm: gain and output shape");
    let units = family.row_units();
    // SAFETY: shapes were checked above; units stay below `hidden / 4` vectors.
    unsafe {
        rms_norm_kernel::launch_unchecked(
            &x.client,
            grid(rows as u32, 1, 1),
            CubeDim::new_1d(units),
            arg(x, 4),
            arg(gain, 1),
            arg(out, 1),
            (hidden / 4) as u32,
            units as usize,
        );
    }
}
