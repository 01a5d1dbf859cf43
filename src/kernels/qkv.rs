//! Query, key and value of few tokens: projection, bias, rotary embedding and cache write in one launch.
//!
//! A group owns two neighbouring pairs `(i, i + d/2)` of a head, which rotate together; the heads are those of the
//! fused projection (queries, keys, values), and a pair of values is not rotated.  model.bin interleaves the pairs of queries
//! and keys and scales them; results come out half-split and unscaled whatever the file.
//!
//! - `x` f32 `[tokens, hidden]`, swizzled
//! - `w` `[(heads + 2 kv_heads) × head_dim, hidden]` of a codec without scales, `bias` f32 of its rows
//! - `step` u32 `[rows, 8 + head_dim]`: for each row its position, where its sequence lies in caches that hold a window and in
//!   those that hold everything (first slot and number of slots of each), three words unused; then for each pair cos and sin,
//!   each times the concentration, as f32 bits
//! - `q` f32 `[tokens, heads × head_dim]`
//! - `keys`, `values` u32 `[slots, kv_heads × head_dim / values of a word]`, f32 bits or pairs of f16: position `p` goes to
//!   slot `first + p mod slots` of its sequence

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codec::{BLOCK, Codec, F4, KvType, U4, f16_bits};
use super::family::{Family, group, group_sum, lane};
use super::launch::{arg, cubes, dims, grid};
use super::linear::{ROWS, dot_rows};
use super::matrix::MatrixArg;

/// Words of a row of a step buffer before its angles.
pub const STEP_ANGLES: usize = 8;

/// Which of a step's two places holds for a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Caches that hold a window.
    Window,
    /// Caches that hold everything.
    Full,
}

impl Class {
    /// The word of a row that has the first slot; the next has their number.
    pub const fn word(self) -> usize {
        match self {
            Class::Window => 1,
            Class::Full => 3,
        }
    }
}

/// Heads of a model, and how the file stores their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Values of a head: a multiple of 4.
    pub head_dim: usize,
    /// Rows of queries and keys are interleaved and scaled by 1/2 and 1/4, as model.bin has them.
    pub interleaved: bool,
    /// How keys and values are cached.
    pub kv: KvType,
}

impl Heads {
    /// Words of a slot of keys, and of values.
    pub fn cache_words(self) -> usize {
        self.kv_heads * self.head_dim / self.kv.per_word()
    }

    /// Rows of the fused projection.
    pub fn rows(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

/// Stores values `index` (even) and `index + 1` of a cache.
#[cube]
fn store_cached(cache: &mut [u32], index: usize, a: f32, b: f32, #[comptime] kv: KvType) {
    match kv {
        KvType::F32 => {
            cache[index] = u32::reinterpret(a);
            cache[index + 1] = u32::reinterpret(b);
        }
        KvType::F16 => cache[index / 2] = f16_bits(a) | (f16_bits(b) << 16),
    }
}

/// Rotates and stores two neighbouring pairs of a head: `lo0`, `lo1` are its elements `i`, `i + 1` with their bias, `hi0`,
/// `hi1` those half a head further.
#[cube]
pub fn store_pairs(
    lo0: f32,
    lo1: f32,
    hi0: f32,
    hi1: f32,
    step: &[u32],
    q: &mut [f32],
    keys: &mut [u32],
    values: &mut [u32],
    token: usize,
    place: u32,
    head: usize,
    i: usize,
    #[comptime] spec: Heads,
) {
    let half = comptime!(spec.head_dim / 2);
    let heads = comptime!(spec.heads);
    let kv_heads = comptime!(spec.kv_heads);
    let row = token * comptime!(STEP_ANGLES + spec.head_dim);
    let first = row + place as usize;
    let slot = step[first] as usize + step[row] as usize % step[first + 1] as usize;
    let angle = row + STEP_ANGLES + i * 2;
    let (c0, s0) = (f32::reinterpret(step[angle]), f32::reinterpret(step[angle + 1]));
    let (c1, s1) = (f32::reinterpret(step[angle + 2]), f32::reinterpret(step[angle + 3]));
    let (x0, y0) = (lo0 * c0 - hi0 * s0, hi0 * c0 + lo0 * s0);
    let (x1, y1) = (lo1 * c1 - hi1 * s1, hi1 * c1 + lo1 * s1);
    if head < heads {
        let scale = if comptime!(spec.interleaved) { 2.0f32 } else { 1.0f32 };
        let to = (token * heads + head) * comptime!(spec.head_dim) + i;
        q[to] = x0 * scale;
        q[to + 1] = x1 * scale;
        q[to + half] = y0 * scale;
        q[to + half + 1] = y1 * scale;
    } else if head < heads + kv_heads {
        let scale = if comptime!(spec.interleaved) { 4.0f32 } else { 1.0f32 };
        let to = (slot * kv_heads + head - heads) * comptime!(spec.head_dim) + i;
        store_cached(keys, to, x0 * scale, x1 * scale, spec.kv);
        store_cached(keys, to + half, y0 * scale, y1 * scale, spec.kv);
    } else {
        let to = (slot * kv_heads + head - heads - kv_heads) * comptime!(spec.head_dim) + i;
        store_cached(values, to, lo0, lo1, spec.kv);
        store_cached(values, to + half, hi0, hi1, spec.kv);
    }
}

/// Rows of the projection that hold elements `i` and `i + d/2` of `head`: the first, and how far the second is.
#[cube]
pub fn pair_rows(head: usize, i: usize, #[comptime] spec: Heads) -> (usize, usize) {
    let half = comptime!(spec.head_dim / 2);
    let row = head * comptime!(spec.head_dim);
    let mut first = row + i;
    let mut step = half.runtime();
    if comptime!(spec.interleaved) && head < comptime!(spec.heads + spec.kv_heads) {
        first = row + 2 * i;
        step = 1usize.runtime();
    }
    (first, step)
}

#[cube(launch_unchecked)]
fn qkv_kernel(
    x: &[F4],
    w: &[U4],
    bias: &[f32],
    step: &[u32],
    q: &mut [f32],
    keys: &mut [u32],
    values: &mut [u32],
    blocks: u32,
    place: u32,
    #[comptime] spec: Heads,
    #[comptime] codec: Codec,
    #[comptime] family: Family,
) {
    let token = CUBE_POS_Y as usize;
    let blocks = blocks as usize;
    let half = comptime!(spec.head_dim / 2);
    let pairs = comptime!(spec.rows() / 2);
    let first = group(family) * 2;
    let pair = min(first, pairs - 2);
    let head = pair / half;
    let i = pair % half;
    let (a, distance) = pair_rows(head, i, spec);
    let (b, _) = pair_rows(head, i + 1, spec);
    let mut own = Array::<usize>::new(ROWS);
    own[0] = a;
    own[1] = a + distance;
    own[2] = b;
    own[3] = b + distance;
    let mut acc = Array::<f32>::new(ROWS);
    #[unroll]
    for r in 0..ROWS {
        acc[r] = 0.0;
    }
    dot_rows(x, w, bias, token * blocks, &own, blocks, blocks, &mut acc, codec, family);
    group_sum(&mut acc, ROWS, family);
    if lane(family) == 0 && first < pairs {
        #[unroll]
        for r in 0..ROWS {
            acc[r] += bias[own[r]];
        }
        store_pairs(acc[0], acc[2], acc[1], acc[3], step, q, keys, values, token, place, head, i, spec);
    }
}

/// Projects `x` into `q` and into the slots of `keys` and `values`.
///
/// # Panics
/// If the codec has scales: the kernel has no binding left for them.
pub fn qkv(
    x: &CubeTensor,
    w: &MatrixArg,
    bias: &CubeTensor,
    step: &CubeTensor,
    q: &CubeTensor,
    keys: &CubeTensor,
    values: &CubeTensor,
    class: Class,
    heads: Heads,
    family: Family,
) {
    let [tokens, hidden] = dims(x);
    check(tokens, bias, step, q, keys, values, heads);
    assert_eq!(w.check(hidden), heads.rows(), "qkv: weight rows");
    assert!(!w.codec.has_scales(), "qkv: {:?}", w.codec);
    let count = grid(cubes(heads.rows(), ROWS as u32 * family.groups()), tokens as u32, 1);
    // SAFETY: shapes were checked above; the kernel clamps pairs, and slots are taken modulo their number.
    unsafe {
        qkv_kernel::launch_unchecked(
            &x.client,
            count,
            family.cube(),
            arg(x, 4),
            arg(w.words, 4),
            arg(bias, 1),
            arg(step, 1),
            arg(q, 1),
            arg(keys, 1),
            arg(values, 1),
            (hidden / BLOCK) as u32,
            class.word() as u32,
            heads,
            w.codec,
            family,
        );
    }
}

/// Checks what [`qkv`] and [`super::rope::rope`] share.
pub(super) fn check(
    tokens: usize,
    bias: &CubeTensor,
    step: &CubeTensor,
    q: &CubeTensor,
    keys: &CubeTensor,
    values: &CubeTensor,
    heads: Heads,
) {
    let [slots, width] = dims(keys);
    assert_eq!(dims(bias), [heads.rows()], "qkv: bias shape");
    assert_eq!(dims(step), [tokens, STEP_ANGLES + heads.head_dim], "qkv: step buffer");
    assert_eq!(dims(q), [tokens, heads.heads * heads.head_dim], "qkv: query shape");
    assert_eq!((width, dims(values)), (heads.cache_words(), [slots, width]), "qkv: cache shape");
    assert!(tokens <= slots && heads.head_dim.is_multiple_of(4), "qkv: {tokens} tokens into {slots} slots");
}
