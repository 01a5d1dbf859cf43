//! The bytes of a GGUF before its data: metadata as llama.cpp's converter writes it for gpt-oss, and tensor infos.

use super::super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, GgmlType, MAGIC, ValueType};
use super::names::Dialect;
use super::vocabulary::TokenList;
use crate::checkpoint::ModelConfig;
use crate::checkpoint::config::RMS_NORM_EPSILON;

/// ggml's version of the block layouts.
const QUANTIZATION_VERSION: u32 = 2;

/// A tensor of a file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) name: String,
    /// The contiguous dimension first.
    pub(super) dims: Vec<u64>,
    pub(super) ggml_type: GgmlType,
    /// From the start of the data.
    pub(super) offset: u64,
}

/// What the metadata says beside the model's numbers.
pub(super) struct About<'a> {
    /// `general.name`.
    pub(super) name: &'a str,
    /// `general.file_type`: llama.cpp's number for the mix of types.
    pub(super) file_type: u32,
    /// The vocabulary, if the file gets one.
    pub(super) tokens: Option<&'a TokenList>,
}

/// Everything before the data, padded to the alignment.
pub(super) fn bytes(config: &ModelConfig, about: &About, tensors: &[Info]) -> Vec<u8> {
    let metadata = metadata(config, about);
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&3u32.to_le_bytes());
    out.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    out.extend_from_slice(&metadata.count.to_le_bytes());
    out.extend_from_slice(&metadata.bytes);
    for tensor in tensors {
        string(&mut out, &tensor.name);
        out.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
        tensor.dims.iter().for_each(|dim| out.extend_from_slice(&dim.to_le_bytes()));
        out.extend_from_slice(&tensor.ggml_type.id().to_le_bytes());
        out.extend_from_slice(&tensor.offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
    out
}

fn metadata(c: &ModelConfig, about: &About) -> Entries {
    let start = Dialect::LlamaCpp.architecture();
    let mut entries = Entries { count: 0, bytes: Vec::new() };
    let own = |stem: &str| format!("{start}.{stem}");
    entries.text("general.architecture", start);
    entries.text("general.type", "model");
    entries.text("general.name", about.name);
    entries.u32(ALIGNMENT_KEY, DEFAULT_ALIGNMENT as usize);
    entries.u32(&own("block_count"), c.layers);
    entries.u32(&own("context_length"), c.rope.context_length());
    entries.u32(&own("embedding_length"), c.hidden);
    entries.u32(&own("feed_forward_length"), c.intermediate);
    entries.u32(&own("attention.head_count"), c.heads);
    entries.u32(&own("attention.head_count_kv"), c.kv_heads);
    entries.f32(&own("rope.freq_base"), c.rope.theta as f32);
    entries.f32(&own("attention.layer_norm_rms_epsilon"), RMS_NORM_EPSILON);
    entries.u32(&own("expert_count"), c.experts);
    entries.u32(&own("expert_used_count"), c.experts_per_token);
    entries.u32(&own("attention.key_length"), c.head_dim);
    entries.u32(&own("attention.value_length"), c.head_dim);
    entries.u32("general.file_type", about.file_type as usize);
    entries.u32(&own("attention.sliding_window"), c.sliding_window);
    entries.u32(&own("expert_feed_forward_length"), c.intermediate);
    entries.text(&own("rope.scaling.type"), "yarn");
    entries.f32(&own("rope.scaling.factor"), c.rope.scaling_factor as f32);
    entries.u32(&own("rope.scaling.original_context_length"), c.rope.initial_context_length);
    entries.f32(&own("rope.scaling.yarn_beta_fast"), c.rope.ntk_beta as f32);
    entries.f32(&own("rope.scaling.yarn_beta_slow"), c.rope.ntk_alpha as f32);
    entries.u32("general.quantization_version", QUANTIZATION_VERSION as usize);
    if let Some(tokens) = about.tokens {
        entries.vocabulary(tokens);
    }
    entries
}

struct Entries {
    count: u64,
    bytes: Vec<u8>,
}

impl Entries {
    fn key(&mut self, key: &str, kind: ValueType) {
        self.count += 1;
        string(&mut self.bytes, key);
        self.bytes.extend_from_slice(&(kind as u32).to_le_bytes());
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key, ValueType::String);
        string(&mut self.bytes, text);
    }

    fn u32(&mut self, key: &str, value: usize) {
        self.key(key, ValueType::U32);
        let value = u32::try_from(value).expect("a config's numbers fit a u32");
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f32) {
        self.key(key, ValueType::F32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn array(&mut self, key: &str, element: ValueType, count: usize) {
        self.key(key, ValueType::Array);
        self.bytes.extend_from_slice(&(element as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(count as u64).to_le_bytes());
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        self.array(key, ValueType::String, texts.len());
        texts.iter().for_each(|text| string(&mut self.bytes, text));
    }

    fn vocabulary(&mut self, list: &TokenList) {
        self.text("tokenizer.ggml.model", "gpt2");
        self.text("tokenizer.ggml.pre", "gpt-4o");
        self.texts("tokenizer.ggml.tokens", &list.tokens);
        self.array("tokenizer.ggml.token_type", ValueType::I32, list.kinds.len());
        list.kinds.iter().for_each(|kind| self.bytes.extend_from_slice(&kind.to_le_bytes()));
        self.texts("tokenizer.ggml.merges", &list.merges);
        for (name, id) in &list.special_ids {
            self.u32(&format!("tokenizer.ggml.{name}_token_id"), *id as usize);
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
