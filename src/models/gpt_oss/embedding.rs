//! The embedding: on the device, or, under a memory budget, in the checkpoint's mapped bytes.
//!
//! A token needs one row of some kilobytes, the whole table is more than a gigabyte: what a budget has is better spent on
//! experts.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::Table;
use crate::checkpoint::source::slice_of;
use crate::checkpoint::{Role, TensorId};
use crate::device::Compute;
use crate::kernels::ops::embedding_rows;
use crate::open::AnyCheckpoint;
use crate::quant::bf16;

/// Rows of the vocabulary.
pub enum Embedding {
    /// In buffers.
    Device(Table),
    /// In the file; rows are widened and uploaded as they are needed.
    Mapped(Arc<AnyCheckpoint>),
}

impl std::fmt::Debug for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Embedding::Device(_) => "Embedding on the device",
            Embedding::Mapped(_) => "Embedding in the file",
        })
    }
}

impl Embedding {
    /// The rows of `tokens`: f32 `[tokens, hidden]`.
    pub fn rows(&self, compute: &Compute, tokens: &[u32], hidden: usize) -> Tensor<2> {
        match self {
            Embedding::Device(table) => {
                let ids = compute.upload(tokens, [tokens.len()]);
                let mut x = compute.scratch([tokens.len(), hidden]);
                for (base, rows) in table {
                    let holds = |&id: &u32| (*base..base + rows.dims()[0]).contains(&(id as usize));
                    if tokens.iter().any(holds) {
                        x = embedding_rows(&ids, rows, x, *base);
                    }
                }
                x
            }
            Embedding::Mapped(checkpoint) => {
                let segments = checkpoint.source().segments(TensorId::outside(Role::Embedding));
                let row = |&id: &u32| slice_of(&segments, id as usize * hidden * 2, hidden * 2);
                let widened = tokens.iter().flat_map(row).copied().collect::<Vec<u8>>();
                let values: Vec<f32> =
                    widened.chunks_exact(2).map(|b| bf16::to_f32(u16::from_le_bytes([b[0], b[1]]))).collect();
                compute.upload_floats(&values, [tokens.len(), hidden])
            }
        }
    }
}
