//! What a request may ask of the sampler, and the allowed ranges.
//!
//! Ranges are those of OpenAI's API reference (`temperature`, `top_p`, both additive penalties, `logit_bias`,
//! `top_logprobs`).  Those it does not have are transformers': `top_k`, `min_p`, `repetition_penalty`, the last bounded
//! here so that no logit of f32 overflows f64.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// OpenAI's range; 0 is greedy.
pub const TEMPERATURE: RangeInclusive<f64> = 0.0..=2.0;
/// Shares of the probability mass.
pub const SHARE: RangeInclusive<f64> = 0.0..=1.0;
/// OpenAI's range of `frequency_penalty` and `presence_penalty`, logits.
pub const ADDITIVE_PENALTY: RangeInclusive<f64> = -2.0..=2.0;
/// Factors that leave room for what people use, 1 to 2, and keep every f32 logit finite in f64.
pub const REPETITION_PENALTY: RangeInclusive<f64> = 0.01..=100.0;
/// OpenAI's range of `logit_bias`, logits.
pub const LOGIT_BIAS: RangeInclusive<f64> = -100.0..=100.0;
/// OpenAI's range of `top_logprobs`, tokens.
pub const TOP_LOGPROBS: RangeInclusive<u8> = 0..=20;

/// How a sequence is sampled.  The steps apply in the order of the fields, which is that of transformers
/// (`_get_logits_processor`) with OpenAI's additive penalties after the repetition penalty.
///
/// The default is what gpt-oss recommends: temperature 1, nothing filtered, nothing penalised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Added to the logits of these tokens, each in [`LOGIT_BIAS`].
    pub logit_bias: BTreeMap<u32, f64>,
    /// ρ in [`REPETITION_PENALTY`]: once for each distinct token of prompt and output; 1 is off (CTRL, arXiv 1909.05858).
    pub repetition_penalty: f64,
    /// α_f in [`ADDITIVE_PENALTY`]: per earlier occurrence in the output; 0 is off.
    pub frequency_penalty: f64,
    /// α_p in [`ADDITIVE_PENALTY`]: once for each distinct token of the output; 0 is off.
    pub presence_penalty: f64,
    /// T in [`TEMPERATURE`]; 0 takes the largest logit, of equal ones the lowest id, and draws nothing.
    pub temperature: f64,
    /// Keeps the k largest logits and those equal to the last of them; 0 is off.
    pub top_k: u32,
    /// In [`SHARE`]: keeps the fewest most likely tokens whose mass reaches it, so the one that crosses it, and at
    /// least one; 1 is off.
    pub top_p: f64,
    /// In [`SHARE`]: keeps tokens at least this likely compared with the likeliest; 0 is off.
    pub min_p: f64,
    /// Names the sequence of uniform numbers.  Equal seeds, parameters and logits give equal tokens on every platform.
    pub seed: u64,
    /// Absent: no log-probabilities.  Otherwise that of the token, and this many most likely ones ([`TOP_LOGPROBS`]).
    pub logprobs: Option<u8>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            logit_bias: BTreeMap::new(),
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
            logprobs: None,
        }
    }
}

/// Why parameters were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field means
pub enum ParamError {
    #[error("`{field}` is {value}; it must be from {min} to {max}")]
    OutOfRange { field: &'static str, value: f64, min: f64, max: f64 },
    #[error("`logit_bias` of token {token} is {value}; it must be from {min} to {max}")]
    BiasOutOfRange { token: u32, value: f64, min: f64, max: f64 },
    #[error("`logit_bias` names token {token}, outside the vocabulary of {vocab}")]
    BiasToken { token: u32, vocab: usize },
}

impl SamplingParams {
    /// Everything that can be told without a model; NaN is out of every range.
    pub fn validate(&self) -> Result<(), ParamError> {
        let fields = [
            ("repetition_penalty", self.repetition_penalty, REPETITION_PENALTY),
            ("frequency_penalty", self.frequency_penalty, ADDITIVE_PENALTY),
            ("presence_penalty", self.presence_penalty, ADDITIVE_PENALTY),
            ("temperature", self.temperature, TEMPERATURE),
            ("top_p", self.top_p, SHARE),
            ("min_p", self.min_p, SHARE),
            ("logprobs", self.logprobs.unwrap_or(0).into(), as_f64(TOP_LOGPROBS)),
        ];
        for (field, value, range) in fields {
            if !range.contains(&value) {
                return Err(ParamError::OutOfRange { field, value, min: *range.start(), max: *range.end() });
            }
        }
        for (&token, &value) in &self.logit_bias {
            if !LOGIT_BIAS.contains(&value) {
                let (min, max) = LOGIT_BIAS.into_inner();
                return Err(ParamError::BiasOutOfRange { token, value, min, max });
            }
        }
        Ok(())
    }

    /// As [`Self::validate`], and that every token named is one of `vocab`.
    pub fn validate_for(&self, vocab: usize) -> Result<(), ParamError> {
        self.validate()?;
        match self.logit_bias.keys().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(ParamError::BiasToken { token, vocab }),
            None => Ok(()),
        }
    }

    /// Whether the largest logit is taken, without a draw.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether a bias or a penalty may change a logit.
    pub(super) fn moves_logits(&self) -> bool {
        let penalties = [self.repetition_penalty - 1.0, self.frequency_penalty, self.presence_penalty];
        !self.logit_bias.is_empty() || penalties.iter().any(|&by| by != 0.0)
    }
}

fn as_f64(range: RangeInclusive<u8>) -> RangeInclusive<f64> {
    f64::from(*range.start())..=f64::from(*range.end())
}
