//! `residual += Σ weight · y` over the chosen experts of a token, in slot order.  One unit a vector of four.
//!
//! - `y` f32 `[tokens, chosen, hidden]`; `scores` f32 `[tokens, experts + chosen]`: the last `chosen` are the weights
//! - `residual` f32 `[tokens, hidden]`

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::F4;
use super::launch::{arg, cubes, dims, grid};

const UNITS: u32 = 64;

#[cube(launch_unchecked)]
fn combine_kernel(
    y: &[F4],
    scores: &[f32],
    residual: &mut [F4],
    vectors: u32,
    score_width: u32,
    #[comptime] chosen: usize,
) {
    let token = CUBE_POS_Y as usize;
    let vectors = vectors as usize;
    let i = ABSOLUTE_POS_X as usize;
    if i < vectors {
        let mut sum = F4::new(0.0);
        for slot in 0..chosen {
            let weight = scores[(token + 1) * score_width as usize - chosen + slot];
            sum += F4::new(weight) * y[(token * chosen + slot) * vectors + i];
        }
        residual[token * vectors + i] += sum;
    }
}

/// Adds the weighted rows of `y` to `residual`.
pub fn combine(y: &CubeTensor, scores: &CubeTensor, residual: &CubeTensor) {
    let [tokens, chosen, hidden] = dims(y);
    let [score_tokens, score_width] = dims(scores);
    assert_eq!((dims(residual), score_tokens), ([tokens, hidden], tokens), "combine: shapes");
    let vectors = hidden / 4;
    // SAFETY: shapes were checked above; units beyond the row do nothing.
    unsafe {
        combine_kernel::launch_unchecked(
            &y.client,
            grid(cubes(vectors, UNITS), tokens as u32, 1),
            CubeDim::new_1d(UNITS),
            arg(y, 4),
            arg(scores, 1),
            arg(residual, 4),
            vectors as u32,
            score_width as u32,
            chosen,
        );
    }
}
