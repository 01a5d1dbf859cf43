//! CubeCL kernels, one file each, with the launch beside the kernel: shape checks, grid, launch, nothing else.
//!
//! ```text
//! codec, matrix
//!      ├──► linear ──► qkv            decode: few rows, a group of lanes shares a row's blocks
//!      └──► experts
//!      └──► tile ◄── group            prefill: many rows, tiles; experts over rows sorted on the device
//! rms_norm, rope, attention, route, combine, embedding
//! ops                                 all of them as Burn backend extensions
//! ```
//!
//! * **Invariant:** kernels know neither checkpoints nor models; they take device tensors and sizes.
//! * **Invariant:** no kernel expands more than one block of packed weights a lane, or a 64 × 32 tile a cube.
//! * **Invariant:** no kernel relies on NaN or infinity, on denormals, or on the order in which cubes run.
//! * Every kernel comes in the [`Family`](family::Family) shapes it needs; each has its own check against the oracle.

#![allow(missing_docs, reason = "`#[cube]` expands to public modules and types that carry no docs")]
#![allow(
    clippy::too_many_arguments,
    reason = "a kernel's operands are its interface: buffers, sizes, comptime choices"
)]
#![allow(clippy::needless_range_loop, reason = "kernels index several buffers by one counter")]

pub mod attention;
pub mod codec;
pub mod combine;
pub mod embedding;
pub mod experts;
pub mod family;
pub mod gauge;
pub mod group;
mod launch;
pub mod linear;
pub mod matrix;
pub mod ops;
pub mod qkv;
pub mod rms_norm;
pub mod rope;
pub mod route;
pub mod tile;

pub use launch::launches;
