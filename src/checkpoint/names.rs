//! The tensors of a gpt-oss model: one table of roles, with the names, shapes and dtypes of both SafeTensors layouts.
//!
//! [`TensorId`] is the project's name for a tensor in every format: it means the *original* checkpoint's tensor
//! (`block.N.attn.qkv.weight`, rows Q then K then V, unscaled).  Other layouts say how theirs maps onto it.

use std::fmt;
use std::ops::Range;

use super::config::{MXFP4_BLOCK_VALUES, ModelConfig};
use super::dtype::Dtype;

/// Packed bytes of one MXFP4 block: 32 values of four bits.
pub const MXFP4_BLOCK_BYTES: usize = MXFP4_BLOCK_VALUES / 2;

/// What a tensor is for.  `Mlp1` is the fused gate/up matrix, `Mlp2` the down matrix of all experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Role {
    Embedding,
    AttnNorm,
    QkvWeight,
    QkvBias,
    Sinks,
    OutWeight,
    OutBias,
    MlpNorm,
    GateWeight,
    GateBias,
    Mlp1Blocks,
    Mlp1Scales,
    Mlp1Bias,
    Mlp2Blocks,
    Mlp2Scales,
    Mlp2Bias,
    FinalNorm,
    Unembedding,
}

use Role::*;

impl Role {
    /// Roles a block has, in the order of the forward pass.
    pub const OF_A_BLOCK: [Role; 15] = [
        AttnNorm, QkvWeight, QkvBias, Sinks, OutWeight, OutBias, MlpNorm, GateWeight, GateBias, Mlp1Blocks, Mlp1Scales,
        Mlp1Bias, Mlp2Blocks, Mlp2Scales, Mlp2Bias,
    ];
    /// Every role, in the order of the forward pass.
    pub const ALL: [Role; 18] = [
        Embedding,
        AttnNorm,
        QkvWeight,
        QkvBias,
        Sinks,
        OutWeight,
        OutBias,
        MlpNorm,
        GateWeight,
        GateBias,
        Mlp1Blocks,
        Mlp1Scales,
        Mlp1Bias,
        Mlp2Blocks,
        Mlp2Scales,
        Mlp2Bias,
        FinalNorm,
        Unembedding,
    ];
    /// The per-expert arrays, in the order model.bin stores them.
    pub const OF_AN_EXPERT: [Role; 6] = [Mlp1Blocks, Mlp1Scales, Mlp1Bias, Mlp2Blocks, Mlp2Scales, Mlp2Bias];

    /// The name in the original layout, without `block.N.`.
    pub fn original_stem(self) -> &'static str {
        match self {
            Embedding => "embedding.weight",
            Unembedding => "unembedding.weight",
            FinalNorm => "norm.scale",
            AttnNorm => "attn.norm.scale",
            QkvWeight => "attn.qkv.weight",
            QkvBias => "attn.qkv.bias",
            Sinks => "attn.sinks",
            OutWeight => "attn.out.weight",
            OutBias => "attn.out.bias",
            MlpNorm => "mlp.norm.scale",
            GateWeight => "mlp.gate.weight",
            GateBias => "mlp.gate.bias",
            Mlp1Blocks => "mlp.mlp1_weight.blocks",
            Mlp1Scales => "mlp.mlp1_weight.scales",
            Mlp1Bias => "mlp.mlp1_bias",
            Mlp2Blocks => "mlp.mlp2_weight.blocks",
            Mlp2Scales => "mlp.mlp2_weight.scales",
            Mlp2Bias => "mlp.mlp2_bias",
        }
    }

    /// The name in the HF layout, without `model.layers.N.`; `None` for the fused QKV, which HF splits in three.
    fn hf_stem(self) -> Option<&'static str> {
        Some(match self {
            Embedding => "model.embed_tokens.weight",
            Unembedding => "lm_head.weight",
            FinalNorm => "model.norm.weight",
            AttnNorm => "input_layernorm.weight",
            QkvWeight | QkvBias => return None,
            Sinks => "self_attn.sinks",
            OutWeight => "self_attn.o_proj.weight",
            OutBias => "self_attn.o_proj.bias",
            MlpNorm => "post_attention_layernorm.weight",
            GateWeight => "mlp.router.weight",
            GateBias => "mlp.router.bias",
            Mlp1Blocks => "mlp.experts.gate_up_proj_blocks",
            Mlp1Scales => "mlp.experts.gate_up_proj_scales",
            Mlp1Bias => "mlp.experts.gate_up_proj_bias",
            Mlp2Blocks => "mlp.experts.down_proj_blocks",
            Mlp2Scales => "mlp.experts.down_proj_scales",
            Mlp2Bias => "mlp.experts.down_proj_bias",
        })
    }

    /// Whether each block has one.
    pub fn is_of_a_block(self) -> bool {
        !matches!(self, Embedding | FinalNorm | Unembedding)
    }

    /// Whether the first dimension counts experts.
    pub fn is_of_an_expert(self) -> bool {
        Self::OF_AN_EXPERT.contains(&self)
    }

    /// E8M0 scales of an MXFP4 matrix.
    pub fn is_scales(self) -> bool {
        matches!(self, Mlp1Scales | Mlp2Scales)
    }

    /// Packed E2M1 codes of an MXFP4 matrix.
    pub fn is_blocks(self) -> bool {
        matches!(self, Mlp1Blocks | Mlp2Blocks)
    }

    /// The fused projection (weight or bias), which model.bin permutes and scales.
    pub fn is_qkv(self) -> bool {
        matches!(self, QkvWeight | QkvBias)
    }

    /// BF16, or U8 for MXFP4 codes and scales.
    pub fn dtype(self) -> Dtype {
        if self.is_blocks() || self.is_scales() { Dtype::U8 } else { Dtype::Bf16 }
    }

    /// Shape in the original layout, and for each dimension the config field (original dialect) that fixes it.
    pub fn dims(self, c: &ModelConfig) -> Vec<(usize, &'static str)> {
        let (d, f, e) = ((c.hidden, "hidden_size"), (c.intermediate, "intermediate_size"), (c.experts, "num_experts"));
        let qkv = (c.qkv_rows(), "num_attention_heads, num_key_value_heads, head_dim");
        let gate_up = (2 * c.intermediate, "intermediate_size");
        let groups = |(width, field): (usize, &'static str)| (width / MXFP4_BLOCK_VALUES, field);
        let block = (MXFP4_BLOCK_BYTES, "the MXFP4 block");
        match self {
            Embedding | Unembedding => vec![(c.vocab, "vocab_size"), d],
            FinalNorm | AttnNorm | MlpNorm | OutBias => vec![d],
            QkvWeight => vec![qkv, d],
            QkvBias => vec![qkv],
            Sinks => vec![(c.heads, "num_attention_heads")],
            OutWeight => vec![d, (c.q_rows(), "num_attention_heads, head_dim")],
            GateWeight => vec![e, d],
            GateBias => vec![e],
            Mlp1Blocks => vec![e, gate_up, groups(d), block],
            Mlp1Scales => vec![e, gate_up, groups(d)],
            Mlp1Bias => vec![e, gate_up],
            Mlp2Blocks => vec![e, d, groups(f), block],
            Mlp2Scales => vec![e, d, groups(f)],
            Mlp2Bias => vec![e, d],
        }
    }
}

/// One tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId {
    /// What it is for.
    pub role: Role,
    /// The block it belongs to; `None` for embedding, final norm and unembedding.
    pub layer: Option<usize>,
}

/// A stored tensor that holds some rows of a [`TensorId`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRows {
    /// Name in the file.
    pub name: String,
    /// The rows of the whole tensor it holds.
    pub rows: Range<usize>,
}

impl TensorId {
    /// A tensor of block `layer`.
    pub fn of_block(role: Role, layer: usize) -> Self {
        debug_assert!(role.is_of_a_block());
        TensorId { role, layer: Some(layer) }
    }

    /// A tensor outside the blocks.
    pub fn outside(role: Role) -> Self {
        debug_assert!(!role.is_of_a_block());
        TensorId { role, layer: None }
    }

    /// Every tensor of the model in the order of the forward pass.
    pub fn all(config: &ModelConfig) -> Vec<TensorId> {
        TensorId::each(config).collect()
    }

    /// The same, one by one: for a config that no file has borne out yet.
    pub fn each(config: &ModelConfig) -> impl Iterator<Item = TensorId> + use<> {
        let blocks = (0..config.layers)
            .flat_map(|layer| Role::OF_A_BLOCK.into_iter().map(move |role| TensorId::of_block(role, layer)));
        [TensorId::outside(Embedding)]
            .into_iter()
            .chain(blocks)
            .chain([TensorId::outside(FinalNorm), TensorId::outside(Unembedding)])
    }

    /// Shape in the original layout.
    pub fn shape(self, config: &ModelConfig) -> Vec<usize> {
        self.role.dims(config).into_iter().map(|(size, _)| size).collect()
    }

    /// Bytes of the whole tensor.
    pub fn bytes(self, config: &ModelConfig) -> usize {
        self.shape(config).iter().product::<usize>() * self.role.dtype().bytes()
    }

    /// Bytes of one row: everything below the first dimension.
    pub fn row_bytes(self, config: &ModelConfig) -> usize {
        self.shape(config)[1..].iter().product::<usize>() * self.role.dtype().bytes()
    }

    /// Name in the original layout.
    pub fn original_name(self) -> String {
        match self.layer {
            Some(layer) => format!("block.{layer}.{}", self.role.original_stem()),
            None => self.role.original_stem().to_string(),
        }
    }

    /// The HF tensors that hold it, in row order.
    pub fn hf_parts(self, config: &ModelConfig) -> Vec<NamedRows> {
        let named = |stem: &str| match self.layer {
            Some(layer) => format!("model.layers.{layer}.{stem}"),
            None => stem.to_string(),
        };
        if let Some(stem) = self.role.hf_stem() {
            return vec![NamedRows { name: named(stem), rows: 0..self.shape(config)[0] }];
        }
        let suffix = if self.role == QkvWeight { "weight" } else { "bias" };
        let (q, kv) = (config.q_rows(), config.kv_rows());
        [("q_proj", 0..q), ("k_proj", q..q + kv), ("v_proj", q + kv..q + 2 * kv)]
            .into_iter()
            .map(|(part, rows)| NamedRows { name: named(&format!("self_attn.{part}.{suffix}")), rows })
            .collect()
    }
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.original_name())
    }
}

/// Whether a stored name belongs to the original layout's vocabulary of names.
pub fn is_original_name(name: &str) -> bool {
    name.starts_with("block.") || ["embedding.weight", "unembedding.weight", "norm.scale"].contains(&name)
}

/// Whether a stored name belongs to the HF layout's vocabulary of names.
pub fn is_hf_name(name: &str) -> bool {
    name.starts_with("model.") || name == "lm_head.weight"
}

/// Whether a stored name is an expert matrix without MXFP4 blocks: the BF16 form that fine-tuning tools save.
pub fn is_unpacked_expert_name(name: &str) -> bool {
    [".mlp.experts.gate_up_proj", ".mlp.experts.down_proj", ".mlp.mlp1_weight", ".mlp.mlp2_weight"]
        .iter()
        .any(|stem| name.ends_with(stem))
}
