//! From tokens to logits, step by step.

pub mod session;
