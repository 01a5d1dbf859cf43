//! Attention of grouped queries over a key-value cache, with a learned sink in every softmax, causal and windowed.
//!
//! Online softmax: the running maximum starts at the sink with a denominator of 1, so that the sink counts exactly once and
//! no infinity occurs.  A query at position `p` sees positions `max(0, p − window + 1) ..= p` (window 0: all), which lie in slots
//! `position mod slots` of the row's sequence.
//!
//! - `q` f32 `[tokens, heads × head_dim]`
//! - `keys`, `values` u32 `[slots, kv_heads × head_dim / values of a word]`: f32 bits or pairs of f16
//! - `sinks` f32 `[heads]`, `step` as [`super::qkv`] has it: a row may belong to any sequence of the cache
//! - `out` f32 `[tokens, heads × head_dim]`, swizzled
//!
//! | form  | unit                                         | for                                     |
//! |-------|----------------------------------------------|-----------------------------------------|
//! | rows  | one query head of one token, all its keys    | prefill; software adapters              |
//! | split | every 32nd key of one query head, then merge | decode on GPUs, where rows are too few  |
//!
//! Where the units of a subgroup are heads of one token that share a key-value head, each loads a part of a row of the cache
//! and gives it to the others (see [`super::family`]).
//!
//! Twin: `verify::oracle::attention`.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::{F4, cached, swizzled};
use super::family::Family;
use super::launch::{arg, cubes, dims, grid};
use super::qkv::{Class, Heads, STEP_ANGLES};

/// Units of a row form's cube: one SIMD register on a software adapter, a full wave elsewhere.
const ROW_UNITS: u32 = 64;
/// Units that share a query in the split form; 32 × (head_dim + 2) f32 of workgroup memory.
const SPLIT_UNITS: usize = 32;
/// Keys a unit scores before it rescales its accumulator.
const KEYS: usize = 4;
/// A score no real one falls below: masks without infinities.
const MASKED: f32 = -1e30;

/// Queries in flight in one unit: running maximum, denominator and weighted values.
#[derive(CubeType)]
struct Online {
    max: f32,
    sum: f32,
}

/// The vectors of one row of a cache for one head, from vector `first` on.  With `share` above 1 every unit of the subgroup
/// must want the same ones, and all must get here.
#[cube]
fn cached_row<N: Size>(
    cache: &[Vector<u32, N>],
    first: usize,
    #[comptime] share: u32,
    #[comptime] spec: Heads,
) -> Array<F4> {
    let vectors = comptime!((spec.head_dim / 4) as u32);
    let mut row = Array::<F4>::new(comptime!(spec.head_dim / 4));
    if comptime!(share > 1) {
        let unit = (UNIT_POS_PLANE % share) as usize;
        #[unroll]
        for part in 0..comptime!(vectors / share) {
            let own = cached(cache, first + comptime!((part * share) as usize) + unit, spec.kv);
            #[unroll]
            for j in 0..share {
                row[comptime!((part * share + j) as usize)] = plane_broadcast(own, j);
            }
        }
    } else {
        #[unroll]
        for d in 0..comptime!(spec.head_dim / 4) {
            row[d] = cached(cache, first + d, spec.kv);
        }
    }
    row
}

/// Takes up to [`KEYS`] keys, `stride` apart from `position` and not beyond `last`, into the running softmax.
#[cube]
fn take_keys<N: Size>(
    query: &Array<F4>,
    keys: &[Vector<u32, N>],
    values: &[Vector<u32, N>],
    acc: &mut Array<F4>,
    state: &mut Online,
    position: usize,
    last: usize,
    first: usize,
    slots: usize,
    kv_head: usize,
    #[comptime] stride: usize,
    #[comptime] share: u32,
    #[comptime] spec: Heads,
) {
    let vectors = comptime!(spec.head_dim / 4);
    let row_vectors = comptime!(spec.kv_heads * spec.head_dim / 4);
    let scale = comptime!(1.0 / (spec.head_dim as f32).sqrt());
    let mut scores = Array::<f32>::new(KEYS);
    let mut at = Array::<usize>::new(KEYS);
    let mut max_score = state.max;
    #[unroll]
    for k in 0..KEYS {
        let p = position + k * stride;
        at[k] = (first + min(p, last) % slots) * row_vectors + kv_head * vectors;
        let key = cached_row(keys, at[k], share, spec);
        let mut dot = F4::new(0.0);
        #[unroll]
        for d in 0..vectors {
            dot += query[d] * key[d];
        }
        let score = ((dot.extract(0usize) + dot.extract(1usize)) + (dot.extract(2usize) + dot.extract(3usize))) * scale;
        scores[k] = select(p <= last, score, MASKED);
        max_score = max(max_score, scores[k]);
    }
    let rescale = (state.max - max_score).exp();
    state.sum *= rescale;
    #[unroll]
    for d in 0..vectors {
        acc[d] *= F4::new(rescale);
    }
    #[unroll]
    for k in 0..KEYS {
        let weight = (scores[k] - max_score).exp();
        state.sum += weight;
        let value = cached_row(values, at[k], share, spec);
        #[unroll]
        for d in 0..vectors {
            acc[d] += F4::new(weight) * value[d];
        }
    }
    state.max = max_score;
}

/// The first position a query at `position` sees.
#[cube]
fn first_visible(position: usize, window: u32) -> usize {
    let reach = window as usize;
    select(window > 0 && position + 1 > reach, position + 1 - min(reach, position + 1), 0usize)
}

#[cube(launch_unchecked)]
fn rows_kernel<N: Size>(
    q: &[F4],
    keys: &[Vector<u32, N>],
    values: &[Vector<u32, N>],
    sinks: &[f32],
    step: &[u32],
    out: &mut [f32],
    tokens: u32,
    place: u32,
    window: u32,
    #[comptime] share: u32,
    #[comptime] spec: Heads,
) {
    let heads = comptime!(spec.heads);
    let vectors = comptime!(spec.head_dim / 4);
    let row = ABSOLUTE_POS_X as usize;
    if row < tokens as usize * heads {
        let token = row / heads;
        let head = row % heads;
        let entry = token * comptime!(STEP_ANGLES + spec.head_dim);
        let position = step[entry] as usize;
        let first = step[entry + place as usize] as usize;
        let slots = step[entry + place as usize + 1] as usize;
        let mut query = Array::<F4>::new(vectors);
        let mut acc = Array::<F4>::new(vectors);
        #[unroll]
        for d in 0..vectors {
            query[d] = q[row * vectors + d];
            acc[d] = F4::new(0.0);
        }
        let mut state = Online { max: sinks[head], sum: 1.0f32.runtime() };
        let mut p = first_visible(position, window);
        let kv = head / comptime!(spec.heads / spec.kv_heads);
        while p <= position {
            take_keys(&query, keys, values, &mut acc, &mut state, p, position, first, slots, kv, 1usize, share, spec);
            p += KEYS;
        }
        let base = token * heads * vectors * 4;
        #[unroll]
        for d in 0..vectors {
            let result = acc[d] / F4::new(state.sum);
            #[unroll]
            for j in 0..4usize {
                out[base + swizzled((head * vectors + d) * 4 + j)] = result.extract(j);
            }
        }
    }
}

#[cube(launch_unchecked)]
fn split_kernel<N: Size>(
    q: &[F4],
    keys: &[Vector<u32, N>],
    values: &[Vector<u32, N>],
    sinks: &[f32],
    step: &[u32],
    out: &mut [f32],
    place: u32,
    window: u32,
    #[comptime] spec: Heads,
) {
    let heads = comptime!(spec.heads);
    let head_dim = comptime!(spec.head_dim);
    let vectors = comptime!(spec.head_dim / 4);
    let head = CUBE_POS_X as usize;
    let token = CUBE_POS_Y as usize;
    let unit = UNIT_POS as usize;
    let entry = token * comptime!(STEP_ANGLES + spec.head_dim);
    let position = step[entry] as usize;
    let first = step[entry + place as usize] as usize;
    let slots = step[entry + place as usize + 1] as usize;
    let mut query = Array::<F4>::new(vectors);
    let mut acc = Array::<F4>::new(vectors);
    #[unroll]
    for d in 0..vectors {
        query[d] = q[(token * heads + head) * vectors + d];
        acc[d] = F4::new(0.0);
    }
    // Unit 0 holds the sink; the others start from nothing.
    let mut state = Online { max: select(unit == 0, sinks[head], MASKED), sum: select(unit == 0, 1.0f32, 0.0f32) };
    let mut p = first_visible(position, window) + unit;
    let kv = head / comptime!(spec.heads / spec.kv_heads);
    while p <= position {
        take_keys(&query, keys, values, &mut acc, &mut state, p, position, first, slots, kv, SPLIT_UNITS, 1u32, spec);
        p += comptime!(KEYS * SPLIT_UNITS);
    }
    let mut maxima = Shared::<[f32]>::new_slice(SPLIT_UNITS);
    let mut sums = Shared::<[f32]>::new_slice(SPLIT_UNITS);
    let mut partial = Shared::<[f32]>::new_slice(comptime!(SPLIT_UNITS * spec.head_dim));
    maxima[unit] = state.max;
    sums[unit] = state.sum;
    #[unroll]
    for d in 0..vectors {
        #[unroll]
        for j in 0..4usize {
            partial[unit * head_dim + d * 4 + j] = acc[d].extract(j);
        }
    }
    sync_cube();
    let mut top = maxima[0];
    for u in 1..SPLIT_UNITS {
        top = max(top, maxima[u]);
    }
    let mut total = 0.0f32;
    for u in 0..SPLIT_UNITS {
        total += sums[u] * (maxima[u] - top).exp();
    }
    let mut d = unit;
    while d < head_dim {
        let mut sum = 0.0f32;
        for u in 0..SPLIT_UNITS {
            sum += partial[u * head_dim + d] * (maxima[u] - top).exp();
        }
        out[token * heads * head_dim + swizzled(head * head_dim + d)] = sum / total;
        d += SPLIT_UNITS;
    }
}

/// Units of a row form's subgroup that want the same keys and values: all of it, or 1.
fn share(heads: Heads, family: Family) -> u32 {
    match family {
        Family::Lane { share } => {
            let is_common = |count: usize| count.is_multiple_of(share as usize);
            if is_common(heads.heads / heads.kv_heads) && is_common(heads.head_dim / 4) { share } else { 1 }
        }
        _ => 1,
    }
}

/// Attends from `q` over the cache; `window` keys including the token itself, 0 for all.
pub fn attention(
    q: &CubeTensor,
    keys: &CubeTensor,
    values: &CubeTensor,
    sinks: &CubeTensor,
    step: &CubeTensor,
    out: &CubeTensor,
    window: usize,
    heads: Heads,
    family: Family,
) {
    let [tokens, width] = dims(q);
    let [slots, kv_width] = dims(keys);
    assert_eq!((width, kv_width), (heads.heads * heads.head_dim, heads.cache_words()), "attention: widths");
    assert_eq!((dims(values), dims(out)), ([slots, kv_width], [tokens, width]), "attention: shapes");
    assert_eq!(dims(sinks), [heads.heads], "attention: sinks");
    assert_eq!(dims(step), [tokens, STEP_ANGLES + heads.head_dim], "attention: step buffer");
    let class = if window > 0 { Class::Window } else { Class::Full };
    let words = 4 / heads.kv.per_word();
    let split = !matches!(family, Family::Lane { .. }) && tokens * heads.heads <= 1024;
    // SAFETY: shapes were checked above; slots are taken modulo their number, rows beyond the last do nothing.
    unsafe {
        if split {
            split_kernel::launch_unchecked(
                &q.client,
                grid(heads.heads as u32, tokens as u32, 1),
                CubeDim::new_1d(SPLIT_UNITS as u32),
                words,
                arg(q, 4),
                arg(keys, words),
                arg(values, words),
                arg(sinks, 1),
                arg(step, 1),
                arg(out, 1),
                class.word() as u32,
                window as u32,
                heads,
            );
        } else {
            let units = if matches!(family, Family::Lane { .. }) { 8 } else { ROW_UNITS };
            rows_kernel::launch_unchecked(
                &q.client,
                grid(cubes(tokens * heads.heads, units), 1, 1),
                CubeDim::new_1d(units),
                words,
                arg(q, 4),
                arg(keys, words),
                arg(values, words),
                arg(sinks, 1),
                arg(step, 1),
                arg(out, 1),
                tokens as u32,
                class.word() as u32,
                window as u32,
                share(heads, family),
                heads,
            );
        }
    }
}
