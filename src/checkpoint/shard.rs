//! One SafeTensors file: a strict reader of its header, and zero-copy views of its tensors.
//!
//! | offset | bytes | field  | rule                                                                                  |
//! |-------:|------:|--------|---------------------------------------------------------------------------------------|
//! |      0 |     8 | length | u64 LE, at most [`HEADER_BYTES_MAX`], within the file                                  |
//! |      8 |     n | header | UTF-8 JSON object, `name → {dtype, shape, data_offsets}`, no name twice                |
//! |  8 + n |     … | data   | every byte belongs to exactly one tensor; offsets count from here                      |
//!
//! Format: <https://github.com/huggingface/safetensors>.  A length, product or range is checked before it is used.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::CheckpointError;
use super::dtype::Dtype;
use super::json::Object;
use crate::mapped::FileBytes;

/// Longest accepted header; the format's own crate has the same limit.
pub const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Bytes of the length field in front of the header.
pub const LENGTH_BYTES: usize = 8;
/// The header's one key that names no tensor; free text, which no reader here uses.
const METADATA: &str = "__metadata__";

/// One tensor of a SafeTensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Name in the header.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, slowest first.
    pub shape: Vec<u64>,
    /// Its bytes, as absolute offsets in the file.
    pub range: Range<u64>,
}

/// An open SafeTensors file.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    bytes: FileBytes,
    tensors: Vec<TensorEntry>,
    data_start: u64,
}

impl Shard {
    /// Maps and validates a file.
    pub fn open(path: &Path) -> Result<Shard, CheckpointError> {
        let bytes = FileBytes::map(path).map_err(|source| CheckpointError::Io { path: path.into(), source })?;
        Shard::from_bytes(path, bytes)
    }

    /// Validates bytes; `path` is for messages.
    pub fn from_bytes(path: &Path, bytes: FileBytes) -> Result<Shard, CheckpointError> {
        let data_start = header_end(path, &bytes)?;
        let header = parse_header(path, &bytes[LENGTH_BYTES..data_start as usize])?;
        let data_bytes = bytes.len() as u64 - data_start;
        let mut tensors = Vec::with_capacity(header.len());
        for (name, entry) in header {
            let range = checked_range(path, &name, &entry, data_bytes)?;
            let dtype = Dtype::parse(&entry.dtype).expect("checked_range refused unknown dtypes");
            let range = range.start + data_start..range.end + data_start;
            tensors.push(TensorEntry { name, dtype, shape: entry.shape, range });
        }
        tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
        let shard = Shard { path: path.into(), bytes, tensors, data_start };
        shard.check_duplicates()?;
        shard.check_coverage(data_bytes)?;
        Ok(shard)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file.
    pub fn file(&self) -> &FileBytes {
        &self.bytes
    }

    /// Tensors in the order of their data.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// Where the data begins: 8 plus the header's length.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// The bytes of one of this file's tensors.
    pub fn data(&self, entry: &TensorEntry) -> &[u8] {
        &self.bytes[entry.range.start as usize..entry.range.end as usize]
    }

    /// Every data byte belongs to exactly one tensor: sorted ranges must touch, from the start to the end of the file.
    fn check_coverage(&self, data_bytes: u64) -> Result<(), CheckpointError> {
        let mut covered = self.data_start;
        let mut previous: Option<&TensorEntry> = None;
        for tensor in &self.tensors {
            if tensor.range.start > covered {
                return Err(self.gap(covered..tensor.range.start));
            }
            if tensor.range.start < covered {
                let other = previous.expect("only an earlier tensor can have covered anything");
                return Err(CheckpointError::TensorOverlap {
                    path: self.path.clone(),
                    name: tensor.name.clone(),
                    start: tensor.range.start - self.data_start,
                    other: other.name.clone(),
                    other_end: covered - self.data_start,
                });
            }
            covered = tensor.range.end;
            previous = Some(tensor);
        }
        let end = self.data_start + data_bytes;
        if covered < end { Err(self.gap(covered..end)) } else { Ok(()) }
    }

    fn gap(&self, file_range: Range<u64>) -> CheckpointError {
        let gap = file_range.start - self.data_start..file_range.end - self.data_start;
        CheckpointError::DataGap { path: self.path.clone(), gap }
    }

    fn check_duplicates(&self) -> Result<(), CheckpointError> {
        let mut names: Vec<&str> = self.tensors.iter().map(|t| t.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(CheckpointError::HeaderDuplicate { path: self.path.clone(), name: pair[0].into() }),
            None => Ok(()),
        }
    }
}

/// The end of the header, after checking its length against the limit and the file.
fn header_end(path: &Path, bytes: &[u8]) -> Result<u64, CheckpointError> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Err(CheckpointError::ShardTooShort { path: path.into(), found_bytes: bytes.len() as u64 });
    };
    let want_bytes = u64::from_le_bytes(*length);
    let found_bytes = (bytes.len() - LENGTH_BYTES) as u64;
    if want_bytes > HEADER_BYTES_MAX {
        let max_bytes = HEADER_BYTES_MAX;
        return Err(CheckpointError::HeaderTooLong { path: path.into(), found_bytes: want_bytes, max_bytes });
    }
    if want_bytes > found_bytes {
        return Err(CheckpointError::HeaderTruncated { path: path.into(), want_bytes, found_bytes });
    }
    Ok(LENGTH_BYTES as u64 + want_bytes)
}

/// One entry of the header as JSON spells it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

fn parse_header(path: &Path, text: &[u8]) -> Result<Vec<(String, HeaderEntry)>, CheckpointError> {
    let text = std::str::from_utf8(text).map_err(|e| CheckpointError::HeaderNotUtf8 {
        path: path.into(),
        offset: (LENGTH_BYTES + e.valid_up_to()) as u64,
    })?;
    match text.as_bytes().first() {
        Some(b'{') => {}
        found => return Err(CheckpointError::HeaderStart { path: path.into(), found: found.copied().unwrap_or(0) }),
    }
    serde_json::from_str::<HeaderTensors>(text)
        .map(|header| header.0)
        .map_err(|source| CheckpointError::HeaderJson { path: path.into(), source })
}

/// The entries in the order of the text, repeated names kept: a JSON map type would hide a duplicate.
struct HeaderTensors(Vec<(String, HeaderEntry)>);

impl<'de> Deserialize<'de> for HeaderTensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = HeaderTensors;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensor entries")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderTensors, A::Error> {
                let mut entries = Vec::new();
                let mut metadata_seen = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        if std::mem::replace(&mut metadata_seen, true) {
                            return Err(serde::de::Error::duplicate_field(METADATA));
                        }
                        map.next_value::<std::collections::BTreeMap<String, String>>()?;
                    } else {
                        entries.push((name, map.next_value::<Object<HeaderEntry>>()?.0));
                    }
                }
                Ok(HeaderTensors(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The entry's data range, after checking dtype, size and bounds.
fn checked_range(path: &Path, name: &str, entry: &HeaderEntry, data_bytes: u64) -> Result<Range<u64>, CheckpointError> {
    let (path, name) = (PathBuf::from(path), name.to_string());
    let Some(dtype) = Dtype::parse(&entry.dtype) else {
        return Err(CheckpointError::DtypeUnknown { path, name, found: entry.dtype.clone() });
    };
    let shape = entry.shape.clone();
    let elements = shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let Some(want_bytes) = elements.and_then(|n| n.checked_mul(dtype.bytes() as u64)) else {
        return Err(CheckpointError::ShapeOverflow { path, name, shape });
    };
    let (start, end) = entry.data_offsets;
    if start > end {
        return Err(CheckpointError::OffsetsReversed { path, name, start, end });
    }
    if end > data_bytes {
        return Err(CheckpointError::TensorOutOfBounds { path, name, end, data_bytes });
    }
    if end - start != want_bytes {
        let found_bytes = end - start;
        return Err(CheckpointError::TensorBytes { path, name, dtype, shape, want_bytes, found_bytes });
    }
    Ok(start..end)
}
