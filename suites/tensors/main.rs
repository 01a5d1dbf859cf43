//! Each kernel against the oracle, in every family, on the adapter at hand.

mod kernels;
