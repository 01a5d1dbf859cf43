//! Files byte for byte: the cases of `gptoss-verify run`, the command lines, and readers under attack.

mod cases;
mod edits;
mod gguf;
mod interchange;
