//! Files that were split: `<prefix>-00001-of-0000N.gguf`, each with its own header and data.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::GgufError;
use super::index::Index;
use super::limits;

/// Which file of a set this is, from 0.
pub const NUMBER_KEY: &str = "split.no";
/// How many files the set has.
pub const COUNT_KEY: &str = "split.count";
/// How many tensors they hold together.
pub const TENSORS_KEY: &str = "split.tensors.count";

/// What a file says of the set it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Which file this is, from 0.
    pub number: u64,
    /// How many there are: at least 2.
    pub count: u64,
    /// How many tensors they hold together, where it is told.
    pub tensors: Option<u64>,
}

impl Split {
    /// The set that a file belongs to; `None` for a whole file.
    ///
    /// # Errors
    /// [`GgufError::MetadataType`], [`GgufError::MetadataMissing`], [`GgufError::SplitField`].
    pub fn of(index: &Index) -> Result<Option<Split>, GgufError> {
        let Some(count) = index.unsigned(COUNT_KEY)?.filter(|count| *count > 1) else { return Ok(None) };
        if count > limits::SPLITS_MAX {
            return Err(field(&index.path, COUNT_KEY, format!("at most {}", limits::SPLITS_MAX), count));
        }
        let number = index.required(NUMBER_KEY, index.unsigned(NUMBER_KEY)?)?;
        if number >= count {
            return Err(field(&index.path, NUMBER_KEY, format!("below split.count = {count}"), number));
        }
        Ok(Some(Split { number, count, tensors: index.unsigned(TENSORS_KEY)? }))
    }

    /// How the name of this file ends.
    pub fn suffix(&self) -> String {
        suffix(self.number, self.count)
    }

    /// The names of all files of the set, in order, from the name of this one: a file's name or the last part of an address.
    ///
    /// # Errors
    /// [`GgufError::SplitName`]; `path` is for its message.
    pub fn names(&self, path: &Path, name: &str) -> Result<Vec<String>, GgufError> {
        let Some(prefix) = name.strip_suffix(&self.suffix()) else {
            return Err(GgufError::SplitName { path: path.into(), count: self.count, want: self.suffix() });
        };
        Ok((0..self.count).map(|number| format!("{prefix}{}", suffix(number, self.count))).collect())
    }

    /// The paths of all files of the set, in order.
    ///
    /// # Errors
    /// [`GgufError::SplitName`].
    pub fn paths(&self, path: &Path) -> Result<Vec<PathBuf>, GgufError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(self.names(path, &name)?.iter().map(|name| path.with_file_name(name)).collect())
    }
}

fn suffix(number: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}

fn field(path: &Path, field: &'static str, want: String, found: impl ToString) -> GgufError {
    GgufError::SplitField { path: path.into(), field, want, found: found.to_string() }
}

/// Whether files, in the order of their names, are the set that the first says they are.
///
/// # Errors
/// [`GgufError::SplitField`], [`GgufError::SplitTensorTwice`].
pub fn check_set<'a>(files: impl Iterator<Item = &'a Index> + Clone) -> Result<(), GgufError> {
    let count = files.clone().count() as u64;
    for (number, index) in files.clone().enumerate() {
        let found = Split::of(index)?;
        let (found_count, found_number) = found.map_or((1, 0), |split| (split.count, split.number));
        if found_count != count {
            return Err(field(&index.path, COUNT_KEY, format!("{count}, as the other files say"), found_count));
        }
        if found_number != number as u64 {
            return Err(field(&index.path, NUMBER_KEY, format!("{number}, as the file's name says"), found_number));
        }
    }
    let held: u64 = files.clone().map(|index| index.tensors.len() as u64).sum();
    for index in files.clone() {
        if let Some(told) = index.unsigned(TENSORS_KEY)?.filter(|told| *told != held) {
            return Err(field(&index.path, TENSORS_KEY, format!("{held}, which the {count} file(s) hold"), told));
        }
    }
    let mut names = HashMap::new();
    for index in files {
        for tensor in &index.tensors {
            if let Some(first) = names.insert(tensor.name.as_str(), &index.path) {
                let (name, first, second) = (tensor.name.clone(), first.clone(), index.path.clone());
                return Err(GgufError::SplitTensorTwice { name, first, second });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_one_of_them() {
        let split = Split { number: 1, count: 3, tensors: None };
        let names = split.names(Path::new("a"), "m-00002-of-00003.gguf").expect("the name fits");
        assert_eq!(names, ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]);
        assert!(matches!(split.names(Path::new("a"), "m.gguf"), Err(GgufError::SplitName { .. })));
        let paths = split.paths(Path::new("far/m-00002-of-00003.gguf")).expect("the name fits");
        assert_eq!(paths[2], Path::new("far/m-00003-of-00003.gguf"));
    }
}
