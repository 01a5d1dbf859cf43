//! How the rows of a tensor lie in a GGUF file, and their bytes in the original checkpoint's form where both can say
//! the same.
//!
//! The original form is BF16, or MXFP4 codes and scales apart.  A stored value that is no BF16 value has no such
//! bytes: that is an error, never a rounding.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use super::names::{RowMap, Slabs};
use crate::checkpoint::config::MXFP4_BLOCK_VALUES;
use crate::checkpoint::names::MXFP4_BLOCK_BYTES;
use crate::checkpoint::source::NotExact;
use crate::checkpoint::{ModelConfig, TensorId};
use crate::gguf::GgmlType;
use crate::quant::{BlockType, mxfp4_ggml};

/// The codec of a type; `None` for one whose values are not known here.
pub fn block_type(ty: GgmlType) -> Option<BlockType> {
    Some(match ty {
        GgmlType::F32 => BlockType::F32,
        GgmlType::F16 => BlockType::F16,
        GgmlType::BF16 => BlockType::Bf16,
        GgmlType::Q8_0 => BlockType::Q8_0,
        GgmlType::Q4_0 => BlockType::Q4_0,
        GgmlType::Q5_0 => BlockType::Q5_0,
        GgmlType::Q5_1 => BlockType::Q5_1,
        GgmlType::IQ4_NL => BlockType::Iq4Nl,
        GgmlType::MXFP4 => BlockType::Mxfp4,
        GgmlType::Q4_K => BlockType::Q4K,
        GgmlType::Q5_K => BlockType::Q5K,
        GgmlType::Q6_K => BlockType::Q6K,
        _ => return None,
    })
}

/// How a stored tensor's bytes hold its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As ggml has it.
    Ggml(GgmlType),
    /// Ollama's early MXFP4, type id 4: the scale, then 16 bytes in the order of the original checkpoint, byte j
    /// holding values 2j and 2j + 1.
    Mxfp4InOrder,
}

impl Encoding {
    /// Bytes of a row of `columns` values.
    ///
    /// # Panics
    /// For a type that no model holds, or where blocks do not fill the row.
    pub fn row_bytes(self, columns: usize) -> usize {
        let ty = match self {
            Encoding::Ggml(ty) => ty,
            Encoding::Mxfp4InOrder => GgmlType::MXFP4,
        };
        ty.bytes_of(&[columns as u64]).expect("a model's rows are whole blocks of known types") as usize
    }

    /// Whether it is MXFP4, in either order.
    pub fn is_mxfp4(self) -> bool {
        matches!(self, Encoding::Ggml(GgmlType::MXFP4) | Encoding::Mxfp4InOrder)
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Encoding::Ggml(ty) => ty.fmt(f),
            Encoding::Mxfp4InOrder => f.write_str("MXFP4 (type id 4, values in order)"),
        }
    }
}

/// Some rows of every slab of a tensor, as a GGUF file stores them.
///
/// `bytes` are slab after slab, row after row: `slabs × rows.count` rows.  Codes and scales of an MXFP4 matrix are in
/// the same bytes, so that both tensors have the same parts.
#[derive(Debug, Clone, Copy)]
pub struct StoredPart<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// How the bytes hold values.
    pub encoding: Encoding,
    /// Rows of a slab that it holds.
    pub rows: RowMap,
    /// The stored bytes.
    pub bytes: &'a [u8],
}

impl<'a> StoredPart<'a> {
    /// The stored row `row` of slab `slab`, of `columns` values.
    pub fn row(&self, slab: usize, row: usize, columns: usize) -> &'a [u8] {
        let bytes = self.encoding.row_bytes(columns);
        &self.bytes[(slab * self.rows.count + row) * bytes..][..bytes]
    }
}

/// Reads a tensor of parts in the original form.
pub(super) struct Reading<'a> {
    pub(super) path: &'a Path,
    pub(super) config: &'a ModelConfig,
    pub(super) tensor: TensorId,
    pub(super) parts: Vec<StoredPart<'a>>,
}

impl<'a> Reading<'a> {
    /// Bytes `range` of the tensor: borrowed where the file has them as they are.
    pub(super) fn bytes(&self, range: Range<usize>) -> Result<Cow<'a, [u8]>, NotExact> {
        if let Some(borrowed) = self.borrowed(range.clone()) {
            return Ok(Cow::Borrowed(borrowed));
        }
        let slabs = Slabs::of(self.tensor, self.config);
        let row_bytes = self.row_bytes(slabs);
        let mut out = Vec::with_capacity(range.len());
        let mut scratch = Vec::new();
        for row in range.start / row_bytes..range.end.div_ceil(row_bytes) {
            scratch.clear();
            self.row(slabs, row, &mut scratch)?;
            let from = range.start.saturating_sub(row * row_bytes).min(row_bytes);
            let to = (range.end - row * row_bytes).min(row_bytes);
            out.extend_from_slice(&scratch[from..to]);
        }
        Ok(Cow::Owned(out))
    }

    /// Bytes of a row in the original form.
    fn row_bytes(&self, slabs: Slabs) -> usize {
        let blocks = slabs.columns / MXFP4_BLOCK_VALUES;
        match self.tensor.role {
            role if role.is_blocks() => blocks * MXFP4_BLOCK_BYTES,
            role if role.is_scales() => blocks,
            _ => slabs.columns * 2,
        }
    }

    /// BF16 rows of one part, which lie as they should.
    fn borrowed(&self, range: Range<usize>) -> Option<&'a [u8]> {
        let slabs = Slabs::of(self.tensor, self.config);
        let row_bytes = self.row_bytes(slabs);
        let of_whole = self.parts.len() == 1;
        self.parts.iter().filter(|part| part.encoding == Encoding::Ggml(GgmlType::BF16)).find_map(|part| {
            let start = match (slabs.slabs, of_whole) {
                (_, true) => 0,
                (1, false) if part.rows.step == 1 => part.rows.first * row_bytes,
                _ => return None,
            };
            part.bytes.get(range.start.checked_sub(start)?..range.end.checked_sub(start)?)
        })
    }

    /// Appends row `row`, counted over all slabs.
    fn row(&self, slabs: Slabs, row: usize, out: &mut Vec<u8>) -> Result<(), NotExact> {
        let (slab, within) = (row / slabs.rows, row % slabs.rows);
        let holder = self.parts.iter().find_map(|part| Some((part, part.rows.stored_row(within)?)));
        let (part, stored_row) = holder.expect("the parts of a tensor hold all its rows");
        let stored = part.row(slab, stored_row, slabs.columns);
        match self.tensor.role {
            role if role.is_scales() => out.extend(stored.chunks_exact(1 + MXFP4_BLOCK_BYTES).map(|block| block[0])),
            role if role.is_blocks() => {
                for block in stored.as_chunks::<{ 1 + MXFP4_BLOCK_BYTES }>().0 {
                    out.extend_from_slice(&codes(part.encoding, block));
                }
            }
            _ => narrow(part.encoding, stored, slabs.columns, out).map_err(|(column, value)| NotExact {
                path: self.path.into(),
                name: part.name.into(),
                encoding: part.encoding.to_string(),
                why: format!("element {} of `{}` is {value:e}", row * slabs.columns + column, self.tensor),
            })?,
        }
        Ok(())
    }
}

/// The 16 bytes of codes of a 17-byte block, in the order of the original checkpoint.
fn codes(encoding: Encoding, block: &[u8; 1 + MXFP4_BLOCK_BYTES]) -> [u8; MXFP4_BLOCK_BYTES] {
    let stored: &[u8; MXFP4_BLOCK_BYTES] = block.last_chunk().expect("a block is longer than its codes");
    match encoding {
        Encoding::Mxfp4InOrder => *stored,
        _ => mxfp4_ggml::unpack(block).1,
    }
}

/// Appends a row's values as BF16; an index and a value that is none.
fn narrow(encoding: Encoding, stored: &[u8], columns: usize, out: &mut Vec<u8>) -> Result<(), (usize, f32)> {
    let codec = match encoding {
        Encoding::Ggml(ty) => block_type(ty).expect("a model holds only types whose values are known"),
        Encoding::Mxfp4InOrder => unreachable!("only experts are stored in Ollama's early MXFP4"),
    };
    if codec == BlockType::Bf16 {
        out.extend_from_slice(stored);
        return Ok(());
    }
    let mut values = vec![0.0; columns];
    codec.decode(stored, &mut values);
    for (column, value) in values.into_iter().enumerate() {
        if value.to_bits() & 0xffff != 0 {
            return Err((column, value));
        }
        out.extend_from_slice(&((value.to_bits() >> 16) as u16).to_le_bytes());
    }
    Ok(())
}
