//! What a model takes of a device, before anything is loaded: what a budget must leave room for.

use super::dense;
use super::load::{ExpertShape, LoadOptions};
use super::stored::{DensePart, columns, parts, router_codec};
use crate::checkpoint::{ModelConfig, Role, TensorId, WeightSource};

/// CubeCL's scratch pages hold the largest tensor and so much more, and are multiples of it (`PAGE_SLACK`, `PAGE_GRANULE`).
const PAGE_SLACK_BYTES: u64 = 1 << 20;
/// What it takes for small things: a page of 8 MiB (`SMALL_PAGE`), and sizes and shapes of launches.
const SMALL_BYTES: u64 = 9 << 20;

/// Device bytes of everything but experts, and of one expert.
pub fn footprint(source: &dyn WeightSource, options: &LoadOptions) -> (u64, u64) {
    let (c, vocab) = (source.config(), source.vocab_rows());
    let expert = ExpertShape::new(c, source.layout()).expert_bytes() as u64;
    (dense_bytes(source, options) + cache_bytes(c, options) + scratch_bytes(c, options.chunk, vocab), expert)
}

/// Device bytes of the weights that always stay.  Under a budget the embedding stays in the file.
fn dense_bytes(source: &dyn WeightSource, options: &LoadOptions) -> u64 {
    let c = source.config();
    let bytes = |t: TensorId| match t.role {
        Role::Embedding if options.device_memory.is_some() => 0,
        role if role.is_of_an_expert() => 0,
        Role::GateWeight => {
            let codec = router_codec(source, t.layer.unwrap_or_default());
            dense::device_bytes(codec, c.experts, c.hidden)
        }
        Role::Embedding | Role::Unembedding | Role::QkvWeight | Role::OutWeight => {
            let held = |part: &DensePart| dense::device_bytes(dense::codec_of(part.kind), part.rows, columns(t, c));
            parts(source, t).iter().map(held).sum()
        }
        // Vectors are widened.
        _ => 2 * t.bytes(c),
    };
    TensorId::each(c).map(bytes).sum::<usize>() as u64
}

/// Device bytes of the caches of all sequences at their longest.
pub fn cache_bytes(c: &ModelConfig, options: &LoadOptions) -> u64 {
    let slots = |layer: usize| match layer.is_multiple_of(2) {
        true => (2 * c.sliding_window + options.chunk).min(options.context),
        false => options.context,
    };
    let row_bytes = 2 * 4 * (c.kv_rows() / options.kv.per_word()) as u64;
    (0..c.layers).map(|layer| (options.lanes * slots(layer)) as u64 * row_bytes).sum()
}

/// Device bytes of what a chunk needs while it passes through a block, and of the logits of a row, as pools hold them.
pub fn scratch_bytes(c: &ModelConfig, chunk: usize, vocab: usize) -> u64 {
    let row = 5 * c.hidden + 2 * c.qkv_rows() + c.experts_per_token * (c.intermediate + c.hidden) + c.experts;
    let held = 4 * (chunk * row + vocab) as u64;
    let page = (scratch_tensor_bytes(c, chunk, vocab) + PAGE_SLACK_BYTES).next_multiple_of(PAGE_SLACK_BYTES);
    // Logits are read through a buffer of up to twice their size.
    held.div_ceil(page) * page + SMALL_BYTES + 8 * vocab as u64
}

/// Device bytes of the largest tensor that a chunk needs, or of the logits of a row.
pub(super) fn scratch_tensor_bytes(c: &ModelConfig, chunk: usize, vocab: usize) -> u64 {
    let row = c.qkv_rows().max(c.experts_per_token * c.hidden.max(c.intermediate));
    4 * (chunk * row).max(vocab) as u64
}
