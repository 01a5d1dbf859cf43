//! `gptoss-verify inspect` of a GGUF, whatever model it holds: header, metadata, types, tensors, and what is peculiar.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, json};

use crate::gguf::{GgmlType, Gguf, Located, Peculiarity, Value};
use crate::verify::doctor::Finding;

/// Elements of an array that are shown.
const ELEMENTS_SHOWN: usize = 8;
/// Bytes of a string that a JSON object holds: chat templates fit.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// How many tensors of a type there are, and their bytes, where the type has a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Tensors.
    pub tensors: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

/// The tensors of a file by type.
pub fn census(gguf: &Gguf) -> BTreeMap<GgmlType, Census> {
    let mut types: BTreeMap<GgmlType, Census> = BTreeMap::new();
    for Located { info, .. } in gguf.tensors() {
        let of_type = types.entry(info.ggml_type).or_default();
        of_type.tensors += 1;
        of_type.bytes = of_type.bytes.saturating_add(info.bytes.unwrap_or(0));
    }
    types
}

/// What is peculiar, of every file, and of the padding between tensors.
pub fn peculiarities(gguf: &Gguf) -> Vec<Peculiarity> {
    let of_headers = gguf.parts().iter().flat_map(|part| part.index.peculiarities.iter().cloned());
    let padding = gguf.padding();
    of_headers.chain(padding.iter().cloned()).collect()
}

/// The file as one JSON object, with what the doctor found.
pub fn to_json(gguf: &Gguf, tensors: bool, findings: Option<&[Finding]>) -> serde_json::Value {
    let types = census(gguf);
    let file = |part: &crate::gguf::Part| {
        json!({
            "path": part.index.path, "bytes": part.file.len(), "data_offset": part.index.data_offset,
            "tensor_count": part.index.tensors.len(),
        })
    };
    let peculiar = |found: &Peculiarity| {
        json!({
            "kind": found.kind.name(), "about": found.kind.about(), "count": found.count, "first": found.first,
            "offset": found.offset, "refused_by_ggml": found.kind.refused_by_ggml(),
        })
    };
    let metadata: Map<String, serde_json::Value> = gguf
        .metadata()
        .iter()
        .map(|(key, value)| (key.to_string(), json!({"type": value.value_type().to_string(), "value": shown(value)})))
        .collect();
    let mut object = json!({
        "schema": 1,
        "path": gguf.path(),
        "layout": "gguf",
        "version": gguf.index().version,
        "alignment": gguf.index().alignment,
        "files": gguf.parts().iter().map(file).collect::<Vec<_>>(),
        "metadata": metadata,
        "tensor_count": gguf.tensors().count(),
        "bytes": types.values().map(|of_type| of_type.bytes).sum::<u64>(),
        "types": types.iter().map(|(ty, of_type)| {
            (ty.to_string(), json!({"id": ty.id(), "tensors": of_type.tensors, "bytes": of_type.bytes}))
        }).collect::<Map<_, _>>(),
        "peculiarities": peculiarities(gguf).iter().map(peculiar).collect::<Vec<_>>(),
    });
    if let Some(findings) = findings {
        object["findings"] = json!(findings);
    }
    if tensors {
        object["tensors"] = gguf.tensors().map(|located| tensor_json(&located)).collect();
    }
    object
}

fn tensor_json(located: &Located<'_>) -> serde_json::Value {
    let (index, info) = (&located.part.index, located.info);
    json!({
        "file": index.path.file_name().unwrap_or_default().to_string_lossy(), "name": info.name,
        "dtype": info.ggml_type, "dims": info.dims, "offset": index.data_offset + info.offset, "bytes": info.bytes,
    })
}

/// A value in JSON: an array by its type, its length and its first elements, a number that JSON lacks as text.
fn shown(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Array(array) => json!({
            "element": array.element_type().to_string(),
            "count": array.len(),
            "first": array.iter().take(ELEMENTS_SHOWN).map(shown).collect::<Vec<_>>(),
        }),
        Value::String(text) if text.len() <= TEXT_BYTES_MAX => String::from_utf8_lossy(text).into(),
        Value::Bool(flag) => flag.into(),
        other => match (other.as_i64(), other.as_u64(), other.as_f64().filter(|x| x.is_finite())) {
            (Some(n), ..) => n.into(),
            (_, Some(n), _) => n.into(),
            (.., Some(x)) => x.into(),
            _ => other.to_string().into(),
        },
    }
}

/// The file as a text for a person, with what the doctor found.
pub fn write(gguf: &Gguf, tensors: bool, findings: Option<&[Finding]>, out: &mut dyn Write) -> io::Result<()> {
    let (index, types) = (gguf.index(), census(gguf));
    let bytes: u64 = types.values().map(|of_type| of_type.bytes).sum();
    writeln!(out, "{}: GGUF version {}", gguf.path().display(), index.version)?;
    writeln!(out, "  {} tensors, {bytes} bytes, alignment {}", gguf.tensors().count(), index.alignment)?;
    for part in gguf.parts() {
        let file = part.index.path.file_name().unwrap_or_default().to_string_lossy();
        let (count, offset) = (part.index.tensors.len(), part.index.data_offset);
        writeln!(out, "  {file}: {} bytes, data at {offset}, {count} tensors", part.file.len())?;
    }
    for (ty, Census { tensors, bytes }) in &types {
        writeln!(out, "  {ty:<16} {tensors:>6} tensors {bytes:>14} bytes")?;
    }
    writeln!(out, "  {} metadata entries:", gguf.metadata().len())?;
    for (key, value) in gguf.metadata().iter() {
        writeln!(out, "    {:<48} {:<6} {}", key.escape_debug().to_string(), value.value_type(), in_a_line(value))?;
    }
    for found in peculiarities(gguf) {
        let verdict = if found.kind.refused_by_ggml() { "; ggml refuses it" } else { "" };
        writeln!(out, "  peculiar: {}{verdict}", found.to_string().escape_debug())?;
    }
    for finding in findings.unwrap_or_default() {
        writeln!(out, "  {}: {}: {}", finding.weight.name(), finding.name, finding.detail)?;
    }
    if tensors {
        write_tensors(gguf, out)?;
    }
    Ok(())
}

fn write_tensors(gguf: &Gguf, out: &mut dyn Write) -> io::Result<()> {
    for Located { part, info } in gguf.tensors() {
        let dims = info.dims.iter().map(u64::to_string).collect::<Vec<_>>().join("×");
        let offset = part.index.data_offset + info.offset;
        let bytes = info.bytes.map_or("?".into(), |bytes| bytes.to_string());
        writeln!(out, "{offset:>14} {bytes:>12}  {:<8} {dims:<20} {}", info.ggml_type, info.name.escape_debug())?;
    }
    Ok(())
}

/// A value in a line: arrays by their first elements.
fn in_a_line(value: Value<'_>) -> String {
    let Some(array) = value.as_array() else { return value.to_string() };
    let mut first: Vec<String> = array.iter().take(ELEMENTS_SHOWN).map(|element| element.to_string()).collect();
    if array.len() > ELEMENTS_SHOWN {
        first.push("…".into());
    }
    format!("{array:?} {}", first.join(" "))
}
