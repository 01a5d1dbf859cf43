//! Memory bounds: what an export takes of the heap, and what a model takes of host and device.

pub mod device;
pub(super) mod export;
pub mod meter;
mod scene;
