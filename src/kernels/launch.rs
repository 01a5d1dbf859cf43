//! From Burn's device tensors to kernel arguments.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Launches of this process so far: a meter, which nothing is decided by.
static LAUNCHES: AtomicU64 = AtomicU64::new(0);

/// Launches of this process so far.
pub fn launches() -> u64 {
    LAUNCHES.load(Ordering::Relaxed)
}

/// The grid of one launch, which is counted.
pub(super) fn grid(x: u32, y: u32, z: u32) -> CubeCount {
    LAUNCHES.fetch_add(1, Ordering::Relaxed);
    CubeCount::Static(x, y, z)
}

/// A contiguous tensor as a slice of vectors of `vector` elements.
///
/// # Panics
/// If the tensor is not contiguous, or its length no multiple of `vector`.
pub(super) fn arg(tensor: &CubeTensor, vector: usize) -> BufferArg {
    let elements = tensor.meta.shape().num_elements();
    assert!(tensor.is_contiguous(), "kernels take whole, contiguous tensors");
    assert_eq!(tensor.dtype.size(), 4, "kernels take f32 and u32");
    assert!(elements.is_multiple_of(vector), "{elements} elements are not whole vectors of {vector}");
    // SAFETY: the handle owns `elements` 4-byte values.
    unsafe { BufferArg::from_raw_parts(tensor.handle.clone(), elements / vector) }
}

/// The shape of a matrix.
///
/// # Panics
/// If the tensor has another rank.
pub(super) fn dims<const D: usize>(tensor: &CubeTensor) -> [usize; D] {
    let shape = tensor.meta.shape();
    assert_eq!(shape.num_dims(), D, "a tensor of rank {D}");
    std::array::from_fn(|i| shape[i])
}

/// An uninitialised tensor beside `like`; the launch that follows writes every element.
pub(super) fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let handle = like.client.empty(shape.iter().product::<usize>() * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape.into(), handle, dtype)
}

/// Cubes for `items` of which each cube takes `per_cube`.
pub(super) fn cubes(items: usize, per_cube: u32) -> u32 {
    items.div_ceil(per_cube as usize) as u32
}
