//! `config.json` of both dialects, read into one typed [`ModelConfig`].
//!
//! | field                    | original `config.json`     | HF `config.json`                                     |
//! |--------------------------|----------------------------|------------------------------------------------------|
//! | `layers`                 | `num_hidden_layers`        | `num_hidden_layers`                                  |
//! | `experts`                | `num_experts`              | `num_local_experts`                                  |
//! | `experts_per_token`      | `experts_per_token`        | `num_experts_per_tok` (and `experts_per_token`)      |
//! | `initial_context_length` | `initial_context_length`   | `rope_scaling.original_max_position_embeddings`      |
//! | `rope_scaling_factor`    | `rope_scaling_factor`      | `rope_scaling.factor`                                |
//! | `rope_ntk_alpha`/`beta`  | `rope_ntk_alpha`/`beta`    | `rope_scaling.beta_slow`/`beta_fast`                 |
//!
//! The dialect is told by content (`model_type` or `num_local_experts` mean HF).  What gpt-oss code fixes
//! and HF spells out (`layer_types`, `rms_norm_eps`, `truncate`, `tie_word_embeddings`) is checked, not stored.

use std::path::Path;

use serde_json::{Map, Value};

use super::CheckpointError;
use crate::mapped::FileBytes;

/// RMSNorm epsilon of every gpt-oss model; the original config does not carry it.
pub const RMS_NORM_EPSILON: f32 = 1e-5;
/// SwiGLU clamp where the config has no `swiglu_limit` (as the upstream converter does).
pub const SWIGLU_LIMIT_DEFAULT: f32 = 7.0;
/// Values an MXFP4 block holds; every packed row is a whole number of blocks.
pub const MXFP4_BLOCK_VALUES: usize = 32;

/// Largest accepted value of each dimension: far above any gpt-oss model, low enough that no product overflows.
pub mod limits {
    /// Transformer blocks.
    pub const LAYERS_MAX: u64 = 4096;
    /// Experts of a block.
    pub const EXPERTS_MAX: u64 = 4096;
    /// Rows of the embedding.
    pub const VOCAB_MAX: u64 = 1 << 24;
    /// Width of the residual stream, and of an expert.
    pub const WIDTH_MAX: u64 = 1 << 17;
    /// Query heads, key-value heads, head size.
    pub const HEADS_MAX: u64 = 1 << 12;
    /// Context and window lengths in tokens.
    pub const CONTEXT_MAX: u64 = 1 << 31;
}

/// Geometry and constants of a gpt-oss model, whatever file they came from.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ModelConfig {
    /// Transformer blocks, L.
    pub layers: usize,
    /// Experts of a block, E.
    pub experts: usize,
    /// Experts a token is routed to.
    pub experts_per_token: usize,
    /// Rows of embedding and unembedding.
    pub vocab: usize,
    /// Width of the residual stream, D.
    pub hidden: usize,
    /// Inner width of an expert, F.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Keys a windowed layer sees, the token itself included.
    pub sliding_window: usize,
    /// Clamp of the SwiGLU inputs.
    pub swiglu_limit: f32,
    /// Rotary embedding with YaRN scaling.
    pub rope: RopeConfig,
}

/// Rotary embedding constants of a gpt-oss model.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// Context the model was first trained on, tokens.
    pub initial_context_length: usize,
    /// Context extension factor.
    pub scaling_factor: f64,
    /// YaRN `beta_slow`, in rotations.
    pub ntk_alpha: f64,
    /// YaRN `beta_fast`, in rotations.
    pub ntk_beta: f64,
}

impl RopeConfig {
    /// YaRN correction range `(low, high)` in dimension pairs, not rounded (OpenAI's `truncate: false`).
    ///
    /// `(d/2) · ln(context / (2π·r)) / ln(theta)`, with `r = ntk_beta` for low and `ntk_alpha` for high.
    pub fn correction_range(&self, head_dim: usize) -> (f64, f64) {
        let bound = |rotations: f64| {
            (head_dim as f64 / 2.0)
                * (self.initial_context_length as f64 / (rotations * 2.0 * std::f64::consts::PI)).ln()
                / self.theta.ln()
        };
        (bound(self.ntk_beta), bound(self.ntk_alpha))
    }

    /// The factor on cos and sin: `0.1·ln(factor) + 1`.
    pub fn concentration(&self) -> f64 {
        0.1 * self.scaling_factor.ln() + 1.0
    }

    /// Longest context the scaled embedding is meant for, tokens.
    pub fn context_length(&self) -> usize {
        (self.initial_context_length as f64 * self.scaling_factor) as usize
    }
}

impl ModelConfig {
    /// Rows of the query projection.
    pub fn q_rows(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Rows of the key (and of the value) projection.
    pub fn kv_rows(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Rows of the fused projection: query, key, value.
    pub fn qkv_rows(&self) -> usize {
        self.q_rows() + 2 * self.kv_rows()
    }

    /// Reads and validates `config.json`.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let text = FileBytes::map(path).map_err(|source| CheckpointError::Io { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// Parses `config.json` text of either dialect; `path` is for messages.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let value: Value =
            serde_json::from_slice(text).map_err(|source| CheckpointError::ConfigJson { path: path.into(), source })?;
        let Value::Object(map) = value else {
            return Err(CheckpointError::ConfigNotObject { path: path.into() });
        };
        let fields = Fields { path, map: &map };
        let config = match fields.is_hf() {
            true => hf(&fields)?,
            false => original(&fields)?,
        };
        config.validate(&fields)?;
        Ok(config)
    }

    fn validate(&self, fields: &Fields) -> Result<(), CheckpointError> {
        let hf = fields.is_hf();
        let key = |field: &'static str| {
            let key = match field {
                "experts" if hf => "num_local_experts",
                "experts" => "num_experts",
                "experts_per_token" if hf => "num_experts_per_tok",
                "heads" => "num_attention_heads",
                "kv_heads" => "num_key_value_heads",
                "hidden" => "hidden_size",
                "intermediate" => "intermediate_size",
                "rope.scaling_factor" if hf => "rope_scaling.factor",
                "rope.scaling_factor" => "rope_scaling_factor",
                "rope.theta" => "rope_theta",
                other => other,
            };
            key.to_string()
        };
        match self.broken_rule(&key) {
            None => Ok(()),
            Some(broken) => Err(fields.rule(&broken.key, broken.want, broken.found)),
        }
    }

    /// The first rule between numbers that is broken; `key` says what the file at hand calls a field of this type.
    pub(crate) fn broken_rule(&self, key: &dyn Fn(&'static str) -> String) -> Option<BrokenRule> {
        let broken = |field, want: String, found: String| Some(BrokenRule { key: key(field), want, found });
        if self.experts_per_token > self.experts {
            let want = format!("at most {} = {}", key("experts"), self.experts);
            return broken("experts_per_token", want, self.experts_per_token.to_string());
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let want = format!("a multiple of {} = {}", key("kv_heads"), self.kv_heads);
            return broken("heads", want, self.heads.to_string());
        }
        if !self.head_dim.is_multiple_of(2) {
            return broken("head_dim", "an even number".into(), self.head_dim.to_string());
        }
        for (field, width) in [("hidden", self.hidden), ("intermediate", self.intermediate)] {
            if !width.is_multiple_of(MXFP4_BLOCK_VALUES) {
                return broken(field, format!("a multiple of {MXFP4_BLOCK_VALUES} (MXFP4 blocks)"), width.to_string());
            }
        }
        let context = self.rope.context_length() as u64;
        if !(1..=limits::CONTEXT_MAX).contains(&context) {
            let want = format!("a factor that extends the context to 1 to {} tokens", limits::CONTEXT_MAX);
            return broken("rope.scaling_factor", want, format!("{context} tokens"));
        }
        if self.rope.theta <= 1.0 {
            return broken("rope.theta", "a base above 1".into(), self.rope.theta.to_string());
        }
        let (low, high) = self.rope.correction_range(self.head_dim);
        if !(low.is_finite() && high.is_finite() && low < high) {
            let want = "YaRN constants whose correction range is finite and increasing".to_string();
            return broken("rope.theta", want, format!("range {low}..{high}"));
        }
        None
    }
}

/// A rule between a config's numbers that does not hold.
pub(crate) struct BrokenRule {
    /// What the file calls the field.
    pub(crate) key: String,
    /// The rule.
    pub(crate) want: String,
    /// What was found.
    pub(crate) found: String,
}

fn original(f: &Fields) -> Result<ModelConfig, CheckpointError> {
    let scaling_factor = f.positive("rope_scaling_factor")?;
    Ok(ModelConfig {
        layers: f.count("num_hidden_layers", limits::LAYERS_MAX)?,
        experts: f.count("num_experts", limits::EXPERTS_MAX)?,
        // The upstream converter never reads it; a config without it means the only value it writes.
        experts_per_token: f.optional_count("experts_per_token", limits::EXPERTS_MAX)?.unwrap_or(4),
        vocab: f.count("vocab_size", limits::VOCAB_MAX)?,
        hidden: f.count("hidden_size", limits::WIDTH_MAX)?,
        intermediate: f.count("intermediate_size", limits::WIDTH_MAX)?,
        heads: f.count("num_attention_heads", limits::HEADS_MAX)?,
        kv_heads: f.count("num_key_value_heads", limits::HEADS_MAX)?,
        head_dim: f.count("head_dim", limits::HEADS_MAX)?,
        sliding_window: f.count("sliding_window", limits::CONTEXT_MAX)?,
        swiglu_limit: f.swiglu_limit()?,
        rope: RopeConfig {
            theta: f.positive("rope_theta")?,
            initial_context_length: f.count("initial_context_length", limits::CONTEXT_MAX)?,
            scaling_factor,
            ntk_alpha: f.positive("rope_ntk_alpha")?,
            ntk_beta: f.positive("rope_ntk_beta")?,
        },
    })
}

fn hf(f: &Fields) -> Result<ModelConfig, CheckpointError> {
    f.expect_text("model_type", "gpt_oss")?;
    f.expect_bool("tie_word_embeddings", false)?;
    f.expect_bool("attention_bias", true)?;
    if let Some(eps) = f.optional_number("rms_norm_eps")?
        && eps as f32 != RMS_NORM_EPSILON
    {
        return Err(f.rule("rms_norm_eps", format!("{RMS_NORM_EPSILON:e}"), eps));
    }
    let layers = f.count("num_hidden_layers", limits::LAYERS_MAX)?;
    f.expect_alternating_layers(layers)?;
    // transformers 5 saves `rope_parameters`, with the base inside; earlier versions `rope_scaling`.
    let (rope_key, rope_map) = f.object_of(&["rope_scaling", "rope_parameters"])?;
    let rope = Fields { path: f.path, map: rope_map };
    rope.expect_text("rope_type", "yarn").map_err(|e| e.within(rope_key))?;
    // Spelled out: where it is absent, transformers rounds the correction range, which no gpt-oss model does.
    rope.get("truncate").and_then(|_| rope.expect_bool("truncate", false)).map_err(|e| e.within(rope_key))?;
    let theta = match rope.optional_number("rope_theta").map_err(|e| e.within(rope_key))? {
        Some(_) => rope.positive("rope_theta").map_err(|e| e.within(rope_key))?,
        None => f.positive("rope_theta")?,
    };
    let experts_per_token = f.count("num_experts_per_tok", limits::EXPERTS_MAX)?;
    if let Some(alias) = f.optional_count("experts_per_token", limits::EXPERTS_MAX)?
        && alias != experts_per_token
    {
        return Err(f.rule("experts_per_token", format!("num_experts_per_tok = {experts_per_token}"), alias));
    }
    Ok(ModelConfig {
        layers,
        experts: f.count("num_local_experts", limits::EXPERTS_MAX)?,
        experts_per_token,
        vocab: f.count("vocab_size", limits::VOCAB_MAX)?,
        hidden: f.count("hidden_size", limits::WIDTH_MAX)?,
        intermediate: f.count("intermediate_size", limits::WIDTH_MAX)?,
        heads: f.count("num_attention_heads", limits::HEADS_MAX)?,
        kv_heads: f.count("num_key_value_heads", limits::HEADS_MAX)?,
        head_dim: f.count("head_dim", limits::HEADS_MAX)?,
        sliding_window: f.count("sliding_window", limits::CONTEXT_MAX)?,
        swiglu_limit: f.swiglu_limit()?,
        rope: RopeConfig {
            theta,
            initial_context_length: rope
                .count("original_max_position_embeddings", limits::CONTEXT_MAX)
                .map_err(|e| e.within(rope_key))?,
            scaling_factor: rope.positive("factor").map_err(|e| e.within(rope_key))?,
            ntk_alpha: rope.positive("beta_slow").map_err(|e| e.within(rope_key))?,
            ntk_beta: rope.positive("beta_fast").map_err(|e| e.within(rope_key))?,
        },
    })
}

/// One JSON object with the file it came from: typed look-ups that name the field when they fail.
struct Fields<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn is_hf(&self) -> bool {
        self.map.contains_key("model_type") || self.map.contains_key("num_local_experts")
    }

    fn rule(&self, field: &str, want: String, found: impl ToString) -> CheckpointError {
        CheckpointError::ConfigValue { path: self.path.into(), field: field.into(), want, found: found.to_string() }
    }

    fn get(&self, field: &str) -> Result<&'a Value, CheckpointError> {
        self.map
            .get(field)
            .ok_or_else(|| CheckpointError::ConfigMissing { path: self.path.into(), field: field.into() })
    }

    fn count(&self, field: &str, max: u64) -> Result<usize, CheckpointError> {
        let value = self.get(field)?;
        match value.as_u64() {
            Some(n) if (1..=max).contains(&n) => Ok(n as usize),
            _ => Err(self.rule(field, format!("a whole number from 1 to {max}"), value)),
        }
    }

    fn optional_count(&self, field: &str, max: u64) -> Result<Option<usize>, CheckpointError> {
        self.map.get(field).map(|_| self.count(field, max)).transpose()
    }

    fn optional_number(&self, field: &str) -> Result<Option<f64>, CheckpointError> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(x) if x.is_finite() => Ok(Some(x)),
                _ => Err(self.rule(field, "a finite number".into(), value)),
            },
        }
    }

    fn positive(&self, field: &str) -> Result<f64, CheckpointError> {
        let value = self.get(field)?;
        match value.as_f64() {
            // model.bin stores these as f32, so a value that is no positive f32 can't be kept either.
            Some(x) if x > 0.0 && (x as f32).is_finite() && x as f32 > 0.0 => Ok(x),
            _ => Err(self.rule(field, "a positive finite number".into(), value)),
        }
    }

    fn swiglu_limit(&self) -> Result<f32, CheckpointError> {
        match self.optional_number("swiglu_limit")? {
            None => Ok(SWIGLU_LIMIT_DEFAULT),
            Some(_) => Ok(self.positive("swiglu_limit")? as f32),
        }
    }

    fn expect_text(&self, field: &str, want: &str) -> Result<(), CheckpointError> {
        match self.get(field)? {
            Value::String(found) if found == want => Ok(()),
            found => Err(self.rule(field, format!("\"{want}\""), found)),
        }
    }

    fn expect_bool(&self, field: &str, want: bool) -> Result<(), CheckpointError> {
        match self.map.get(field) {
            None => Ok(()),
            Some(Value::Bool(found)) if *found == want => Ok(()),
            Some(found) => Err(self.rule(field, want.to_string(), found)),
        }
    }

    /// gpt-oss windows the even layers; a config that says otherwise describes another model.
    fn expect_alternating_layers(&self, layers: usize) -> Result<(), CheckpointError> {
        let Some(value) = self.map.get("layer_types") else { return Ok(()) };
        let Some(types) = value.as_array() else {
            return Err(self.rule("layer_types", "an array".into(), value));
        };
        if types.len() != layers {
            return Err(self.rule("layer_types", format!("num_hidden_layers = {layers} entries"), types.len()));
        }
        for (layer, found) in types.iter().enumerate() {
            let want = if layer % 2 == 0 { "sliding_attention" } else { "full_attention" };
            if found.as_str() != Some(want) {
                return Err(self.rule(&format!("layer_types[{layer}]"), format!("\"{want}\""), found));
            }
        }
        Ok(())
    }

    fn object_of(&self, names: &[&'static str]) -> Result<(&'static str, &'a Map<String, Value>), CheckpointError> {
        for name in names {
            match self.map.get(*name) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(map)) => return Ok((name, map)),
                Some(found) => return Err(self.rule(name, "an object".into(), found)),
            }
        }
        Err(CheckpointError::ConfigMissing { path: self.path.into(), field: names.join(" or ") })
    }
}
