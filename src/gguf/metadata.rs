//! Keys and values of a file's metadata.

use std::collections::HashSet;
use std::ops::Range;

use super::cursor::{Cursor, Stop};
use super::error::GgufError;
use super::limits;
use super::peculiarity::{Peculiarities, PeculiarityKind};
use super::value::{Value, ValueType};

/// Fewest bytes of an entry: length and one byte of a key, a type, a value of one byte.
pub(super) const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 1;

/// The metadata of a file, in its order: one copy of the bytes, and where each value lies in it.
#[derive(Clone, Default, PartialEq)]
pub struct Metadata {
    /// Bytes of all entries.
    bytes: Vec<u8>,
    /// Offset of `bytes` in the file.
    start: u64,
    entries: Vec<Entry>,
}

/// Ranges are of the metadata's bytes; [`limits::HEADER_BYTES_MAX`] lets them fit in a u32.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    key: Range<u32>,
    kind: ValueType,
    value: u32,
}

impl Metadata {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.find(key).map(|entry| self.value(entry))
    }

    /// Where the value of `key` lies in the file.
    pub fn offset_of(&self, key: &str) -> Option<u64> {
        self.find(key).map(|entry| self.start + u64::from(entry.value))
    }

    /// Keys and values, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.iter().map(|entry| (self.key(entry), self.value(entry)))
    }

    fn find(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| self.key(entry) == key)
    }

    fn key(&self, entry: &Entry) -> &str {
        let bytes = &self.bytes[entry.key.start as usize..entry.key.end as usize];
        std::str::from_utf8(bytes).expect("a key was checked when it was read")
    }

    fn value(&self, entry: &Entry) -> Value<'_> {
        Value::read(entry.kind, &self.bytes[entry.value as usize..]).0
    }

    /// Reads `count` entries.
    pub(super) fn parse(cursor: &mut Cursor<'_>, count: u64, odd: &mut Peculiarities) -> Result<Metadata, Stop> {
        let start = cursor.offset();
        let inside = |offset: u64| (offset - start) as u32;
        let room = cursor.room_for(count, ENTRY_BYTES_MIN);
        let mut entries = Vec::with_capacity(room);
        let mut keys = HashSet::with_capacity(room);
        for index in 0..count {
            let offset = cursor.offset();
            let key = parse_key(cursor, index, odd)?;
            if !keys.insert(key) {
                let (path, key) = (cursor.path.into(), key.into());
                return Err(GgufError::KeyDuplicate { path, key, offset }.into());
            }
            let key_end = inside(cursor.offset());
            let kind = parse_type(cursor, key)?;
            let value = inside(cursor.offset());
            walk(cursor, key, kind, 0, odd)?;
            entries.push(Entry { key: key_end - key.len() as u32..key_end, kind, value });
        }
        Ok(Metadata { bytes: cursor.since(start).to_vec(), start, entries })
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (key, value.to_string()))).finish()
    }
}

fn parse_key<'a>(cursor: &mut Cursor<'a>, index: u64, odd: &mut Peculiarities) -> Result<&'a str, Stop> {
    let offset = cursor.offset();
    let bytes = cursor.string(limits::KEY_BYTES_MAX, || format!("metadata key {index}"))?;
    let path = || cursor.path.into();
    if bytes.is_empty() {
        return Err(GgufError::KeyEmpty { path: path(), index, offset }.into());
    }
    let Ok(key) = std::str::from_utf8(bytes) else {
        let found = bytes.escape_ascii().to_string();
        return Err(GgufError::KeyNotUtf8 { path: path(), index, offset, found }.into());
    };
    let is_usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if !key.chars().all(is_usual) {
        odd.note(PeculiarityKind::KeySpelling, key, offset);
    }
    Ok(key)
}

fn parse_type(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, Stop> {
    let offset = cursor.offset();
    let found = cursor.u32(|| format!("type of metadata `{key}`"))?;
    let unknown = || GgufError::ValueTypeUnknown { path: cursor.path.into(), key: key.into(), offset, found };
    Ok(ValueType::from_repr(found).ok_or_else(unknown)?)
}

/// Steps over a value and checks all of it, so that views need no checks.
fn walk(
    cursor: &mut Cursor<'_>,
    key: &str,
    kind: ValueType,
    depth: usize,
    odd: &mut Peculiarities,
) -> Result<(), Stop> {
    let offset = cursor.offset();
    match kind {
        ValueType::Bool => {
            let found = cursor.take(1, || format!("metadata `{key}`"))?[0];
            check_bool(cursor, key, offset, found)
        }
        ValueType::String => {
            let text = cursor.string(limits::STRING_BYTES_MAX, || format!("metadata `{key}`"))?;
            if std::str::from_utf8(text).is_err() {
                odd.note(PeculiarityKind::StringNotUtf8, key, offset);
            }
            Ok(())
        }
        ValueType::Array => walk_array(cursor, key, depth, odd),
        _ => {
            let bytes = kind.bytes().expect("every other type has a size");
            cursor.take(bytes, || format!("metadata `{key}`")).map(drop)
        }
    }
}

fn walk_array(cursor: &mut Cursor<'_>, key: &str, depth: usize, odd: &mut Peculiarities) -> Result<(), Stop> {
    let offset = cursor.offset();
    if depth == limits::ARRAY_DEPTH_MAX {
        let (path, key) = (cursor.path.into(), key.into());
        return Err(GgufError::ArrayTooDeep { path, key, offset, max: limits::ARRAY_DEPTH_MAX }.into());
    }
    let element = parse_type(cursor, key)?;
    if element == ValueType::Array {
        odd.note(PeculiarityKind::NestedArray, key, offset);
    }
    let field = || format!("elements of metadata `{key}`");
    let count = cursor.count(limits::ARRAY_MAX, element.bytes_min(), field)?;
    let start = cursor.offset();
    match element {
        ValueType::String | ValueType::Array => (0..count).try_for_each(|_| walk(cursor, key, element, depth + 1, odd)),
        ValueType::Bool => {
            let bytes = cursor.take(count, field)?;
            match bytes.iter().position(|b| *b > 1) {
                Some(at) => check_bool(cursor, key, start + at as u64, bytes[at]),
                None => Ok(()),
            }
        }
        _ => cursor.take(count * element.bytes_min(), field).map(drop),
    }
}

fn check_bool(cursor: &Cursor<'_>, key: &str, offset: u64, found: u8) -> Result<(), Stop> {
    match found {
        0 | 1 => Ok(()),
        _ => Err(GgufError::BoolInvalid { path: cursor.path.into(), key: key.into(), offset, found }.into()),
    }
}
