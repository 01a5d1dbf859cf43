//! The kernels as Burn backend extensions: a few traits that another backend (a CPU one on Flex) can implement.
//!
//! An operation that takes a tensor by value and gives it back writes it in place; clones of it see the change.  Nothing here
//! decides what to compute; the model does.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::CubeBackend;

use super::codec::Codec;
use super::experts::ExpertMatrix;
use super::family::Family;
use super::launch::{dims, empty};
use super::matrix::{Matrix, MatrixArg};
use super::qkv::{Class, Heads};
use super::route::Choice;
use super::tile::Shape;
use super::{attention, combine, embedding, experts, group, linear, qkv, rms_norm, rope, route, tile};

/// Most tokens that take the decode form of a matrix product; more go in tiles.
pub const DECODE_TOKENS_MAX: usize = 4;

/// Dense projections, norms and tables.
#[backend_extension(Cube)]
pub trait DenseOps: Backend {
    /// See [`embedding`].
    fn embedding_rows(
        ids: IntTensor<Self>,
        table: IntTensor<Self>,
        scales: IntTensor<Self>,
        out: FloatTensor<Self>,
        base: usize,
        codec: Codec,
    ) -> FloatTensor<Self>;
    /// See [`rms_norm`].
    fn rms_norm_swizzled(x: FloatTensor<Self>, gain: FloatTensor<Self>, family: Family) -> FloatTensor<Self>;
    /// `residual += x wᵀ + bias`.
    fn linear_residual(
        x: FloatTensor<Self>,
        w: IntTensor<Self>,
        scales: IntTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        codec: Codec,
        family: Family,
    ) -> FloatTensor<Self>;
    /// `out[:, base..] = x wᵀ`.
    fn linear_store(
        x: FloatTensor<Self>,
        w: IntTensor<Self>,
        scales: IntTensor<Self>,
        out: FloatTensor<Self>,
        base: usize,
        codec: Codec,
        family: Family,
    ) -> FloatTensor<Self>;
}

/// Attention with learned sinks over a ring of keys and values.
#[backend_extension(Cube)]
pub trait AttentionOps: Backend {
    /// Queries; keys and values with the tokens' slots written.  See [`qkv`].
    fn project_qkv(
        x: FloatTensor<Self>,
        w: IntTensor<Self>,
        bias: FloatTensor<Self>,
        step: IntTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        class: Class,
        heads: Heads,
        codec: Codec,
        family: Family,
    ) -> (FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>);
    /// What [`AttentionOps::project_qkv`] does after the products, which `projected` holds.  See [`rope`].
    fn rotate_qkv(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        step: IntTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        class: Class,
        heads: Heads,
    ) -> (FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>);
    /// See [`attention`].
    fn sink_attention(
        q: FloatTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        sinks: FloatTensor<Self>,
        step: IntTensor<Self>,
        window: usize,
        heads: Heads,
        family: Family,
    ) -> FloatTensor<Self>;
}

/// Routing and the packed experts.
#[backend_extension(Cube)]
pub trait ExpertOps: Backend {
    /// Normalised input, scores and chosen experts.  See [`route`].
    fn route_tokens(
        x: FloatTensor<Self>,
        params: FloatTensor<Self>,
        w: IntTensor<Self>,
        choice: Choice,
        codec: Codec,
        family: Family,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>);
    /// Rows of `ids` sorted by expert: `perm` and `tiles`.  See [`group`].
    fn group_rows(ids: IntTensor<Self>, experts: usize, shape: Shape) -> (IntTensor<Self>, IntTensor<Self>);
    /// SwiGLU of the first matrix for the experts of one chunk, into `h`; decode form.  See [`experts`].
    fn experts_up(
        x: FloatTensor<Self>,
        ids: IntTensor<Self>,
        blocks: IntTensor<Self>,
        scales: IntTensor<Self>,
        bias: FloatTensor<Self>,
        h: FloatTensor<Self>,
        spec: ExpertSpec,
    ) -> FloatTensor<Self>;
    /// Weighted outputs of the second matrix for the experts of one chunk, added to `residual`; decode form.
    fn experts_down(
        h: FloatTensor<Self>,
        ids: IntTensor<Self>,
        scores: FloatTensor<Self>,
        blocks: IntTensor<Self>,
        scales: IntTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        spec: ExpertSpec,
    ) -> FloatTensor<Self>;
    /// One matrix of the experts of one chunk over the tiles of a prompt chunk.  See [`tile`].
    fn experts_tiled(
        x: FloatTensor<Self>,
        tiles: IntTensor<Self>,
        perm: IntTensor<Self>,
        blocks: IntTensor<Self>,
        scales: IntTensor<Self>,
        bias: FloatTensor<Self>,
        out: FloatTensor<Self>,
        epilogue: tile::Epilogue,
        shape: Shape,
        spec: ExpertSpec,
    ) -> FloatTensor<Self>;
    /// `residual += Σ weight · y`.  See [`combine`].
    fn combine_slots(y: FloatTensor<Self>, scores: FloatTensor<Self>, residual: FloatTensor<Self>)
    -> FloatTensor<Self>;
}

/// What a launch over a chunk of experts needs to know besides its tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertSpec {
    /// The first expert of the chunk.
    pub first: usize,
    /// What the file added to every scale.
    pub scale_offset: u32,
    /// Experts a token is sent to.
    pub chosen: usize,
    /// Clamp of the SwiGLU.
    pub limit: f32,
    /// The kernels' shape.
    pub family: Family,
}

impl DenseOps for CubeBackend {
    fn embedding_rows(
        ids: IntTensor<Self>,
        table: IntTensor<Self>,
        scales: IntTensor<Self>,
        out: FloatTensor<Self>,
        base: usize,
        codec: Codec,
    ) -> FloatTensor<Self> {
        embedding::embedding(&ids, &MatrixArg { words: &table, scales: &scales, codec }, &out, base);
        out
    }

    fn rms_norm_swizzled(x: FloatTensor<Self>, gain: FloatTensor<Self>, family: Family) -> FloatTensor<Self> {
        let out = empty(&x, dims::<2>(&x), DType::F32);
        rms_norm::rms_norm(&x, &gain, &out, family);
        out
    }

    fn linear_residual(
        x: FloatTensor<Self>,
        w: IntTensor<Self>,
        scales: IntTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        codec: Codec,
        family: Family,
    ) -> FloatTensor<Self> {
        let w = MatrixArg { words: &w, scales: &scales, codec };
        if dims::<2>(&x)[0] <= DECODE_TOKENS_MAX {
            linear::linear(&x, &w, &bias, &residual, 0, linear::Output::Residual, family);
        } else {
            tile::dense(&x, &w, &bias, &residual, 0, tile::Epilogue::Residual, family);
        }
        residual
    }

    fn linear_store(
        x: FloatTensor<Self>,
        w: IntTensor<Self>,
        scales: IntTensor<Self>,
        out: FloatTensor<Self>,
        base: usize,
        codec: Codec,
        family: Family,
    ) -> FloatTensor<Self> {
        let w = MatrixArg { words: &w, scales: &scales, codec };
        // There is no bias: `x` stands in for it and is not read as one.
        if dims::<2>(&x)[0] <= DECODE_TOKENS_MAX {
            linear::linear(&x, &w, &x, &out, base, linear::Output::Logits, family);
        } else {
            tile::dense(&x, &w, &x, &out, base, tile::Epilogue::Store, family);
        }
        out
    }
}

impl AttentionOps for CubeBackend {
    fn project_qkv(
        x: FloatTensor<Self>,
        w: IntTensor<Self>,
        bias: FloatTensor<Self>,
        step: IntTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        class: Class,
        heads: Heads,
        codec: Codec,
        family: Family,
    ) -> (FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>) {
        let [tokens, _] = dims(&x);
        let q = empty(&x, [tokens, heads.heads * heads.head_dim], DType::F32);
        let w = MatrixArg { words: &w, scales: &w, codec };
        if tokens <= DECODE_TOKENS_MAX {
            qkv::qkv(&x, &w, &bias, &step, &q, &keys, &values, class, heads, family);
        } else {
            let projected = empty(&x, [tokens, heads.rows()], DType::F32);
            tile::dense(&x, &w, &bias, &projected, 0, tile::Epilogue::Store, family);
            rope::rope(&projected, &bias, &step, &q, &keys, &values, class, heads);
        }
        (q, keys, values)
    }

    fn rotate_qkv(
        projected: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        step: IntTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        class: Class,
        heads: Heads,
    ) -> (FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>) {
        let [tokens, _] = dims(&projected);
        let q = empty(&projected, [tokens, heads.heads * heads.head_dim], DType::F32);
        rope::rope(&projected, &bias, &step, &q, &keys, &values, class, heads);
        (q, keys, values)
    }

    fn sink_attention(
        q: FloatTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        sinks: FloatTensor<Self>,
        step: IntTensor<Self>,
        window: usize,
        heads: Heads,
        family: Family,
    ) -> FloatTensor<Self> {
        let out = empty(&q, dims::<2>(&q), DType::F32);
        attention::attention(&q, &keys, &values, &sinks, &step, &out, window, heads, family);
        out
    }
}

impl ExpertOps for CubeBackend {
    fn route_tokens(
        x: FloatTensor<Self>,
        params: FloatTensor<Self>,
        w: IntTensor<Self>,
        choice: Choice,
        codec: Codec,
        family: Family,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>) {
        let [tokens, hidden] = dims(&x);
        let normed = empty(&x, [tokens, hidden], DType::F32);
        let scores = empty(&x, [tokens, choice.experts + choice.chosen], DType::F32);
        let ids = empty(&x, [tokens, choice.chosen], DType::U32);
        let w = MatrixArg { words: &w, scales: &w, codec };
        route::route(&x, &params, &w, &normed, &scores, &ids, choice, family);
        (normed, scores, ids)
    }

    fn group_rows(ids: IntTensor<Self>, experts: usize, shape: Shape) -> (IntTensor<Self>, IntTensor<Self>) {
        let [tokens, chosen] = dims(&ids);
        let rows = shape.rows();
        let perm = empty(&ids, [tokens * chosen], DType::U32);
        let tiles = empty(&ids, [group::tiles_max(tokens * chosen, experts, rows), 3], DType::U32);
        group::group(&ids, &perm, &tiles, experts, rows);
        (perm, tiles)
    }

    fn experts_up(
        x: FloatTensor<Self>,
        ids: IntTensor<Self>,
        blocks: IntTensor<Self>,
        scales: IntTensor<Self>,
        bias: FloatTensor<Self>,
        h: FloatTensor<Self>,
        spec: ExpertSpec,
    ) -> FloatTensor<Self> {
        experts::up(&x, &ids, &spec.matrix(&blocks, &scales, &bias), &h, spec.limit, spec.family);
        h
    }

    fn experts_down(
        h: FloatTensor<Self>,
        ids: IntTensor<Self>,
        scores: FloatTensor<Self>,
        blocks: IntTensor<Self>,
        scales: IntTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        spec: ExpertSpec,
    ) -> FloatTensor<Self> {
        experts::down(&h, &ids, &scores, &spec.matrix(&blocks, &scales, &bias), &residual, spec.family);
        residual
    }

    fn experts_tiled(
        x: FloatTensor<Self>,
        tiles: IntTensor<Self>,
        perm: IntTensor<Self>,
        blocks: IntTensor<Self>,
        scales: IntTensor<Self>,
        bias: FloatTensor<Self>,
        out: FloatTensor<Self>,
        epilogue: tile::Epilogue,
        shape: Shape,
        spec: ExpertSpec,
    ) -> FloatTensor<Self> {
        let matrix = spec.matrix(&blocks, &scales, &bias);
        tile::experts(&x, &tiles, &perm, &matrix, &out, epilogue, spec.chosen, spec.limit, shape, spec.family);
        out
    }

    fn combine_slots(
        y: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        combine::combine(&y, &scores, &residual);
        residual
    }
}

impl ExpertSpec {
    fn matrix<'a>(
        self,
        blocks: &'a burn_cubecl::tensor::CubeTensor,
        scales: &'a burn_cubecl::tensor::CubeTensor,
        bias: &'a burn_cubecl::tensor::CubeTensor,
    ) -> ExpertMatrix<'a> {
        ExpertMatrix { blocks, scales, bias, first: self.first, scale_offset: self.scale_offset }
    }
}

/// A packed matrix or an id list: u32 words.
pub type Words<const D: usize> = Tensor<D, Int>;

/// Writes the rows of `ids` that `table` (whose first row is row `base`) holds into `out`.
pub fn embedding_rows(ids: &Words<1>, table: &Matrix, out: Tensor<2>, base: usize) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::embedding_rows(
        ids.clone().into_dispatch(),
        table.words.clone().into_dispatch(),
        table.scales.clone().into_dispatch(),
        out.into_dispatch(),
        base,
        table.codec,
    ))
}

/// RMSNorm of the rows of `x` `[rows, hidden]`, swizzled.
pub fn rms_norm_swizzled(x: &Tensor<2>, gain: &Tensor<1>, family: Family) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::rms_norm_swizzled(x.clone().into_dispatch(), gain.clone().into_dispatch(), family))
}

/// `residual += x wᵀ + bias`, in place; `x` swizzled.
pub fn linear_residual(x: Tensor<2>, w: &Matrix, bias: &Tensor<1>, residual: Tensor<2>, family: Family) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::linear_residual(
        x.into_dispatch(),
        w.words.clone().into_dispatch(),
        w.scales.clone().into_dispatch(),
        bias.clone().into_dispatch(),
        residual.into_dispatch(),
        w.codec,
        family,
    ))
}

/// `out[:, base..] = x wᵀ`, in place; `x` swizzled.
pub fn linear_store(x: &Tensor<2>, w: &Matrix, out: Tensor<2>, base: usize, family: Family) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::linear_store(
        x.clone().into_dispatch(),
        w.words.clone().into_dispatch(),
        w.scales.clone().into_dispatch(),
        out.into_dispatch(),
        base,
        w.codec,
        family,
    ))
}

/// Queries of `x` (swizzled) after bias and rotary embedding; writes the tokens' keys and values into their slots.
///
/// `w` are matrices whose rows, one after the other, are those of the fused projection.  One of a codec without scales takes
/// one launch, others a launch each and one more.
pub fn project_qkv(
    x: Tensor<2>,
    w: &[Matrix],
    bias: &Tensor<1>,
    step: &Words<2>,
    keys: &Words<2>,
    values: &Words<2>,
    class: Class,
    heads: Heads,
    family: Family,
) -> Tensor<2> {
    let bias = bias.clone().into_dispatch();
    let (step, keys, values) =
        (step.clone().into_dispatch(), keys.clone().into_dispatch(), values.clone().into_dispatch());
    let (q, _, _) = match w {
        [whole] if !whole.codec.has_scales() => {
            let words = whole.words.clone().into_dispatch();
            Dispatch::project_qkv(x.into_dispatch(), words, bias, step, keys, values, class, heads, whole.codec, family)
        }
        parts => {
            let out = Tensor::<2>::empty([x.dims()[0], heads.rows()], &x.device());
            let each = |(out, base), part: &Matrix| (linear_store(&x, part, out, base, family), base + part.rows());
            let (projected, rows) = parts.iter().fold((out, 0), each);
            assert_eq!(rows, heads.rows(), "qkv: rows of all parts");
            Dispatch::rotate_qkv(projected.into_dispatch(), bias, step, keys, values, class, heads)
        }
    };
    Tensor::from_dispatch(q)
}

/// Attention of `q` over the slots, swizzled.
pub fn sink_attention(
    q: Tensor<2>,
    keys: &Words<2>,
    values: &Words<2>,
    sinks: &Tensor<1>,
    step: &Words<2>,
    window: usize,
    heads: Heads,
    family: Family,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::sink_attention(
        q.into_dispatch(),
        keys.clone().into_dispatch(),
        values.clone().into_dispatch(),
        sinks.clone().into_dispatch(),
        step.clone().into_dispatch(),
        window,
        heads,
        family,
    ))
}

/// Normalised input (swizzled), scores (logits, then weights of the chosen) and ids of the chosen experts.
pub fn route_tokens(
    x: &Tensor<2>,
    params: &Tensor<1>,
    w: &Matrix,
    choice: Choice,
    family: Family,
) -> (Tensor<2>, Tensor<2>, Words<2>) {
    let (normed, scores, ids) = Dispatch::route_tokens(
        x.clone().into_dispatch(),
        params.clone().into_dispatch(),
        w.words.clone().into_dispatch(),
        choice,
        w.codec,
        family,
    );
    (Tensor::from_dispatch(normed), Tensor::from_dispatch(scores), Tensor::from_dispatch(ids))
}

/// Assignment numbers sorted by expert, and the tiles over them, of the rows that `shape` takes.
pub fn group_rows(ids: &Words<2>, experts: usize, shape: Shape) -> (Words<1>, Words<2>) {
    let (perm, tiles) = Dispatch::group_rows(ids.clone().into_dispatch(), experts, shape);
    (Tensor::from_dispatch(perm), Tensor::from_dispatch(tiles))
}

/// The packed experts of one chunk on the device.
#[derive(Debug, Clone)]
pub struct ExpertChunk {
    /// `[experts, rows, columns / 8]`.
    pub blocks: Words<3>,
    /// A byte for each block of 32, four to a word.
    pub scales: Words<1>,
    /// `[experts, rows]`.
    pub bias: Tensor<2>,
}

/// SwiGLU of the first matrix, decode form; writes `h` `[tokens, chosen, intermediate]` in place.
pub fn experts_up(x: &Tensor<2>, ids: &Words<2>, chunk: &ExpertChunk, h: Tensor<3>, spec: ExpertSpec) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::experts_up(
        x.clone().into_dispatch(),
        ids.clone().into_dispatch(),
        chunk.blocks.clone().into_dispatch(),
        chunk.scales.clone().into_dispatch(),
        chunk.bias.clone().into_dispatch(),
        h.into_dispatch(),
        spec,
    ))
}

/// Weighted outputs of the second matrix, decode form; adds to `residual` in place.
pub fn experts_down(
    h: &Tensor<3>,
    ids: &Words<2>,
    scores: &Tensor<2>,
    chunk: &ExpertChunk,
    residual: Tensor<2>,
    spec: ExpertSpec,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::experts_down(
        h.clone().into_dispatch(),
        ids.clone().into_dispatch(),
        scores.clone().into_dispatch(),
        chunk.blocks.clone().into_dispatch(),
        chunk.scales.clone().into_dispatch(),
        chunk.bias.clone().into_dispatch(),
        residual.into_dispatch(),
        spec,
    ))
}

/// One matrix over tiles that were listed for `shape`; writes `out` `[tokens, chosen, columns]` in place.
pub fn experts_tiled(
    x: &Tensor<2>,
    (perm, tiles): (&Words<1>, &Words<2>),
    chunk: &ExpertChunk,
    out: Tensor<3>,
    epilogue: tile::Epilogue,
    shape: Shape,
    spec: ExpertSpec,
) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::experts_tiled(
        x.clone().into_dispatch(),
        tiles.clone().into_dispatch(),
        perm.clone().into_dispatch(),
        chunk.blocks.clone().into_dispatch(),
        chunk.scales.clone().into_dispatch(),
        chunk.bias.clone().into_dispatch(),
        out.into_dispatch(),
        epilogue,
        shape,
        spec,
    ))
}

/// `residual += Σ weight · y`, in place.
pub fn combine_slots(y: Tensor<3>, scores: &Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::combine_slots(
        y.into_dispatch(),
        scores.clone().into_dispatch(),
        residual.into_dispatch(),
    ))
}
