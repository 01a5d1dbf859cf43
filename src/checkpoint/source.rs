//! What every checkpoint format offers to the exporter, the runtime and the harness.

use std::fmt;
use std::path::Path;

use super::config::ModelConfig;
use super::names::TensorId;
use crate::model_bin::header::ModelHeader;

/// How a checkpoint stores its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// OpenAI's SafeTensors: `block.N.*`, fused QKV.
    Original,
    /// The HF-converted SafeTensors: `model.layers.N.*`, Q, K and V apart.
    Hf,
    /// OpenAI's Metal `model.bin`: rows of Q and K interleaved and scaled, experts grouped, scales + 14.
    ModelBin,
}

impl Layout {
    /// Whether tensor bytes are those of the original checkpoint (model.bin changes QKV and scales).
    pub fn stores_canonical_bytes(self) -> bool {
        self != Layout::ModelBin
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Original => "original SafeTensors",
            Layout::Hf => "HF SafeTensors",
            Layout::ModelBin => "model.bin",
        })
    }
}

/// An open checkpoint of any format, seen as the tensors of one model.
///
/// **Invariant:** [`segments`](WeightSource::segments) of a tensor, joined, have exactly its row count × row bytes
/// (embedding and unembedding: [`vocab_rows`](WeightSource::vocab_rows) rows).
pub trait WeightSource: Send + Sync {
    /// Where it was opened.
    fn path(&self) -> &Path;

    /// How it stores tensors.
    fn layout(&self) -> Layout;

    /// The model it holds.
    fn config(&self) -> &ModelConfig;

    /// The model's numbers as a model.bin header has them: the stored ones, or those its config gives.
    fn model_header(&self) -> ModelHeader {
        ModelHeader::new(self.config())
    }

    /// Rows of embedding and unembedding it holds; model.bin drops the unused ones.
    fn vocab_rows(&self) -> usize;

    /// The stored bytes of a tensor, as the pieces whose concatenation is the whole, rows in order.
    ///
    /// Original and HF hold the tensor's own bytes.  model.bin holds QKV and scales transformed
    /// ([`crate::model_bin::qkv`], [`crate::model_bin::layout::SCALE_OFFSET`]); the sizes are the same.
    ///
    /// # Panics
    /// If `tensor` is not one of [`TensorId::all`] for [`config`](WeightSource::config).
    fn segments(&self, tensor: TensorId) -> Vec<&[u8]>;

    /// A hint that `bytes`, a part of some segment, is about to be read.
    fn will_read(&self, bytes: &[u8]);

    /// A hint that `bytes`, a part of some segment, has been read: a mapped file's pages need not stay in memory.
    fn has_read(&self, bytes: &[u8]);
}

/// The part of a segmented tensor that starts at byte `start` and is `len` long, where it lies in one segment.
///
/// Experts and rows never straddle segments: those of the fused QKV end between rows.
pub fn slice_of<'a>(segments: &[&'a [u8]], start: usize, len: usize) -> &'a [u8] {
    let mut offset = start;
    for segment in segments {
        if offset < segment.len() {
            return &segment[offset..offset + len];
        }
        offset -= segment.len();
    }
    assert_eq!(len, 0, "a slice at {start} of a tensor that ends before it");
    &[]
}
