//! What a file is: its dialect, whether its tensors are all there, which types they have and who makes such files.

use std::collections::BTreeSet;

use super::{Finding, Weight};
use crate::gguf::{GgmlType, Gguf, Value};
use crate::verify::compare::digest::hex_sha256;
use crate::verify::inspect::gguf::census;

/// Which program's names and keys a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// llama.cpp's: `gpt-oss.*`.
    LlamaCpp,
    /// Ollama's of August 2025: `gptoss.*`, type id 4 for MXFP4.
    Ollama,
}

impl Dialect {
    /// What the model's keys begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Dialect::LlamaCpp => "gpt-oss",
            Dialect::Ollama => "gptoss",
        }
    }

    /// The id that stands for MXFP4.
    pub(super) fn mxfp4(self) -> GgmlType {
        match self {
            Dialect::LlamaCpp => GgmlType::MXFP4,
            Dialect::Ollama => OLLAMA_MXFP4,
        }
    }
}

/// Type id of MXFP4 in Ollama's early files: ggml had taken it back from Q4_2.
const OLLAMA_MXFP4: GgmlType = GgmlType(4);

/// Tensors of a layer, as llama.cpp names them behind `blk.N.`.
const LAYER: [&str; 19] = [
    "attn_k.bias",
    "attn_k.weight",
    "attn_norm.weight",
    "attn_output.bias",
    "attn_output.weight",
    "attn_q.bias",
    "attn_q.weight",
    "attn_sinks.weight",
    "attn_v.bias",
    "attn_v.weight",
    "ffn_down_exps.bias",
    "ffn_down_exps.weight",
    "ffn_gate_exps.bias",
    "ffn_gate_exps.weight",
    "ffn_gate_inp.bias",
    "ffn_gate_inp.weight",
    "ffn_up_exps.bias",
    "ffn_up_exps.weight",
    "post_attention_norm.weight",
];
/// Tensors outside the layers.
const OUTSIDE: [&str; 3] = ["output.weight", "output_norm.weight", "token_embd.weight"];
/// Names that a message lists.
const NAMES_SHOWN: usize = 5;

/// Files that two independent reports name by digest, their bytes of tensor data, and what they are.
const KNOWN: [(&str, u64, &str); 1] = [(
    "27cd6c432c7672cb812a92f611cf3ba7bbc35928262bb1e1253ff4ee6ae35901",
    12_096_558_336,
    "gpt-oss-20b-mxfp4.gguf of ggml-org/gpt-oss-20b-GGUF",
)];

/// The published file of that SHA-256.
pub fn known_file(sha256: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(known, ..)| *known == sha256).map(|(.., what)| *what)
}

/// The dialect; `None` for a file that is no gpt-oss.
pub(super) fn dialect(gguf: &Gguf, findings: &mut Vec<Finding>) -> Option<Dialect> {
    let architecture = gguf.metadata().get("general.architecture").and_then(Value::as_str);
    let (dialect, what) = match architecture {
        Some("gpt-oss") => (Some(Dialect::LlamaCpp), "gpt-oss in llama.cpp's names and keys".to_string()),
        Some("gptoss") => (
            Some(Dialect::Ollama),
            "gpt-oss as Ollama wrote it in August 2025: architecture `gptoss`, other names, type id 4 for MXFP4"
                .to_string(),
        ),
        Some(other) => (None, format!("a model of architecture `{other}`, not gpt-oss")),
        None => (None, "no model: general.architecture is missing".to_string()),
    };
    findings.push(Finding::new(Weight::Is, "dialect", what));
    if dialect == Some(Dialect::Ollama) {
        let detail = "llama.cpp refuses Ollama's early files (#15597); Ollama since 0.30 rewrites them as it loads, or wants them \
                      pulled again; this program reads them";
        findings.push(Finding::new(Weight::Trouble, "ollama-legacy", detail));
    }
    dialect
}

/// Whether every tensor is there, and no other.
pub(super) fn tensors(gguf: &Gguf, dialect: Dialect, findings: &mut Vec<Finding>) {
    let found: BTreeSet<&str> = gguf.tensors().map(|located| located.info.name.as_str()).collect();
    let key = format!("{}.block_count", dialect.prefix());
    let Some(layers) = gguf.metadata().get(&key).and_then(Value::as_u64).filter(|layers| *layers <= 4096) else {
        return findings.push(Finding::new(Weight::Trouble, "layers-unknown", format!("`{key}` is missing or absurd")));
    };
    if dialect == Dialect::Ollama {
        // Early files differ among themselves (fused or split QKV): the reader of the model decides.
        return findings.push(Finding::new(Weight::Is, "tensors", format!("{} tensors, {layers} layers", found.len())));
    }
    let of_layer = |layer: u64| LAYER.iter().map(move |name| format!("blk.{layer}.{name}"));
    let wanted: BTreeSet<String> = (0..layers).flat_map(of_layer).chain(OUTSIDE.map(String::from)).collect();
    let missing: Vec<&str> = wanted.iter().map(String::as_str).filter(|name| !found.contains(name)).collect();
    let unknown: Vec<&str> = found.iter().copied().filter(|name| !wanted.contains(*name)).collect();
    let which = match layers {
        24 => " (gpt-oss-20b has 24)",
        36 => " (gpt-oss-120b has 36)",
        _ => " (the published models have 24 and 36)",
    };
    let count =
        format!("{} tensors; {layers} layers{which} call for {} = 3 + 19 × {layers}", found.len(), wanted.len());
    findings.push(Finding::new(Weight::Is, "tensors", count));
    if !missing.is_empty() {
        let detail = format!("{} missing: {}; every runtime needs them", missing.len(), listed(&missing));
        findings.push(Finding::new(Weight::Trouble, "tensors-missing", detail));
    }
    if !unknown.is_empty() {
        let detail = format!("{} that gpt-oss does not have: {}", unknown.len(), listed(&unknown));
        findings.push(Finding::new(Weight::Unusual, "tensors-unknown", detail));
    }
}

fn listed(names: &[&str]) -> String {
    let first =
        names.iter().take(NAMES_SHOWN).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_SHOWN { format!("{first}, …") } else { first }
}

/// Which types, and who makes such files.
pub(super) fn types(gguf: &Gguf, dialect: Dialect, findings: &mut Vec<Finding>) {
    let counted: Vec<String> = census(gguf).iter().map(|(ty, of_type)| format!("{ty} {}", of_type.tensors)).collect();
    let type_of = |name: &str| gguf.tensor(name).map(|located| located.info.ggml_type);
    let (dense, experts) = (type_of("blk.0.attn_q.weight"), type_of("blk.0.ffn_down_exps.weight"));
    let maker = match (dense, experts) {
        (Some(GgmlType::Q8_0), Some(GgmlType::MXFP4)) => {
            "dense Q8_0, experts MXFP4: as ggml-org's own files, llama.cpp's converter with q8_0, llama-quantize's MXFP4_MOE"
        }
        (Some(GgmlType::F16), Some(GgmlType::MXFP4)) => "dense F16, experts MXFP4: as unsloth's F16",
        (Some(GgmlType::BF16), Some(GgmlType::MXFP4)) => {
            "dense BF16, experts MXFP4: as llama.cpp's converter with bf16; nothing was rounded"
        }
        (_, Some(GgmlType::MXFP4)) => "experts MXFP4, dense tensors of other types: as community quantisations",
        _ => "of no kind that is known",
    };
    findings.push(Finding::new(Weight::Is, "types", format!("{}: {maker}", counted.join(", "))));
    if let Some(experts) = experts.filter(|experts| *experts != dialect.mxfp4()) {
        let detail =
            format!("experts are {experts}; gpt-oss was published in MXFP4, so their values were rounded once more");
        findings.push(Finding::new(Weight::Unusual, "experts-requantised", detail));
    }
    digest(gguf, findings);
}

/// A known file is known by its digest; no other is read for it.
fn digest(gguf: &Gguf, findings: &mut Vec<Finding>) {
    let bytes: u64 = census(gguf).values().map(|of_type| of_type.bytes).sum();
    let [part] = gguf.parts() else { return };
    if KNOWN.iter().any(|(_, known, _)| *known == bytes) {
        let sha256 = hex_sha256(&part.file);
        findings.push(match known_file(&sha256) {
            Some(what) => Finding::new(Weight::Is, "known-file", format!("{what}, by its SHA-256")),
            None => {
                let detail = format!("SHA-256 {sha256}: none of the known files; conversions differ in their metadata");
                Finding::new(Weight::Is, "digest", detail)
            }
        });
    }
}
