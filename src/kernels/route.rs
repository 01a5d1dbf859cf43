//! Norm, router logits, top-k and the softmax over the chosen: one cube a token, one launch.
//!
//! - `x` f32 `[tokens, hidden]`
//! - `params` f32 `[hidden + experts]`: the gain of the norm, then the router's bias
//! - `w` BF16 or F32 `[experts, hidden]`
//! - `normed` f32 `[tokens, hidden]`, swizzled: what the experts multiply
//! - `scores` f32 `[tokens, experts + k]`: the logits with bias, then the weights of the chosen
//! - `ids` u32 `[tokens, k]`: the chosen experts, highest logit first, ties to the lowest id
//!
//! An expert's rank is the number of experts that beat it, so that ties need no order of evaluation.
//!
//! Twin: `verify::oracle::router`.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::{Codec, F4, U4, bf16_piece};
use super::family::Family;
use super::launch::{arg, dims, grid};
use super::matrix::MatrixArg;
use super::rms_norm::{inverse_rms, write_normed};

/// How experts are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Experts of the layer.
    pub experts: usize,
    /// Experts a token is sent to.
    pub chosen: usize,
}

/// Units of a cube that share one expert's row, where there are planes or workgroup trees.
const SHARE: usize = 8;

/// Weights `8 i ..` of a matrix, in their own order: both codecs are summed in the same order.
#[cube]
fn eight_weights(w: &[U4], i: usize, #[comptime] codec: Codec) -> (F4, F4) {
    match codec {
        Codec::F32 => (F4::reinterpret(w[2 * i]), F4::reinterpret(w[2 * i + 1])),
        _ => {
            let words = w[i];
            (bf16_piece(words, 0usize), bf16_piece(words, 1usize))
        }
    }
}

/// One expert's logit over a share of the row: partial sums of `x · gain · w`, without the norm's factor.
#[cube]
fn partial_logit(
    x: &[F4],
    gain: &[f32],
    w: &[U4],
    row: usize,
    expert: usize,
    pieces: usize,
    #[comptime] share: usize,
    #[comptime] codec: Codec,
) -> f32 {
    let mut sum = F4::new(0.0);
    let mut i = UNIT_POS as usize % share;
    while i < pieces {
        let (lo, hi) = eight_weights(w, expert * pieces + i, codec);
        #[unroll]
        for half in 0..2usize {
            let at = i * 2 + half;
            let mut scaled = x[row * pieces * 2 + at];
            let mut g = F4::empty();
            #[unroll]
            for j in 0..4usize {
                g.insert(j, gain[at * 4 + j]);
            }
            scaled *= g;
            let weights = if comptime!(half == 0) { lo } else { hi };
            sum += scaled * weights;
        }
        i += share;
    }
    (sum.extract(0usize) + sum.extract(1usize)) + (sum.extract(2usize) + sum.extract(3usize))
}

#[cube(launch_unchecked)]
fn route_kernel(
    x: &[F4],
    params: &[f32],
    w: &[U4],
    normed: &mut [f32],
    scores: &mut [f32],
    ids: &mut [u32],
    vectors: u32,
    #[comptime] choice: Choice,
    #[comptime] units: usize,
    #[comptime] share: usize,
    #[comptime] codec: Codec,
) {
    let experts = comptime!(choice.experts);
    let chosen = comptime!(choice.chosen);
    let row = CUBE_POS_X as usize;
    let vectors = vectors as usize;
    let unit = UNIT_POS as usize;
    let factor = inverse_rms(x, row, vectors, units);
    write_normed(x, params, normed, row, vectors, factor, units);

    let mut partial = Shared::<[f32]>::new_slice(comptime!(choice.experts * share));
    let mut slot = unit;
    while slot < comptime!(choice.experts * share) {
        partial[slot] = partial_logit(x, params, w, row, slot / share, vectors / 2, share, codec);
        slot += units;
    }
    sync_cube();
    let mut logits = Shared::<[f32]>::new_slice(experts);
    let mut e = unit;
    while e < experts {
        let mut sum = 0.0f32;
        for s in 0..share {
            sum += partial[e * share + s];
        }
        let logit = sum * factor + params[vectors * 4 + e];
        logits[e] = logit;
        scores[row * (experts + chosen) + e] = logit;
        e += units;
    }
    sync_cube();
    let mut top = Shared::<[f32]>::new_slice(chosen);
    let mut e = unit;
    while e < experts {
        let own = logits[e];
        let mut rank = 0usize;
        for other in 0..experts {
            let theirs = logits[other];
            if theirs > own || (theirs == own && other < e) {
                rank += 1;
            }
        }
        if rank < chosen {
            ids[row * chosen + rank] = e as u32;
            top[rank] = own;
        }
        e += units;
    }
    sync_cube();
    if unit < chosen {
        let mut total = 0.0f32;
        for other in 0..chosen {
            total += (top[other] - top[0]).exp();
        }
        scores[row * (experts + chosen) + experts + unit] = (top[unit] - top[0]).exp() / total;
    }
}

/// Normalises `x` into `normed` and routes every row of it.
///
/// # Panics
/// If the router's weights are neither BF16 nor F32, or a shape is wrong.
pub fn route(
    x: &CubeTensor,
    params: &CubeTensor,
    w: &MatrixArg,
    normed: &CubeTensor,
    scores: &CubeTensor,
    ids: &CubeTensor,
    choice: Choice,
    family: Family,
) {
    let [tokens, hidden] = dims(x);
    let Choice { experts, chosen } = choice;
    assert_eq!((dims(params), w.check(hidden)), ([hidden + experts], experts), "route: weights");
    assert!(matches!(w.codec, Codec::Bf16 | Codec::F32), "route: {:?}", w.codec);
    assert_eq!((dims(normed), dims(ids)), ([tokens, hidden], [tokens, chosen]), "route: outputs");
    assert_eq!(dims(scores), [tokens, experts + chosen], "route: scores");
    let units = match family {
        Family::Lane { .. } => 32.max(chosen.next_power_of_two()),
        _ => 128.max(chosen.next_power_of_two()),
    };
    let share = if matches!(family, Family::Lane { .. }) { 1 } else { SHARE };
    // SAFETY: shapes were checked above; every loop stops at the shape's end.
    unsafe {
        route_kernel::launch_unchecked(
            &x.client,
            grid(tokens as u32, 1, 1),
            CubeDim::new_1d(units as u32),
            arg(x, 4),
            arg(params, 1),
            arg(w.words, 4),
            arg(normed, 1),
            arg(scores, 1),
            arg(ids, 1),
            (hidden / 4) as u32,
            choice,
            units,
            share,
            w.codec,
        );
    }
}
