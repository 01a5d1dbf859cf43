//! Block codecs as exact byte arithmetic on the CPU.
//!
//! They know no files, no tensors and no device.  The kernels of the runtime decode the same bytes; these are their
//! twins, checked against tables made by other people's code (`goldens/tensors/`).

pub mod bf16;
pub mod mxfp4;
