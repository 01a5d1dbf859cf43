//! Manifests: the recorded SHA-256 of a checkpoint's files, section by section, tensor by tensor.
//!
//! The harness makes them; whoever reads bytes that came a long way holds them against one.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::Layout;
use crate::mapped::FileBytes;

/// Version of the manifest's shape.
pub(crate) const SCHEMA: u32 = 1;

/// The digests of a checkpoint's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this shape: 1.
    pub schema: u32,
    /// How the checkpoint stores tensors.
    pub layout: Layout,
    /// The files.
    pub files: Vec<FileDigests>,
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigests {
    /// Name within the checkpoint.
    pub file: String,
    /// Length.
    pub bytes: u64,
    /// Sections in order; together they are the whole file.
    pub sections: Vec<SectionDigest>,
}

/// One section of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SectionDigest {
    /// `header`, a tensor, `block.N.shared`, `block.N.experts`, …
    pub name: String,
    /// Absolute offset.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
    /// SHA-256 of the bytes where there is one part, else of the parts' digests joined.
    pub sha256: String,
    /// Tensors (and padding) of the section; empty where the section is one piece.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartDigest>,
}

/// One tensor, or one run of padding, within a section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartDigest {
    /// The tensor's name.
    pub name: String,
    /// Absolute offset.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
    /// SHA-256 of the bytes.
    pub sha256: String,
}

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ManifestError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: not a manifest: {source}", path = path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path}: schema {found}: expected {SCHEMA}", path = path.display())]
    Schema { path: PathBuf, found: u32 },
    #[error("{path}: lists no section: nothing could be checked against it", path = path.display())]
    Empty { path: PathBuf },
}

impl Manifest {
    /// Reads a manifest file.
    pub fn read(path: &Path) -> Result<Manifest, ManifestError> {
        let text = FileBytes::map(path).map_err(|source| ManifestError::Io { path: path.into(), source })?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|source| ManifestError::Json { path: path.into(), source })?;
        if manifest.schema != SCHEMA {
            return Err(ManifestError::Schema { path: path.into(), found: manifest.schema });
        }
        if manifest.files.iter().all(|file| file.sections.is_empty()) {
            return Err(ManifestError::Empty { path: path.into() });
        }
        Ok(manifest)
    }

    /// The manifest file's text.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a manifest has a JSON form");
        text.push('\n');
        text
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FileDigests {
    /// Ranges of the file and their digests in hex, by start: a section's parts where it has any, else the section.
    pub fn ranges(&self) -> Vec<(Range<u64>, String)> {
        let range = |offset: u64, bytes: u64, sha256: &String| (offset..offset.saturating_add(bytes), sha256.clone());
        let of = |section: &SectionDigest| match section.parts.as_slice() {
            [] => vec![range(section.offset, section.bytes, &section.sha256)],
            parts => parts.iter().map(|part| range(part.offset, part.bytes, &part.sha256)).collect(),
        };
        let mut ranges: Vec<_> = self.sections.iter().flat_map(of).filter(|(range, _)| !range.is_empty()).collect();
        ranges.sort_by_key(|(range, _)| range.start);
        ranges
    }
}
