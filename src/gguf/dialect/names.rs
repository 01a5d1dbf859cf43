//! The tensors of a gpt-oss model in GGUF: what each dialect calls them, and which of our rows they hold.
//!
//! | ours             | llama.cpp (`gpt-oss`)                       | Ollama's early files (`gptoss`)                     |
//! |------------------|---------------------------------------------|-----------------------------------------------------|
//! | QKV              | `attn_q`, `attn_k`, `attn_v`                | `attn_qkv`, or the three                            |
//! | sinks            | `attn_sinks.weight`                         | `attn_sinks`                                        |
//! | out              | `attn_output`                               | `attn_out`                                          |
//! | MLP norm         | `post_attention_norm`                       | `ffn_norm`                                          |
//! | gate and up      | `ffn_gate_exps` (even rows), `ffn_up_exps` (odd) | `ffn_gate_up_exps`, interleaved as ours, or the two |
//! | MXFP4            | type 39, byte j: values j and j + 16        | type 4, byte j: values 2j and 2j + 1                |
//!
//! The rest has the same names in both.  Blocks and scales of an expert matrix are one tensor: each 17-byte block is a
//! scale and 16 bytes.  Rows of Q and K are in the checkpoint's order: ggml rotates halves, as gpt-oss does.
//!
//! Sources: `gguf-py/gguf/tensor_mapping.py` and `convert_hf_to_gguf.py` of llama.cpp; `convert/convert_gptoss.go`,
//! `model/models/gptoss/model.go` and the loader of `ml/backend/ggml/ggml.go` of Ollama.

use crate::checkpoint::config::MXFP4_BLOCK_VALUES;
use crate::checkpoint::{ModelConfig, Role, TensorId};

use Role::*;

/// Who wrote a file, as its names and keys tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// llama.cpp's converter, and all that quantise its files.
    LlamaCpp,
    /// Ollama's converter of August 2025.
    Ollama,
}

/// Rows of a slab (an expert's matrix, or a whole tensor without experts): `first`, `first + step`, …, `count` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowMap {
    /// The first row.
    pub first: usize,
    /// From one to the next.
    pub step: usize,
    /// How many.
    pub count: usize,
}

impl RowMap {
    /// Where the file has row `row` of a slab; `None` if another tensor holds it.
    pub fn stored_row(self, row: usize) -> Option<usize> {
        let past = row.checked_sub(self.first)?;
        (past.is_multiple_of(self.step) && past / self.step < self.count).then_some(past / self.step)
    }
}

/// A tensor seen as slabs of rows of columns, whatever its shape: experts × rows × values of a row.
///
/// A vector has one value a row, so that rows are what dialects split in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slabs {
    /// Experts, or 1.
    pub slabs: usize,
    /// Rows of a slab.
    pub rows: usize,
    /// Values of a row.
    pub columns: usize,
}

impl Slabs {
    /// The tensor of `config`.  Codes and scales of an MXFP4 matrix are both seen as the matrix of its values.
    pub fn of(tensor: TensorId, config: &ModelConfig) -> Slabs {
        let shape = tensor.shape(config);
        let (slabs, below) = if tensor.role.is_of_an_expert() { (shape[0], &shape[1..]) } else { (1, &shape[..]) };
        let columns = match tensor.role {
            role if role.is_blocks() || role.is_scales() => below[1] * MXFP4_BLOCK_VALUES,
            _ => below.get(1).copied().unwrap_or(1),
        };
        Slabs { slabs, rows: below[0], columns }
    }

    /// Whether the tensor has rows of more than one value.
    pub fn is_matrix(self) -> bool {
        self.columns > 1
    }
}

/// A stored tensor that holds some rows of each slab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPart {
    /// Name in the file.
    pub name: String,
    /// The rows.
    pub rows: RowMap,
}

/// Which rows of a slab.
#[derive(Clone, Copy)]
enum Which {
    All,
    Query,
    Key,
    Value,
    Gate,
    Up,
}

/// Names without `blk.N.`, and what they hold.
type Form = Vec<(&'static str, Which)>;

impl Dialect {
    /// Each of them.
    pub const ALL: [Dialect; 2] = [Dialect::LlamaCpp, Dialect::Ollama];

    /// `general.architecture`, which is also the start of the model's keys.
    pub fn architecture(self) -> &'static str {
        match self {
            Dialect::LlamaCpp => "gpt-oss",
            Dialect::Ollama => "gptoss",
        }
    }

    /// The tensors that hold `tensor`: ways to store it, the one that files of this dialect use first.
    pub fn forms(self, tensor: TensorId, config: &ModelConfig) -> Vec<Vec<NamedPart>> {
        let named = |stem: &str| match tensor.layer {
            Some(layer) => format!("blk.{layer}.{stem}"),
            None => stem.to_string(),
        };
        let part = |&(stem, which): &(&str, Which)| NamedPart { name: named(stem), rows: which.rows(tensor, config) };
        self.stems(tensor.role).iter().map(|form| form.iter().map(part).collect()).collect()
    }

    /// The tensors that a file of this dialect is written with.
    pub fn parts(self, tensor: TensorId, config: &ModelConfig) -> Vec<NamedPart> {
        self.forms(tensor, config).swap_remove(0)
    }

    fn stems(self, role: Role) -> Vec<Form> {
        let is_early = self == Dialect::Ollama;
        let all = |names: &[&'static str]| names.iter().map(|&name| vec![(name, Which::All)]).collect::<Vec<Form>>();
        let qkv = |q, k, v| vec![(q, Which::Query), (k, Which::Key), (v, Which::Value)];
        let gate_up = |gate, up| vec![(gate, Which::Gate), (up, Which::Up)];
        let both = |fused: &'static str, split: Form| match is_early {
            true => vec![split, vec![(fused, Which::All)]],
            false => vec![split],
        };
        let renamed = |now: &'static str, early: &'static str| match is_early {
            true => all(&[early, now]),
            false => all(&[now]),
        };
        match role {
            Embedding => all(&["token_embd.weight"]),
            Unembedding => all(&["output.weight"]),
            FinalNorm => all(&["output_norm.weight"]),
            AttnNorm => all(&["attn_norm.weight"]),
            QkvWeight => both("attn_qkv.weight", qkv("attn_q.weight", "attn_k.weight", "attn_v.weight")),
            QkvBias => both("attn_qkv.bias", qkv("attn_q.bias", "attn_k.bias", "attn_v.bias")),
            Sinks => renamed("attn_sinks.weight", "attn_sinks"),
            OutWeight => renamed("attn_output.weight", "attn_out.weight"),
            OutBias => renamed("attn_output.bias", "attn_out.bias"),
            MlpNorm => renamed("post_attention_norm.weight", "ffn_norm.weight"),
            GateWeight => all(&["ffn_gate_inp.weight"]),
            GateBias => all(&["ffn_gate_inp.bias"]),
            Mlp1Blocks | Mlp1Scales => {
                both("ffn_gate_up_exps.weight", gate_up("ffn_gate_exps.weight", "ffn_up_exps.weight"))
            }
            Mlp1Bias => both("ffn_gate_up_exps.bias", gate_up("ffn_gate_exps.bias", "ffn_up_exps.bias")),
            Mlp2Blocks | Mlp2Scales => all(&["ffn_down_exps.weight"]),
            Mlp2Bias => all(&["ffn_down_exps.bias"]),
        }
    }
}

impl Which {
    fn rows(self, tensor: TensorId, config: &ModelConfig) -> RowMap {
        let (rows, q, kv) = (Slabs::of(tensor, config).rows, config.q_rows(), config.kv_rows());
        let (first, step, count) = match self {
            Which::All => (0, 1, rows),
            Which::Query => (0, 1, q),
            Which::Key => (q, 1, kv),
            Which::Value => (q + kv, 1, kv),
            Which::Gate => (0, 2, rows / 2),
            Which::Up => (1, 2, rows / 2),
        };
        RowMap { first, step, count }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn config() -> ModelConfig {
        let text = br#"{"num_hidden_layers": 2, "num_experts": 3, "experts_per_token": 2, "vocab_size": 100,
            "hidden_size": 64, "intermediate_size": 96, "head_dim": 4, "num_attention_heads": 8,
            "num_key_value_heads": 2, "sliding_window": 128, "initial_context_length": 4096, "rope_theta": 150000,
            "rope_scaling_factor": 32.0, "rope_ntk_alpha": 1, "rope_ntk_beta": 32}"#;
        ModelConfig::parse(text, Path::new("config.json")).expect("the text is a config")
    }

    #[test]
    fn every_row_is_in_one_stored_row_and_every_stored_row_is_used() {
        let c = config();
        for dialect in Dialect::ALL {
            for (tensor, form) in
                TensorId::all(&c).into_iter().flat_map(|t| dialect.forms(t, &c).into_iter().map(move |f| (t, f)))
            {
                let rows = Slabs::of(tensor, &c).rows;
                let mut used = BTreeSet::new();
                for row in 0..rows {
                    let holders: Vec<(usize, usize)> =
                        form.iter().enumerate().filter_map(|(i, part)| Some((i, part.rows.stored_row(row)?))).collect();
                    assert_eq!(holders.len(), 1, "{dialect:?} {tensor} row {row}");
                    used.insert(holders[0]);
                }
                assert_eq!(used.len(), form.iter().map(|part| part.rows.count).sum::<usize>(), "{dialect:?} {tensor}");
            }
        }
    }

    #[test]
    fn a_model_of_24_layers_has_459_tensors() {
        let c = ModelConfig { layers: 24, ..config() };
        let names: BTreeSet<String> = TensorId::all(&c)
            .into_iter()
            .flat_map(|tensor| Dialect::LlamaCpp.parts(tensor, &c))
            .map(|part| part.name)
            .collect();
        assert_eq!(names.len(), 459);
        assert!(names.iter().all(|name| name.len() < 64), "ggml keeps 63 bytes of a name");
    }

    #[test]
    fn gate_rows_are_even_and_up_rows_odd() {
        let c = config();
        let [gate, up] = &Dialect::LlamaCpp.parts(TensorId::of_block(Mlp1Bias, 1), &c)[..] else { panic!("two parts") };
        assert_eq!((gate.name.as_str(), up.name.as_str()), ("blk.1.ffn_gate_exps.bias", "blk.1.ffn_up_exps.bias"));
        assert_eq!(
            [gate, up].map(|part| (part.rows.stored_row(6), part.rows.stored_row(7))),
            [(Some(3), None), (None, Some(3))]
        );
        assert_eq!(gate.rows.count, c.intermediate);
    }
}
