//! OpenAI's Metal `model.bin`: written byte-identically, read strictly.
//!
//! Not the checkpoint's numbers: Q is stored × 0.5, K × 0.25, their rows interleaved, MXFP4 scales + 14; the
//! embedding ends after the tokenizer's last token.  [`layout`] draws the file, [`header`] its first 148 bytes,
//! [`tokenizer`] the vocabulary, [`qkv`] the one transform with arithmetic in it.
//!
//! **Invariant:** writer and reader share the plan and nothing else; the reader assumes nothing of the writer.
//!
//! This module knows no device and decodes no weight.

mod error;
pub mod header;
pub mod layout;
pub mod qkv;
mod reader;
pub mod tokenizer;
mod writer;

pub use error::{ExportError, ModelBinError};
pub use reader::ModelBin;
pub use tokenizer::TokenizerSection;
pub use writer::{Exported, export};
