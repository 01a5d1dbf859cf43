//! Matrix × many vectors: the prefill form of dense projections and of the experts, over tiles of token rows.
//!
//! A tile is up to [`Shape::rows`] token rows of one matrix: rows in a row for a dense projection, the rows of one expert
//! otherwise (the list of [`super::group`]).  `CUBE_POS_Y` is the tile.
//!
//! | shape | family           | work                                       | weights of a step                               |
//! |-------|------------------|--------------------------------------------|-------------------------------------------------|
//! | Few   | Plane, Workgroup | a group: 4 rows × 1, 2, 4 or 8 tokens      | a vector of each row and lane, in registers     |
//! | Tiled | Plane, Workgroup | a unit: 4 rows × 4 tokens of 64 × 64       | 32 columns, decoded once into workgroup memory  |
//! | Lane  | Lane             | a unit: 8 rows × 2, 4, 8 or 16 tokens      | 32 columns, into registers, a row at a time     |
//!
//! Few is bound by the bytes of the weights and by what decoding them costs, Tiled by multiplications: in a step of 8 columns
//! a unit loads 8 vectors from workgroup memory, without conflicts of banks, for 64 of them.
//!
//! - `x` f32 `[rows of x, blocks × 32]`, swizzled; entry `r` of the list reads row `r`, `perm[r]` or `perm[r] / chosen` of it
//! - `w`, `scales`, `bias` of all experts of the chunk: `[experts, rows, blocks]`; dense: one expert
//! - `out` f32: see [`Epilogue`]
//!
//! In each shape every sum runs over the columns in the same order whatever the tile: results do not depend on the chunking
//! of the prompt beyond the choice of the shape, and between these and the decode form.

mod few;
mod lane;
mod tiled;

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use self::few::{FEW_ROWS, FEW_TOKENS, few_kernel};
use self::lane::{LANE_ROWS, LANE_TOKENS, lane_kernel};
use self::tiled::{TILE_M, TILE_N, TILE_UNITS, tiled_kernel};
use super::codec::{BLOCK, Codec, swizzled};
use super::experts::{ExpertMatrix, swiglu};
use super::family::Family;
use super::launch::{arg, cubes, dims, grid};
use super::matrix::MatrixArg;

/// Up to so many token rows of a dense matrix, and of an expert in the mean, the Few shape is taken: it reads a matrix once for
/// each 8, but a dense one fills a GPU with groups long before it fills it with tiles.
const FEW_DENSE_MAX: usize = 64;
const FEW_EXPERT_MEAN_MAX: usize = 8;
/// How the work of a launch is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A unit has rows and tokens of its own.
    Lane,
    /// A group has few rows and few tokens: weights go once from memory to registers.
    Few,
    /// A cube has a tile in workgroup memory.
    Tiled,
}

impl Shape {
    /// For `rows` token rows of a dense matrix.
    pub fn dense(family: Family, rows: usize) -> Self {
        Self::up_to(FEW_DENSE_MAX, family, rows)
    }

    /// For `rows` token rows that are spread over `experts` matrices.
    pub fn experts(family: Family, rows: usize, experts: usize) -> Self {
        Self::up_to(FEW_EXPERT_MEAN_MAX * experts, family, rows)
    }

    fn up_to(few: usize, family: Family, rows: usize) -> Self {
        match family {
            Family::Lane { .. } => Shape::Lane,
            _ if rows <= few => Shape::Few,
            _ => Shape::Tiled,
        }
    }

    /// Token rows of a tile.
    pub const fn rows(self) -> usize {
        match self {
            Shape::Lane => LANE_TOKENS,
            Shape::Few => FEW_TOKENS,
            Shape::Tiled => TILE_M,
        }
    }
}

/// Which matrix a launch multiplies with, and where its results go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Dense: `out[token, base + n] = w·x`.
    Store,
    /// Dense: `out[token, n] += w·x + bias`.
    Residual,
    /// Experts, first matrix: reads row `perm / chosen`, writes `SwiGLU` of the pair to `out[entry, n / 2]`, swizzled.
    Swiglu,
    /// Experts, second matrix: reads row `entry`, writes `w·x + bias` to `out[perm, n]`.
    Scatter,
}

impl Epilogue {
    fn is_dense(self) -> bool {
        matches!(self, Epilogue::Store | Epilogue::Residual)
    }
}

/// What a tile kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Spec {
    codec: Codec,
    epilogue: Epilogue,
    chosen: usize,
    family: Family,
}

/// The tile of this cube: its expert (relative to the chunk), first entry and number of entries (0: nothing to do).
#[cube]
fn tile_of(
    tiles: &[u32],
    total: u32,
    first_expert: u32,
    expert_count: u32,
    #[comptime] rows: usize,
    #[comptime] spec: Spec,
) -> (usize, usize, usize) {
    if comptime!(spec.epilogue.is_dense()) {
        let start = CUBE_POS_Y as usize * rows;
        (0usize.runtime(), start, min(total as usize - start, rows))
    } else {
        let at = CUBE_POS_Y as usize * 3;
        let count = tiles[at + 2];
        // The fields of an unused tile were never written.
        let expert = select(count > 0, tiles[at], first_expert);
        let here = expert >= first_expert && expert - first_expert < expert_count;
        (
            select(here, expert - first_expert, 0u32) as usize,
            select(count > 0, tiles[at + 1], 0u32) as usize,
            select(here, count, 0u32) as usize,
        )
    }
}

/// The row of `x` that entry `entry` reads.
#[cube]
fn source(perm: &[u32], entry: usize, #[comptime] spec: Spec) -> usize {
    match spec.epilogue {
        Epilogue::Swiglu => perm[entry] as usize / comptime!(spec.chosen),
        _ => entry,
    }
}

/// The row of `x` that entry `t` of a tile of `count` reads; beyond the last, that of the last.
#[cube]
fn row_of(perm: &[u32], start: usize, count: usize, t: usize, #[comptime] spec: Spec) -> usize {
    // Without work the list may hold anything, also beyond x.
    let listed = source(perm, start + min(t, max(count, 1) - 1), spec);
    select(count > 0, listed, 0usize)
}

/// Stores the results of two neighbouring matrix rows `n`, `n + 1` for one entry.
#[cube]
fn store(
    out: &mut [f32],
    bias: &[f32],
    perm: &[u32],
    entry: usize,
    n: usize,
    bias_base: usize,
    a: f32,
    b: f32,
    stride: usize,
    base: usize,
    limit: f32,
    #[comptime] spec: Spec,
) {
    match spec.epilogue {
        Epilogue::Store => {
            out[entry * stride + base + n] = a;
            out[entry * stride + base + n + 1] = b;
        }
        Epilogue::Residual => {
            out[entry * stride + n] += a + bias[n];
            out[entry * stride + n + 1] += b + bias[n + 1];
        }
        Epilogue::Swiglu => {
            out[entry * stride + swizzled(n / 2)] = swiglu(a + bias[bias_base + n], b + bias[bias_base + n + 1], limit);
        }
        Epilogue::Scatter => {
            let to = perm[entry] as usize * stride + n;
            out[to] = a + bias[bias_base + n];
            out[to + 1] = b + bias[bias_base + n + 1];
        }
    }
}

/// Operands of a launch, whichever kernel runs.
struct Operands<'a> {
    x: &'a CubeTensor,
    w: &'a CubeTensor,
    scales: Option<&'a CubeTensor>,
    bias: &'a CubeTensor,
    tiles: &'a CubeTensor,
    perm: &'a CubeTensor,
    out: &'a CubeTensor,
    blocks: usize,
    rows: usize,
    total: usize,
    first_expert: usize,
    expert_count: usize,
    stride: usize,
    base: usize,
    limit: f32,
    tile_count: usize,
}

macro_rules! launch {
    ($kernel:ident::<$scale:ty>, $o:ident, $count:expr, $dim:expr, $scales:expr, $spec:ident) => {
        // SAFETY: the callers checked all shapes; the kernels clamp rows and entries, and store only inside the tile.
        unsafe {
            $kernel::launch_unchecked::<$scale>(
                &$o.x.client,
                $count,
                $dim,
                arg($o.x, 4),
                arg($o.w, 4),
                $scales,
                arg($o.bias, 1),
                arg($o.tiles, 1),
                arg($o.perm, 1),
                arg($o.out, 1),
                $o.blocks as u32,
                $o.rows as u32,
                $o.total as u32,
                $o.first_expert as u32,
                $o.expert_count as u32,
                $o.stride as u32,
                $o.base as u32,
                $o.limit,
                $spec,
            );
        }
    };
}

fn launch(o: &Operands, spec: Spec, shape: Shape) {
    let y = o.tile_count as u32;
    match shape {
        Shape::Lane => {
            let (count, dim) = (grid(cubes(o.rows, 8 * LANE_ROWS as u32), y, 1), CubeDim::new_1d(8));
            match o.scales {
                Some(scales) => launch!(lane_kernel::<u32>, o, count, dim, arg(scales, 1), spec),
                None => launch!(lane_kernel::<f32>, o, count, dim, arg(o.bias, 1), spec),
            }
        }
        Shape::Few => {
            let count = grid(cubes(o.rows, FEW_ROWS as u32 * spec.family.groups()), y, 1);
            let dim = spec.family.cube();
            match o.scales {
                Some(scales) => launch!(few_kernel::<u32>, o, count, dim, arg(scales, 1), spec),
                None => launch!(few_kernel::<f32>, o, count, dim, arg(o.bias, 1), spec),
            }
        }
        Shape::Tiled => {
            let count = grid(cubes(o.rows, TILE_N as u32), y, 1);
            let dim = CubeDim::new_1d(TILE_UNITS as u32);
            match o.scales {
                Some(scales) => launch!(tiled_kernel::<u32>, o, count, dim, arg(scales, 1), spec),
                None => launch!(tiled_kernel::<f32>, o, count, dim, arg(o.bias, 1), spec),
            }
        }
    }
}

/// `out[:, base..] = x wᵀ` ([`Epilogue::Store`]) or `out += x wᵀ + bias` ([`Epilogue::Residual`]) for a dense matrix.
pub fn dense(
    x: &CubeTensor,
    w: &MatrixArg,
    bias: &CubeTensor,
    out: &CubeTensor,
    base: usize,
    epilogue: Epilogue,
    family: Family,
) {
    let [tokens, width] = dims(x);
    let rows = w.check(width);
    let [out_tokens, stride] = dims(out);
    assert!(epilogue.is_dense() && rows.is_multiple_of(2), "tile: a dense matrix of an even number of rows");
    assert_eq!(out_tokens, tokens, "tile: output rows");
    assert!(base + rows <= stride, "tile: columns {base}+{rows} of {stride}");
    let shape = Shape::dense(family, tokens);
    let operands = Operands {
        x,
        w: w.words,
        scales: w.codec.has_scales().then_some(w.scales),
        bias,
        // Not read by a dense launch.
        tiles: w.words,
        perm: w.words,
        out,
        blocks: width / BLOCK,
        rows,
        total: tokens,
        first_expert: 0,
        expert_count: 1,
        stride,
        base,
        limit: 0.0,
        tile_count: tokens.div_ceil(shape.rows()),
    };
    launch(&operands, Spec { codec: w.codec, epilogue, chosen: 1, family }, shape);
}

/// One matrix of the experts over the tiles of a chunk: [`Epilogue::Swiglu`] or [`Epilogue::Scatter`].
pub fn experts(
    x: &CubeTensor,
    tiles: &CubeTensor,
    perm: &CubeTensor,
    m: &ExpertMatrix,
    out: &CubeTensor,
    epilogue: Epilogue,
    chosen: usize,
    limit: f32,
    shape: Shape,
    family: Family,
) {
    let [_, width] = dims(x);
    let [experts, rows, words] = dims(m.blocks);
    let [entries] = dims(perm);
    let [tile_count, _] = dims(tiles);
    let stride = if epilogue == Epilogue::Swiglu { rows / 2 } else { rows };
    let [tokens, slots, out_width] = dims(out);
    assert!(!epilogue.is_dense() && words * 8 == width, "tile: expert columns");
    assert_eq!(
        (tokens * slots, out_width, dims(m.bias)),
        (entries, stride, [experts, rows]),
        "tile: expert output and bias"
    );
    let operands = Operands {
        x,
        w: m.blocks,
        scales: Some(m.scales),
        bias: m.bias,
        tiles,
        perm,
        out,
        blocks: width / BLOCK,
        rows,
        total: entries,
        first_expert: m.first,
        expert_count: experts,
        stride,
        base: 0,
        limit,
        tile_count,
    };
    launch(&operands, Spec { codec: Codec::Mxfp4 { scale_offset: m.scale_offset }, epilogue, chosen, family }, shape);
}
