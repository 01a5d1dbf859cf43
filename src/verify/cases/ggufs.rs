//! GGUFs that other programs wrote, against what those programs say of them.
//!
//! Each takes the reader to judge, so that sabotage can hand in a wrong one.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::with_golden;
use crate::gguf::{Index, Value, ValueType, split};
use crate::verify::compare::digest::hex_sha256;
use crate::verify::outcome::{Check, Level};

const LEVEL: Level = Level::Bytes;
/// By PyPI's gguf: files and its reader's view of them.
const GGUF_PY: &str = "bytes/gguf-py";
/// By llama.cpp's converter: one file, and digests of what else it writes.
const CONVERTER: &str = "bytes/llama-converter";

/// One tensor as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its type's name.
    pub ggml_type: String,
    /// Dimensions, the contiguous one first.
    pub dims: Vec<u64>,
    /// Which file of a split holds it.
    pub part: usize,
    /// Where in that file its data begins.
    pub offset: u64,
    /// Bytes of its data.
    pub bytes: u64,
}

/// What a reader makes of the files of a GGUF: metadata of the first (key, type, value), and tensors.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Key, type, value.
    pub metadata: Vec<(String, String, Json)>,
    /// Tensors, in the order of files and infos.
    pub tensors: Vec<Seen>,
}

/// A reader.
pub type Reader = fn(&[Vec<u8>]) -> Result<Reading, String>;

/// The checks of our reader.
pub(super) fn run() -> Vec<Check> {
    [checks(read), vec![refused()]].concat()
}

/// Every file, read by `read`.
pub fn checks(read: Reader) -> Vec<Check> {
    let mut checks = with_golden(GGUF_PY, "bytes/gguf/gguf-py", LEVEL, |golden| {
        let files = golden["files"].as_object().into_iter().flatten();
        files.filter(|(_, file)| file["tensors"].is_array()).flat_map(|(name, file)| judge(name, file, read)).collect()
    });
    checks.extend(with_golden(CONVERTER, "bytes/gguf/converter", LEVEL, |golden| {
        judge("converter", &golden["tiny"], read)
    }));
    checks
}

/// The big-endian file, which is refused with its own error.
fn refused() -> Check {
    let name = "bytes/gguf/big-endian";
    let judge = |golden: &Json| {
        let error = Index::of_file(Path::new(name), &parts(&golden["files"]["big-endian"])[0]).err();
        vec![Check::equal(name, LEVEL, "big-endian", error.map_or("accepted", |error| error.name()))]
    };
    with_golden(GGUF_PY, name, LEVEL, judge).remove(0)
}

fn parts(file: &Json) -> Vec<Vec<u8>> {
    let bytes = |hex: &str| {
        let pairs = hex.as_bytes().as_chunks::<2>().0.iter();
        pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    };
    file["parts"].as_array().into_iter().flatten().filter_map(Json::as_str).map(bytes).collect()
}

fn judge(name: &str, file: &Json, read: Reader) -> Vec<Check> {
    let parts = parts(file);
    let check = |what: &str| format!("bytes/gguf/{name}/{what}");
    let reading = match read(&parts) {
        Ok(reading) => reading,
        Err(why) => {
            return vec![Check::fail(check("metadata"), LEVEL, why.clone()), Check::fail(check("tensors"), LEVEL, why)];
        }
    };
    let metadata = reading.metadata.iter().map(|(key, kind, value)| json!([key, kind, value]));
    let tensors = reading.tensors.iter().map(|seen| {
        let range = seen.offset as usize..seen.offset.saturating_add(seen.bytes) as usize;
        let data = parts.get(seen.part).and_then(|part| part.get(range));
        let digest = data.map_or("past the end".into(), hex_sha256);
        json!([seen.name, seen.ggml_type, seen.dims, seen.part, seen.offset, seen.bytes, digest])
    });
    let (columns, rows) = (["key", "type", "value"], metadata.collect());
    let metadata = compare(check("metadata"), &columns, &file["metadata"], rows);
    let (columns, rows) = (["name", "type", "dims", "part", "offset", "bytes", "digest"], tensors.collect());
    vec![metadata, compare(check("tensors"), &columns, &file["tensors"], rows)]
}

/// The first cell that differs, or how many rows are equal.
fn compare(name: String, columns: &[&str], want: &Json, found: Vec<Json>) -> Check {
    let Some(want) = want.as_array() else { return Check::fail(name, LEVEL, "the golden has no such list") };
    if let Some((want, found)) = want.iter().zip(&found).find(|(want, found)| want != found) {
        let differs = columns.iter().enumerate().find(|(at, _)| want[*at] != found[*at]);
        let told = differs.map(|(at, column)| (format!("{}: {column}: ", want[0].as_str().unwrap_or_default()), at));
        let (place, want, found) = match &told {
            Some((place, at)) => (place.as_str(), &want[*at], &found[*at]),
            None => ("", want, found),
        };
        return Check::fail(name, LEVEL, format!("{place}expected {want}, found {found}"));
    }
    Check::equal(name, LEVEL, want.len(), found.len())
}

/// Our reader.
pub fn read(parts: &[Vec<u8>]) -> Result<Reading, String> {
    let index = |(number, part): (usize, &Vec<u8>)| Index::of_file(Path::new(&format!("part {number}")), part);
    let indexes = parts.iter().enumerate().map(index).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    split::check_set(indexes.iter()).map_err(|error| error.to_string())?;
    let mut tensors = Vec::new();
    for (part, index) in indexes.iter().enumerate() {
        for info in &index.tensors {
            let range = index.range(info).map_err(|error| error.to_string())?;
            let (ggml_type, bytes) = (info.ggml_type.to_string(), range.end - range.start);
            let (name, dims) = (info.name.clone(), info.dims.clone());
            tensors.push(Seen { name, ggml_type, dims, part, offset: range.start, bytes });
        }
    }
    let first = indexes.first().ok_or("no file")?;
    let metadata = first.metadata.iter().map(|(key, value)| (key.to_string(), kind(value), text(value))).collect();
    Ok(Reading { metadata, tensors })
}

/// A type as gguf-py names it; of an array, also its elements'.
fn kind(value: Value<'_>) -> String {
    let name = |kind: ValueType| match kind {
        ValueType::U8 => "UINT8",
        ValueType::I8 => "INT8",
        ValueType::U16 => "UINT16",
        ValueType::I16 => "INT16",
        ValueType::U32 => "UINT32",
        ValueType::I32 => "INT32",
        ValueType::F32 => "FLOAT32",
        ValueType::Bool => "BOOL",
        ValueType::String => "STRING",
        ValueType::Array => "ARRAY",
        ValueType::U64 => "UINT64",
        ValueType::I64 => "INT64",
        ValueType::F64 => "FLOAT64",
    };
    match value.as_array() {
        Some(array) => format!("ARRAY/{}", name(array.element_type())),
        None => name(value.value_type()).into(),
    }
}

/// A value as the golden has it: text, floats as bit patterns, arrays as lists.
fn text(value: Value<'_>) -> Json {
    match value {
        Value::F32(x) => format!("{:08x}", x.to_bits()).into(),
        Value::F64(x) => format!("{:016x}", x.to_bits()).into(),
        Value::String(text) => String::from_utf8_lossy(text).into(),
        Value::Array(array) => array.iter().map(text).collect(),
        other => other.to_string().into(),
    }
}
