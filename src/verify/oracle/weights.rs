//! A checkpoint's weights as the oracle's own decoding of their bytes, in the form of the original checkpoint.
//!
//! model.bin stores another form: within each head of d rows of Q and K, source row `s · d/2 + i` lies at `2i + s`;
//! Q is stored × 1/2, K × 1/4; scales are stored + 14.  All of it is undone here, row by row: powers of two, so that
//! every layout gives the same values (but for products that were subnormal BF16s).
//!
//! A GGUF holds rows in parts and in ggml's types: each row is found and decoded where it lies.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::real::Real;
use super::semantics::{Mxfp4, Nibbles};
use super::{ggml, mxfp4};
use crate::checkpoint::{Layout, ModelConfig, Role, TensorId, WeightSource};
use crate::gguf::{Encoding, StoredPart};

/// Values of an MXFP4 block, which share a scale.
const BLOCK_VALUES: usize = 32;
/// Bytes of an MXFP4 block.
const BLOCK_BYTES: usize = 16;
/// What model.bin adds to scales.
const MODEL_BIN_SCALE_OFFSET: u8 = 14;

/// `DECODED[e][code]`: the value of each E2M1 code at each scale, by [`mxfp4::value`].
static DECODED: LazyLock<Vec<[f64; 16]>> = LazyLock::new(|| {
    let row = |e| std::array::from_fn(|code| mxfp4::value(&[code as u8], e, 0));
    (0..=255).map(row).collect()
});

/// The tensors of an open checkpoint.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    source: &'a dyn WeightSource,
}

impl<'a> Weights<'a> {
    /// The weights of `source`, whatever its layout.
    pub fn new(source: &'a dyn WeightSource) -> Self {
        Weights { source }
    }

    /// The model's geometry.
    pub fn config(self) -> &'a ModelConfig {
        self.source.config()
    }

    /// Rows of embedding and unembedding.
    pub fn vocab_rows(self) -> usize {
        self.source.vocab_rows()
    }

    /// A BF16 tensor as rows of its last dimension: `[rows, columns]`.
    ///
    /// A tensor of one dimension counts as a column: each row holds one value.
    pub fn matrix(self, tensor: TensorId) -> Matrix<'a> {
        let config = self.source.config();
        let shape = tensor.shape(config);
        let is_vocab = matches!(tensor.role, Role::Embedding | Role::Unembedding);
        Matrix {
            rows: if is_vocab { self.source.vocab_rows() } else { shape[0] },
            columns: shape[1..].iter().product(),
            stored_as: match (self.source.layout(), tensor.role) {
                (Layout::ModelBin, Role::QkvWeight | Role::QkvBias) => {
                    StoredAs::ModelBinQkv(self.source.segments(tensor), config)
                }
                // A row of ours is an expert's whole bias.
                (Layout::Gguf, role) if role.is_of_an_expert() => StoredAs::Vectors(self.source.parts(tensor)),
                (Layout::Gguf, _) => StoredAs::Parts(self.source.parts(tensor)),
                _ => StoredAs::Rows(self.source.segments(tensor)),
            },
        }
    }

    /// A BF16 tensor of one dimension.
    pub fn vector<F: Real>(self, tensor: TensorId) -> Vec<F> {
        let matrix = self.matrix(tensor);
        assert_eq!(matrix.columns, 1, "{tensor} is a vector");
        (0..matrix.rows).flat_map(|row| matrix.row(row)).collect()
    }

    /// The bias of one expert; `role` is that of `mlp1_bias` or `mlp2_bias`.
    pub fn expert_bias<F: Real>(self, role: Role, layer: usize, expert: usize) -> Vec<F> {
        self.matrix(TensorId::of_block(role, layer)).row(expert)
    }

    /// A packed matrix of one expert, decoded by `rule`; `role` is that of the blocks.
    pub fn expert(self, role: Role, layer: usize, expert: usize, rule: Mxfp4) -> ExpertMatrix<'a> {
        let scales_role = match role {
            Role::Mlp1Blocks => Role::Mlp1Scales,
            Role::Mlp2Blocks => Role::Mlp2Scales,
            other => panic!("{other:?} holds no packed weights"),
        };
        let shape = TensorId::of_block(role, layer).shape(self.source.config());
        let (rows, row_blocks) = (shape[1], shape[2]);
        let part = |role, bytes| {
            bytes_at(&self.source.segments(TensorId::of_block(role, layer)), expert * rows * bytes, rows * bytes)
        };
        let packed = match self.source.layout() {
            Layout::Gguf => Packed::Together { parts: self.source.parts(TensorId::of_block(role, layer)), expert },
            _ => Packed::Apart { blocks: part(role, row_blocks * BLOCK_BYTES), scales: part(scales_role, row_blocks) },
        };
        ExpertMatrix {
            packed,
            row_blocks,
            scale_offset: if self.source.layout() == Layout::ModelBin { MODEL_BIN_SCALE_OFFSET } else { 0 },
            rule,
        }
    }
}

/// `len` bytes from byte `start` of the joined segments; a row never straddles two.
fn bytes_at<'a>(segments: &[&'a [u8]], mut start: usize, len: usize) -> &'a [u8] {
    for segment in segments {
        match segment.get(start..start + len) {
            Some(bytes) => return bytes,
            None => start -= segment.len(),
        }
    }
    panic!("the tensor ends {start} bytes before the {len} asked for")
}

/// A matrix of numbers, decoded a row at a time.
pub struct Matrix<'a> {
    rows: usize,
    columns: usize,
    stored_as: StoredAs<'a>,
}

enum StoredAs<'a> {
    /// BF16, in these segments.
    Rows(Vec<&'a [u8]>),
    /// BF16 as model.bin orders and scales it.
    ModelBinQkv(Vec<&'a [u8]>, &'a ModelConfig),
    /// Rows of a GGUF.
    Parts(Vec<StoredPart<'a>>),
    /// Slabs of a GGUF in which each value is a row of its own.
    Vectors(Vec<StoredPart<'a>>),
}

/// The stored bytes of row `row` of slab `slab`, and how they hold values.
fn stored_row<'a>(parts: &[StoredPart<'a>], slab: usize, row: usize, columns: usize) -> (Encoding, &'a [u8]) {
    let held = parts.iter().find_map(|part| Some((part.encoding, part.row(slab, part.rows.stored_row(row)?, columns))));
    held.unwrap_or_else(|| panic!("no part holds row {row}"))
}

impl Matrix<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Row `row` in the order and scale of the original checkpoint.
    pub fn row<F: Real>(&self, row: usize) -> Vec<F> {
        let (segments, stored, factor) = match &self.stored_as {
            StoredAs::Rows(segments) => (segments, row, 1.0),
            StoredAs::ModelBinQkv(segments, config) => {
                let (stored, factor) = model_bin_row(config, row);
                (segments, stored, factor)
            }
            StoredAs::Parts(parts) => {
                let (encoding, bytes) = stored_row(parts, 0, row, self.columns);
                return ggml::row(encoding, bytes).into_iter().map(F::from_f64).collect();
            }
            StoredAs::Vectors(parts) => {
                let value = |index| {
                    let (encoding, bytes) = stored_row(parts, row, index, 1);
                    F::from_f64(ggml::row(encoding, bytes)[0])
                };
                return (0..self.columns).map(value).collect();
            }
        };
        let bytes = bytes_at(segments, stored * self.columns * 2, self.columns * 2);
        bytes.as_chunks::<2>().0.iter().map(|&pair| F::from_f64(bf16(pair) * factor)).collect()
    }
}

/// A BF16 is the upper half of an f32.
fn bf16(bytes: [u8; 2]) -> f64 {
    f64::from(f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
}

/// Where model.bin keeps row `row` of the fused projection, and the factor that undoes its scale.
fn model_bin_row(config: &ModelConfig, row: usize) -> (usize, f64) {
    let d = config.head_dim;
    let (head, within) = (row / d, row % d);
    let (half, i) = (within / (d / 2), within % (d / 2));
    let stored = head * d + 2 * i + half;
    if head < config.heads {
        (stored, 2.0)
    } else if head < config.heads + config.kv_heads {
        (stored, 4.0)
    } else {
        (row, 1.0)
    }
}

/// A packed matrix of one expert, decoded a row at a time.
pub struct ExpertMatrix<'a> {
    packed: Packed<'a>,
    row_blocks: usize,
    scale_offset: u8,
    rule: Mxfp4,
}

/// Codes and scales of one expert's matrix.
enum Packed<'a> {
    /// As the original checkpoint has them.
    Apart { blocks: &'a [u8], scales: &'a [u8] },
    /// In 17-byte blocks of a GGUF.
    Together { parts: Vec<StoredPart<'a>>, expert: usize },
}

impl ExpertMatrix<'_> {
    /// Row `row`: `[row_blocks × 32]`.
    pub fn row<F: Real>(&self, row: usize) -> Vec<F> {
        let (blocks, scales) = self.packed_row(row);
        let factor = f64::from(self.rule.exponent_shift).exp2();
        let mut values = Vec::with_capacity(self.row_blocks * BLOCK_VALUES);
        for (index, block) in blocks.as_chunks::<BLOCK_BYTES>().0.iter().enumerate() {
            let stored = scales[(index + self.rule.scale_shift) % self.row_blocks];
            let scale = stored.wrapping_sub(self.scale_offset);
            let decoded = DECODED[scale as usize].map(|value| F::from_f64(value * factor));
            values.extend((0..BLOCK_VALUES).map(|i| decoded[self.code(block, i)]));
        }
        values
    }

    /// Codes and scales of a row, in the order of the original checkpoint.
    fn packed_row(&self, row: usize) -> (Cow<'_, [u8]>, Cow<'_, [u8]>) {
        let (count, values) = (self.row_blocks, self.row_blocks * BLOCK_VALUES);
        match &self.packed {
            Packed::Apart { blocks, scales } => (
                blocks[row * count * BLOCK_BYTES..][..count * BLOCK_BYTES].into(),
                scales[row * count..][..count].into(),
            ),
            Packed::Together { parts, expert } => {
                let (encoding, bytes) = stored_row(parts, *expert, row, values);
                let stored = bytes.as_chunks::<{ 1 + BLOCK_BYTES }>().0;
                let codes = stored.iter().flat_map(|block| in_order(encoding, block));
                (codes.collect::<Vec<u8>>().into(), stored.iter().map(|block| block[0]).collect::<Vec<u8>>().into())
            }
        }
    }

    /// The four bits of value `i`.
    fn code(&self, block: &[u8; BLOCK_BYTES], i: usize) -> usize {
        let (byte, is_low) = match self.rule.nibbles {
            Nibbles::LowFirst => (i / 2, i.is_multiple_of(2)),
            Nibbles::HighFirst => (i / 2, !i.is_multiple_of(2)),
            Nibbles::Halves => (i % BLOCK_BYTES, i < BLOCK_BYTES),
        };
        usize::from(if is_low { block[byte] & 15 } else { block[byte] >> 4 })
    }
}

/// The codes of a 17-byte block with values 2j and 2j + 1 in byte j; ggml's byte j holds values j and j + 16.
fn in_order(encoding: Encoding, block: &[u8; 1 + BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
    let codes = &block[1..];
    let code = |i: usize| match encoding {
        Encoding::Mxfp4InOrder => codes[i / 2] >> (4 * (i % 2)) & 15,
        _ => codes[i % BLOCK_BYTES] >> (4 * (i / BLOCK_BYTES)) & 15,
    };
    std::array::from_fn(|j| code(2 * j) | code(2 * j + 1) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix<'a>(blocks: &'a [u8], scales: &'a [u8], rule: Mxfp4) -> ExpertMatrix<'a> {
        ExpertMatrix { packed: Packed::Apart { blocks, scales }, row_blocks: scales.len(), scale_offset: 0, rule }
    }

    const RIGHT: Mxfp4 = Mxfp4 { nibbles: Nibbles::LowFirst, exponent_shift: 0, scale_shift: 0 };

    #[test]
    fn rows_are_blocks_of_the_definition() {
        let blocks: Vec<u8> = (0..64).map(|i: u8| i.wrapping_mul(37)).collect();
        let scales = [127, 120, 0, 254];
        let row: Vec<f64> = matrix(&blocks, &scales, RIGHT).row(0);
        let want = (0..128).map(|i| mxfp4::value(&blocks[i / 32 * 16..], scales[i / 32], i % 32));
        assert!(row.iter().map(|x| x.to_bits()).eq(want.map(|x| x.to_bits())));
    }

    #[test]
    fn scale_255_is_nan() {
        assert!(matrix(&[0; 16], &[255], RIGHT).row::<f64>(0).iter().all(|x| x.is_nan()));
    }

    #[test]
    fn each_rule_changes_what_it_says() {
        let mut blocks = [0; 32];
        blocks[0] = 0x21; // 0.5 low, 1.0 high
        let row = |rule| matrix(&blocks, &[127, 129], rule).row::<f64>(0);
        assert_eq!(row(RIGHT)[..2], [0.5, 1.0]);
        assert_eq!(row(Mxfp4 { nibbles: Nibbles::HighFirst, ..RIGHT })[..2], [1.0, 0.5]);
        let halves = row(Mxfp4 { nibbles: Nibbles::Halves, ..RIGHT });
        assert_eq!((halves[0], halves[1], halves[16]), (0.5, 0.0, 1.0));
        assert_eq!(row(Mxfp4 { exponent_shift: -1, ..RIGHT })[..2], [0.25, 0.5]);
        assert_eq!(row(Mxfp4 { scale_shift: 1, ..RIGHT })[..2], [2.0, 4.0]);
    }

    #[test]
    fn bf16_is_the_upper_half_of_an_f32() {
        assert_eq!(bf16([0x80, 0x3f]), 1.0);
        assert_eq!(bf16([0xac, 0xbf]), -1.34375);
        assert!(bf16([0xc0, 0x7f]).is_nan());
    }
}
