//! SafeTensors checkpoints in: OpenAI's original layout and the HF-converted one, one file or many, mapped and audited.
//!
//! ```text
//! directory ─► config.json ─► ModelConfig ┐
//!           └► index, *.safetensors ─► Shard ─► audit against the config ─► Checkpoint ─► segments of a TensorId
//! ```
//!
//! **Invariant:** an open [`Checkpoint`] is complete: every tensor the config calls for is there once, with its dtype
//! and shape, and nothing else is.  Values (NaN, scales) are read only by who reads them all: [`values`].
//!
//! This module knows no other format, no device, and nothing of what the tensors mean.

mod audit;
pub mod config;
pub mod dtype;
mod error;
pub(crate) mod index;
mod json;
pub mod names;
pub mod shard;
pub mod source;
pub mod values;

use std::ops::Range;
use std::path::{Path, PathBuf};

pub use config::{ModelConfig, RopeConfig};
pub use dtype::Dtype;
pub use error::CheckpointError;
pub use names::{Role, TensorId};
pub use shard::{Shard, TensorEntry};
pub use source::{Layout, NotExact, WeightSource};

use crate::mapped::FileBytes;
use audit::Placement;

/// An open SafeTensors checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: ModelConfig,
    layout: Layout,
    shards: Vec<Shard>,
    placement: Placement,
    warnings: Vec<String>,
}

impl Checkpoint {
    /// Opens a checkpoint directory, or the one SafeTensors file of a checkpoint (its `config.json` beside it).
    ///
    /// # Errors
    /// Any [`CheckpointError`] but those about values.
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        let files = index::discover(path)?;
        let config = ModelConfig::read(&files.config)?;
        let shards = files.shards.iter().map(|file| Shard::open(file)).collect::<Result<Vec<_>, _>>()?;
        if let Some(index) = &files.index {
            index.check(&shards)?;
        }
        Self::from_parts(path, config, shards, files.warnings)
    }

    /// Assembles a checkpoint from shards already validated one by one.
    pub fn from_parts(
        path: &Path,
        config: ModelConfig,
        shards: Vec<Shard>,
        mut warnings: Vec<String>,
    ) -> Result<Checkpoint, CheckpointError> {
        let (layout, placement) = audit::place(path, &config, &shards, &mut warnings)?;
        Ok(Checkpoint { path: path.into(), config, layout, shards, placement, warnings })
    }

    /// What a person should know although the checkpoint is usable.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The open files.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }
}

impl WeightSource for Checkpoint {
    fn path(&self) -> &Path {
        &self.path
    }

    fn layout(&self) -> Layout {
        self.layout
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn vocab_rows(&self) -> usize {
        self.config.vocab
    }

    fn segments(&self, tensor: TensorId) -> Vec<&[u8]> {
        let stored = self.placement.get(&tensor).expect("an open checkpoint holds every tensor of its config");
        stored.iter().map(|&(shard, entry)| self.shards[shard].data(&self.shards[shard].tensors()[entry])).collect()
    }

    fn place_of(&self, bytes: &[u8]) -> Option<(&FileBytes, Range<usize>)> {
        self.shards.iter().map(Shard::file).find_map(|file| Some((file, file.range_of(bytes)?)))
    }
}
