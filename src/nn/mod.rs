//! Parts that models are built from, above Burn and the kernels.  They know no checkpoint and no tensor name.

pub mod kv_cache;
pub mod rope;
