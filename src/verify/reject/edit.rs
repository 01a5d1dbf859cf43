//! One step of damage to the files of a checkpoint.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checkpoint::Shard;
use crate::checkpoint::shard::LENGTH_BYTES;
use crate::model_bin::ModelBin;

/// A step of damage.  `file` is a name in the checkpoint's directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Edit {
    /// Keeps only the first `to` bytes, or drops the last `by`.
    Truncate {
        /// The file.
        file: String,
        /// Bytes kept.
        to: Option<usize>,
        /// Bytes dropped.
        by: Option<usize>,
    },
    /// Adds bytes at the end.
    Append {
        /// The file.
        file: String,
        /// The bytes.
        hex: String,
    },
    /// Overwrites bytes at an absolute offset.
    Bytes {
        /// The file.
        file: String,
        /// Where.
        offset: usize,
        /// The bytes.
        hex: String,
    },
    /// Replaces every `find` in a SafeTensors header; length and padding follow.
    HeaderReplace {
        /// The file.
        file: String,
        /// What must be there.
        find: String,
        /// What takes its place.
        replace: String,
    },
    /// Replaces the whole header of a SafeTensors file; the length follows.
    HeaderText {
        /// The file.
        file: String,
        /// The new header.
        text: String,
    },
    /// Replaces every `find` in a text file.
    Replace {
        /// The file.
        file: String,
        /// What must be there.
        find: String,
        /// What takes its place.
        replace: String,
    },
    /// Writes a file.
    Write {
        /// The file.
        file: String,
        /// Its text.
        text: String,
    },
    /// Removes a file.
    Remove {
        /// The file.
        file: String,
    },
    /// Copies a file.
    Copy {
        /// The file.
        file: String,
        /// The copy.
        to: String,
    },
    /// Makes a directory.
    Directory {
        /// Its name.
        file: String,
    },
    /// Overwrites the data of a SafeTensors tensor from byte `at` of it.
    Tensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Byte within its data.
        at: usize,
        /// The bytes.
        hex: String,
    },
    /// Keeps only the first rows of a SafeTensors tensor; the file stays sound, its header says the same.
    Rows {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Rows kept.
        keep: u64,
    },
    /// Overwrites `model.bin` from byte `at` of the section of that name; the first one, for padding.
    Section {
        /// As `inspect --tensors` prints it.
        section: String,
        /// Byte within the section.
        at: usize,
        /// The bytes.
        hex: String,
    },
    /// Overwrites a GGUF from byte `at` of a field of the honest file.
    GgufSet {
        /// The file.
        file: String,
        /// As [`crate::verify::fixture::gguf::Written`] names it.
        field: String,
        /// Byte within the field.
        #[serde(default)]
        at: usize,
        /// The bytes.
        hex: String,
    },
    /// Keeps only what lies before byte `at` of a field.
    GgufCut {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// Byte within the field.
        at: usize,
    },
    /// Inserts bytes in front of a field.
    GgufInsert {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// The bytes.
        hex: String,
    },
    /// Takes a field out.
    GgufRemove {
        /// The file.
        file: String,
        /// The field.
        field: String,
    },
    /// Gives a key of a GGUF model a value; adds the key where there is none.
    Meta {
        /// The key.
        key: String,
        /// The value's type as the format names it; of an array, `array:` and its elements'.
        value_type: String,
        /// The value; a float may be `"nan"` or `"inf"`.
        value: Value,
    },
    /// Takes a key out of a GGUF model.
    MetaRemove {
        /// The key.
        key: String,
    },
    /// Changes one element of an array of strings of a GGUF model.
    MetaElement {
        /// The key.
        key: String,
        /// Which.
        index: usize,
        /// Its text; without one, the element is taken out.
        text: Option<String>,
    },
    /// Tells a tensor of a GGUF model otherwise; its data is made as long as that takes.
    TensorInfo {
        /// The tensor.
        tensor: String,
        /// Another name.
        rename: Option<String>,
        /// Other dimensions, the contiguous one first.
        dims: Option<Vec<u64>>,
        /// Another type, by ggml's id.
        ggml_type: Option<u32>,
    },
    /// Adds a tensor of zeros to a GGUF model.
    TensorAdd {
        /// Its name.
        tensor: String,
        /// Its dimensions.
        dims: Vec<u64>,
        /// Its type, by ggml's id.
        ggml_type: u32,
    },
    /// Takes a tensor out of a GGUF model.
    TensorRemove {
        /// The tensor.
        tensor: String,
    },
    /// Overwrites the data of a tensor of a GGUF model from byte `at` of it.
    TensorData {
        /// The tensor.
        tensor: String,
        /// Byte within its data.
        at: usize,
        /// The bytes.
        hex: String,
    },
}

impl Edit {
    /// Applies the step in `directory`, or says why it cannot: a recipe that does nothing proves nothing.
    pub(super) fn apply(&self, directory: &Path) -> Result<(), String> {
        let path = |file: &str| directory.join(file);
        let read = |file: &str| std::fs::read(path(file)).map_err(|e| format!("{file}: {e}"));
        let write = |file: &str, bytes: &[u8]| std::fs::write(path(file), bytes).map_err(|e| format!("{file}: {e}"));
        match self {
            Edit::Truncate { file, to, by } => {
                let mut bytes = read(file)?;
                let keep = to.or(by.map(|by| bytes.len().saturating_sub(by))).ok_or("give `to` or `by`")?;
                if keep >= bytes.len() {
                    return Err(format!("{file} has only {} bytes", bytes.len()));
                }
                bytes.truncate(keep);
                write(file, &bytes)
            }
            Edit::Append { file, hex } => write(file, &[read(file)?, parse_hex(hex)?].concat()),
            Edit::Bytes { file, offset, hex } => write(file, &overwritten(read(file)?, *offset, hex)?),
            Edit::HeaderReplace { file, find, replace } => {
                let bytes = read(file)?;
                let header = replaced(header_of(&bytes)?, find, replace)?;
                write(file, &with_header(&bytes, &header)?)
            }
            Edit::HeaderText { file, text } => {
                let bytes = read(file)?;
                write(file, &with_header(&bytes, text)?)
            }
            Edit::Replace { file, find, replace } => {
                let text = String::from_utf8(read(file)?).map_err(|e| e.to_string())?;
                write(file, replaced(&text, find, replace)?.as_bytes())
            }
            Edit::Write { file, text } => write(file, text.as_bytes()),
            Edit::Remove { file } => std::fs::remove_file(path(file)).map_err(|e| format!("{file}: {e}")),
            Edit::Copy { file, to } => write(to, &read(file)?),
            Edit::Directory { file } => std::fs::create_dir(path(file)).map_err(|e| format!("{file}: {e}")),
            Edit::Tensor { file, tensor, at, hex } => {
                let bytes = read(file)?;
                let shard = Shard::from_bytes(Path::new(file), bytes.clone().into()).map_err(|e| e.to_string())?;
                let entry = shard.tensors().iter().find(|t| t.name == *tensor).ok_or(format!("no tensor {tensor}"))?;
                write(file, &overwritten(bytes, entry.range.start as usize + at, hex)?)
            }
            Edit::Rows { file, tensor, keep } => write(file, &with_rows(&read(file)?, tensor, *keep)?),
            Edit::Section { section, at, hex } => {
                let bytes = read("model.bin")?;
                let model =
                    ModelBin::from_bytes(Path::new("model.bin"), bytes.clone().into()).map_err(|e| e.to_string())?;
                let found = model.plan().sections().iter().find(|s| s.part.to_string() == *section);
                let start = found.ok_or(format!("no section {section}"))?.offset as usize;
                write("model.bin", &overwritten(bytes, start + at, hex)?)
            }
            Edit::GgufSet { file, .. }
            | Edit::GgufCut { file, .. }
            | Edit::GgufInsert { file, .. }
            | Edit::GgufRemove { file, .. } => write(file, &self.in_gguf(file, read(file)?)?),
            Edit::Meta { .. }
            | Edit::MetaRemove { .. }
            | Edit::MetaElement { .. }
            | Edit::TensorInfo { .. }
            | Edit::TensorAdd { .. }
            | Edit::TensorRemove { .. }
            | Edit::TensorData { .. } => Err("is a step for a GGUF model, before it is written".into()),
        }
    }

    /// The bytes of a GGUF after a step that names a field.
    fn in_gguf(&self, file: &str, mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        match self {
            Edit::GgufSet { field, at, hex, .. } => {
                return overwritten(bytes, gguf_field(file, field)?.start + at, hex);
            }
            Edit::GgufCut { field, at, .. } => bytes.truncate(gguf_field(file, field)?.start + at),
            Edit::GgufInsert { field, hex, .. } => {
                let start = gguf_field(file, field)?.start;
                bytes.splice(start..start, parse_hex(hex)?);
            }
            Edit::GgufRemove { field, .. } => drop(bytes.drain(gguf_field(file, field)?)),
            _ => return Err("names no field of a GGUF".into()),
        }
        Ok(bytes)
    }
}

/// Where a field of the honest file is: edits that move bytes go from back to front.
fn gguf_field(file: &str, field: &str) -> Result<Range<usize>, String> {
    let honest = super::honest_gguf(file).ok_or(format!("no GGUF {file}"))?;
    honest.field(field).ok_or(format!("no field `{field}` in {file}"))
}

fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(|at| byte(at).ok_or(format!("`{text}` is not hex"))).collect()
}

pub(super) fn overwritten(mut bytes: Vec<u8>, offset: usize, hex: &str) -> Result<Vec<u8>, String> {
    let new = parse_hex(hex)?;
    let length = bytes.len();
    let target = bytes.get_mut(offset..offset + new.len()).ok_or(format!("{length} bytes end before {offset}"))?;
    if target == new {
        return Err("the bytes are already so".into());
    }
    target.copy_from_slice(&new);
    Ok(bytes)
}

fn replaced(text: &str, find: &str, replace: &str) -> Result<String, String> {
    if !text.contains(find) {
        return Err(format!("`{find}` is not in it"));
    }
    Ok(text.replace(find, replace))
}

fn header_end(bytes: &[u8]) -> Result<usize, String> {
    let length = bytes.first_chunk::<LENGTH_BYTES>().ok_or("no SafeTensors file")?;
    Ok(LENGTH_BYTES + u64::from_le_bytes(*length) as usize)
}

fn header_of(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(&bytes[LENGTH_BYTES..header_end(bytes)?]).map_err(|e| e.to_string())
}

fn with_header(bytes: &[u8], header: &str) -> Result<Vec<u8>, String> {
    let mut header = header.trim_end().to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let length = (header.len() as u64).to_le_bytes();
    Ok([&length, header.as_bytes(), &bytes[header_end(bytes)?..]].concat())
}

/// The file with only the first `keep` rows of `tensor`; what lies behind them moves up.
fn with_rows(bytes: &[u8], tensor: &str, keep: u64) -> Result<Vec<u8>, String> {
    let shard = Shard::from_bytes(Path::new("a file"), bytes.to_vec().into()).map_err(|e| e.to_string())?;
    let entry = shard.tensors().iter().find(|t| t.name == tensor).ok_or(format!("no tensor {tensor}"))?;
    let rows =
        *entry.shape.first().filter(|&&rows| keep < rows).ok_or(format!("{tensor} has no more than {keep} rows"))?;
    let (length, end) = (entry.range.end - entry.range.start, entry.range.end);
    let cut = length / rows * (rows - keep);
    let header: serde_json::Map<String, Value> = shard
        .tensors()
        .iter()
        .map(|t| {
            let moved = |offset: u64| offset - shard.data_start() - if offset >= end { cut } else { 0 };
            let mut shape = t.shape.clone();
            if t.name == tensor {
                shape[0] = keep;
            }
            let offsets = [moved(t.range.start), moved(t.range.end)];
            (t.name.clone(), json!({"dtype": t.dtype.name(), "shape": shape, "data_offsets": offsets}))
        })
        .collect();
    let data = [&bytes[..(end - cut) as usize], &bytes[end as usize..]].concat();
    with_header(&data, &Value::Object(header).to_string())
}
