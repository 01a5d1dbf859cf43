//! A GGUF as a gpt-oss model: names, metadata and stored rows, in llama.cpp's dialect and in Ollama's early one.
//!
//! ```text
//! Gguf ─► config: metadata → ModelConfig, what it implies checked
//!     └─► names: a tensor → stored tensors and their rows ─► stored: rows in the original form, or an error
//!
//! any checkpoint ─► header, writer: one file that llama.cpp reads too
//! ```
//!
//! **Invariant:** an open [`GgufModel`] is complete, as an open SafeTensors checkpoint is.

mod config;
mod error;
mod header;
mod model;
pub mod names;
pub mod stored;
pub mod vocabulary;
mod writer;

pub use error::DialectError;
pub use model::GgufModel;
pub use names::Dialect;
pub use stored::{Encoding, StoredPart};
pub use vocabulary::TokenList;
pub use writer::{Contents, DenseType, GgufExportError, GgufOptions, export_gguf, write_gguf};
