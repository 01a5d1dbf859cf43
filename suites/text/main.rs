//! Text to tokens and back, against openai-harmony, and under streams that no model should write.

mod cases;
mod client;
mod constraint;
mod engine;
mod faults;
mod goldens;
mod limits;
#[cfg(target_os = "linux")]
mod load;
mod parse;
mod random;
mod render;
mod sampling;
mod serve;
mod tokenizer;
mod vocabulary;
