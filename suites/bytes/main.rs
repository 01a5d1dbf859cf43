//! Files byte for byte: the cases of `gptoss-verify run`, readers under attack, and ranges from servers that lie.

mod cases;
mod doctor;
mod edits;
mod gguf;
mod gguf_models;
mod interchange;
mod ranges;
