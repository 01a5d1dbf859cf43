//! Block codecs as exact byte arithmetic on the CPU.
//!
//! They know no files, no tensors and no device.  The kernels of the runtime decode the same bytes; these are their
//! twins, checked against tables made by other people's code (`goldens/tensors/`).

pub mod bf16;
pub mod block;
pub mod f16;
pub mod k_quants;
pub mod mxfp4;
pub mod mxfp4_ggml;
pub mod q4_0;
pub mod q5;
pub mod q8_0;
pub mod repack;

pub use block::BlockType;

/// A value that no block can hold.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("value {index} of the block is {value}: blocks hold finite values only")]
pub struct NotFinite {
    /// Index in the block.
    pub index: usize,
    /// The value.
    pub value: f32,
}

impl NotFinite {
    /// The largest magnitude of `values`, if all are finite.
    fn amax(values: &[f32]) -> Result<f32, NotFinite> {
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(NotFinite { index, value: values[index] }),
            None => Ok(values.iter().fold(0.0f32, |m, v| m.max(v.abs()))),
        }
    }
}
