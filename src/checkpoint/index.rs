//! Which files make up a checkpoint: one, many, or those that `*.safetensors.index.json` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::json::Object;
use super::{CheckpointError, Shard};
use crate::mapped::FileBytes;

/// The files of a checkpoint directory.
pub(super) struct Files {
    pub(super) config: PathBuf,
    pub(super) shards: Vec<PathBuf>,
    pub(super) index: Option<Index>,
    pub(super) warnings: Vec<String>,
}

/// `*.safetensors.index.json`: which file holds which tensor.
pub(crate) struct Index {
    path: PathBuf,
    weight_map: BTreeMap<String, String>,
    total_size: Option<u64>,
}

#[derive(serde::Deserialize)]
struct IndexFile {
    #[serde(default)]
    metadata: Option<Object<IndexMetadata>>,
    weight_map: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
struct IndexMetadata {
    total_size: Option<u64>,
}

/// Finds config, index and shards of the checkpoint at `path`.
pub(super) fn discover(path: &Path) -> Result<Files, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.into(), source };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_file() {
        return discover_file(path);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let config = path.join("config.json");
    let with_suffix = |suffix: &str| names.iter().filter(|n| n.ends_with(suffix)).cloned().collect::<Vec<_>>();
    let present = with_suffix(".safetensors");
    if present.is_empty() {
        let hint = match names.iter().any(|n| n == "original") {
            true => " (its `original` folder may: pass that)".to_string(),
            false => String::new(),
        };
        return Err(CheckpointError::NoShards { path: path.into(), hint });
    }
    if !names.iter().any(|n| n == "config.json") {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "not found beside the *.safetensors files");
        return Err(CheckpointError::Io { path: config, source });
    }
    let Some(index_name) = with_suffix(".safetensors.index.json").into_iter().next() else {
        let shards = present.iter().map(|n| path.join(n)).collect();
        return Ok(Files { config, shards, index: None, warnings: Vec::new() });
    };
    let index = Index::read(&path.join(index_name))?;
    let listed = index.files(&present)?;
    let unlisted: Vec<&str> = present.iter().map(String::as_str).filter(|n| !listed.contains(n)).collect();
    let warnings = match unlisted.is_empty() {
        true => Vec::new(),
        false => vec![format!("{}: not in weight_map, left out: {}", index.path.display(), unlisted.join(", "))],
    };
    let shards = listed.iter().map(|n| path.join(n)).collect();
    Ok(Files { config, shards, index: Some(index), warnings })
}

fn discover_file(path: &Path) -> Result<Files, CheckpointError> {
    if path.extension().is_none_or(|e| e != "safetensors") {
        let found = "a file that is no *.safetensors".to_string();
        return Err(CheckpointError::NotACheckpoint { path: path.into(), found });
    }
    let config = path.with_file_name("config.json");
    Ok(Files { config, shards: vec![path.into()], index: None, warnings: Vec::new() })
}

impl Index {
    fn read(path: &Path) -> Result<Index, CheckpointError> {
        let text = FileBytes::map(path).map_err(|source| CheckpointError::Io { path: path.into(), source })?;
        Index::parse(path, &text)
    }

    /// Reads the index file's text; `path` is for messages.
    pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Index, CheckpointError> {
        let Object(file): Object<IndexFile> =
            serde_json::from_slice(text).map_err(|source| CheckpointError::IndexJson { path: path.into(), source })?;
        let Index { path, weight_map, total_size } = Index {
            path: path.into(),
            weight_map: file.weight_map,
            total_size: file.metadata.and_then(|metadata| metadata.0.total_size),
        };
        // A name with a separator would let an index reach outside its own directory.
        let outside = |file: &String| file.is_empty() || Path::new(file).file_name().is_none_or(|n| n != file.as_str());
        if let Some((name, file)) = weight_map.iter().find(|(_, file)| outside(file)) {
            return Err(CheckpointError::IndexFileName { path, name: name.clone(), file: file.clone() });
        }
        Ok(Index { path, weight_map, total_size })
    }

    /// The listed files, in order.
    pub(crate) fn listed(&self) -> Vec<String> {
        let listed: BTreeSet<&String> = self.weight_map.values().collect();
        listed.into_iter().cloned().collect()
    }

    /// The listed files, each checked to be among those present.
    fn files(&self, present: &[String]) -> Result<BTreeSet<&str>, CheckpointError> {
        let listed: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        match listed.iter().find(|file| !present.iter().any(|p| p == *file)) {
            Some(file) => Err(CheckpointError::IndexFileAbsent { path: self.path.clone(), file: (*file).into() }),
            None => Ok(listed),
        }
    }

    /// The index and the files' own headers must say the same.
    pub(crate) fn check(&self, shards: &[Shard]) -> Result<(), CheckpointError> {
        let path = || self.path.clone();
        let mut held = BTreeSet::new();
        let mut want_bytes = 0;
        for shard in shards {
            let file = shard.path().file_name().unwrap_or_default().to_string_lossy();
            for tensor in shard.tensors() {
                want_bytes += tensor.range.end - tensor.range.start;
                if self.weight_map.get(&tensor.name).map(String::as_str) == Some(&file) {
                    held.insert(&tensor.name);
                } else if !self.weight_map.contains_key(&tensor.name) {
                    let (name, file) = (tensor.name.clone(), file.into_owned());
                    return Err(CheckpointError::IndexTensorUnlisted { path: path(), name, file });
                }
            }
        }
        if let Some((name, file)) = self.weight_map.iter().find(|(name, _)| !held.contains(name)) {
            return Err(CheckpointError::IndexTensorAbsent { path: path(), name: name.clone(), file: file.clone() });
        }
        match self.total_size {
            Some(found_bytes) if found_bytes != want_bytes => {
                Err(CheckpointError::IndexTotalSize { path: path(), want_bytes, found_bytes })
            }
            _ => Ok(()),
        }
    }
}
