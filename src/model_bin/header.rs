//! The first 148 bytes of a model.bin: who it is, the model's numbers, the tokenizer's sizes.
//!
//! | offset | type | field               | | offset | type | field                   |
//! |-------:|------|---------------------|-|-------:|------|-------------------------|
//! |      0 | 16 B | magic, zero         | |     72 | u32  | attention_window        |
//! |     16 | UUID | model               | |     76 | f32  | rope_theta              |
//! |     32 | u32  | context_length      | |     80 | f32  | interpolation_scale     |
//! |     36 | u32  | num_blocks          | |     84 | f32  | yarn_offset             |
//! |     40 | u32  | num_experts         | |     88 | f32  | yarn_scale              |
//! |     44 | u32  | num_active_experts  | |     92 | f32  | yarn_multiplier         |
//! |     48 | u32  | embedding_dim       | |     96 | f32  | rmsnorm_epsilon         |
//! |     52 | u32  | mlp_dim             | |    100 | UUID | layout                  |
//! |     56 | f32  | swiglu_limit        | |    116 | UUID | tokenizer               |
//! |     60 | u32  | head_dim            | |    132 | u32  | num_special_tokens      |
//! |     64 | u32  | num_heads           | |    136 | u32  | num_text_tokens         |
//! |     68 | u32  | num_kv_heads        | |    140 | u32  | regex_size, tokens_size |
//!
//! With the correction range (low, high) of [`RopeConfig`]: yarn_scale = 1/(high − low), yarn_offset = −low × that.
//! Everything is computed in f64 and rounded once to f32.

use std::path::Path;

use super::ModelBinError;
use super::layout::{ACTIVE_EXPERTS, HEAD_DIM, HEADER_BYTES, MAGIC, ids};
use crate::checkpoint::config::{MXFP4_BLOCK_VALUES, RMS_NORM_EPSILON, limits};
use crate::checkpoint::{ModelConfig, RopeConfig};

/// The numbers of the model header, as stored.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[allow(missing_docs)] // the field names are the format's
pub struct ModelHeader {
    pub context_length: u32,
    pub num_blocks: u32,
    pub num_experts: u32,
    pub num_active_experts: u32,
    pub embedding_dim: u32,
    pub mlp_dim: u32,
    pub swiglu_limit: f32,
    pub head_dim: u32,
    pub num_heads: u32,
    pub num_kv_heads: u32,
    pub attention_window: u32,
    pub rope_theta: f32,
    pub interpolation_scale: f32,
    pub yarn_offset: f32,
    pub yarn_scale: f32,
    pub yarn_multiplier: f32,
    pub rmsnorm_epsilon: f32,
}

/// The numbers of the tokenizer header, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs)]
pub struct TokenizerHeader {
    pub num_special_tokens: u32,
    pub num_text_tokens: u32,
    pub regex_size: u32,
    pub tokens_size: u32,
}

/// Both headers.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Header {
    /// The model's numbers.
    pub model: ModelHeader,
    /// The tokenizer's sizes.
    pub tokenizer: TokenizerHeader,
}

impl ModelHeader {
    /// The header of a model.
    pub fn new(config: &ModelConfig) -> ModelHeader {
        let rope = &config.rope;
        let (low, high) = rope.correction_range(config.head_dim);
        ModelHeader {
            context_length: rope.context_length() as u32,
            num_blocks: config.layers as u32,
            num_experts: config.experts as u32,
            num_active_experts: ACTIVE_EXPERTS as u32,
            embedding_dim: config.hidden as u32,
            mlp_dim: config.intermediate as u32,
            swiglu_limit: config.swiglu_limit,
            head_dim: config.head_dim as u32,
            num_heads: config.heads as u32,
            num_kv_heads: config.kv_heads as u32,
            attention_window: config.sliding_window as u32,
            rope_theta: rope.theta as f32,
            interpolation_scale: (1.0 / rope.scaling_factor) as f32,
            yarn_offset: (-low / (high - low)) as f32,
            yarn_scale: (1.0 / (high - low)) as f32,
            yarn_multiplier: rope.concentration() as f32,
            rmsnorm_epsilon: RMS_NORM_EPSILON,
        }
    }

    /// The model these numbers describe.
    ///
    /// The header keeps YaRN's range, not the betas it came from; they are solved for and, where whole numbers give
    /// the same header, rounded to those.
    pub fn config(&self, vocab: usize) -> ModelConfig {
        let scaling_factor = 1.0 / f64::from(self.interpolation_scale);
        let theta = f64::from(self.rope_theta);
        let initial = f64::from(self.context_length) / scaling_factor;
        let width = 1.0 / f64::from(self.yarn_scale);
        let low = -f64::from(self.yarn_offset) * width;
        let rotations =
            |bound: f64| initial / (2.0 * std::f64::consts::PI) / theta.powf(2.0 * bound / f64::from(self.head_dim));
        let config = |ntk_alpha: f64, ntk_beta: f64| ModelConfig {
            layers: self.num_blocks as usize,
            experts: self.num_experts as usize,
            experts_per_token: self.num_active_experts as usize,
            vocab,
            hidden: self.embedding_dim as usize,
            intermediate: self.mlp_dim as usize,
            heads: self.num_heads as usize,
            kv_heads: self.num_kv_heads as usize,
            head_dim: self.head_dim as usize,
            sliding_window: self.attention_window as usize,
            swiglu_limit: self.swiglu_limit,
            rope: RopeConfig {
                theta,
                initial_context_length: initial.round() as usize,
                scaling_factor,
                ntk_alpha,
                ntk_beta,
            },
        };
        let (alpha, beta) = (rotations(low + width), rotations(low));
        let rounded = config(alpha.round(), beta.round());
        if ModelHeader::new(&rounded) == *self { rounded } else { config(alpha, beta) }
    }
}

impl Header {
    /// The bytes of the header.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES as usize] {
        let (m, t) = (&self.model, &self.tokenizer);
        let u = |x: u32| x.to_le_bytes();
        let f = |x: f32| x.to_le_bytes();
        let model = [
            u(m.context_length),
            u(m.num_blocks),
            u(m.num_experts),
            u(m.num_active_experts),
            u(m.embedding_dim),
            u(m.mlp_dim),
            f(m.swiglu_limit),
            u(m.head_dim),
            u(m.num_heads),
            u(m.num_kv_heads),
            u(m.attention_window),
            f(m.rope_theta),
            f(m.interpolation_scale),
            f(m.yarn_offset),
            f(m.yarn_scale),
            f(m.yarn_multiplier),
            f(m.rmsnorm_epsilon),
        ];
        let tokenizer = [u(t.num_special_tokens), u(t.num_text_tokens), u(t.regex_size), u(t.tokens_size)];
        let parts: [&[u8]; 6] =
            [&MAGIC, &ids::MODEL, model.as_flattened(), &ids::APPLE_GPU, &ids::TIKTOKEN, tokenizer.as_flattened()];
        parts.concat().try_into().expect("the parts of the header add up to its length")
    }

    /// Reads and validates the header of `file`.
    pub fn parse(path: &Path, file: &[u8]) -> Result<Header, ModelBinError> {
        let Some(bytes) = file.first_chunk::<{ HEADER_BYTES as usize }>() else {
            let found_bytes = file.len() as u64;
            return Err(ModelBinError::HeaderTruncated { path: path.into(), want_bytes: HEADER_BYTES, found_bytes });
        };
        let f = Fields { path, bytes };
        if bytes[..12] != MAGIC[..12] {
            let found = bytes[..12].escape_ascii().to_string();
            return Err(ModelBinError::Magic { path: path.into(), found });
        }
        f.check("zero", 12, f.u32_at(12) == 0, || "0".into())?;
        f.uuid("model", 16, &ids::MODEL)?;
        f.uuid("layout", 100, &ids::APPLE_GPU)?;
        f.uuid("tokenizer", 116, &ids::TIKTOKEN)?;
        let header = Header { model: f.model()?, tokenizer: f.tokenizer()? };
        debug_assert_eq!(header.to_bytes()[..100], bytes[..100]);
        Ok(header)
    }
}

/// Typed look-ups in the header's bytes that name field and offset when they fail.
struct Fields<'a> {
    path: &'a Path,
    bytes: &'a [u8; HEADER_BYTES as usize],
}

impl Fields<'_> {
    fn u32_at(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes[offset..offset + 4].try_into().expect("four bytes"))
    }

    fn check(
        &self,
        field: &'static str,
        offset: usize,
        ok: bool,
        want: impl Fn() -> String,
    ) -> Result<(), ModelBinError> {
        if ok {
            return Ok(());
        }
        let (int, float) = (self.u32_at(offset), f32::from_bits(self.u32_at(offset)));
        let found = if FLOATS.contains(&field) { format!("{float:e}") } else { int.to_string() };
        Err(ModelBinError::HeaderField { path: self.path.into(), field, offset: offset as u64, want: want(), found })
    }

    fn uuid(&self, field: &'static str, offset: usize, want: &[u8; 16]) -> Result<(), ModelBinError> {
        let found: [u8; 16] = self.bytes[offset..offset + 16].try_into().expect("16 bytes");
        if found == *want {
            return Ok(());
        }
        let (want, found) = (uuid_text(want), uuid_text(&found));
        Err(ModelBinError::Uuid { path: self.path.into(), field, offset: offset as u64, want, found })
    }

    fn count(&self, field: &'static str, offset: usize, max: u64) -> Result<u32, ModelBinError> {
        let found = self.u32_at(offset);
        self.check(field, offset, (1..=max).contains(&u64::from(found)), || format!("1 to {max}"))?;
        Ok(found)
    }

    fn positive(&self, field: &'static str, offset: usize) -> Result<f32, ModelBinError> {
        let found = f32::from_bits(self.u32_at(offset));
        self.check(field, offset, found.is_finite() && found > 0.0, || "a positive finite number".into())?;
        Ok(found)
    }

    fn width(&self, field: &'static str, offset: usize) -> Result<u32, ModelBinError> {
        let found = self.count(field, offset, limits::WIDTH_MAX)?;
        let ok = (found as usize).is_multiple_of(MXFP4_BLOCK_VALUES);
        self.check(field, offset, ok, || format!("a multiple of {MXFP4_BLOCK_VALUES}"))?;
        Ok(found)
    }

    fn model(&self) -> Result<ModelHeader, ModelBinError> {
        let num_experts = self.count("num_experts", 40, limits::EXPERTS_MAX)?;
        let num_active_experts = self.count("num_active_experts", 44, u64::from(num_experts))?;
        let head_dim = self.u32_at(60);
        self.check("head_dim", 60, head_dim as usize == HEAD_DIM, || HEAD_DIM.to_string())?;
        let num_heads = self.count("num_heads", 64, limits::HEADS_MAX)?;
        let num_kv_heads = self.count("num_kv_heads", 68, limits::HEADS_MAX)?;
        self.check("num_kv_heads", 68, num_heads.is_multiple_of(num_kv_heads), || {
            format!("a divisor of num_heads = {num_heads}")
        })?;
        let interpolation_scale = self.positive("interpolation_scale", 80)?;
        let rope_theta = self.positive("rope_theta", 76)?;
        self.check("rope_theta", 76, rope_theta > 1.0, || "above 1".into())?;
        let yarn_offset = f32::from_bits(self.u32_at(84));
        self.check("yarn_offset", 84, yarn_offset.is_finite(), || "a finite number".into())?;
        let rmsnorm_epsilon = f32::from_bits(self.u32_at(96));
        self.check("rmsnorm_epsilon", 96, rmsnorm_epsilon == RMS_NORM_EPSILON, || format!("{RMS_NORM_EPSILON:e}"))?;
        Ok(ModelHeader {
            context_length: self.count("context_length", 32, limits::CONTEXT_MAX)?,
            num_blocks: self.count("num_blocks", 36, limits::LAYERS_MAX)?,
            num_experts,
            num_active_experts,
            embedding_dim: self.width("embedding_dim", 48)?,
            mlp_dim: self.width("mlp_dim", 52)?,
            swiglu_limit: self.positive("swiglu_limit", 56)?,
            head_dim,
            num_heads,
            num_kv_heads,
            attention_window: self.count("attention_window", 72, limits::CONTEXT_MAX)?,
            rope_theta,
            interpolation_scale,
            yarn_offset,
            yarn_scale: self.positive("yarn_scale", 88)?,
            yarn_multiplier: self.positive("yarn_multiplier", 92)?,
            rmsnorm_epsilon,
        })
    }

    fn tokenizer(&self) -> Result<TokenizerHeader, ModelBinError> {
        let num_special_tokens = self.count("num_special_tokens", 132, limits::VOCAB_MAX)?;
        let num_text_tokens = self.count("num_text_tokens", 136, limits::VOCAB_MAX)?;
        let regex_size = self.count("regex_size", 140, u64::from(u32::MAX))?;
        // A text token takes at least its length and one byte.
        let tokens_size = self.u32_at(144);
        let ok = u64::from(tokens_size) >= 3 * u64::from(num_text_tokens);
        self.check("tokens_size", 144, ok, || format!("at least 3 × num_text_tokens = {num_text_tokens}"))?;
        Ok(TokenizerHeader { num_special_tokens, num_text_tokens, regex_size, tokens_size })
    }
}

/// Header fields that hold an f32.
const FLOATS: [&str; 7] = [
    "swiglu_limit",
    "rope_theta",
    "interpolation_scale",
    "yarn_offset",
    "yarn_scale",
    "yarn_multiplier",
    "rmsnorm_epsilon",
];

/// The usual text form of a UUID.
pub fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
