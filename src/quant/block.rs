//! The types of ggml that this project decodes: their blocks, and rows of them.
//!
//! Values are those of ggml's reference decoders bit for bit, infinities and signed zeros included; where a value is NaN, which
//! NaN it is is not promised.  Witness: `goldens/tensors/ggml-decode.json`.

use super::{bf16, f16, k_quants, mxfp4, mxfp4_ggml, q4_0, q5, q8_0};

/// How a row of numbers is stored, in ggml's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumIter, strum::IntoStaticStr)]
pub enum BlockType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of an f32.
    #[strum(serialize = "BF16")]
    Bf16,
    /// See [`q8_0`].
    #[strum(serialize = "Q8_0")]
    Q8_0,
    /// See [`q4_0`].
    #[strum(serialize = "Q4_0")]
    Q4_0,
    /// See [`q5`].
    #[strum(serialize = "Q5_0")]
    Q5_0,
    /// See [`q5`].
    #[strum(serialize = "Q5_1")]
    Q5_1,
    /// See [`q4_0`].
    #[strum(serialize = "IQ4_NL")]
    Iq4Nl,
    /// See [`mxfp4_ggml`].
    #[strum(serialize = "MXFP4")]
    Mxfp4,
    /// See [`k_quants`].
    #[strum(serialize = "Q4_K")]
    Q4K,
    /// See [`k_quants`].
    #[strum(serialize = "Q5_K")]
    Q5K,
    /// See [`k_quants`].
    #[strum(serialize = "Q6_K")]
    Q6K,
}

impl BlockType {
    /// Values of a block.
    pub const fn values(self) -> usize {
        match self {
            BlockType::F32 | BlockType::F16 | BlockType::Bf16 => 1,
            BlockType::Q4K | BlockType::Q5K | BlockType::Q6K => k_quants::VALUES,
            _ => mxfp4::BLOCK_VALUES,
        }
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            BlockType::F32 => 4,
            BlockType::F16 | BlockType::Bf16 => 2,
            BlockType::Q8_0 => q8_0::BYTES,
            BlockType::Q4_0 | BlockType::Iq4Nl => q4_0::BYTES,
            BlockType::Q5_0 => q5::Q5_0_BYTES,
            BlockType::Q5_1 => q5::Q5_1_BYTES,
            BlockType::Mxfp4 => mxfp4_ggml::BYTES,
            BlockType::Q4K => k_quants::Q4_K_BYTES,
            BlockType::Q5K => k_quants::Q5_K_BYTES,
            BlockType::Q6K => k_quants::Q6_K_BYTES,
        }
    }

    /// Bytes of a row of `values` values: whole blocks, or none fits.
    pub const fn row_bytes(self, values: usize) -> Option<usize> {
        match values.is_multiple_of(self.values()) {
            true => Some(values / self.values() * self.bytes()),
            false => None,
        }
    }

    /// Decodes whole blocks.
    ///
    /// # Panics
    /// If the lengths do not describe the same number of blocks.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            BlockType::F32 => rows(bytes, out, |b, v: &mut [f32; 1]| v[0] = f32::from_le_bytes(*b)),
            BlockType::F16 => rows(bytes, out, |b, v: &mut [f32; 1]| v[0] = f16::read(*b)),
            BlockType::Bf16 => rows(bytes, out, |b, v: &mut [f32; 1]| v[0] = bf16::to_f32(u16::from_le_bytes(*b))),
            BlockType::Q8_0 => rows(bytes, out, q8_0::decode),
            BlockType::Q4_0 => rows(bytes, out, q4_0::decode),
            BlockType::Q5_0 => rows(bytes, out, q5::decode_q5_0),
            BlockType::Q5_1 => rows(bytes, out, q5::decode_q5_1),
            BlockType::Iq4Nl => rows(bytes, out, q4_0::decode_iq4_nl),
            BlockType::Mxfp4 => rows(bytes, out, mxfp4_ggml::decode),
            BlockType::Q4K => rows(bytes, out, k_quants::decode_q4_k),
            BlockType::Q5K => rows(bytes, out, k_quants::decode_q5_k),
            BlockType::Q6K => rows(bytes, out, k_quants::decode_q6_k),
        }
    }
}

/// Decodes blocks of `B` bytes into `V` values each.
fn rows<const B: usize, const V: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn(&[u8; B], &mut [f32; V])) {
    let ((blocks, left), (values, spare)) = (bytes.as_chunks::<B>(), out.as_chunks_mut::<V>());
    assert!(left.is_empty() && spare.is_empty() && blocks.len() == values.len(), "whole blocks, as many as values");
    blocks.iter().zip(values).for_each(|(block, values)| decode(block, values));
}
