//! Our GGUF of a checkpoint against the one that llama.cpp's own converter writes of it.
//!
//! Tensors: names, dimensions, types and data, none of which may differ.  Metadata: key by key, type and value, but for
//! [`DELIBERATE`]; a difference that is not there is red, and so is one that no longer is.  The order of keys and of
//! tensors means nothing to a reader and is not compared.
//!
//! The checks take the file to judge, so that sabotage can hand in a wrong one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value as Json};

use super::gguf::dense_name;
use super::ggufs::{Reading, read};
use super::with_golden;
use crate::checkpoint::Layout;
use crate::gguf::dialect::{DenseType, GgufOptions, export_gguf};
use crate::telemetry::Silent;
use crate::verify::compare::digest::hex_sha256;
use crate::verify::fixture::{Recipe, in_memory};
use crate::verify::outcome::{Check, Level};

const GOLDEN: &str = "bytes/llama-converter";
const LEVEL: Level = Level::Bytes;
/// The recipe whose HF checkpoint was converted.
const RECIPE: &str = "T3";
/// `--model-name` of the conversion.
const MODEL_NAME: &str = "synthetic";
/// Hex digits of a digest that the golden keeps.
const DIGITS: usize = 32;

/// A key that our files and the converter's differ in, on purpose.
struct Deliberate {
    key: &'static str,
    /// Type and value in the converter's file, if it has the key.
    converter: Option<&'static str>,
    /// The same in ours.
    ours: Option<&'static str>,
    /// Why.
    reason: &'static str,
}

/// Every deliberate difference of the metadata.
const DELIBERATE: [Deliberate; 2] = [
    Deliberate {
        key: "general.alignment",
        converter: None,
        ours: Some("UINT32 32"),
        reason: "a file that says what its offsets rest on needs no default",
    },
    Deliberate {
        key: "general.size_label",
        converter: Some("STRING 8x26M"),
        ours: None,
        reason: "a guess for model cards from counts of parameters, read by no runtime",
    },
];

/// The checks of our exporter, in every type of the dense matrices.
pub(super) fn run() -> Vec<Check> {
    let of = |dense| match exported(dense) {
        Ok(file) => checks(file, dense),
        Err(why) => vec![Check::fail(check_name(dense, "tensors"), LEVEL, why)],
    };
    [DenseType::Bf16, DenseType::F16, DenseType::Q8_0].into_iter().flat_map(of).collect()
}

/// Our file of the checkpoint that was converted, named as it was.
pub fn exported(dense: DenseType) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let source = in_memory(&Recipe::built_in(RECIPE), Layout::Hf, 1).map_err(|e| text(&e))?;
    let directory = tempfile::tempdir().map_err(|e| text(&e))?;
    let path: PathBuf = directory.path().join("model.gguf");
    let options = GgufOptions { name: MODEL_NAME, dense, tokens: None };
    export_gguf(&source, &options, &path, &Silent).map_err(|e| text(&e))?;
    std::fs::read(&path).map_err(|e| text(&e))
}

/// What is to be said of `file`, which should hold the same as the converter's; the golden has metadata for BF16 alone.
pub fn checks(file: Vec<u8>, dense: DenseType) -> Vec<Check> {
    with_golden(GOLDEN, &check_name(dense, "tensors"), LEVEL, |golden| {
        let golden = &golden["recipes"][RECIPE];
        let parts = [file];
        let reading = match read(&parts) {
            Ok(reading) => reading,
            Err(why) => return vec![Check::fail(check_name(dense, "tensors"), LEVEL, why)],
        };
        let mut checks = vec![tensors_check(&golden["tensors"], &reading, &parts[0], dense)];
        checks.extend((dense == DenseType::Bf16).then(|| metadata_check(&golden["metadata"], &reading, dense)));
        checks
    })
}

fn check_name(dense: DenseType, what: &str) -> String {
    format!("bytes/gguf-converter/{RECIPE}/{}/{what}", dense_name(dense))
}

fn tensors_check(golden: &Json, reading: &Reading, file: &[u8], dense: DenseType) -> Check {
    let dims = |dims: &Json| dims.as_array().into_iter().flatten().map(Json::to_string).collect::<Vec<_>>().join(" × ");
    let no_tensors = Map::new();
    let want = golden.as_object().unwrap_or(&no_tensors).iter().map(|(name, tensor)| {
        let stored = tensor[dense_name(dense)].as_str().unwrap_or("nothing");
        (name.clone(), format!("[{}] {stored}", dims(&tensor["dims"])))
    });
    let found = reading.tensors.iter().map(|seen| {
        let data = file.get(seen.offset as usize..(seen.offset + seen.bytes) as usize);
        let digest = data.map_or("past the end".into(), hex_sha256);
        let digest = digest.get(..DIGITS).unwrap_or(&digest);
        (seen.name.clone(), format!("[{}] {} {digest}", dims(&seen.dims.clone().into()), seen.ggml_type))
    });
    let (want, found): (BTreeMap<_, _>, BTreeMap<_, _>) = (want.collect(), found.collect());
    let name = check_name(dense, "tensors");
    match first_difference(&want, &found) {
        None if want.is_empty() => Check::fail(name, LEVEL, "the golden has no tensors"),
        None => Check::pass(name, LEVEL, format!("{} tensors equal", want.len())),
        Some(difference) => Check::fail(name, LEVEL, difference),
    }
}

fn metadata_check(golden: &Json, reading: &Reading, dense: DenseType) -> Check {
    let shown =
        |kind: &str, value: &Json| format!("{kind} {}", value.as_str().map_or(value.to_string(), str::to_string));
    let text = |json: &Json| json.as_str().unwrap_or_default().to_string();
    let entries = golden.as_array().into_iter().flatten();
    let mut want: BTreeMap<String, String> =
        entries.map(|entry| (text(&entry[0]), shown(&text(&entry[1]), &entry[2]))).collect();
    let found: BTreeMap<String, String> =
        reading.metadata.iter().map(|(key, kind, value)| (key.clone(), shown(kind, value))).collect();
    let name = check_name(dense, "metadata");
    for Deliberate { key, converter, ours, reason } in &DELIBERATE {
        if want.get(*key).map(String::as_str) != *converter {
            let found = want.get(*key).map_or("nothing", String::as_str);
            let why = format!("{key}: the converter should have {converter:?}, it has {found} ({reason})");
            return Check::fail(name, LEVEL, why);
        }
        want.remove(*key);
        want.extend(ours.map(|ours| (key.to_string(), ours.to_string())));
    }
    match first_difference(&want, &found) {
        None => Check::pass(
            name,
            LEVEL,
            format!("{} keys, {} of them different on purpose", found.len().max(want.len()), DELIBERATE.len()),
        ),
        Some(difference) => Check::fail(name, LEVEL, difference),
    }
}

/// The first name whose entries differ, with both.
fn first_difference(want: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> Option<String> {
    let name = want.keys().chain(found.keys()).find(|name| want.get(*name) != found.get(*name))?;
    let shown = |map: &BTreeMap<String, String>| map.get(name).map_or("nothing".into(), String::clone);
    Some(format!("{name}: expected {}, found {}", shown(want), shown(found)))
}
