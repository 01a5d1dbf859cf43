//! A small checkpoint cut from a large one: some layers, a few of their experts, a few rows of the unembedding.
//!
//! Its weights are the checkpoint's own; its embedding is random, so that the kernels meet activations of every size.  The layout is
//! that of its source, but that HF comes as original: they differ in names only.

use std::ops::Range;

use crate::checkpoint::source::slice_of;
use crate::checkpoint::{Checkpoint, Layout, ModelConfig, Role, Shard, TensorId};
use crate::mapped::FileBytes;
use crate::model_bin::layout::SCALE_OFFSET;
use crate::open::AnyCheckpoint;
use crate::verify::cases::fixtures::{exported, small_tokenizer};
use crate::verify::fixture::values::squares32;
use crate::verify::fixture::{HeaderWriter, shard_plans};

/// Rows of embedding and unembedding of an excerpt.
const VOCAB_ROWS: usize = 256;
/// Experts of a layer that are kept, if a token is not sent to more.
const EXPERTS: usize = 8;
/// Pairs of layers of one check.
const PAIRS_MAX: usize = 3;
/// Any odd number with many bits set: the key of the random embedding.
const RANDOM_KEY: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which part of a checkpoint is cut out.
struct Cut<'a> {
    whole: &'a AnyCheckpoint,
    layers: Range<usize>,
    experts: Vec<usize>,
    config: ModelConfig,
}

/// Cuts `layers`, which must begin with a windowed one, out of a checkpoint.
pub(super) fn cut(whole: &AnyCheckpoint, layers: Range<usize>) -> Result<AnyCheckpoint, String> {
    debug_assert!(layers.start.is_multiple_of(2), "layers keep their kind");
    let c = whole.source().config();
    let count = EXPERTS.max(c.experts_per_token).min(c.experts);
    let experts = spread(count, c.experts);
    let config = ModelConfig { layers: layers.len(), experts: count, vocab: VOCAB_ROWS, ..c.clone() };
    let cut = Cut { whole, layers, experts, config };
    let original = cut.original().map_err(|e| e.to_string())?;
    match whole {
        AnyCheckpoint::SafeTensors(_) => Ok(AnyCheckpoint::SafeTensors(original)),
        AnyCheckpoint::ModelBin(_) => {
            exported(&original, &small_tokenizer(VOCAB_ROWS)).map(AnyCheckpoint::ModelBin).map_err(|e| e.to_string())
        }
    }
}

/// `count` of `0..all`, the first and the last among them, evenly spread.
pub(super) fn spread(count: usize, all: usize) -> Vec<usize> {
    let count = count.min(all);
    (0..count).map(|i| i * (all - 1) / (count - 1).max(1)).collect()
}

impl Cut<'_> {
    fn original(&self) -> Result<Checkpoint, crate::checkpoint::CheckpointError> {
        let plan = &shard_plans(&self.config, Layout::Original, 1)[0];
        let mut bytes = HeaderWriter::bytes(&plan.tensors);
        for stored in &plan.tensors {
            let part = self.part(stored.tensor);
            assert_eq!(part.len(), stored.bytes.len(), "the excerpt's {}", stored.name);
            bytes.extend(part);
        }
        let path = self.whole.source().path();
        let shard = Shard::from_bytes(path, FileBytes::from(bytes))?;
        Checkpoint::from_parts(path, self.config.clone(), vec![shard], Vec::new())
    }

    /// A tensor of the excerpt, in the form of the original layout.
    fn part(&self, tensor: TensorId) -> Vec<u8> {
        match tensor.role {
            Role::Embedding => random_rows(self.config.hidden),
            Role::Unembedding => self.rows(tensor, &spread(VOCAB_ROWS, self.whole.source().vocab_rows())),
            Role::FinalNorm => self.whole.source().segments(tensor).concat(),
            role => {
                let whole = TensorId::of_block(role, self.layers.start + tensor.layer.unwrap_or_default());
                let of_experts = role.is_of_an_expert() || matches!(role, Role::GateWeight | Role::GateBias);
                match self.whole {
                    AnyCheckpoint::ModelBin(model) if role.is_qkv() => model.restore(whole),
                    _ if of_experts => self.rows(whole, &self.experts),
                    _ => self.whole.source().segments(whole).concat(),
                }
            }
        }
    }

    /// Some rows of a tensor, first dimension, without what model.bin adds to scales.
    fn rows(&self, tensor: TensorId, rows: &[usize]) -> Vec<u8> {
        let source = self.whole.source();
        let (segments, row_bytes) = (source.segments(tensor), tensor.row_bytes(source.config()));
        let mut bytes: Vec<u8> =
            rows.iter().flat_map(|row| slice_of(&segments, row * row_bytes, row_bytes)).copied().collect();
        if source.layout() == Layout::ModelBin && tensor.role.is_scales() {
            bytes.iter_mut().for_each(|scale| *scale = scale.wrapping_sub(SCALE_OFFSET));
        }
        bytes
    }
}

/// BF16 of either sign and all mantissas, magnitudes in `[2^-5, 4)`.
fn random_rows(hidden: usize) -> Vec<u8> {
    let bits = |i: usize| {
        let random = squares32(i as u64, RANDOM_KEY);
        ((random & 0x8000) | (122 + (random >> 16) % 7) << 7 | (random & 0x7f)) as u16
    };
    (0..VOCAB_ROWS * hidden).flat_map(|i| bits(i).to_le_bytes()).collect()
}

/// The pairs of layers to look at, a windowed and a full one each: all of a small model, else the first, the middle and the last.
pub(super) fn pairs(layers: usize) -> Vec<Range<usize>> {
    let all: Vec<Range<usize>> = (0..layers).step_by(2).map(|first| first..layers.min(first + 2)).collect();
    spread(PAIRS_MAX, all.len()).into_iter().map(|i| all[i].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::WeightSource;
    use crate::verify::fixture::{Recipe, in_memory};

    #[test]
    fn pairs_begin_windowed_and_cover_both_ends() {
        assert_eq!(pairs(1), std::slice::from_ref(&(0..1)));
        assert_eq!(pairs(4), [0..2, 2..4]);
        assert_eq!(pairs(5), [0..2, 2..4, 4..5]);
        assert_eq!(pairs(24), [0..2, 10..12, 22..24]);
    }

    #[test]
    fn spread_has_both_ends() {
        assert_eq!(spread(3, 32), [0, 15, 31]);
        assert_eq!(spread(8, 5), [0, 1, 2, 3, 4]);
        assert_eq!(spread(1, 9), [0]);
    }

    /// The excerpt's tensors are the source's, from both families of layouts.
    #[test]
    fn an_excerpt_holds_its_sources_bytes() {
        let recipe = Recipe::built_in("T3");
        let source = in_memory(&recipe, Layout::Original, 1).expect("the recipe is valid");
        let bin = exported(&source, &crate::model_bin::TokenizerSection::o200k_harmony().expect("the vocabulary"));
        let whole = [AnyCheckpoint::SafeTensors(source), AnyCheckpoint::ModelBin(bin.expect("it exports"))];
        for whole in &whole {
            let excerpt = cut(whole, 2..4).expect("it is cut");
            let (small, large) = (excerpt.source(), whole.source());
            assert_eq!((small.config().layers, small.config().vocab), (2, VOCAB_ROWS));
            for role in Role::OF_A_BLOCK {
                let of = |source: &dyn WeightSource, layer| source.segments(TensorId::of_block(role, layer)).concat();
                assert_eq!(of(small, 1), of(large, 3), "{role:?}");
            }
        }
    }
}
