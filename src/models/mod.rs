//! The models: each spelled once, from parts in [`crate::nn`], filled from any checkpoint format.

pub mod gpt_oss;
