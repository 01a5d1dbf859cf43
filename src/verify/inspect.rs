//! `gptoss-verify inspect`: what a checkpoint is, section by section or tensor by tensor.

pub mod gguf;

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::checkpoint::WeightSource;
use crate::model_bin::ModelBin;
use crate::open::AnyCheckpoint;

/// One line of the listing.
struct Row {
    file: String,
    name: String,
    dtype: String,
    shape: Vec<u64>,
    offset: u64,
    bytes: u64,
}

/// The checkpoint as one JSON object.
pub fn to_json(checkpoint: &AnyCheckpoint, tensors: bool) -> Value {
    let source = checkpoint.source();
    let mut value = json!({
        "schema": 1,
        "path": source.path(),
        "layout": source.layout(),
        "config": source.config(),
        "vocab_rows": source.vocab_rows(),
        "bytes": rows(checkpoint).iter().map(|row| row.bytes).sum::<u64>(),
        "tensor_count": tensor_rows(checkpoint).count(),
        "warnings": checkpoint.warnings(),
    });
    if let AnyCheckpoint::ModelBin(model) = checkpoint {
        value["header"] = serde_json::to_value(model.header()).expect("a header has a JSON form");
        value["special_tokens"] = model.tokenizer().special_tokens().collect();
    }
    if tensors {
        value["tensors"] = rows(checkpoint)
            .iter()
            .map(|row| {
                json!({
                    "file": row.file, "name": row.name, "dtype": row.dtype, "shape": row.shape,
                    "offset": row.offset, "bytes": row.bytes,
                })
            })
            .collect();
    }
    value
}

/// The checkpoint as a text for a person.
pub fn write(checkpoint: &AnyCheckpoint, tensors: bool, out: &mut dyn Write) -> io::Result<()> {
    let source = checkpoint.source();
    let c = source.config();
    writeln!(out, "{}: {}", source.path().display(), source.layout())?;
    writeln!(out, "  layers {}, experts {} ({} a token)", c.layers, c.experts, c.experts_per_token)?;
    writeln!(out, "  hidden {}, intermediate {}, vocabulary {}", c.hidden, c.intermediate, source.vocab_rows())?;
    writeln!(out, "  heads {} / {} of {}, window {}", c.heads, c.kv_heads, c.head_dim, c.sliding_window)?;
    let (low, high) = c.rope.correction_range(c.head_dim);
    writeln!(
        out,
        "  rope theta {}, context {} × {}, correction range {low:.4}..{high:.4}",
        c.rope.theta, c.rope.initial_context_length, c.rope.scaling_factor
    )?;
    writeln!(out, "  swiglu limit {}", c.swiglu_limit)?;
    let bytes: u64 = rows(checkpoint).iter().map(|row| row.bytes).sum();
    writeln!(out, "  {} tensors, {bytes} bytes", tensor_rows(checkpoint).count())?;
    if let AnyCheckpoint::ModelBin(model) = checkpoint {
        write_tokenizer(model, out)?;
    }
    if tensors {
        for row in rows(checkpoint) {
            let shape = row.shape.iter().map(u64::to_string).collect::<Vec<_>>().join("×");
            writeln!(out, "{:>14} {:>12}  {:<5} {:<20} {}", row.offset, row.bytes, row.dtype, shape, row.name)?;
        }
    }
    checkpoint.warnings().iter().try_for_each(|warning| writeln!(out, "  warning: {warning}"))
}

fn write_tokenizer(model: &ModelBin, out: &mut dyn Write) -> io::Result<()> {
    let header = model.header().tokenizer;
    writeln!(out, "  {} text tokens, {} special slots:", header.num_text_tokens, header.num_special_tokens)?;
    for (slot, token) in model.tokenizer().special_tokens().enumerate() {
        if let Some(token) = token {
            writeln!(out, "    {} <|{token}|>", header.num_text_tokens as usize + slot)?;
        }
    }
    Ok(())
}

fn tensor_rows(checkpoint: &AnyCheckpoint) -> impl Iterator<Item = Row> {
    rows(checkpoint).into_iter().filter(|row| !row.dtype.is_empty())
}

/// Every run of bytes of every file: tensors with a dtype, the rest without.
fn rows(checkpoint: &AnyCheckpoint) -> Vec<Row> {
    match checkpoint {
        AnyCheckpoint::SafeTensors(checkpoint) => checkpoint
            .shards()
            .iter()
            .flat_map(|shard| {
                let file = shard.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
                shard.tensors().iter().map(move |tensor| Row {
                    file: file.clone(),
                    name: tensor.name.clone(),
                    dtype: tensor.dtype.to_string(),
                    shape: tensor.shape.clone(),
                    offset: tensor.range.start,
                    bytes: tensor.range.end - tensor.range.start,
                })
            })
            .collect(),
        AnyCheckpoint::Gguf(model) => {
            let row = |at: crate::gguf::Located| Row {
                file: at.part.index.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                name: at.info.name.clone(),
                dtype: at.info.ggml_type.to_string(),
                shape: at.info.dims.clone(),
                offset: at.part.index.data_offset + at.info.offset,
                bytes: at.info.bytes.unwrap_or_default(),
            };
            model.gguf().tensors().map(row).collect()
        }
        AnyCheckpoint::ModelBin(model) => {
            let file = model.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            model.plan().sections().iter().map(|section| model_bin_row(model, &file, section)).collect()
        }
    }
}

fn model_bin_row(model: &ModelBin, file: &str, section: &crate::model_bin::layout::Section) -> Row {
    use crate::model_bin::layout::Part;
    let config = model.config();
    let (dtype, shape) = match section.part {
        Part::Dense(tensor) => (tensor.role.dtype().to_string(), tensor.shape(config)),
        Part::Expert(tensor, _) => (tensor.role.dtype().to_string(), tensor.shape(config)[1..].to_vec()),
        _ => (String::new(), Vec::new()),
    };
    Row {
        file: file.into(),
        name: section.part.to_string(),
        dtype,
        shape: shape.into_iter().map(|n| n as u64).collect(),
        offset: section.offset,
        bytes: section.bytes,
    }
}
