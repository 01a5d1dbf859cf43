//! Metadata of a gpt-oss GGUF → [`ModelConfig`].
//!
//! Keys begin with the architecture.  What a file does not say is what llama.cpp's code for the architecture fixes;
//! where a key says it all the same, it must say that:
//!
//! | fact                                    | key, if a file has it                  | must be                         |
//! |-----------------------------------------|----------------------------------------|---------------------------------|
//! | even layers are windowed                | `attention.sliding_window_pattern`     | 2, or true, false, true, …      |
//! | SwiGLU: clamp 7, slope 1.702            | `swiglu_clamp_exp`                     | 7                               |
//! | RMSNorm epsilon 1e-5                    | `attention.layer_norm_rms_epsilon`     | 1e-5                            |
//! | YaRN, its range not rounded             | `rope.scaling.type`                    | yarn (ggml rounds all the same) |
//! | YaRN beta_fast 32, beta_slow 1          | `rope.scaling.yarn_beta_fast`, `_slow` | any: these are read             |
//! | concentration 0.1 · ln(factor) + 1      | `rope.scaling.attn_factor`             | 1                               |
//! | one base for both kinds of layer        | `rope.freq_base_swa`                   | `rope.freq_base`                |
//! | all of a head is rotated                | `rope.dimension_count`                 | `attention.key_length`          |
//! | softmax over the chosen experts, as is  | `expert_gating_func`, `expert_weights_scale` | 3, 1                      |
//!
//! The vocabulary is the rows of `token_embd.weight`.  Sources: `src/models/openai-moe.cpp` and `src/llama-model.cpp` of
//! llama.cpp, `convert/convert_gptoss.go` of Ollama.

use std::path::Path;

use super::error::DialectError;
use super::names::Dialect;
use crate::checkpoint::config::{RMS_NORM_EPSILON, SWIGLU_LIMIT_DEFAULT, limits};
use crate::checkpoint::{ModelConfig, RopeConfig};
use crate::gguf::{Metadata, Value};

/// llama.cpp's number for "softmax over the chosen logits".
pub(super) const GATING_SOFTMAX_WEIGHT: u64 = 3;
/// YaRN constants of a file that does not give them: llama.cpp's defaults, and gpt-oss's.
const YARN_BETAS: (f64, f64) = (32.0, 1.0);

/// Keys after the architecture that are read, or known to change nothing here.
const KNOWN: [&str; 34] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_feed_forward_length",
    "expert_gating_func",
    "expert_used_count",
    "expert_weights_norm",
    "expert_weights_scale",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_log_multiplier",
    "swiglu_clamp_exp",
    "tensor_data_layout",
    "use_parallel_residual",
    "vocab_size",
];

/// The dialect of a file, by its architecture.
pub(super) fn dialect(path: &Path, metadata: &Metadata) -> Result<Dialect, DialectError> {
    let found = metadata.get("general.architecture");
    let known = Dialect::ALL.into_iter().find(|dialect| found.and_then(Value::as_str) == Some(dialect.architecture()));
    known.ok_or_else(|| {
        let found = found.map_or("nothing".into(), shown);
        DialectError::GgufArchitecture { path: path.into(), found }
    })
}

/// The model of a file whose embedding has `vocab` rows; facts worth telling go to `warnings`.
pub(super) fn config(
    path: &Path,
    metadata: &Metadata,
    dialect: Dialect,
    vocab: usize,
    warnings: &mut Vec<String>,
) -> Result<ModelConfig, DialectError> {
    let keys = Keys { path, metadata, dialect };
    let intermediate_key =
        if dialect == Dialect::LlamaCpp { "expert_feed_forward_length" } else { "feed_forward_length" };
    let config = ModelConfig {
        layers: keys.count("block_count", limits::LAYERS_MAX)?,
        experts: keys.count("expert_count", limits::EXPERTS_MAX)?,
        experts_per_token: keys.count("expert_used_count", limits::EXPERTS_MAX)?,
        vocab,
        hidden: keys.count("embedding_length", limits::WIDTH_MAX)?,
        intermediate: keys.count(intermediate_key, limits::WIDTH_MAX)?,
        heads: keys.count("attention.head_count", limits::HEADS_MAX)?,
        kv_heads: keys.count("attention.head_count_kv", limits::HEADS_MAX)?,
        head_dim: keys.count("attention.key_length", limits::HEADS_MAX)?,
        sliding_window: keys.count("attention.sliding_window", limits::CONTEXT_MAX)?,
        swiglu_limit: SWIGLU_LIMIT_DEFAULT,
        rope: RopeConfig {
            theta: keys.positive("rope.freq_base")?,
            initial_context_length: keys.count("rope.scaling.original_context_length", limits::CONTEXT_MAX)?,
            scaling_factor: keys.positive("rope.scaling.factor")?,
            ntk_beta: keys.positive_or("rope.scaling.yarn_beta_fast", YARN_BETAS.0)?,
            ntk_alpha: keys.positive_or("rope.scaling.yarn_beta_slow", YARN_BETAS.1)?,
        },
    };
    if let Some(broken) = config.broken_rule(&|field| keys.key(key_of(field, intermediate_key))) {
        return Err(DialectError::GgufKeyValue {
            path: path.into(),
            key: broken.key,
            want: broken.want,
            found: broken.found,
        });
    }
    keys.expect_implied(&config)?;
    keys.warn(&config, warnings);
    Ok(config)
}

/// The key of a field of [`ModelConfig`], as [`ModelConfig::broken_rule`] names it.
fn key_of(field: &'static str, intermediate_key: &'static str) -> &'static str {
    match field {
        "experts" => "expert_count",
        "experts_per_token" => "expert_used_count",
        "heads" => "attention.head_count",
        "kv_heads" => "attention.head_count_kv",
        "head_dim" => "attention.key_length",
        "hidden" => "embedding_length",
        "intermediate" => intermediate_key,
        "rope.scaling_factor" => "rope.scaling.factor",
        "rope.theta" => "rope.freq_base",
        other => other,
    }
}

/// The metadata of one file: typed look-ups that name the key when they fail.
struct Keys<'a> {
    path: &'a Path,
    metadata: &'a Metadata,
    dialect: Dialect,
}

impl<'a> Keys<'a> {
    fn key(&self, stem: &str) -> String {
        format!("{}.{stem}", self.dialect.architecture())
    }

    fn find(&self, stem: &str) -> Option<Value<'a>> {
        self.metadata.get(&self.key(stem))
    }

    fn get(&self, stem: &str) -> Result<Value<'a>, DialectError> {
        self.find(stem).ok_or_else(|| DialectError::GgufKeyMissing { path: self.path.into(), key: self.key(stem) })
    }

    fn wrong(&self, stem: &str, want: impl Into<String>, found: Value) -> DialectError {
        let (path, key) = (self.path.into(), self.key(stem));
        DialectError::GgufKeyValue { path, key, want: want.into(), found: shown(found) }
    }

    fn count(&self, stem: &str, max: u64) -> Result<usize, DialectError> {
        let value = self.get(stem)?;
        match value.as_u64() {
            Some(n) if (1..=max).contains(&n) => Ok(n as usize),
            _ => Err(self.wrong(stem, format!("a whole number from 1 to {max}"), value)),
        }
    }

    fn positive(&self, stem: &str) -> Result<f64, DialectError> {
        let value = self.get(stem)?;
        match value.as_f64() {
            Some(x) if x > 0.0 && (x as f32).is_finite() && x as f32 > 0.0 => Ok(x),
            _ => Err(self.wrong(stem, "a positive finite number", value)),
        }
    }

    fn positive_or(&self, stem: &str, default: f64) -> Result<f64, DialectError> {
        self.find(stem).map_or(Ok(default), |_| self.positive(stem))
    }

    /// A key that need not be there, and says the same if it is.
    fn expect(&self, stem: &str, want: &str, agrees: impl FnOnce(Value<'a>) -> bool) -> Result<(), DialectError> {
        match self.find(stem) {
            Some(found) if !agrees(found) => Err(self.wrong(stem, want, found)),
            _ => Ok(()),
        }
    }

    fn expect_count(&self, stem: &str, want: usize) -> Result<(), DialectError> {
        self.expect(stem, &want.to_string(), |found| found.as_u64() == Some(want as u64))
    }

    fn expect_number(&self, stem: &str, want: f32) -> Result<(), DialectError> {
        self.expect(stem, &format!("{want:?}"), |found| found.as_f64().map(|x| x as f32) == Some(want))
    }

    /// What the architecture fixes.
    fn expect_implied(&self, c: &ModelConfig) -> Result<(), DialectError> {
        let epsilon = "attention.layer_norm_rms_epsilon";
        self.get(epsilon)?;
        self.expect_number(epsilon, RMS_NORM_EPSILON)?;
        if self.dialect == Dialect::LlamaCpp {
            self.get("rope.scaling.type")?;
        }
        self.expect("rope.scaling.type", "`yarn`", |found| found.as_str() == Some("yarn"))?;
        self.expect_count("attention.value_length", c.head_dim)?;
        self.expect_count("rope.dimension_count", c.head_dim)?;
        self.expect_count("feed_forward_length", c.intermediate)?;
        self.expect_count("expert_feed_forward_length", c.intermediate)?;
        self.expect_count("vocab_size", c.vocab)?;
        self.expect_number("rope.freq_base_swa", c.rope.theta as f32)?;
        for factor in ["attn_factor", "yarn_attn_factor", "yarn_ext_factor"] {
            self.expect_number(&format!("rope.scaling.{factor}"), 1.0)?;
        }
        self.expect_number("rope.scaling.yarn_log_multiplier", 0.1)?;
        self.expect_number("expert_weights_scale", 1.0)?;
        self.expect("expert_weights_norm", "false", |found| found.as_bool() == Some(false))?;
        self.expect("expert_gating_func", "3 (softmax over the chosen experts)", |found| {
            found.as_u64() == Some(GATING_SOFTMAX_WEIGHT)
        })?;
        self.expect("swiglu_clamp_exp", &format!("{:?} for every layer", c.swiglu_limit), |found| {
            each(found).all(|x| x.as_f64().map(|x| x as f32) == Some(c.swiglu_limit))
        })?;
        self.expect("attention.sliding_window_pattern", "2, or true for the even layers alone", |found| {
            match found.as_array() {
                None => found.as_u64() == Some(2),
                Some(layers) => {
                    let is_windowed = |layer: Value| layer.as_bool().or(layer.as_u64().map(|n| n != 0));
                    layers.len() == c.layers
                        && layers.iter().enumerate().all(|(n, layer)| is_windowed(layer) == Some(n % 2 == 0))
                }
            }
        })
    }

    /// What a person should know although the model is usable.
    fn warn(&self, c: &ModelConfig, warnings: &mut Vec<String>) {
        let (path, start) = (self.path.display(), format!("{}.", self.dialect.architecture()));
        let context = c.rope.context_length() as u64;
        match self.find("context_length").map(|value| (value, value.as_u64())) {
            Some((_, Some(found))) if found == context => {}
            found => {
                let found = found.map_or("nothing".into(), |(value, _)| shown(value));
                let key = self.key("context_length");
                warnings.push(format!(
                    "{path}: metadata `{key}` is {found}; the scaled embedding is meant for {context} tokens"
                ));
            }
        }
        let unknown: Vec<&str> = self
            .metadata
            .iter()
            .filter_map(|(key, _)| key.strip_prefix(&start).filter(|stem| !KNOWN.contains(stem)))
            .collect();
        if !unknown.is_empty() {
            warnings.push(format!("{path}: metadata of `{start}*` that is not read: {}", unknown.join(", ")));
        }
    }
}

/// The elements of an array, or the one value.
fn each(value: Value<'_>) -> Box<dyn Iterator<Item = Value<'_>> + '_> {
    match value.as_array() {
        Some(array) => Box::new(array.iter()),
        None => Box::new(std::iter::once(value)),
    }
}

/// A value as a message shows it.
pub(super) fn shown(value: Value<'_>) -> String {
    match value {
        Value::String(bytes) => format!("`{}`", bytes.escape_ascii()),
        Value::F32(x) => format!("{x:?}"),
        Value::F64(x) => format!("{x:?}"),
        Value::Bool(b) => b.to_string(),
        Value::Array(array) => format!("{array:?}"),
        other => match (other.as_u64(), other.as_i64()) {
            (Some(n), _) => n.to_string(),
            (_, Some(n)) => n.to_string(),
            _ => format!("{other:?}"),
        },
    }
}
