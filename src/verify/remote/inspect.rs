//! `inspect` of an address: what its headers say.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::gguf::Index;
use crate::remote::{Contents, Remote};
use crate::verify::inspect;

/// The checkpoint as one JSON object: a local one's, with the versions of its files.
pub fn to_json(remote: &Remote, tensors: bool) -> Value {
    let mut value = match &remote.contents {
        Contents::Model(model) => inspect::to_json(model, tensors),
        Contents::Gguf(index) => gguf_json(index, tensors),
    };
    value["versions"] = remote.files.iter().map(|source| source.version()).collect();
    value
}

/// The checkpoint as a text for a person.
pub fn write(remote: &Remote, tensors: bool, out: &mut dyn Write) -> io::Result<()> {
    match &remote.contents {
        Contents::Model(model) => inspect::write(model, tensors, out)?,
        Contents::Gguf(index) => gguf_text(index, tensors, out)?,
    }
    remote.files.iter().try_for_each(|source| {
        let version = source.version().unwrap_or("unknown");
        writeln!(out, "  {}: {} bytes, version {version}", source.name(), source.total_bytes())
    })
}

/// Tensors of each type, with their bytes.
fn census(index: &Index) -> std::collections::BTreeMap<String, (usize, u64)> {
    let mut census = std::collections::BTreeMap::<String, (usize, u64)>::new();
    for tensor in &index.tensors {
        let (count, bytes) = census.entry(tensor.ggml_type.to_string()).or_default();
        (*count, *bytes) = (*count + 1, *bytes + tensor.bytes.unwrap_or(0));
    }
    census
}

fn gguf_json(index: &Index, tensors: bool) -> Value {
    let kinds =
        census(index).into_iter().map(|(kind, (count, bytes))| json!({"type": kind, "tensors": count, "bytes": bytes}));
    let mut value = json!({
        "schema": 1,
        "path": index.path,
        "layout": "gguf",
        "version": index.version,
        "alignment": index.alignment,
        "data_offset": index.data_offset,
        "metadata_count": index.metadata.len(),
        "tensor_count": index.tensors.len(),
        "census": kinds.collect::<Vec<_>>(),
    });
    if tensors {
        let row = |tensor: &crate::gguf::TensorInfo| {
            json!({
                "name": tensor.name, "type": tensor.ggml_type.to_string(), "dims": tensor.dims,
                "offset": index.data_offset + tensor.offset, "bytes": tensor.bytes,
            })
        };
        value["tensors"] = index.tensors.iter().map(row).collect();
    }
    value
}

fn gguf_text(index: &Index, tensors: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}: GGUF v{}", index.path.display(), index.version)?;
    let (metadata, count, data) = (index.metadata.len(), index.tensors.len(), index.data_offset);
    writeln!(
        out,
        "  {metadata} metadata entries, {count} tensors, data from byte {data}, alignment {}",
        index.alignment
    )?;
    for (kind, (count, bytes)) in census(index) {
        writeln!(out, "  {kind:<8} {count:>5} tensors {bytes:>15} bytes")?;
    }
    if tensors {
        for tensor in &index.tensors {
            let dims = tensor.dims.iter().map(u64::to_string).collect::<Vec<_>>().join("×");
            let bytes = tensor.bytes.map_or("?".into(), |bytes| bytes.to_string());
            let (offset, kind) = (index.data_offset + tensor.offset, tensor.ggml_type.to_string());
            writeln!(out, "{offset:>14} {bytes:>12}  {kind:<8} {dims:<20} {}", tensor.name)?;
        }
    }
    Ok(())
}
