//! Dense matrices from stored blocks to the device: each type in the codec that holds its values without loss.
//!
//! | stored                | on the device | bytes of 32 weights, stored and there |
//! |-----------------------|---------------|---------------------------------------|
//! | BF16, F16, F32        | the same      | 64, 64, 128                           |
//! | Q8_0                  | the same      | 34                                    |
//! | Q4_K                  | the same      | 18, 18.5                              |
//! | Q4_0, Q5_0, IQ4_NL    | Q8_0          | 18, 22, 18 → 34                       |
//! | Q5_1, Q5_K, Q6_K, MXFP4 | F32         | 24, 22, 26, 17 → 128                  |
//!
//! Rows are repacked some at a time, so that no more than [`PIECE_BYTES`] of a matrix are on the host twice.

use crate::device::Compute;
use crate::kernels::codec::{BLOCK, Codec};
use crate::kernels::matrix::Matrix;
use crate::quant::{BlockType, k_quants, q8_0, repack};

/// Device bytes repacked at a time.
const PIECE_BYTES: usize = 4 << 20;

/// Rows of a stored matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Type of its blocks.
    pub kind: BlockType,
    /// Number of rows.
    pub rows: usize,
    /// Weights of a row: whole blocks.
    pub columns: usize,
}

/// A weight or a scale that is infinite or NaN, in row `row`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("row {row} holds an F16 that is infinite or NaN")]
pub struct NotFinite {
    /// The row.
    pub row: usize,
}

/// The codec in which a device holds matrices of a type.
pub fn codec_of(kind: BlockType) -> Codec {
    match kind {
        BlockType::Bf16 => Codec::Bf16,
        BlockType::F16 => Codec::F16,
        BlockType::Q8_0 | BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Iq4Nl => Codec::Q8_0,
        BlockType::Q4K => Codec::Q4K,
        BlockType::F32 | BlockType::Q5_1 | BlockType::Q5K | BlockType::Q6K | BlockType::Mxfp4 => Codec::F32,
    }
}

/// Whether the device holds the very bytes of the file.
pub fn is_direct(kind: BlockType, codec: Codec) -> bool {
    matches!(
        (kind, codec),
        (BlockType::Bf16, Codec::Bf16) | (BlockType::F16, Codec::F16) | (BlockType::F32, Codec::F32)
    )
}

/// Device bytes of a matrix: words and scales.
pub fn device_bytes(codec: Codec, rows: usize, columns: usize) -> usize {
    4 * (rows * codec.row_words(columns) + codec.scale_words(rows * columns / BLOCK))
}

/// A matrix that is not yet written.
pub fn empty_matrix(compute: &Compute, codec: Codec, rows: usize, columns: usize) -> Matrix {
    let words = compute.words([rows, codec.row_words(columns)]);
    match codec.has_scales() {
        true => Matrix { words, scales: compute.words([codec.scale_words(rows * columns / BLOCK)]), codec },
        false => Matrix::new(words, codec),
    }
}

/// The matrix that `bytes` hold.
///
/// # Errors
/// [`NotFinite`].
pub fn device_matrix(compute: &Compute, stored: Stored, bytes: &[u8]) -> Result<Matrix, NotFinite> {
    let matrix = empty_matrix(compute, codec_of(stored.kind), stored.rows, stored.columns);
    write_rows(compute, &matrix, 0, stored, bytes)?;
    Ok(matrix)
}

/// Writes the rows that `bytes` hold into `target`, from row `first` on.
///
/// # Errors
/// [`NotFinite`], its row counted from the first of `bytes`.
///
/// # Panics
/// If the codec of `target` does not hold the type, or the first row's scales begin inside a word.
pub fn write_rows(
    compute: &Compute,
    target: &Matrix,
    first: usize,
    stored: Stored,
    bytes: &[u8],
) -> Result<(), NotFinite> {
    let Stored { kind, rows, columns } = stored;
    let row_bytes = kind.row_bytes(columns).expect("rows are whole blocks");
    assert_eq!(bytes.len(), rows * row_bytes, "{rows} rows of {kind:?}");
    let (words, blocks) = (4 * target.codec.row_words(columns), columns / BLOCK);
    // An even number, so that two-byte scales of the next piece begin with a word.
    let piece_rows = (PIECE_BYTES / words).max(2) & !1;
    for (piece, stored) in bytes.chunks(piece_rows * row_bytes).enumerate() {
        let at = piece * piece_rows;
        check_finite(kind, stored, row_bytes).map_err(|found| NotFinite { row: at + found.row })?;
        let (codes, mut scales) = repacked(kind, target.codec, stored);
        compute.write_shared(&target.words, (first + at) * words, codes.into());
        if target.codec.has_scales() {
            let start = scale_start(target.codec, (first + at) * blocks);
            // Only the last rows of a matrix can end inside a word.
            scales.resize(scales.len().next_multiple_of(4), 0);
            compute.write_shared(&target.scales, start, scales.into());
        }
    }
    Ok(())
}

/// Where the scales of block `block` begin, bytes.
fn scale_start(codec: Codec, block: usize) -> usize {
    match codec {
        Codec::Q8_0 => 2 * block,
        Codec::Q4K => block / 8 * repack::Q4_K_SCALE_BYTES,
        other => unreachable!("{other:?} has no scales of this kind"),
    }
}

/// Refuses rows that hold an F16 which is no number.
///
/// # Errors
/// [`NotFinite`].
pub fn check_finite(kind: BlockType, bytes: &[u8], row_bytes: usize) -> Result<(), NotFinite> {
    match bytes.chunks(row_bytes).position(|row| !is_finite(kind, row)) {
        Some(row) => Err(NotFinite { row }),
        None => Ok(()),
    }
}

/// Whether every F16 of a row is a number.
fn is_finite(kind: BlockType, row: &[u8]) -> bool {
    let places: &[usize] = match kind {
        BlockType::F32 | BlockType::Bf16 | BlockType::Mxfp4 => return true,
        BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => &[1, 3],
        BlockType::Q6K => &[209],
        _ => &[1],
    };
    row.chunks_exact(kind.bytes()).all(|block| places.iter().all(|&at| block[at] & 0x7c != 0x7c))
}

/// Codes, and scales where the codec has them, in the device's order.
fn repacked(kind: BlockType, codec: Codec, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let blocks = bytes.chunks_exact(kind.bytes());
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    match codec {
        _ if is_direct(kind, codec) => codes.extend_from_slice(bytes),
        Codec::Q8_0 => {
            codes.reserve_exact(blocks.len() * q8_0::VALUES);
            for block in blocks {
                let as_q8_0 = repack::as_q8_0(kind, block);
                let block = as_q8_0.as_ref().or_else(|| block.try_into().ok());
                repack::q8_0(block.expect("a block of Q8_0"), &mut codes, &mut scales);
            }
        }
        Codec::Q4K => {
            codes.reserve_exact(blocks.len() * k_quants::VALUES / 2);
            let blocks = bytes.as_chunks::<{ k_quants::Q4_K_BYTES }>().0;
            blocks.iter().for_each(|block| repack::q4_k(block, &mut codes, &mut scales));
        }
        Codec::F32 => {
            let mut values = vec![0.0; blocks.len() * kind.values()];
            kind.decode(bytes, &mut values);
            codes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        }
        other => unreachable!("{kind:?} is not held as {other:?}"),
    }
    (codes, scales)
}
