//! One way in for every format: look at the content, open what it is.

use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, CheckpointError, WeightSource};
use crate::gguf::{self, DialectError, GgufModel};
use crate::mapped::FileBytes;
use crate::model_bin::{ModelBin, ModelBinError};

/// An open checkpoint of any format.
#[derive(Debug)]
pub enum AnyCheckpoint {
    /// A SafeTensors directory or file, original or HF.
    SafeTensors(Checkpoint),
    /// A model.bin.
    ModelBin(ModelBin),
    /// A gpt-oss GGUF, in one file or split.
    Gguf(GgufModel),
}

/// Why no checkpoint could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A SafeTensors checkpoint was refused.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A model.bin was refused.
    #[error(transparent)]
    ModelBin(#[from] ModelBinError),
    /// A GGUF was refused.
    #[error(transparent)]
    Gguf(#[from] DialectError),
    /// The content is of another format.
    #[error("{path}: expected a SafeTensors directory, a *.safetensors file, a model.bin or a GGUF, found {found}", path = path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: String,
    },
}

impl OpenError {
    /// The stable name of the cause.
    pub fn name(&self) -> &'static str {
        match self {
            OpenError::Checkpoint(e) => e.name(),
            OpenError::ModelBin(e) => e.name(),
            OpenError::Gguf(e) => e.name(),
            OpenError::UnknownFormat { .. } => "unknown-format",
        }
    }
}

impl AnyCheckpoint {
    /// Opens what is at `path`; the content decides, not the name.
    pub fn open(path: &Path) -> Result<AnyCheckpoint, OpenError> {
        if path.is_dir() {
            return Ok(AnyCheckpoint::SafeTensors(Checkpoint::open(path)?));
        }
        let io = |source| OpenError::Checkpoint(CheckpointError::Io { path: path.into(), source });
        let bytes = FileBytes::map(path).map_err(io)?;
        let start = &bytes[..bytes.len().min(16)];
        // A damaged magic must still reach the reader that can say so: the name is the second witness.
        if start.starts_with(b"GPT-OSS") || path.extension().is_some_and(|e| e == "bin") {
            return Ok(AnyCheckpoint::ModelBin(ModelBin::open(path)?));
        }
        if gguf::is_gguf(path, start) {
            return Ok(AnyCheckpoint::Gguf(GgufModel::open(path)?));
        }
        let looks_like_safetensors = start.get(8) == Some(&b'{');
        if looks_like_safetensors || path.extension().is_some_and(|e| e == "safetensors") {
            return Ok(AnyCheckpoint::SafeTensors(Checkpoint::open(path)?));
        }
        let found = match start {
            [] => "an empty file".to_string(),
            _ => format!("a file that begins with `{}`", start.escape_ascii()),
        };
        Err(OpenError::UnknownFormat { path: path.into(), found })
    }

    /// The checkpoint as the tensors of one model.
    pub fn source(&self) -> &dyn WeightSource {
        match self {
            AnyCheckpoint::SafeTensors(checkpoint) => checkpoint,
            AnyCheckpoint::ModelBin(model) => model,
            AnyCheckpoint::Gguf(model) => model,
        }
    }

    /// What a person should know although the checkpoint is usable.
    pub fn warnings(&self) -> &[String] {
        match self {
            AnyCheckpoint::SafeTensors(checkpoint) => checkpoint.warnings(),
            AnyCheckpoint::ModelBin(_) => &[],
            AnyCheckpoint::Gguf(model) => model.warnings(),
        }
    }
}
