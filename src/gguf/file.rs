//! A GGUF on disk, mapped: one file, or all files of a split.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::GgufError;
use super::ggml_type::GgmlType;
use super::index::{Index, MAGIC};
use super::metadata::Metadata;
use super::peculiarity::{Peculiarities, PeculiarityKind};
use super::split::{self, Split};
use super::tensors::{TensorInfo, align_up};
use crate::mapped::FileBytes;

/// One file.
#[derive(Debug)]
pub struct Part {
    /// Its bytes.
    pub file: FileBytes,
    /// What its header says.
    pub index: Index,
}

impl Part {
    fn open(path: &Path) -> Result<Part, GgufError> {
        let file = FileBytes::map(path).map_err(|source| GgufError::Io { path: path.into(), source })?;
        Part::from_bytes(path, file)
    }

    fn from_bytes(path: &Path, file: FileBytes) -> Result<Part, GgufError> {
        let index = Index::of_file(path, &file)?;
        Ok(Part { file, index })
    }
}

/// An open GGUF.
///
/// **Invariant:** the files are the set that their metadata says, and no two hold a tensor of one name.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    parts: Vec<Part>,
}

/// A tensor and the file it is in.
#[derive(Debug, Clone, Copy)]
pub struct Located<'a> {
    /// The file.
    pub part: &'a Part,
    /// The tensor.
    pub info: &'a TensorInfo,
}

impl<'a> Located<'a> {
    /// Where in its file the data lies.
    ///
    /// # Errors
    /// [`GgufError::TypeUnsupported`].
    pub fn range(&self) -> Result<Range<u64>, GgufError> {
        self.part.index.range(self.info)
    }

    /// The data.
    ///
    /// # Errors
    /// [`GgufError::TypeUnsupported`].
    pub fn bytes(&self) -> Result<&'a [u8], GgufError> {
        let range = self.range()?;
        Ok(&self.part.file[range.start as usize..range.end as usize])
    }

    /// The data, read as another type of the same dimensions: a dialect may know an id that ggml took back.
    ///
    /// # Errors
    /// [`GgufError::TypeUnsupported`] if that type is not known either, [`GgufError::TensorPastEnd`] if it needs more than
    /// the file holds; overlaps with other tensors are the caller's to see.
    pub fn bytes_as(&self, ggml_type: GgmlType) -> Result<&'a [u8], GgufError> {
        let (index, info) = (&self.part.index, self.info);
        let unsupported =
            || GgufError::TypeUnsupported { path: index.path.clone(), name: info.name.clone(), found: ggml_type };
        let bytes = ggml_type.bytes_of(&info.dims).ok_or_else(unsupported)?;
        let (start, found_bytes) = (index.data_offset + info.offset, self.part.file.len() as u64);
        let end = start.saturating_add(bytes);
        if end > found_bytes {
            return Err(GgufError::TensorPastEnd {
                path: index.path.clone(),
                name: info.name.clone(),
                end,
                found_bytes,
            });
        }
        Ok(&self.part.file[start as usize..end as usize])
    }
}

impl Gguf {
    /// Opens a file; one of a split opens all, which lie beside it.
    ///
    /// # Errors
    /// Any [`GgufError`] but those about a tensor's or a key's absence.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let part = Part::open(path)?;
        let Some(split) = Split::of(&part.index)? else {
            return Ok(Gguf { path: path.into(), parts: vec![part] });
        };
        let paths = split.paths(path)?;
        let mut parts = Vec::new();
        for (number, path) in (1..).zip(&paths) {
            parts.push(Part::open(path).map_err(|error| match error {
                GgufError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => {
                    GgufError::SplitMissing { path, number, count: split.count }
                }
                other => other,
            })?);
        }
        split::check_set(parts.iter().map(|part| &part.index))?;
        Ok(Gguf { path: path.into(), parts })
    }

    /// Reads a whole file that is in memory; `path` is for messages.
    ///
    /// # Errors
    /// As [`Gguf::open`], and [`GgufError::SplitMissing`] for one file of a split.
    pub fn from_bytes(path: &Path, file: FileBytes) -> Result<Gguf, GgufError> {
        let part = Part::from_bytes(path, file)?;
        match Split::of(&part.index)? {
            None => Ok(Gguf { path: path.into(), parts: vec![part] }),
            Some(split) => {
                let number = if split.number == 0 { 2 } else { 1 };
                Err(GgufError::SplitMissing { path: path.into(), number, count: split.count })
            }
        }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The index of the first file, whose metadata is the model's.
    pub fn index(&self) -> &Index {
        &self.parts[0].index
    }

    /// The metadata of the first file.
    pub fn metadata(&self) -> &Metadata {
        &self.index().metadata
    }

    /// Every tensor, in the order of files and infos.
    pub fn tensors(&self) -> impl Iterator<Item = Located<'_>> {
        self.parts.iter().flat_map(|part| part.index.tensors.iter().map(move |info| Located { part, info }))
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<Located<'_>> {
        self.parts.iter().find_map(|part| Some(Located { part, info: part.index.tensor(name)? }))
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`GgufError::NoSuchTensor`].
    pub fn required_tensor(&self, name: &str) -> Result<Located<'_>, GgufError> {
        let absent = || GgufError::NoSuchTensor { path: self.path.clone(), name: name.into() };
        self.tensor(name).ok_or_else(absent)
    }

    /// Padding between tensors that is not zero: the one rule that only the data shows.
    pub fn padding(&self) -> Peculiarities {
        let mut odd = Peculiarities::default();
        for Located { part, info } in self.tensors() {
            let Ok(range) = part.index.range(info) else { continue };
            let padded = align_up(range.end - part.index.data_offset, part.index.alignment);
            let end = part.index.data_offset.saturating_add(padded).min(part.file.len() as u64);
            let padding = &part.file[range.end as usize..end as usize];
            if let Some(at) = padding.iter().position(|byte| *byte != 0) {
                odd.note(PeculiarityKind::PaddingNotZero, &info.name, range.end + at as u64);
            }
        }
        odd
    }
}

/// Whether a file is, or is called, a GGUF: a damaged magic must still reach the reader that can say so.
pub fn is_gguf(path: &Path, start: &[u8]) -> bool {
    let is_called = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    start.starts_with(&MAGIC) || is_called
}
