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

/// Experts whose rows a unit takes together, so that it loads x and gain once for all of them.
const EXPERTS: usize = 4;
/// Most units that share the rows of [`EXPERTS`] experts.
const SHARE_MAX: usize = 32;
/// Most partial sums of a cube: a quarter of the workgroup memory that WebGPU promises.
const PARTIAL_MAX: usize = 1024;

/// How a cube shares the router's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shares {
    /// Units of a cube.
    units: usize,
    /// Units that share a row.
    share: usize,
    /// Rows that a unit takes together.
    together: usize,
}

impl Shares {
    fn of(choice: Choice, family: Family) -> Self {
        if let Family::Lane { .. } = family {
            return Self { units: 32.max(choice.chosen.next_power_of_two()), share: 1, together: 1 };
        }
        let mut share = SHARE_MAX;
        while share > 1 && share * choice.experts > PARTIAL_MAX {
            share /= 2;
        }
        Self { units: 256, share, together: EXPERTS }
    }
}

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

/// Adds to `partial` the logits of [`Shares::together`] experts from `first` on over a share of the row: sums of
/// `x · gain · w`, without the norm's factor, at `share × experts + expert`.
#[cube]
fn partial_logits(
    x: &[F4],
    gain: &[f32],
    w: &[U4],
    row: usize,
    first: usize,
    own: usize,
    pieces: usize,
    partial: &mut Shared<[f32]>,
    #[comptime] experts: usize,
    #[comptime] shares: Shares,
    #[comptime] codec: Codec,
) {
    let together = comptime!(shares.together);
    let mut sums = Array::<F4>::new(together);
    #[unroll]
    for e in 0..together {
        sums[e] = F4::new(0.0);
    }
    let mut i = own;
    while i < pieces {
        let mut scaled = Array::<F4>::new(2usize);
        #[unroll]
        for half in 0..2usize {
            let at = i * 2 + half;
            let mut g = F4::empty();
            #[unroll]
            for j in 0..4usize {
                g.insert(j, gain[at * 4 + j]);
            }
            scaled[half] = x[row * pieces * 2 + at] * g;
        }
        #[unroll]
        for e in 0..together {
            let (lo, hi) = eight_weights(w, min(first + e, experts - 1) * pieces + i, codec);
            sums[e] += scaled[0] * lo;
            sums[e] += scaled[1] * hi;
        }
        i += comptime!(shares.share);
    }
    #[unroll]
    for e in 0..together {
        if first + e < experts {
            let s = sums[e];
            partial[own * experts + first + e] =
                (s.extract(0usize) + s.extract(1usize)) + (s.extract(2usize) + s.extract(3usize));
        }
    }
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
    #[comptime] shares: Shares,
    #[comptime] codec: Codec,
) {
    let units = comptime!(shares.units);
    let share = comptime!(shares.share);
    let experts = comptime!(choice.experts);
    let chosen = comptime!(choice.chosen);
    let row = CUBE_POS_X as usize;
    let vectors = vectors as usize;
    let unit = UNIT_POS as usize;
    let factor = inverse_rms(x, row, vectors, units);
    write_normed(x, params, normed, row, vectors, factor, units);

    let mut partial = Shared::<[f32]>::new_slice(comptime!(choice.experts * share));
    let mut slot = unit;
    while slot < comptime!(choice.experts.div_ceil(shares.together) * share) {
        let first = slot / share * comptime!(shares.together);
        partial_logits(x, params, w, row, first, slot % share, vectors / 2, &mut partial, experts, shares, codec);
        slot += units;
    }
    sync_cube();
    let mut logits = Shared::<[f32]>::new_slice(experts);
    let mut e = unit;
    while e < experts {
        let mut sum = 0.0f32;
        for s in 0..share {
            sum += partial[s * experts + e];
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
    let shares = Shares::of(choice, family);
    // SAFETY: shapes were checked above; every loop stops at the shape's end.
    unsafe {
        route_kernel::launch_unchecked(
            &x.client,
            grid(tokens as u32, 1, 1),
            CubeDim::new_1d(shares.units as u32),
            arg(x, 4),
            arg(params, 1),
            arg(w.words, 4),
            arg(normed, 1),
            arg(scores, 1),
            arg(ids, 1),
            (hidden / 4) as u32,
            choice,
            shares,
            w.codec,
        );
    }
}
