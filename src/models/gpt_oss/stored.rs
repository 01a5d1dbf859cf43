//! How a checkpoint stores what is not packed: the types of its tensors and, of a GGUF, of their parts.

use super::dense::{codec_of, is_direct};
use crate::checkpoint::{Layout, ModelConfig, Role, TensorId, WeightSource};
use crate::gguf::dialect::stored::{Encoding, block_type};
use crate::kernels::codec::Codec;
use crate::quant::BlockType;

/// Rows of a dense tensor, one after the other.
#[derive(Debug, Clone)]
pub(super) struct DensePart<'a> {
    /// As the file calls it.
    pub(super) name: String,
    pub(super) kind: BlockType,
    pub(super) rows: usize,
    pub(super) bytes: &'a [u8],
}

impl DensePart<'_> {
    /// Bytes of a row of `columns` weights.
    pub(super) fn row_bytes(&self, columns: usize) -> usize {
        self.kind.row_bytes(columns).expect("an open checkpoint has whole blocks")
    }

    /// The values of some of its bytes: whole blocks.
    pub(super) fn values(&self, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; bytes.len() / self.kind.bytes() * self.kind.values()];
        self.kind.decode(bytes, &mut values);
        values
    }
}

/// Weights of a row; of a vector, 1.
pub(super) fn columns(tensor: TensorId, c: &ModelConfig) -> usize {
    tensor.shape(c).get(1).copied().unwrap_or(1)
}

/// The parts of a dense tensor, rows in order: those of a GGUF, or BF16 segments.
pub(super) fn parts(source: &dyn WeightSource, tensor: TensorId) -> Vec<DensePart<'_>> {
    if source.layout() == Layout::Gguf {
        let parts = source.parts(tensor).into_iter();
        return parts
            .map(|part| DensePart {
                name: part.name.into(),
                kind: kind_of(part.encoding),
                rows: part.rows.count,
                bytes: part.bytes,
            })
            .collect();
    }
    let row_bytes = 2 * columns(tensor, source.config());
    let segment = |bytes: &'_ [u8]| bytes.len() / row_bytes;
    let segments = source.segments(tensor).into_iter();
    segments
        .map(|bytes| DensePart { name: tensor.original_name(), kind: BlockType::Bf16, rows: segment(bytes), bytes })
        .collect()
}

/// The type of a stored part.
pub(super) fn kind_of(encoding: Encoding) -> BlockType {
    match encoding {
        Encoding::Ggml(ty) => block_type(ty).expect("an open GGUF holds known types"),
        Encoding::Mxfp4InOrder => BlockType::Mxfp4,
    }
}

/// The codec of a router: its kernel reads BF16 and F32.
pub(super) fn router_codec(source: &dyn WeightSource, layer: usize) -> Codec {
    let parts = parts(source, TensorId::of_block(Role::GateWeight, layer));
    match parts.iter().all(|part| part.kind == BlockType::Bf16) {
        true => Codec::Bf16,
        false => Codec::F32,
    }
}

/// What a person should know of the dense tensors: which the device cannot hold in their own type, and what that costs.
pub fn widened_warnings(source: &dyn WeightSource) -> Vec<String> {
    let c = source.config();
    let is_matrix =
        |t: &TensorId| matches!(t.role, Role::Embedding | Role::Unembedding | Role::QkvWeight | Role::OutWeight);
    let mut warnings = Vec::new();
    for tensor in TensorId::each(c).filter(is_matrix) {
        for part in parts(source, tensor) {
            let codec = codec_of(part.kind);
            let (stored, held) = (part.bytes.len(), super::dense::device_bytes(codec, part.rows, columns(tensor, c)));
            if !is_direct(part.kind, codec) && held > stored + stored / 8 {
                let (kind, path) = (<&str>::from(part.kind), source.path().display());
                warnings.push(format!(
                    "{path}: tensor `{}` is {kind}, which the device has no codec for: held as {codec:?}, {held} bytes for {stored}",
                    part.name
                ));
            }
        }
    }
    warnings
}
