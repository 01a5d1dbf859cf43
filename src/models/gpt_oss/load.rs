//! From any checkpoint's mapped bytes to the device.
//!
//! Mapped bytes go to the driver piece by piece, without a copy on the host, and their pages are given back once it has them:
//! a file is never resident beside the buffers made of it.  What a format changes (model.bin: interleaved and scaled Q and K,
//! scale offset) stays as it is: the kernels know.
//!
//! A GGUF's dense matrices go to the device in the codec of their type ([`super::dense`]).  Its experts hold the same codes and
//! scales as ours in other places: each is put in our order, gate and up rows interleaved, when it is written.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::dense::{self, Stored};
use super::embedding::Embedding;
use super::experts::{Experts, Packed};
use super::footprint::{footprint, scratch_tensor_bytes};
use super::gguf_experts;
use super::pager::Pager;
use super::stored::{DensePart, columns, parts, router_codec};
use super::{Block, GptOss, Table};
use crate::checkpoint::config::MXFP4_BLOCK_VALUES;
use crate::checkpoint::source::slice_of;
use crate::checkpoint::{Layout, ModelConfig, Role, TensorId, WeightSource};
use crate::device::{Compute, DeviceError, UPLOAD_PIECE_BYTES};
use crate::kernels::codec::{BLOCK, Codec, KvType};
use crate::kernels::matrix::Matrix;
use crate::kernels::ops::{ExpertChunk, Words};
use crate::kernels::qkv::Heads;
use crate::model_bin::layout::SCALE_OFFSET;
use crate::nn::rope::{RopeVariant, Yarn};
use crate::open::AnyCheckpoint;
use crate::telemetry::Progress;

/// Scale bytes above it, without offset, have no finite factor on the device.
const SCALE_MAX: u8 = 252;

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Device memory for weights, caches and scratch together, bytes; experts page to stay below it.
    pub device_memory: Option<u64>,
    /// Longest sequence that will be run, tokens: what the budget must leave room for.
    pub context: usize,
    /// Sequences that have caches at once.
    pub lanes: usize,
    /// Tokens of a prompt chunk.
    pub chunk: usize,
    /// How keys and values are cached.
    pub kv: KvType,
    /// How the ends of YaRN's ramp are taken.
    pub rope: RopeVariant,
}

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernels do not cover the geometry.
    #[error("{path}: {field} is {found}; the device kernels need {want}")]
    Geometry {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// Of the config.
        field: &'static str,
        /// What is needed.
        want: &'static str,
        /// Its value.
        found: usize,
    },
    /// A row or an expert is larger than a buffer may be.
    #[error("{path}: {what} takes {bytes} bytes, the adapter's buffers hold {max}")]
    TooLargeForBuffer {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// The tensor, or the part of it.
        what: String,
        /// Its size.
        bytes: usize,
        /// The adapter's limit.
        max: usize,
    },
    /// The budget leaves no room for an expert.
    #[error(
        "{path}: --device-memory {budget} is too small: weights that stay, cache and scratch take {fixed} bytes, one expert {expert}"
    )]
    BudgetTooSmall {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// What was given.
        budget: u64,
        /// What is needed besides experts.
        fixed: u64,
        /// One expert.
        expert: u64,
    },
    /// A scale is NaN or too large.
    #[error(
        "{path}: tensor `{tensor}`: scale byte {found} of expert {expert}; the largest with a finite factor is {max}"
    )]
    Scale {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// The original name.
        tensor: String,
        /// The expert.
        expert: usize,
        /// The byte as stored.
        found: u8,
        /// The largest allowed.
        max: u8,
    },
    /// An F16, a weight or the scale of a block, is infinite or NaN.
    #[error("{path}: tensor `{tensor}`: {found}")]
    NotFinite {
        /// The checkpoint.
        path: std::path::PathBuf,
        /// As the file calls it.
        tensor: String,
        /// Where.
        found: dense::NotFinite,
    },
    /// Someone asked to stop.
    #[error("interrupted")]
    Cancelled,
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What a block's experts look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertShape {
    /// Experts of a block.
    pub experts: usize,
    /// Experts a token is sent to.
    pub chosen: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Inner width.
    pub intermediate: usize,
    /// Clamp of the SwiGLU.
    pub limit: f32,
    /// What the file adds to scales.
    pub scale_offset: u32,
}

/// One of an expert's two matrices.
#[derive(Debug, Clone, Copy)]
struct Half {
    blocks: Role,
    scales: Role,
    bias: Role,
    rows: usize,
    columns: usize,
}

impl Half {
    fn blocks_bytes(self) -> usize {
        self.rows * self.columns / 2
    }

    fn scales_bytes(self) -> usize {
        self.rows * self.columns / MXFP4_BLOCK_VALUES
    }

    /// On the device: packed blocks, scales, bias as f32.
    fn device_bytes(self) -> usize {
        self.blocks_bytes() + self.scales_bytes() + self.rows * 4
    }
}

impl ExpertShape {
    pub(super) fn new(c: &ModelConfig, layout: Layout) -> Self {
        Self {
            experts: c.experts,
            chosen: c.experts_per_token,
            hidden: c.hidden,
            intermediate: c.intermediate,
            limit: c.swiglu_limit,
            scale_offset: if layout == Layout::ModelBin { SCALE_OFFSET as u32 } else { 0 },
        }
    }

    fn halves(&self) -> [Half; 2] {
        let half = |blocks, scales, bias, rows, columns| Half { blocks, scales, bias, rows, columns };
        [
            half(Role::Mlp1Blocks, Role::Mlp1Scales, Role::Mlp1Bias, 2 * self.intermediate, self.hidden),
            half(Role::Mlp2Blocks, Role::Mlp2Scales, Role::Mlp2Bias, self.hidden, self.intermediate),
        ]
    }

    /// Device bytes of one expert.
    pub fn expert_bytes(&self) -> usize {
        self.halves().iter().map(|half| half.device_bytes()).sum()
    }
}

/// Some bytes of a stored tensor on their way to the device.
///
/// It borrows nothing, so that the queue can hold it; its pages are given back when the queue lets go.
struct Piece {
    checkpoint: Arc<AnyCheckpoint>,
    tensor: TensorId,
    start: usize,
    len: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        slice_of(&self.checkpoint.source().segments(self.tensor), self.start, self.len)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.checkpoint.source().has_read(self.as_ref());
    }
}

/// Reads tensors of one checkpoint and writes them to one device.
#[derive(Clone)]
struct Loader {
    compute: Compute,
    checkpoint: Arc<AnyCheckpoint>,
    shape: ExpertShape,
}

impl GptOss {
    /// Puts the checkpoint's model on the device.
    pub fn load(
        checkpoint: Arc<AnyCheckpoint>,
        compute: &Compute,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Self, LoadError> {
        let source = checkpoint.source();
        let config = source.config().clone();
        let shape = ExpertShape::new(&config, source.layout());
        let loader = Loader { compute: compute.clone(), checkpoint: checkpoint.clone(), shape };
        loader.check_geometry()?;
        // What an earlier model left behind is not part of this one.
        compute.release_unused();
        let pager = loader.pager(options)?;
        let total: usize = TensorId::each(&config).map(|t| t.bytes(&config)).sum();
        progress.begin("loading", total as u64);
        let embedding = match options.device_memory {
            None => Embedding::Device(loader.table(Role::Embedding, progress)?),
            Some(_) => Embedding::Mapped(checkpoint.clone()),
        };
        let mut blocks = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            blocks.push(loader.block(layer, pager.as_ref(), progress)?);
        }
        let norm = loader.vector(TensorId::outside(Role::FinalNorm));
        let unembedding = loader.table(Role::Unembedding, progress)?;
        // Scratch pages have the size of the largest tensor so far: found once, they need not be replaced by larger ones.
        let largest = scratch_tensor_bytes(&config, options.chunk, source.vocab_rows());
        drop(compute.scratch([(largest as usize).min(compute.buffer_bytes_max()) / 4]));
        compute.wait();
        progress.finish();
        let heads = Heads {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            interleaved: source.layout() == Layout::ModelBin,
            kv: options.kv,
        };
        let yarn = Yarn::new(&config.rope, config.head_dim, options.rope);
        let vocab_rows = source.vocab_rows();
        let whole_caches = options.device_memory.is_some();
        let compute = compute.clone();
        Ok(Self { compute, config, heads, yarn, embedding, blocks, norm, unembedding, vocab_rows, whole_caches })
    }

    /// What paging has done so far, if experts are paged.
    pub fn pager(&self) -> Option<&Pager> {
        self.blocks.iter().find_map(|block| match &block.experts {
            Experts::Paged(pager, _) => Some(pager.as_ref()),
            Experts::Resident(..) => None,
        })
    }
}

impl Loader {
    fn source(&self) -> &dyn WeightSource {
        self.checkpoint.source()
    }

    fn config(&self) -> &ModelConfig {
        self.source().config()
    }

    fn check_geometry(&self) -> Result<(), LoadError> {
        let c = self.config();
        let rules = [
            ("head_dim", c.head_dim, c.head_dim.is_multiple_of(4), "a multiple of 4"),
            ("num_attention_heads × head_dim", c.q_rows(), c.q_rows().is_multiple_of(BLOCK), "a multiple of 32"),
            ("head_dim", c.head_dim, c.head_dim <= 120, "at most 120"),
            ("num_experts", c.experts, c.experts <= 256, "at most 256"),
            ("experts_per_token", c.experts_per_token, c.experts_per_token <= 128, "at most 128"),
        ];
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            None => Ok(()),
            Some((field, found, _, want)) => {
                Err(LoadError::Geometry { path: self.source().path().into(), field, want, found })
            }
        }
    }

    /// How many of `items` of `item_bytes` each fit a buffer.
    fn per_buffer(&self, what: impl Fn() -> String, item_bytes: usize) -> Result<usize, LoadError> {
        let max = self.compute.buffer_bytes_max();
        match max / item_bytes {
            0 => Err(LoadError::TooLargeForBuffer {
                path: self.source().path().into(),
                what: what(),
                bytes: item_bytes,
                max,
            }),
            n => Ok(n),
        }
    }

    /// A vector, widened.
    fn vector(&self, tensor: TensorId) -> Tensor<1> {
        self.floats(&self.widened(tensor))
    }

    fn floats(&self, values: &[f32]) -> Tensor<1> {
        let tensor = self.compute.floats([values.len()]);
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.compute.write(&tensor, 0, &bytes);
        tensor
    }

    fn widened(&self, tensor: TensorId) -> Vec<f32> {
        parts(self.source(), tensor).iter().flat_map(|part| part.values(part.bytes)).collect()
    }

    /// A matrix in one codec.
    fn matrix(&self, tensor: TensorId, codec: Codec, progress: &dyn Progress) -> Result<Matrix, LoadError> {
        let rows = parts(self.source(), tensor).iter().map(|part| part.rows).sum();
        self.rows(tensor, codec, 0..rows, progress)
    }

    /// Rows of a matrix: as they are stored where the codec holds them so, repacked otherwise.
    fn rows(
        &self,
        tensor: TensorId,
        codec: Codec,
        rows: Range<usize>,
        progress: &dyn Progress,
    ) -> Result<Matrix, LoadError> {
        let columns = columns(tensor, self.config());
        let bytes = dense::device_bytes(codec, rows.len(), columns);
        self.per_buffer(|| format!("tensor `{}`", tensor.original_name()), bytes)?;
        let matrix = dense::empty_matrix(&self.compute, codec, rows.len(), columns);
        let (mut first, mut start) = (0, 0);
        for part in parts(self.source(), tensor) {
            let row_bytes = part.row_bytes(columns);
            let (from, to) = (rows.start.max(first), rows.end.min(first + part.rows));
            if from < to {
                let (stored, at) = (start + (from - first) * row_bytes, from - rows.start);
                let len = (to - from) * row_bytes;
                let held = &part.bytes[(from - first) * row_bytes..][..len];
                if dense::is_direct(part.kind, codec) {
                    let check = dense::check_finite(part.kind, held, row_bytes);
                    check.map_err(|found| self.not_finite(&part, found))?;
                    self.copy(tensor, stored, len, &matrix.words, at * row_bytes);
                } else {
                    let of = Stored { kind: part.kind, rows: to - from, columns };
                    let written = dense::write_rows(&self.compute, &matrix, at, of, held);
                    written.map_err(|found| self.not_finite(&part, found))?;
                    self.source().has_read(held);
                }
                advance(progress, (to - from) * columns * 2)?;
            }
            (first, start) = (first + part.rows, start + part.bytes.len());
        }
        Ok(matrix)
    }

    fn not_finite(&self, part: &DensePart, found: dense::NotFinite) -> LoadError {
        LoadError::NotFinite { path: self.source().path().into(), tensor: part.name.clone(), found }
    }

    /// Embedding or unembedding, in pieces that fit buffers.
    fn table(&self, role: Role, progress: &dyn Progress) -> Result<Table, LoadError> {
        let tensor = TensorId::outside(role);
        let codec = self.codecs(tensor)[0].1;
        let row_bytes = codec.row_words(self.config().hidden) * 4;
        let rows_max = self.per_buffer(|| format!("a row of `{}`", tensor.original_name()), row_bytes)?;
        // An even number of rows: the tiles store pairs, and two scales a word.
        let rows_max = (rows_max & !1).max(1);
        let rows = self.source().vocab_rows();
        let pieces = (0..rows).step_by(rows_max);
        pieces
            .map(|first| Ok((first, self.rows(tensor, codec, first..rows.min(first + rows_max), progress)?)))
            .collect()
    }

    /// The rows of a tensor that share a codec, and the codec: one run unless a GGUF stores its parts in several types.
    fn codecs(&self, tensor: TensorId) -> Vec<(Range<usize>, Codec)> {
        let mut runs: Vec<(Range<usize>, Codec)> = Vec::new();
        for part in parts(self.source(), tensor) {
            let (codec, start) = (dense::codec_of(part.kind), runs.last().map_or(0, |(run, _)| run.end));
            match runs.last_mut() {
                Some((run, same)) if *same == codec => run.end += part.rows,
                _ => runs.push((start..start + part.rows, codec)),
            }
        }
        runs
    }

    /// The fused projection, a matrix for each codec.
    fn qkv(&self, layer: usize, progress: &dyn Progress) -> Result<Vec<Matrix>, LoadError> {
        let tensor = TensorId::of_block(Role::QkvWeight, layer);
        self.codecs(tensor).into_iter().map(|(rows, codec)| self.rows(tensor, codec, rows, progress)).collect()
    }

    fn block(&self, layer: usize, pager: Option<&Arc<Pager>>, progress: &dyn Progress) -> Result<Block, LoadError> {
        let of = |role| TensorId::of_block(role, layer);
        let mut params = self.widened(of(Role::MlpNorm));
        params.extend(self.widened(of(Role::GateBias)));
        Ok(Block {
            attention_norm: self.vector(of(Role::AttnNorm)),
            qkv: self.qkv(layer, progress)?,
            qkv_bias: self.vector(of(Role::QkvBias)),
            sinks: self.vector(of(Role::Sinks)),
            out: self.matrix(of(Role::OutWeight), self.codecs(of(Role::OutWeight))[0].1, progress)?,
            out_bias: self.vector(of(Role::OutBias)),
            route_params: self.floats(&params),
            gate: self.matrix(of(Role::GateWeight), router_codec(self.source(), layer), progress)?,
            experts: match pager {
                Some(pager) => Experts::Paged(pager.clone(), self.shape),
                None => Experts::Resident(self.resident(layer, progress)?, self.shape),
            },
        })
    }

    /// Empty buffers for `experts` experts.
    fn packed(&self, experts: usize) -> Result<Packed, LoadError> {
        let chunks = |half: Half| -> Result<Vec<(usize, ExpertChunk)>, LoadError> {
            let most = self.per_buffer(|| format!("an expert of `{:?}`", half.blocks), half.blocks_bytes())?;
            let chunk = |first: usize| {
                let count = most.min(experts - first);
                let blocks = self.compute.words([count, half.rows, half.columns / 8]);
                let scales = self.compute.words([(count * half.scales_bytes()).div_ceil(4)]);
                (first, ExpertChunk { blocks, scales, bias: self.compute.floats([count, half.rows]) })
            };
            Ok((0..experts).step_by(most).map(chunk).collect())
        };
        let [up, down] = self.shape.halves();
        Ok(Packed { up: chunks(up)?, down: chunks(down)? })
    }

    fn resident(&self, layer: usize, progress: &dyn Progress) -> Result<Packed, LoadError> {
        let packed = self.packed(self.shape.experts)?;
        for expert in 0..self.shape.experts {
            self.check_scales(layer, expert)?;
            self.write_expert(layer, expert, &packed, expert);
            advance(progress, self.shape.expert_bytes())?;
        }
        Ok(packed)
    }

    /// Writes one expert into slot `slot` of `packed`.
    fn write_expert(&self, layer: usize, expert: usize, packed: &Packed, slot: usize) {
        for (half, chunks) in self.shape.halves().into_iter().zip([&packed.up, &packed.down]) {
            let index = chunks.partition_point(|(first, _)| *first <= slot) - 1;
            let (first, chunk) = &chunks[index];
            let at = slot - first;
            let (blocks, scales) = (half.blocks_bytes(), half.scales_bytes());
            let of = |role| TensorId::of_block(role, layer);
            let bias = gguf_experts::bias(self.source(), of(half.bias), expert, half.rows);
            self.compute.write(&chunk.bias, at * half.rows * 4, &bias);
            if self.source().layout() == Layout::Gguf {
                let (stored, stored_scales) = gguf_experts::repacked(self.source(), of(half.blocks), expert, half.rows);
                self.compute.write_shared(&chunk.blocks, at * blocks, stored.into());
                self.compute.write_shared(&chunk.scales, at * scales, stored_scales.into());
                continue;
            }
            self.copy(of(half.blocks), expert * blocks, blocks, &chunk.blocks, at * blocks);
            self.copy(of(half.scales), expert * scales, scales, &chunk.scales, at * scales);
        }
    }

    /// Copies `len` stored bytes of `tensor`, from `start` on, to byte `at` of `target`.
    fn copy<const D: usize>(&self, tensor: TensorId, start: usize, len: usize, target: &Words<D>, at: usize) {
        let mut segment_start = 0;
        for segment in self.source().segments(tensor) {
            let segment_end = segment_start + segment.len();
            let (mut from, end) = (start.max(segment_start), (start + len).min(segment_end));
            while from < end {
                let piece = Piece {
                    checkpoint: self.checkpoint.clone(),
                    tensor,
                    start: from,
                    len: UPLOAD_PIECE_BYTES.min(end - from),
                };
                let (to, taken) = (at + from - start, piece.len);
                self.compute.write_shared(target, to, bytes::Bytes::from_owner(piece));
                from += taken;
            }
            segment_start = segment_end;
        }
    }

    fn check_scales(&self, layer: usize, expert: usize) -> Result<(), LoadError> {
        let max = SCALE_MAX + self.shape.scale_offset.min(2) as u8;
        for half in self.shape.halves() {
            let tensor = TensorId::of_block(half.scales, layer);
            let found = match self.source().layout() {
                Layout::Gguf => gguf_experts::scale_above(self.source(), tensor, expert, half.columns, max),
                _ => {
                    let segments = self.source().segments(tensor);
                    let scales = slice_of(&segments, expert * half.scales_bytes(), half.scales_bytes());
                    let found = scales.iter().copied().find(|&byte| byte > max);
                    self.source().has_read(scales);
                    found
                }
            };
            if let Some(found) = found {
                let tensor = tensor.original_name();
                return Err(LoadError::Scale { path: self.source().path().into(), tensor, expert, found, max });
            }
        }
        Ok(())
    }

    /// The pager that the budget calls for, if it does.
    fn pager(&self, options: &LoadOptions) -> Result<Option<Arc<Pager>>, LoadError> {
        let Some(budget) = options.device_memory else { return Ok(None) };
        let (c, expert) = (self.config(), self.shape.expert_bytes() as u64);
        let (fixed, _) = footprint(self.source(), options);
        let slots = budget.saturating_sub(fixed) / expert;
        if slots == 0 {
            return Err(LoadError::BudgetTooSmall { path: self.source().path().into(), budget, fixed, expert });
        }
        let slots = slots as usize;
        if slots >= c.layers * c.experts {
            return Ok(None);
        }
        for layer in 0..c.layers {
            (0..c.experts).try_for_each(|expert| self.check_scales(layer, expert))?;
        }
        let packed = self.packed(slots)?;
        let (loader, target) = (self.clone(), packed.clone());
        let fetch = move |layer, expert, slot| loader.write_expert(layer, expert, &target, slot);
        Ok(Some(Arc::new(Pager::new(packed, slots, expert, Box::new(fetch)))))
    }
}

fn advance(progress: &dyn Progress, bytes: usize) -> Result<(), LoadError> {
    progress.advance(bytes as u64);
    if progress.cancelled() { Err(LoadError::Cancelled) } else { Ok(()) }
}
