//! Comparers: they say "equal", and nothing else passes.
//!
//! Lengths before values, the whole payload always, and equality by bits: a NaN equals no number and −0 is not 0.

pub mod bits;
pub mod calls;
pub mod digest;
pub mod headroom;
pub mod rounded;
pub mod stages;
pub mod verdict;
