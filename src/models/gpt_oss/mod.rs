//! GPT-OSS: the forward pass of a chunk of tokens over the cache.
//!
//! ```text
//! x = embedding[token]
//! each layer:  x += W_o · attention(rope(q), rope(k), v) + b_o      q, k, v = W · norm(x) + b
//!              x += Σ weight · expert(norm(x))                      chosen and weighted by the router
//! logits = U · norm(x)
//! ```
//!
//! Pre-norm, two residual adds, even layers windowed, a learned sink in every softmax.  Launches of a decoded token: 7 a layer
//! (norm, qkv, attention, output, route, up, down) and one more for every further buffer the experts are split over, plus
//! embedding, norm and unembedding.

pub mod dense;
pub mod embedding;
pub mod experts;
pub mod footprint;
pub mod gauge;
mod gguf_experts;
pub mod load;
pub mod pager;
pub mod probe;
pub mod stage;
pub mod stored;
pub mod trace;

use burn::tensor::{Int, Tensor};

use self::embedding::Embedding;
use self::experts::Experts;
use self::probe::{Probe, lap};
use self::stage::Stage;
use crate::checkpoint::ModelConfig;
use crate::device::{Compute, DeviceError};
use crate::kernels::matrix::Matrix;
use crate::kernels::ops::{
    linear_residual, linear_store, project_qkv, rms_norm_swizzled, route_tokens, sink_attention,
};
use crate::kernels::qkv::Heads;
use crate::kernels::route::Choice;
use crate::nn::kv_cache::{CacheShape, KvCache, Reach};
use crate::nn::rope::Yarn;

/// Rows of a table too large for one buffer: the first row of each piece, and the piece.
pub type Table = Vec<(usize, Matrix)>;

/// The weights of one block.
#[derive(Debug)]
pub struct Block {
    attention_norm: Tensor<1>,
    /// Rows of the fused projection, in one matrix or in several.
    qkv: Vec<Matrix>,
    qkv_bias: Tensor<1>,
    sinks: Tensor<1>,
    out: Matrix,
    out_bias: Tensor<1>,
    /// Gain of the norm, then the router's bias.
    route_params: Tensor<1>,
    gate: Matrix,
    experts: Experts,
}

impl Block {
    /// Bytes of the matrices that every token needs; vectors are some thousands.
    fn dense_bytes(&self) -> u64 {
        self.qkv.iter().chain([&self.out, &self.gate]).map(Matrix::bytes).sum()
    }
}

/// The model on a device.
#[derive(Debug)]
pub struct GptOss {
    compute: Compute,
    config: ModelConfig,
    heads: Heads,
    yarn: Yarn,
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: Tensor<1>,
    unembedding: Table,
    vocab_rows: usize,
    /// Whether a budget has paid for caches of the whole context.
    whole_caches: bool,
}

/// Tokens of one sequence that run together.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The sequence's lane of the cache.
    pub lane: usize,
    /// Its next tokens.
    pub tokens: &'a [u32],
}

impl GptOss {
    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device it lives on.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Rows of embedding and unembedding: ids below it are valid, and logits are that wide.
    pub fn vocab_rows(&self) -> usize {
        self.vocab_rows
    }

    /// How far back layer `layer` looks: even layers have the window.
    pub fn reach(&self, layer: usize) -> Reach {
        if layer.is_multiple_of(2) { Reach::Window(self.config.sliding_window) } else { Reach::Full }
    }

    /// Bytes of the keys of a layer that looks at everything, for `positions` positions.
    pub fn cache_bytes(&self, positions: usize, context: usize) -> usize {
        positions.next_power_of_two().min(context.max(positions)) * self.heads.cache_words() * 4
    }

    /// Bytes of the keys of a layer that looks at everything, for one of several sequences of `context` positions.
    pub fn lane_bytes(&self, context: usize) -> usize {
        context * self.heads.cache_words() * 4
    }

    /// Empty caches for `lanes` sequences of at most `context` positions each, entered in chunks of at most `chunk`.
    pub fn new_cache(&self, lanes: usize, chunk: usize, context: usize) -> KvCache {
        let shape = CacheShape { width: self.heads.cache_words(), lanes, chunk, context, whole: self.whole_caches };
        KvCache::new(&self.compute, (0..self.config.layers).map(|layer| self.reach(layer)), shape)
    }

    /// The residual stream after all blocks of the segments' tokens, one segment after the other: `[rows, hidden]`.
    ///
    /// Every segment goes on where its lane of `cache` ends, and the lanes end after them; a lane has at most one segment.
    pub async fn hidden(
        &self,
        segments: &[Segment<'_>],
        cache: &mut KvCache,
        mut probe: Option<&mut Probe>,
    ) -> Result<Tensor<2>, DeviceError> {
        let tokens: Vec<u32> = segments.iter().flat_map(|segment| segment.tokens).copied().collect();
        let mut step = Vec::with_capacity(tokens.len() * self.yarn.step_words());
        for Segment { lane, tokens } in segments {
            cache.reserve(&self.compute, *lane, tokens.len());
            self.yarn.step(cache.end(*lane), tokens.len(), cache.places(*lane), &mut step);
        }
        if let Some(probe) = &mut probe {
            probe.begin(&self.compute, segments.first().map_or(0, |s| cache.end(s.lane)), tokens.len());
        }
        let step = self.compute.upload(&step, [tokens.len(), self.yarn.step_words()]);
        let mut x = self.embedding.rows(&self.compute, &tokens, self.config.hidden);
        if let Some(probe) = &mut probe {
            probe.lap(&self.compute, "embedding");
            probe.natural(Stage::Embedding, None, &x);
            probe.outside(tokens.len() as u64 * self.embedding.row_bytes(self.config.hidden));
        }
        for layer in 0..self.blocks.len() {
            x = self.block(layer, x, &step, segments, cache, probe.as_deref_mut()).await?;
        }
        segments.iter().for_each(|segment| cache.advance(segment.lane, segment.tokens.len()));
        Ok(x)
    }

    /// Block `layer` on the residual stream `x` of a chunk.
    async fn block(
        &self,
        layer: usize,
        x: Tensor<2>,
        step: &Tensor<2, Int>,
        segments: &[Segment<'_>],
        cache: &KvCache,
        mut probe: Option<&mut Probe>,
    ) -> Result<Tensor<2>, DeviceError> {
        let (b, family) = (&self.blocks[layer], self.compute.family());
        let before = b.experts.paging();

        let t = rms_norm_swizzled(&x, &b.attention_norm, family);
        lap(&mut probe, &self.compute, "norm");
        let (keys, values, reach) = cache.layer(layer);
        let q = project_qkv(t.clone(), &b.qkv, &b.qkv_bias, step, keys, values, reach.class(), self.heads, family);
        lap(&mut probe, &self.compute, "qkv");
        let a = sink_attention(q.clone(), keys, values, &b.sinks, step, reach.window(), self.heads, family);
        lap(&mut probe, &self.compute, "attention");
        let x = linear_residual(a.clone(), &b.out, &b.out_bias, x, family);
        lap(&mut probe, &self.compute, "output");
        if let Some(probe) = &mut probe {
            probe.swizzled(Stage::AttentionNorm, Some(layer), &t);
            probe.natural(Stage::Query, Some(layer), &q);
            for Segment { lane, tokens } in segments {
                let (keys, values) = cache.rows(layer, *lane, cache.end(*lane), tokens.len());
                probe.cached(Stage::Key, layer, keys, self.heads.kv);
                probe.cached(Stage::Value, layer, values, self.heads.kv);
            }
            probe.swizzled(Stage::Attention, Some(layer), &a);
            probe.natural(Stage::AttentionResidual, Some(layer), &x);
        }

        let choice = Choice { experts: self.config.experts, chosen: self.config.experts_per_token };
        let (t, scores, ids) = route_tokens(&x, &b.route_params, &b.gate, choice, family);
        lap(&mut probe, &self.compute, "route");
        if let Some(probe) = &mut probe {
            probe.swizzled(Stage::MlpNorm, Some(layer), &t);
            probe.natural(Stage::RouterLogits, Some(layer), &scores.clone().narrow(1, 0, choice.experts));
            probe.natural(Stage::ExpertWeights, Some(layer), &scores.clone().narrow(1, choice.experts, choice.chosen));
            probe.ids(layer, &ids);
        }
        let x = b.experts.forward(&self.compute, layer, &t, &ids, &scores, x, probe.as_deref_mut()).await?;
        if let Some(probe) = &mut probe {
            probe.natural(Stage::BlockOutput, Some(layer), &x);
            let bytes = (b.dense_bytes(), b.experts.expert_bytes());
            probe.layer_done(&self.compute, layer, &ids, bytes, b.experts.paging() - before).await?;
        }
        Ok(x)
    }

    /// Logits of rows of the residual stream: `[rows, vocab_rows]`.
    pub fn logits(&self, x: &Tensor<2>, mut probe: Option<&mut Probe>) -> Tensor<2> {
        let family = self.compute.family();
        let t = rms_norm_swizzled(x, &self.norm, family);
        if let Some(probe) = &mut probe {
            probe.swizzled(Stage::FinalNorm, None, &t);
        }
        let out = self.compute.scratch([x.dims()[0], self.vocab_rows]);
        let out = self.unembedding.iter().fold(out, |out, (base, table)| linear_store(&t, table, out, *base, family));
        lap(&mut probe, &self.compute, "unembedding");
        if let Some(probe) = probe {
            probe.outside(self.unembedding.iter().map(|(_, piece)| piece.bytes()).sum());
        }
        out
    }

    /// Positions whose logits fit one buffer.
    pub fn logit_rows_max(&self) -> usize {
        (self.compute.buffer_bytes_max() / (self.vocab_rows * 4)).max(1)
    }
}
