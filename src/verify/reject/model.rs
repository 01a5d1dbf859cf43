//! A small gpt-oss GGUF that is honest, and steps of damage to what it is made of before it is written.

use serde_json::Value;

use super::edit::{Edit, overwritten};
use crate::gguf::GgmlType;
use crate::gguf::dialect::TokenList;
use crate::verify::fixture::gguf::{self, File, Meta, Tensor, array, string, value_type as id};

/// Tokens of the model: all bytes, and some that merge.
const TOKENS: usize = 300;
/// The scale of every Q8_0 block: 2^-7.
const SCALE: [u8; 2] = 0x2000u16.to_le_bytes();

/// The honest model: [`gguf::model`] with a start of o200k_harmony as its vocabulary, and values that are finite.
pub fn honest() -> File {
    let mut file = gguf::model();
    let list = TokenList::o200k_harmony(TOKENS).expect("the vocabulary is bundled");
    let texts = |texts: &[String]| texts.iter().flat_map(|text| string(text.as_bytes())).collect::<Vec<u8>>();
    let kinds: Vec<u8> = list.kinds.iter().flat_map(|kind| kind.to_le_bytes()).collect();
    let own = |stem: &str| format!("tokenizer.ggml.{stem}");
    put(&mut file, Meta::array(&own("tokens"), id::STRING, TOKENS as u64, &texts(&list.tokens)));
    put(&mut file, Meta::array(&own("token_type"), id::I32, TOKENS as u64, &kinds));
    put(&mut file, Meta::array(&own("merges"), id::STRING, list.merges.len() as u64, &texts(&list.merges)));
    for stem in ["bos_token_id", "eos_token_id", "padding_token_id"] {
        put(&mut file, Meta::u32(&own(stem), TOKENS as u32 - 1));
    }
    for tensor in &mut file.tensors {
        match (tensor.name.as_slice(), tensor.ggml_type) {
            (b"token_embd.weight" | b"output.weight", _) => {
                *tensor = Tensor { dims: vec![32, TOKENS as u64], data: vec![1; 34 * TOKENS], ..tensor.clone() };
            }
            (_, 0) => {
                let values = (0..tensor.data.len() / 4).flat_map(|i| [0, 0, i as u8, 0x3e]);
                tensor.data = values.collect();
            }
            _ => {}
        }
        if tensor.ggml_type == GgmlType::Q8_0.id() {
            tensor.data.as_chunks_mut::<34>().0.iter_mut().for_each(|block| block[..2].copy_from_slice(&SCALE));
        }
    }
    file
}

fn put(file: &mut File, meta: Meta) {
    match file.metadata.iter_mut().find(|known| known.key == meta.key) {
        Some(known) => *known = meta,
        None => file.metadata.push(meta),
    }
}

impl Edit {
    /// Applies the step to a model that is not written yet, or says why it cannot.
    pub(super) fn reshape(&self, file: &mut File) -> Result<(), String> {
        match self {
            Edit::Meta { key, value_type, value } => {
                let (id, bytes) = encoded(value_type, value)?;
                let meta = Meta::new(key, id, bytes);
                let same = |known: &Meta| (&known.key, known.value_type, &known.value) == (&meta.key, id, &meta.value);
                if file.metadata.iter().any(same) {
                    return Err(format!("`{key}` is already so"));
                }
                put(file, meta);
                Ok(())
            }
            Edit::MetaRemove { key } => remove(&mut file.metadata, |meta| meta.key == key.as_bytes(), key),
            Edit::MetaElement { key, index, text } => {
                let meta = file.metadata.iter_mut().find(|meta| meta.key == key.as_bytes());
                let meta = meta.ok_or_else(|| format!("no key {key}"))?;
                meta.value = with_element(&meta.value, *index, text.as_deref())
                    .ok_or(format!("no element {index}, or it is so"))?;
                Ok(())
            }
            Edit::TensorInfo { tensor, rename, dims, ggml_type } => {
                let found = find(file, tensor)?;
                let to = Tensor {
                    name: rename.as_ref().map_or(found.name.clone(), |name| name.clone().into()),
                    dims: dims.clone().unwrap_or(found.dims.clone()),
                    ggml_type: ggml_type.unwrap_or(found.ggml_type),
                    data: Vec::new(),
                };
                if (&to.name, &to.dims, to.ggml_type) == (&found.name, &found.dims, found.ggml_type) {
                    return Err(format!("{tensor} is already so"));
                }
                let mut data = std::mem::take(&mut found.data);
                data.resize(bytes_of(&to).unwrap_or(data.len()), 0);
                *found = Tensor { data, ..to };
                Ok(())
            }
            Edit::TensorAdd { tensor, dims, ggml_type } => {
                let mut added =
                    Tensor { name: tensor.clone().into(), dims: dims.clone(), ggml_type: *ggml_type, data: Vec::new() };
                added.data = vec![0; bytes_of(&added).ok_or("no such type, or no whole blocks")?];
                file.tensors.push(added);
                Ok(())
            }
            Edit::TensorRemove { tensor } => remove(&mut file.tensors, |known| known.name == tensor.as_bytes(), tensor),
            Edit::TensorData { tensor, at, hex } => {
                let found = find(file, tensor)?;
                found.data = overwritten(std::mem::take(&mut found.data), *at, hex)?;
                Ok(())
            }
            _ => Err("is a step for files, and the model is not written yet".into()),
        }
    }
}

fn remove<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool, name: &str) -> Result<(), String> {
    let at = list.iter().position(is_it).ok_or_else(|| format!("no {name}"))?;
    list.remove(at);
    Ok(())
}

fn find<'a>(file: &'a mut File, tensor: &str) -> Result<&'a mut Tensor, String> {
    file.tensors.iter_mut().find(|known| known.name == tensor.as_bytes()).ok_or_else(|| format!("no tensor {tensor}"))
}

/// Bytes of a tensor's data, where its type is known and blocks fill its rows.
fn bytes_of(tensor: &Tensor) -> Option<usize> {
    GgmlType(tensor.ggml_type).bytes_of(&tensor.dims).map(|bytes| bytes as usize)
}

/// An array of strings with one of them changed, or taken out.
fn with_element(value: &[u8], index: usize, text: Option<&str>) -> Option<Vec<u8>> {
    let mut rest = value.get(12..)?;
    let mut elements: Vec<&[u8]> = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<8>() {
        let (element, behind) = behind.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        elements.push(element);
        rest = behind;
    }
    let is_so = Some(*elements.get(index)?) == text.map(str::as_bytes);
    match text {
        _ if is_so => return None,
        Some(text) => elements[index] = text.as_bytes(),
        None => drop(elements.remove(index)),
    }
    let bytes: Vec<u8> = elements.iter().flat_map(|element| string(element)).collect();
    Some(array(id::STRING, elements.len() as u64, &bytes))
}

/// The id of a type and a value of it as a file holds it.
fn encoded(name: &str, value: &Value) -> Result<(u32, Vec<u8>), String> {
    if let Some(element) = name.strip_prefix("array:") {
        let values = value.as_array().ok_or("an array has a list")?;
        let elements = values.iter().map(|value| encoded(element, value)).collect::<Result<Vec<_>, _>>()?;
        let bytes: Vec<u8> = elements.into_iter().flat_map(|(_, bytes)| bytes).collect();
        return Ok((id::ARRAY, array(type_id(element)?, values.len() as u64, &bytes)));
    }
    let wrong = || format!("{value} is no {name}");
    let integer = || value.as_i64().map(i128::from).or(value.as_u64().map(i128::from)).ok_or_else(wrong);
    let float = || match value.as_str() {
        Some("nan") => Ok(f64::NAN),
        Some("inf") => Ok(f64::INFINITY),
        _ => value.as_f64().ok_or_else(wrong),
    };
    let bytes = match name {
        "u8" | "i8" => integer()?.to_le_bytes()[..1].to_vec(),
        "u16" | "i16" => integer()?.to_le_bytes()[..2].to_vec(),
        "u32" | "i32" => integer()?.to_le_bytes()[..4].to_vec(),
        "u64" | "i64" => integer()?.to_le_bytes()[..8].to_vec(),
        "f32" => (float()? as f32).to_le_bytes().to_vec(),
        "f64" => float()?.to_le_bytes().to_vec(),
        "bool" => vec![u8::from(value.as_bool().ok_or_else(wrong)?)],
        "string" => string(value.as_str().ok_or_else(wrong)?.as_bytes()),
        _ => return Err(format!("`{name}` is no type")),
    };
    Ok((type_id(name)?, bytes))
}

fn type_id(name: &str) -> Result<u32, String> {
    Ok(match name {
        "u8" => id::U8,
        "i8" => id::I8,
        "u16" => id::U16,
        "i16" => id::I16,
        "u32" => id::U32,
        "i32" => id::I32,
        "f32" => id::F32,
        "bool" => id::BOOL,
        "string" => id::STRING,
        "u64" => id::U64,
        "i64" => id::I64,
        "f64" => id::F64,
        _ => return Err(format!("`{name}` is no type of an element")),
    })
}
