//! What every checkpoint format offers to the exporter, the runtime and the harness.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::config::ModelConfig;
use super::names::TensorId;
use crate::gguf::StoredPart;
use crate::mapped::FileBytes;
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
    /// GGUF: gate and up apart, blocks and scales together, dense tensors in any of ggml's types.
    Gguf,
}

impl Layout {
    /// Whether tensor bytes are those of the original checkpoint, or can be made into them wherever they hold the same
    /// values (model.bin rounds Q and K).
    pub fn stores_canonical_bytes(self) -> bool {
        self != Layout::ModelBin
    }

    /// Whether the stored pieces of a tensor, joined, are as long as the original checkpoint's.
    pub fn stores_rows(self) -> bool {
        self != Layout::Gguf
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Original => "original SafeTensors",
            Layout::Hf => "HF SafeTensors",
            Layout::ModelBin => "model.bin",
            Layout::Gguf => "GGUF",
        })
    }
}

/// A tensor whose stored values are not those of any original checkpoint: quantised, or finer than BF16.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: tensor `{name}` ({encoding}) cannot be had as BF16 without loss: {why}", path = path.display())]
#[allow(missing_docs)]
pub struct NotExact {
    pub path: PathBuf,
    pub name: String,
    pub encoding: String,
    pub why: String,
}

/// An open checkpoint of any format, seen as the tensors of one model.
///
/// **Invariant:** [`segments`](WeightSource::segments) of a tensor, joined, have exactly its row count × row bytes
/// (embedding and unembedding: [`vocab_rows`](WeightSource::vocab_rows) rows), unless the layout is
/// [`Layout::Gguf`].
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
    /// ([`crate::model_bin::qkv`], [`crate::model_bin::layout::SCALE_OFFSET`]); the sizes are the same.  GGUF holds
    /// other sizes and orders: its pieces are those of [`parts`](WeightSource::parts).
    ///
    /// # Panics
    /// If `tensor` is not one of [`TensorId::all`] for [`config`](WeightSource::config).
    fn segments(&self, tensor: TensorId) -> Vec<&[u8]>;

    /// How a GGUF stores the rows of a tensor; no other layout has parts.
    ///
    /// # Panics
    /// As [`segments`](WeightSource::segments).
    fn parts(&self, _tensor: TensorId) -> Vec<StoredPart<'_>> {
        Vec::new()
    }

    /// Bytes `range` of a tensor as the original checkpoint has them: BF16, or MXFP4 codes and scales.
    ///
    /// Borrowed where they lie in the file as they are.  What model.bin does to QKV is undone, exactly unless a stored
    /// value is subnormal.
    ///
    /// # Errors
    /// [`NotExact`], from a GGUF whose values in that range are no BF16 values.
    ///
    /// # Panics
    /// If `tensor` is none of the model's or the range passes its end.
    fn read(&self, tensor: TensorId, range: Range<usize>) -> Result<Cow<'_, [u8]>, NotExact> {
        Ok(gather(&self.segments(tensor), range))
    }

    /// Whether its quantised tensors were rounded under weights of importance, as it says of itself.
    fn rounds_by_importance(&self) -> bool {
        false
    }

    /// The file that `bytes`, a part of some segment, lie in, and where in it.
    fn place_of(&self, bytes: &[u8]) -> Option<(&FileBytes, Range<usize>)>;

    /// A hint that `bytes`, a part of some segment, is about to be read.
    fn will_read(&self, bytes: &[u8]) {
        if let Some((file, range)) = self.place_of(bytes) {
            file.will_read(range);
        }
    }

    /// A hint that `bytes`, a part of some segment, has been read: a mapped file's pages need not stay in memory.
    fn has_read(&self, bytes: &[u8]) {
        if let Some((file, range)) = self.place_of(bytes) {
            file.has_read(range);
        }
    }
}

/// The pieces of a segmented tensor in `range`: borrowed where one segment holds them.
pub fn gather<'a>(segments: &[&'a [u8]], range: Range<usize>) -> Cow<'a, [u8]> {
    let mut pieces: Vec<&'a [u8]> = Vec::new();
    let mut start = 0;
    for segment in segments {
        let (from, to) = (range.start.max(start), range.end.min(start + segment.len()));
        if from < to {
            pieces.push(&segment[from - start..to - start]);
        }
        start += segment.len();
    }
    match pieces.as_slice() {
        [one] => Cow::Borrowed(one),
        many => Cow::Owned(many.concat()),
    }
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
