//! From text to tokens, from tokens to logits, and back.

pub mod constraint;
pub mod engine;
pub mod harmony;
pub mod sampling;
pub mod session;
pub mod stop;
pub mod tokenizer;
pub mod turn;
pub mod warm;
