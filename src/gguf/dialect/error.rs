//! Why a GGUF that can be indexed is no gpt-oss model, one variant per cause.

use std::path::PathBuf;

use crate::gguf::GgufError;

/// Why a GGUF was refused as a model.  [`DialectError::name`] is the variant's stable kebab-case name.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum DialectError {
    #[error(transparent)]
    Index(#[from] GgufError),

    // metadata
    #[error("{path}: metadata `general.architecture`: expected `gpt-oss` (or Ollama's early `gptoss`), found {found}", path = path.display())]
    GgufArchitecture { path: PathBuf, found: String },
    #[error("{path}: metadata `{key}` is missing", path = path.display())]
    GgufKeyMissing { path: PathBuf, key: String },
    #[error("{path}: metadata `{key}`: expected {want}, found {found}", path = path.display())]
    GgufKeyValue { path: PathBuf, key: String, want: String, found: String },

    // tensors
    #[error("{path}: {count} tensor(s) missing for `{key}` = {layers}: {names}", path = path.display())]
    GgufTensorMissing { path: PathBuf, key: String, layers: usize, count: usize, names: String },
    #[error("{path}: {count} tensor(s) that a gpt-oss model of {layers} layers does not have: {names}", path = path.display())]
    GgufTensorUnknown { path: PathBuf, layers: usize, count: usize, names: String },
    #[error("{path}: tensor `{name}`: expected dimensions {want}, found {found:?}: see metadata {keys}", path = path.display())]
    GgufTensorDims { path: PathBuf, name: String, want: String, found: Vec<u64>, keys: String },
    #[error("{path}: tensor `{name}`: expected type {want}, found {found}", path = path.display())]
    GgufTensorType { path: PathBuf, name: String, want: String, found: String },
    #[error("{path}: tensor `{name}` is {found}: gptoss runs experts as MXFP4, as every published gpt-oss GGUF has them", path = path.display())]
    GgufUnpackedExperts { path: PathBuf, name: String, found: String },

    // vocabulary
    #[error("{path}: metadata `tokenizer.ggml.tokens`: expected {want} tokens, one a row of `token_embd.weight`, found {found}", path = path.display())]
    GgufTokenCount { path: PathBuf, want: usize, found: usize },
}

impl DialectError {
    /// The variant's stable name, such as `gguf-key-value`.
    pub fn name(&self) -> &'static str {
        match self {
            DialectError::Index(error) => error.name(),
            other => other.into(),
        }
    }
}
