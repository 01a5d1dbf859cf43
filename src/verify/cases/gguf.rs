//! GGUF files that are written, against PyPI's gguf; models that are read from them, against their sources.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::fixtures::exported;
use super::with_golden;
use crate::checkpoint::{Layout, ModelConfig, Role, TensorId, WeightSource};
use crate::gguf::dialect::{DenseType, GgufOptions, export_gguf};
use crate::gguf::{GgmlType, Gguf, GgufModel};
use crate::model_bin::{ExportError, TokenizerSection};
use crate::telemetry::Silent;
use crate::verify::check;
use crate::verify::compare::digest::hex_sha256;
use crate::verify::fixture::gguf::{File, Meta, Tensor};
use crate::verify::fixture::{Recipe, gguf_bytes, in_memory};
use crate::verify::outcome::{Check, Level, Outcome};
use crate::verify::sample::Sample;

const GOLDEN: &str = "bytes/gguf-tensors";
const UPSTREAM: &str = "bytes/upstream-model-bin";

/// Recipe, where the export starts, and the type of its dense matrices.
const EXPORTS: [(&str, Origin, DenseType); 7] = [
    ("T1", Origin::SafeTensors(Layout::Original, 1), DenseType::Bf16),
    ("odd-experts", Origin::SafeTensors(Layout::Hf, 1), DenseType::Bf16),
    ("T3", Origin::SafeTensors(Layout::Original, 3), DenseType::Bf16),
    ("T3", Origin::ModelBin, DenseType::Bf16),
    ("T3", Origin::Gguf, DenseType::Bf16),
    ("T3", Origin::SafeTensors(Layout::Hf, 2), DenseType::F16),
    ("T3", Origin::SafeTensors(Layout::Original, 1), DenseType::Q8_0),
];

#[derive(Debug, Clone, Copy)]
enum Origin {
    SafeTensors(Layout, usize),
    ModelBin,
    Gguf,
}

/// The name of a type in goldens and in names of checks.
pub(super) fn dense_name(dense: DenseType) -> &'static str {
    match dense {
        DenseType::Bf16 => "bf16",
        DenseType::F16 => "f16",
        DenseType::Q8_0 => "q8_0",
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// The bytes of an export without a vocabulary.
pub fn gguf_of(source: &dyn WeightSource, dense: DenseType) -> Result<Vec<u8>, String> {
    let directory = tempfile::tempdir().map_err(text)?;
    let path = directory.path().join("model.gguf");
    export_gguf(source, &GgufOptions { name: "case", dense, tokens: None }, &path, &Silent).map_err(text)?;
    std::fs::read(&path).map_err(text)
}

/// A model of bytes.
pub fn model_of(bytes: Vec<u8>) -> Result<GgufModel, String> {
    GgufModel::from_bytes(Path::new("model.gguf"), bytes.into()).map_err(text)
}

/// Every tensor of the exporter's files: name, dimensions, type and digest.
pub(super) fn export_cases() -> Vec<Check> {
    EXPORTS.into_iter().flat_map(|(recipe, origin, dense)| export_case(recipe, origin, dense)).collect()
}

fn export_case(recipe: &str, origin: Origin, dense: DenseType) -> Vec<Check> {
    let start = match origin {
        Origin::SafeTensors(layout, shards) => format!("{layout}-{shards}").replace(' ', "-").to_lowercase(),
        Origin::ModelBin => "model-bin".into(),
        Origin::Gguf => "gguf".into(),
    };
    let name = format!("bytes/gguf-export/{recipe}/{}/{start}", dense_name(dense));
    with_golden(GOLDEN, &name, Level::Bytes, |golden| {
        let mut want = golden[recipe]["bf16"].as_object().cloned().unwrap_or_default();
        want.extend(golden[recipe][dense_name(dense)].as_object().cloned().unwrap_or_default());
        vec![match export_from(recipe, origin, dense).and_then(|bytes| tensors_of(bytes.into())) {
            Ok(found) => same_tensors(&name, &want, &found),
            Err(error) => Check::fail(name.clone(), Level::Bytes, error),
        }]
    })
}

fn export_from(recipe: &str, origin: Origin, dense: DenseType) -> Result<Vec<u8>, String> {
    let recipe = Recipe::built_in(recipe);
    let source = |layout, shards| in_memory(&recipe, layout, shards).map_err(text);
    match origin {
        Origin::SafeTensors(layout, shards) => gguf_of(&source(layout, shards)?, dense),
        Origin::ModelBin => {
            let model = exported(&source(Layout::Original, 1)?, &TokenizerSection::o200k_harmony()?).map_err(text)?;
            gguf_of(&model, dense)
        }
        Origin::Gguf => gguf_of(&model_of(gguf_bytes(&recipe, DenseType::Bf16).map_err(text)?)?, dense),
    }
}

fn tensors_of(bytes: crate::mapped::FileBytes) -> Result<Map<String, Value>, String> {
    let gguf = Gguf::from_bytes(Path::new("model.gguf"), bytes).map_err(text)?;
    if let Some(peculiar) = gguf.index().peculiarities.iter().next() {
        return Err(format!("an export is peculiar: {peculiar}"));
    }
    let entry = |at: crate::gguf::Located| {
        let sha256 = hex_sha256(at.bytes().map_err(text)?);
        let entry = json!({"dims": at.info.dims, "type": at.info.ggml_type.to_string(), "sha256": sha256});
        Ok((at.info.name.clone(), entry))
    };
    gguf.tensors().map(entry).collect()
}

fn same_tensors(name: &str, want: &Map<String, Value>, found: &Map<String, Value>) -> Check {
    match want.keys().chain(found.keys()).find(|tensor| want.get(*tensor) != found.get(*tensor)) {
        None => Check::pass(name, Level::Bytes, format!("{} tensors equal", found.len())),
        Some(tensor) => {
            let shown = |map: &Map<String, Value>| map.get(tensor).map_or("nothing".into(), Value::to_string);
            Check::fail(name, Level::Bytes, format!("{tensor}: expected {}, found {}", shown(want), shown(found)))
        }
    }
}

/// Models read from GGUF, in both dialects and all types of the exporter.
pub(super) fn read_cases() -> Vec<Check> {
    let name = "bytes/gguf-read";
    let recipe = Recipe::built_in("small-vocab");
    let mut checks = Vec::new();
    for dense in [DenseType::Bf16, DenseType::F16, DenseType::Q8_0] {
        let name = format!("{name}/{}", dense_name(dense));
        let bytes = gguf_bytes(&recipe, dense).map_err(text);
        checks.push(against_source(&name, &recipe, bytes));
    }
    for (form, tensors) in [("fused", early_fused as EarlyNames), ("split", early_split)] {
        checks.push(against_source(
            &format!("{name}/ollama-{form}"),
            &recipe,
            early_file(&recipe, tensors).map(|file| file.write().bytes),
        ));
    }
    checks.extend(to_model_bin("T3"));
    checks.extend(super::quantised::cases());
    checks.push(refused_export(&format!("{name}/q8_0-to-model-bin")));
    checks
}

/// Every check of a GGUF against the original checkpoint of its recipe.
fn against_source(name: &str, recipe: &Recipe, bytes: Result<Vec<u8>, String>) -> Check {
    let model = bytes.and_then(model_of);
    let (model, source) = match (model, in_memory(recipe, Layout::Original, 1)) {
        (Ok(model), Ok(source)) => (model, source),
        (Err(error), _) => return Check::fail(name, Level::Bytes, error),
        (_, Err(error)) => return Check::fail(name, Level::Bytes, error.to_string()),
    };
    let mut checks = check::against_source(&model, &source);
    checks.extend(check::against(&model, &source, &Sample::All, &Silent).checks);
    // And the other way round: the GGUF as the truth.
    checks.extend(check::against(&source, &model, &Sample::All, &Silent).checks);
    let expected = 1 + 2 * TensorId::all(source.config()).len();
    match checks.iter().find(|check| check.outcome != Outcome::Pass) {
        Some(red) => Check::fail(name, Level::Bytes, format!("{}: {}", red.name, red.detail)),
        None => Check::equal(
            name,
            Level::Bytes,
            format!("{expected} checks passed"),
            format!("{} checks passed", checks.len()),
        ),
    }
}

/// The model.bin of a GGUF is the one that OpenAI's converter writes of its source.
fn to_model_bin(recipe: &str) -> Vec<Check> {
    let name = format!("bytes/gguf-read/{recipe}/to-model-bin");
    with_golden(UPSTREAM, &name, Level::Bytes, |golden| {
        let want = golden[recipe]["sha256"].as_str().unwrap_or("nothing").to_string();
        let found = gguf_bytes(&Recipe::built_in(recipe), DenseType::Bf16).map_err(text).and_then(|bytes| {
            let model = model_of(bytes)?;
            super::fixtures::exported_bytes(&model, &TokenizerSection::o200k_harmony()?).map_err(text)
        });
        vec![match found {
            Ok(bytes) => Check::equal(name.clone(), Level::Bytes, want, hex_sha256(&bytes)),
            Err(error) => Check::fail(name.clone(), Level::Bytes, error),
        }]
    })
}

/// A quantised GGUF has no model.bin: the refusal names the tensor and its type.
fn refused_export(name: &str) -> Check {
    let recipe = Recipe::built_in("small-vocab");
    let tokenizer = super::fixtures::small_tokenizer(recipe.vocab as usize);
    let model = gguf_bytes(&recipe, DenseType::Q8_0).map_err(text).and_then(model_of);
    let model = match model {
        Ok(model) => model,
        Err(error) => return Check::fail(name, Level::Bytes, error),
    };
    match super::fixtures::exported_bytes(&model, &tokenizer) {
        Err(ExportError::NotExact(error)) if error.encoding == "Q8_0" && error.to_string().contains(&error.name) => {
            Check::pass(name, Level::Bytes, error.to_string())
        }
        Err(other) => Check::fail(name, Level::Bytes, format!("another refusal: {other}")),
        Ok(_) => Check::fail(name, Level::Bytes, "a quantised file was exported as if nothing were lost"),
    }
}

/// Names of a tensor's parts in an early file, and the rows that each holds.
pub(super) type EarlyNames = fn(TensorId, &ModelConfig) -> Vec<(String, std::ops::Range<usize>)>;

/// Names that `convert_gptoss.go` makes of the original checkpoint's.
fn early_fused(tensor: TensorId, config: &ModelConfig) -> Vec<(String, std::ops::Range<usize>)> {
    let stem = match tensor.role {
        Role::Embedding => "token_embd.weight",
        Role::Unembedding => "output.weight",
        Role::FinalNorm => "output_norm.weight",
        Role::AttnNorm => "attn_norm.weight",
        Role::QkvWeight => "attn_qkv.weight",
        Role::QkvBias => "attn_qkv.bias",
        Role::Sinks => "attn_sinks",
        Role::OutWeight => "attn_out.weight",
        Role::OutBias => "attn_out.bias",
        Role::MlpNorm => "ffn_norm.weight",
        Role::GateWeight => "ffn_gate_inp.weight",
        Role::GateBias => "ffn_gate_inp.bias",
        Role::Mlp1Blocks | Role::Mlp1Scales => "ffn_gate_up_exps.weight",
        Role::Mlp1Bias => "ffn_gate_up_exps.bias",
        Role::Mlp2Blocks | Role::Mlp2Scales => "ffn_down_exps.weight",
        Role::Mlp2Bias => "ffn_down_exps.bias",
    };
    let name = tensor.layer.map_or(stem.to_string(), |layer| format!("blk.{layer}.{stem}"));
    vec![(name, 0..tensor.shape(config)[0])]
}

/// The same of the HF checkpoint's, in which Q, K and V are apart.
pub(super) fn early_split(tensor: TensorId, config: &ModelConfig) -> Vec<(String, std::ops::Range<usize>)> {
    if !tensor.role.is_qkv() {
        return early_fused(tensor, config);
    }
    let renamed =
        |name: String| name.replace("model.layers.", "blk.").replace("self_attn.", "attn_").replace("_proj.", ".");
    tensor.hf_parts(config).into_iter().map(|part| (renamed(part.name), part.rows)).collect()
}

/// A file as Ollama's converter of August 2025 wrote it, byte by byte from the recipe.
pub(super) fn early_file(recipe: &Recipe, names: EarlyNames) -> Result<File, String> {
    let source = in_memory(recipe, Layout::Original, 1).map_err(text)?;
    let c = source.config();
    let mut tensors = Vec::new();
    for tensor in TensorId::all(c).into_iter().filter(|tensor| !tensor.role.is_scales()) {
        let bytes = source.segments(tensor).concat();
        let shape = tensor.shape(c);
        for (name, rows) in names(tensor, c) {
            let row_bytes = tensor.row_bytes(c);
            let part = &bytes[rows.start * row_bytes..rows.end * row_bytes];
            tensors.push(early_tensor(&source, tensor, &name, [&[rows.len()], &shape[1..]].concat(), part));
        }
    }
    let own = |stem: &str| format!("gptoss.{stem}");
    let metadata = vec![
        Meta::string("general.architecture", "gptoss"),
        Meta::u32("general.file_type", 4),
        Meta::u32(&own("context_length"), c.rope.context_length() as u32),
        Meta::u32(&own("block_count"), c.layers as u32),
        Meta::u32(&own("embedding_length"), c.hidden as u32),
        Meta::u32(&own("feed_forward_length"), c.intermediate as u32),
        Meta::u32(&own("expert_count"), c.experts as u32),
        Meta::u32(&own("expert_used_count"), c.experts_per_token as u32),
        Meta::u32(&own("attention.head_count"), c.heads as u32),
        Meta::u32(&own("attention.head_count_kv"), c.kv_heads as u32),
        Meta::u32(&own("attention.key_length"), c.head_dim as u32),
        Meta::u32(&own("attention.value_length"), c.head_dim as u32),
        Meta::f32(&own("attention.layer_norm_rms_epsilon"), 1e-5),
        Meta::u32(&own("attention.sliding_window"), c.sliding_window as u32),
        Meta::f32(&own("rope.freq_base"), c.rope.theta as f32),
        Meta::f32(&own("rope.scaling.factor"), c.rope.scaling_factor as f32),
        Meta::u32(&own("rope.scaling.original_context_length"), c.rope.initial_context_length as u32),
    ];
    Ok(File { version: 3, alignment: 32, metadata, tensors })
}

/// Vectors become F32, experts type 4 with their codes in order, the rest stays BF16.
fn early_tensor(source: &dyn WeightSource, tensor: TensorId, name: &str, shape: Vec<usize>, part: &[u8]) -> Tensor {
    let mut dims: Vec<u64> = shape.iter().rev().map(|&n| n as u64).collect();
    let (ggml_type, data) = match tensor.role {
        Role::Mlp1Blocks | Role::Mlp2Blocks => {
            let scales = if tensor.role == Role::Mlp1Blocks { Role::Mlp1Scales } else { Role::Mlp2Scales };
            let scales = source.segments(TensorId { role: scales, ..tensor }).concat();
            let codes = part.chunks_exact(16);
            dims = vec![32 * dims[1], dims[2], dims[3]];
            (GgmlType(4), scales.iter().zip(codes).flat_map(|(&e, codes)| [&[e], codes].concat()).collect())
        }
        _ if shape.len() == 1 => {
            (GgmlType::F32, part.chunks_exact(2).flat_map(|pair| [0, 0, pair[0], pair[1]]).collect())
        }
        _ => (GgmlType::BF16, part.to_vec()),
    };
    Tensor { name: name.into(), dims, ggml_type: ggml_type.id(), data }
}
