//! A small checkpoint cut from a large one: some layers, a few of their experts, a few rows of the unembedding.
//!
//! Its weights are the checkpoint's own; its embedding is random, so that the kernels meet activations of every size.  The layout is
//! that of its source, but that HF and a GGUF come as original: a GGUF that is quantised is refused.

use std::ops::Range;

use crate::checkpoint::{Checkpoint, Layout, ModelConfig, NotExact, Role, Shard, TensorId};
use crate::mapped::FileBytes;
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
    let original = cut.original()?;
    match whole {
        AnyCheckpoint::SafeTensors(_) | AnyCheckpoint::Gguf(_) => Ok(AnyCheckpoint::SafeTensors(original)),
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
    fn original(&self) -> Result<Checkpoint, String> {
        let plan = &shard_plans(&self.config, Layout::Original, 1)[0];
        let mut bytes = HeaderWriter::bytes(&plan.tensors);
        for stored in &plan.tensors {
            let part = self.part(stored.tensor).map_err(|e| e.to_string())?;
            assert_eq!(part.len(), stored.bytes.len(), "the excerpt's {}", stored.name);
            bytes.extend(part);
        }
        let path = self.whole.source().path();
        let checkpoint = Shard::from_bytes(path, FileBytes::from(bytes))
            .and_then(|shard| Checkpoint::from_parts(path, self.config.clone(), vec![shard], Vec::new()));
        checkpoint.map_err(|e| e.to_string())
    }

    /// A tensor of the excerpt, in the form of the original layout.
    fn part(&self, tensor: TensorId) -> Result<Vec<u8>, NotExact> {
        let source = self.whole.source();
        match tensor.role {
            Role::Embedding => Ok(random_rows(self.config.hidden)),
            Role::Unembedding => self.rows(tensor, &spread(VOCAB_ROWS, source.vocab_rows())),
            role => {
                let layer = tensor.layer.map(|layer| self.layers.start + layer);
                let whole = TensorId { role, layer };
                let of_experts = role.is_of_an_expert() || matches!(role, Role::GateWeight | Role::GateBias);
                match of_experts {
                    true => self.rows(whole, &self.experts),
                    false => Ok(source.read(whole, 0..whole.bytes(source.config()))?.into_owned()),
                }
            }
        }
    }

    /// Some rows of a tensor, first dimension.
    fn rows(&self, tensor: TensorId, rows: &[usize]) -> Result<Vec<u8>, NotExact> {
        let source = self.whole.source();
        let row_bytes = tensor.row_bytes(source.config());
        let mut bytes = Vec::with_capacity(rows.len() * row_bytes);
        for row in rows {
            bytes.extend_from_slice(&source.read(tensor, row * row_bytes..(row + 1) * row_bytes)?);
        }
        Ok(bytes)
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
