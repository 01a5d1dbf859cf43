//! The embedding: on the device, or, under a memory budget, in the checkpoint's mapped bytes.
//!
//! A token needs one row of some kilobytes, the whole table is more than a gigabyte: what a budget has is better spent on
//! experts.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::Table;
use super::stored::{DensePart, parts};
use crate::checkpoint::{Role, TensorId};
use crate::device::Compute;
use crate::kernels::ops::embedding_rows;
use crate::open::AnyCheckpoint;

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
    /// Bytes of a row.
    pub fn row_bytes(&self, hidden: usize) -> u64 {
        match self {
            Embedding::Device(table) => table.first().map_or(0, |(_, piece)| piece.bytes() / piece.rows() as u64),
            Embedding::Mapped(checkpoint) => {
                let parts = parts(checkpoint.source(), TensorId::outside(Role::Embedding));
                parts.first().map_or(0, |part| part.row_bytes(hidden) as u64)
            }
        }
    }

    /// The rows of `tokens`: f32 `[tokens, hidden]`.
    pub fn rows(&self, compute: &Compute, tokens: &[u32], hidden: usize) -> Tensor<2> {
        match self {
            Embedding::Device(table) => {
                let ids = compute.upload(tokens, [tokens.len()]);
                let mut x = compute.scratch([tokens.len(), hidden]);
                for (base, rows) in table {
                    let holds = |&id: &u32| (*base..base + rows.rows()).contains(&(id as usize));
                    if tokens.iter().any(holds) {
                        x = embedding_rows(&ids, rows, x, *base);
                    }
                }
                x
            }
            Embedding::Mapped(checkpoint) => {
                let parts = parts(checkpoint.source(), TensorId::outside(Role::Embedding));
                let values: Vec<f32> = tokens.iter().flat_map(|&id| row(&parts, id as usize, hidden)).collect();
                compute.upload_floats(&values, [tokens.len(), hidden])
            }
        }
    }
}

/// Row `row` of the parts of a table, widened from its own type.
fn row(parts: &[DensePart<'_>], mut row: usize, hidden: usize) -> Vec<f32> {
    for part in parts {
        if row < part.rows {
            let bytes = part.row_bytes(hidden);
            return part.values(&part.bytes[row * bytes..][..bytes]);
        }
        row -= part.rows;
    }
    panic!("a row {row} past the table's end")
}
