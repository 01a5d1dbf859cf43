//! The oracle: plain, obviously right definitions of what a file or a value must be.
//!
//! **Invariant:** it imports neither the codecs, the exporter nor the kernels it judges; it shares constants of the
//! formats at most.  It is slow where that makes it short.

pub mod model_bin;
pub mod mxfp4;
