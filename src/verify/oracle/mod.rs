//! The oracle: plain, obviously right definitions of what a file or a value must be.
//!
//! | module                        | defines                                                              |
//! |-------------------------------|----------------------------------------------------------------------|
//! | [`mxfp4`], [`model_bin`]      | a packed value; the stored form of a tensor                          |
//! | [`semantics`]                 | every decision of the forward pass, as a field that a fault changes  |
//! | [`forward`]                   | the forward pass on one screen, with a tap at every named stage      |
//! | [`rms_norm`] … [`experts`]    | one operation a file                                                 |
//! | [`cache`]                     | what attention finds of keys and values: as computed, or rounded     |
//! | [`noise`]                     | what f32 rounding alone does to each stage, and how close calls are  |
//!
//! The forward pass is generic over the float type ([`real`]): f64 is the truth, f32 the noise floor.
//!
//! **Invariant:** it imports neither the codecs, the exporter nor the kernels it judges; it shares constants of the
//! formats at most.  It is slow where that makes it short.

pub mod attention;
pub mod cache;
pub mod experts;
pub mod forward;
pub mod ggml;
pub mod model_bin;
pub mod mxfp4;
pub mod noise;
pub mod real;
pub mod rms_norm;
pub mod rope;
pub mod router;
pub mod rows;
pub mod semantics;
pub mod weights;

pub use cache::Kept;
pub use forward::{Given, Oracle, Positions, Request, Vocab};
pub use real::Real;
pub use rows::Rows;
pub use semantics::Semantics;
