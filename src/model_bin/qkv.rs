//! What model.bin does to the fused QKV projection, and how to undo it.
//!
//! Rows are Q, K, V as in the source.  Within each Q and K head of `head_dim` rows, half-split becomes interleaved:
//! stored row `2i + s` is source row `s · head_dim/2 + i`, so that a rotation pair is two neighbours.  Q is scaled
//! by 0.5 and K by 0.25 (together 1/√64, the attention scale), each value rounded to nearest-even BF16.  V is
//! unchanged.  The bias is a projection with one column.
//!
//! Undoing the order is exact.  Undoing the scale is exact unless the stored value is subnormal, where the product
//! may have been rounded: who needs certainty compares in the stored form.

use std::ops::Range;

use crate::checkpoint::ModelConfig;
use crate::quant::bf16;

/// Factor on Q.
pub const Q_SCALE: f32 = 0.5;
/// Factor on K.
pub const K_SCALE: f32 = 0.25;

/// A head's worth of rows, or all of V: rows that are stored together and scaled alike.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadRows {
    /// Rows of the fused tensor.
    pub rows: Range<usize>,
    /// Factor on its values; `None` for V, which is copied.
    pub scale: Option<f32>,
}

/// The fused rows in runs: each Q head, each K head, V.
pub fn head_rows(config: &ModelConfig) -> impl Iterator<Item = HeadRows> + use<> {
    let (head_dim, heads, kv_heads) = (config.head_dim, config.heads, config.kv_heads);
    let rotated = (0..heads + kv_heads).map(move |head| HeadRows {
        rows: head * head_dim..(head + 1) * head_dim,
        scale: Some(if head < heads { Q_SCALE } else { K_SCALE }),
    });
    let v = config.q_rows() + config.kv_rows()..config.qkv_rows();
    rotated.chain([HeadRows { rows: v, scale: None }])
}

/// The source row of a head that stored row `row` holds.
pub fn source_row(row: usize, head_dim: usize) -> usize {
    (row % 2) * (head_dim / 2) + row / 2
}

/// Writes one head as model.bin stores it.
///
/// `source` and `stored` are `head_dim` rows of little-endian BF16, of equal length.
pub fn store_head(source: &[u8], scale: f32, head_dim: usize, stored: &mut [u8]) {
    assert_eq!(source.len(), stored.len());
    let row_bytes = source.len() / head_dim;
    for (row, out) in stored.chunks_exact_mut(row_bytes).enumerate() {
        let from = source_row(row, head_dim) * row_bytes;
        scale_row(&source[from..from + row_bytes], scale, out);
    }
}

/// Writes one head as the source holds it: the inverse of [`store_head`] up to rounding of subnormals.
pub fn restore_head(stored: &[u8], scale: f32, head_dim: usize, source: &mut [u8]) {
    assert_eq!(source.len(), stored.len());
    let row_bytes = stored.len() / head_dim;
    for (row, from) in stored.chunks_exact(row_bytes).enumerate() {
        let to = source_row(row, head_dim) * row_bytes;
        scale_row(from, 1.0 / scale, &mut source[to..to + row_bytes]);
    }
}

fn scale_row(from: &[u8], scale: f32, to: &mut [u8]) {
    for (out, value) in to.as_chunks_mut::<2>().0.iter_mut().zip(from.as_chunks::<2>().0) {
        *out = bf16::scale(u16::from_le_bytes(*value), scale).to_le_bytes();
    }
}
