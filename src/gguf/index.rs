//! The index of one file: everything before the data, read from a prefix that may grow.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::cursor::{Cursor, Stop};
use super::error::GgufError;
use super::metadata::{self, Metadata};
use super::peculiarity::{Peculiarities, PeculiarityKind};
use super::tensors::{self, DataSection, TensorInfo, align_up};
use super::value::{Array, Value, ValueType};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, limits};

/// The first four bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The magic as a program that writes big-endian words would leave it.
const MAGIC_REVERSED: [u8; 4] = *b"FUGG";

/// What a prefix of a file gave.
#[derive(Debug, PartialEq)]
pub enum Parsed {
    /// The index: the prefix held all of the header.
    Complete(Index),
    /// The prefix ends before the header does.
    NeedMore {
        /// Bytes from the start of the file that are surely needed; the header may go on behind them, so that a reader over
        /// a network asks for a whole chunk more.
        at_least: u64,
    },
}

/// Everything that a file says before its data.
///
/// **Invariant:** no two tensors overlap, each begins at a multiple of the alignment and, where the length of the file was
/// known, lies in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// The file, for messages.
    pub path: PathBuf,
    /// Format version: 2 or 3.
    pub version: u32,
    /// Alignment of the tensors.
    pub alignment: u64,
    /// Metadata, in the order of the file.
    pub metadata: Metadata,
    /// Tensors, in the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// Where the data begins.
    pub data_offset: u64,
    /// Length of the file, where it was known.
    pub file_bytes: Option<u64>,
    /// What is unusual although it is allowed.
    pub peculiarities: Peculiarities,
    by_name: Vec<u32>,
}

impl Index {
    /// Reads the index from the first bytes of a file, as many as there are.
    ///
    /// `file_bytes` is the length of the whole file; without it, tensors are not held against the file's end
    /// ([`Index::check_end`] does that later).  Every longer prefix gives the same index or the same error.
    ///
    /// # Errors
    /// Any [`GgufError`] about a header.
    pub fn parse(path: &Path, prefix: &[u8], file_bytes: Option<u64>) -> Result<Parsed, GgufError> {
        match Index::read(&mut Cursor::new(path, prefix, file_bytes), file_bytes) {
            Ok(index) => Ok(Parsed::Complete(index)),
            Err(Stop::NeedMore(at_least)) => Ok(Parsed::NeedMore { at_least }),
            Err(Stop::Refused(error)) => Err(error),
        }
    }

    /// Reads the index of a file of which all bytes are there.
    ///
    /// # Errors
    /// Any [`GgufError`] about a header.
    pub fn of_file(path: &Path, file: &[u8]) -> Result<Index, GgufError> {
        match Index::parse(path, file, Some(file.len() as u64))? {
            Parsed::Complete(index) => Ok(index),
            Parsed::NeedMore { .. } => unreachable!("a field behind the end of the file is an error"),
        }
    }

    fn read(cursor: &mut Cursor<'_>, file_bytes: Option<u64>) -> Result<Index, Stop> {
        let mut odd = Peculiarities::default();
        let version = read_version(cursor, &mut odd)?;
        let tensor_count = cursor.count(limits::TENSORS_MAX, tensors::INFO_BYTES_MIN, || "tensor count".into())?;
        let entry_bytes = metadata::ENTRY_BYTES_MIN;
        let metadata_count = cursor.count(limits::METADATA_MAX, entry_bytes, || "metadata count".into())?;
        let metadata = Metadata::parse(cursor, metadata_count, &mut odd)?;
        let alignment = read_alignment(cursor.path, &metadata, &mut odd)?;
        cursor.demand(tensor_count * tensors::INFO_BYTES_MIN, || "tensor infos".into())?;
        let tensors = TensorInfo::parse_all(cursor, tensor_count, alignment, &mut odd)?;
        let data_offset = read_padding(cursor, alignment, file_bytes, tensors.is_empty(), &mut odd)?;
        DataSection { path: cursor.path, alignment, data_offset, file_bytes }.check(&tensors, &mut odd)?;
        let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect();
        by_name.sort_unstable_by_key(|&at| tensors[at as usize].name.as_str());
        let path = cursor.path.into();
        Ok(Index { path, version, alignment, metadata, tensors, data_offset, file_bytes, peculiarities: odd, by_name })
    }

    /// Holds the tensors against the length of the file, where it was not known before.
    ///
    /// # Errors
    /// [`GgufError::TensorPastEnd`].
    pub fn check_end(mut self, file_bytes: u64) -> Result<Index, GgufError> {
        self.file_bytes = Some(file_bytes);
        let (path, alignment, data_offset) = (&self.path, self.alignment, self.data_offset);
        let section = DataSection { path, alignment, data_offset, file_bytes: self.file_bytes };
        // What was noted of the order is noted again: only the end is news.
        let mut odd = Peculiarities::default();
        section.check(&self.tensors, &mut odd)?;
        for kind in [PeculiarityKind::TrailingBytes, PeculiarityKind::EndNotPadded] {
            if let Some(peculiarity) = odd.of(kind).filter(|_| self.peculiarities.of(kind).is_none()) {
                self.peculiarities.note(kind, &peculiarity.first, peculiarity.offset);
            }
        }
        Ok(self)
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let found = self.by_name.binary_search_by_key(&name, |&at| self.tensors[at as usize].name.as_str());
        found.ok().map(|at| &self.tensors[self.by_name[at] as usize])
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`GgufError::NoSuchTensor`].
    pub fn required_tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.tensor(name).ok_or_else(|| GgufError::NoSuchTensor { path: self.path.clone(), name: name.into() })
    }

    /// Where in the file a tensor's data lies.
    ///
    /// # Errors
    /// [`GgufError::TypeUnsupported`] for a type that is not known: its data has no known length.
    pub fn range(&self, tensor: &TensorInfo) -> Result<Range<u64>, GgufError> {
        let start = self.data_offset + tensor.offset;
        let unsupported = || {
            let (path, name, found) = (self.path.clone(), tensor.name.clone(), tensor.ggml_type);
            GgufError::TypeUnsupported { path, name, found }
        };
        Ok(start..start + tensor.bytes.ok_or_else(unsupported)?)
    }

    /// An unsigned integer of any width; `None` where the key is not there.
    ///
    /// # Errors
    /// [`GgufError::MetadataType`] for anything else.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "an integer, 0 or above", Value::as_u64)
    }

    /// A floating-point number of either width.
    ///
    /// # Errors
    /// [`GgufError::MetadataType`] for anything else.
    pub fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a floating-point number", Value::as_f64)
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`GgufError::MetadataType`] for anything else.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a bool", Value::as_bool)
    }

    /// A string.
    ///
    /// # Errors
    /// [`GgufError::MetadataType`] for anything else, and for bytes that are not UTF-8.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a UTF-8 string", Value::as_str)
    }

    /// An array whose elements have that type.
    ///
    /// # Errors
    /// [`GgufError::MetadataType`] for anything else.
    pub fn array(&self, key: &str, element: ValueType) -> Result<Option<Array<'_>>, GgufError> {
        let of_type = |value: Value<'_>| value.as_array().is_some_and(|array| array.element_type() == element);
        let found = self.typed(key, &format!("an array of {element}"), |value| of_type(value).then_some(()))?;
        Ok(found.and_then(|()| self.metadata.get(key)?.as_array()))
    }

    /// A value that must be there.
    ///
    /// # Errors
    /// [`GgufError::MetadataMissing`].
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, GgufError> {
        value.ok_or_else(|| GgufError::MetadataMissing { path: self.path.clone(), key: key.into() })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        want: &str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => {
                let offset = self.metadata.offset_of(key).unwrap_or(0);
                let found = format!("{} {value}", value.value_type());
                Err(GgufError::MetadataType {
                    path: self.path.clone(),
                    key: key.into(),
                    offset,
                    want: want.into(),
                    found,
                })
            }
        }
    }
}

fn read_version(cursor: &mut Cursor<'_>, odd: &mut Peculiarities) -> Result<u32, Stop> {
    let path = || cursor.path.into();
    let magic = cursor.take(4, || "the magic".into())?;
    if magic == MAGIC_REVERSED {
        let found = format!("the magic `{}`", magic.escape_ascii());
        return Err(GgufError::BigEndian { path: path(), offset: 0, found }.into());
    }
    if magic != MAGIC {
        return Err(GgufError::GgufMagic { path: path(), found: magic.escape_ascii().to_string() }.into());
    }
    let offset = cursor.offset();
    let found = cursor.u32(|| "the version".into())?;
    match found {
        3 => Ok(3),
        2 => {
            odd.note(PeculiarityKind::OldVersion, "version", offset);
            Ok(2)
        }
        // ggml's own heuristic: no version comes near 65 536.
        _ if found != 0 && found & 0xffff == 0 => {
            let (path, found) = (cursor.path.into(), format!("the version {found:#010x}"));
            Err(GgufError::BigEndian { path, offset, found }.into())
        }
        _ => Err(GgufError::GgufVersion { path: cursor.path.into(), found }.into()),
    }
}

fn read_alignment(path: &Path, metadata: &Metadata, odd: &mut Peculiarities) -> Result<u64, GgufError> {
    let Some(value) = metadata.get(ALIGNMENT_KEY) else { return Ok(DEFAULT_ALIGNMENT) };
    let offset = metadata.offset_of(ALIGNMENT_KEY).unwrap_or(0);
    let Value::U32(alignment) = value else {
        let (path, key) = (path.into(), ALIGNMENT_KEY.into());
        let found = format!("{} {value}", value.value_type());
        return Err(GgufError::MetadataType { path, key, offset, want: "a u32".into(), found });
    };
    let found = u64::from(alignment);
    if found == 0 || found % 8 != 0 {
        return Err(GgufError::Alignment { path: path.into(), offset, found });
    }
    if !found.is_power_of_two() {
        odd.note(PeculiarityKind::AlignmentNoPowerOfTwo, ALIGNMENT_KEY, offset);
    }
    Ok(found)
}

/// Steps over the padding in front of the data; the data's offset.
fn read_padding(
    cursor: &mut Cursor<'_>,
    alignment: u64,
    file_bytes: Option<u64>,
    has_no_data: bool,
    odd: &mut Peculiarities,
) -> Result<u64, Stop> {
    let offset = cursor.offset();
    let data_offset = align_up(offset, alignment);
    // A file without tensors may end where its infos do.
    let end = match has_no_data {
        true => data_offset.min(file_bytes.unwrap_or(offset).max(offset)),
        false => data_offset,
    };
    let padding = cursor.take(end - offset, || "padding before the data".into())?;
    if let Some(at) = padding.iter().position(|byte| *byte != 0) {
        odd.note(PeculiarityKind::PaddingNotZero, "padding before the data", offset + at as u64);
    }
    Ok(data_offset)
}
