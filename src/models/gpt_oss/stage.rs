//! The named points of the forward pass: what a probe may look at, and where two runs are compared.

use std::fmt;

use crate::checkpoint::ModelConfig;

/// A point of the forward pass.  Values are f32 (expert ids: u32), one row per position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Stage {
    /// The embedding rows of the tokens: `[hidden]`.
    Embedding,
    /// Input of the attention projections, after RMSNorm: `[hidden]`.
    AttentionNorm,
    /// Queries after bias and rotary embedding, half-split order, not scaled: `[heads × head_dim]`.
    Query,
    /// Keys after bias and rotary embedding, half-split order, not scaled: `[kv_heads × head_dim]`.
    Key,
    /// Values after bias: `[kv_heads × head_dim]`.
    Value,
    /// Weighted values of each head, before the output projection: `[heads × head_dim]`.
    Attention,
    /// The residual stream after attention: `[hidden]`.
    AttentionResidual,
    /// Input of router and experts, after RMSNorm: `[hidden]`.
    MlpNorm,
    /// Router logits with bias: `[experts]`.
    RouterLogits,
    /// Chosen experts, highest logit first, ties to the lowest id: `[experts_per_token]`, u32.
    Experts,
    /// Softmax over the chosen experts' logits, in the order of [`Stage::Experts`]: `[experts_per_token]`.
    ExpertWeights,
    /// Activations after SwiGLU, one row of `intermediate` for each chosen expert in that order:
    /// `[experts_per_token × intermediate]`.
    Swiglu,
    /// The residual stream after the experts: `[hidden]`.
    BlockOutput,
    /// Input of the unembedding, after the last RMSNorm: `[hidden]`.
    FinalNorm,
    /// Logits: `[vocab]`, or the vocabulary ids asked for.
    Logits,
}

impl Stage {
    /// Values of a row; for [`Stage::Logits`] of the whole vocabulary.
    pub fn width(self, c: &ModelConfig) -> usize {
        match self {
            Stage::Embedding
            | Stage::AttentionNorm
            | Stage::AttentionResidual
            | Stage::MlpNorm
            | Stage::BlockOutput
            | Stage::FinalNorm => c.hidden,
            Stage::Query | Stage::Attention => c.q_rows(),
            Stage::Key | Stage::Value => c.kv_rows(),
            Stage::RouterLogits => c.experts,
            Stage::Experts | Stage::ExpertWeights => c.experts_per_token,
            Stage::Swiglu => c.experts_per_token * c.intermediate,
            Stage::Logits => c.vocab,
        }
    }

    /// Whether the stage occurs once in every layer.
    pub fn is_of_a_layer(self) -> bool {
        !matches!(self, Stage::Embedding | Stage::FinalNorm | Stage::Logits)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}
