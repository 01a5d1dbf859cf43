//! Metadata against what gpt-oss has and what programs ask for.

use super::kind::Dialect;
use super::{Finding, Weight};
use crate::gguf::{GgmlType, Gguf, Value};

/// What gpt-oss has under a key, and what happens where it is not there.
struct Rule {
    /// Behind the architecture.
    key: &'static str,
    /// The value of both published models.
    want: f64,
    /// Why another value is trouble; empty where it is only unusual.
    other: &'static str,
    /// What misses the key; empty where nothing does.
    absent: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        key: "attention.layer_norm_rms_epsilon",
        want: 1e-5,
        other: "every norm is computed with it, and every logit moves",
        absent: "llama.cpp does not load the file",
    },
    Rule { key: "attention.sliding_window", want: 128.0, other: "", absent: "llama.cpp does not load the file" },
    Rule { key: "attention.value_length", want: 64.0, other: "", absent: "" },
    Rule { key: "context_length", want: 131_072.0, other: "", absent: "" },
    Rule { key: "expert_used_count", want: 4.0, other: "the model was trained with four", absent: "" },
    Rule { key: "rope.freq_base", want: 150_000.0, other: "positions turn at another speed", absent: "" },
    Rule { key: "rope.scaling.factor", want: 32.0, other: "YaRN stretches otherwise", absent: "" },
    Rule { key: "rope.scaling.original_context_length", want: 4096.0, other: "YaRN's range moves", absent: "" },
    Rule {
        key: "rope.scaling.yarn_beta_fast",
        want: 32.0,
        other: "YaRN's range moves",
        absent: "mistral.rs asks for it; llama.cpp takes 32, which is right (files of August 2025 lack it)",
    },
    Rule {
        key: "rope.scaling.yarn_beta_slow",
        want: 1.0,
        other: "YaRN's range moves",
        absent: "mistral.rs asks for it; llama.cpp takes 1, which is right (files of August 2025 lack it)",
    },
];

/// The model's own keys.
pub(super) fn model(gguf: &Gguf, dialect: Dialect, findings: &mut Vec<Finding>) {
    let prefix = dialect.prefix();
    let get = |key: &str| gguf.metadata().get(&format!("{prefix}.{key}"));
    for rule in RULES {
        let key = format!("{prefix}.{}", rule.key);
        match get(rule.key).map(|value| (value, number(value))) {
            None if rule.absent.is_empty() => {}
            None => findings.push(Finding::new(Weight::Trouble, "key-missing", format!("`{key}`: {}", rule.absent))),
            // f32 rounds 1e-5.
            Some((_, Some(found))) if (found - rule.want).abs() <= 1e-6 * rule.want => {}
            Some((found, _)) => {
                let weight = if rule.other.is_empty() { Weight::Unusual } else { Weight::Trouble };
                let why = if rule.other.is_empty() { String::new() } else { format!(": {}", rule.other) };
                findings.push(Finding::new(
                    weight,
                    "key-value",
                    format!("`{key}` is {found}, gpt-oss has {}{why}", rule.want),
                ));
            }
        }
    }
    if dialect == Dialect::LlamaCpp && get("expert_feed_forward_length").is_none() {
        let detail = format!("`{prefix}.expert_feed_forward_length`: llama.cpp does not load the file");
        findings.push(Finding::new(Weight::Trouble, "key-missing", detail));
    }
    head_size(gguf, prefix, findings);
    let scaling = get("rope.scaling.type").and_then(Value::as_str);
    if scaling.is_some_and(|scaling| scaling != "yarn") {
        let detail = format!("`{prefix}.rope.scaling.type` is {:?}, gpt-oss has yarn", scaling.unwrap_or_default());
        findings.push(Finding::new(Weight::Trouble, "key-value", detail));
    }
    let detail = "llama.cpp, and what is built on it, rounds YaRN's range 8.09..17.40 to 8..18, which gpt-oss does not; no key can \
                  tell it: its answers drift with distance";
    findings.push(Finding::new(Weight::Trouble, "yarn-rounded-by-ggml", detail));
    file_type(gguf, findings);
}

/// A number of any kind.
fn number(value: Value<'_>) -> Option<f64> {
    value.as_f64().or(value.as_i64().map(|n| n as f64))
}

fn head_size(gguf: &Gguf, prefix: &str, findings: &mut Vec<Finding>) {
    let unsigned = |key: &str| gguf.metadata().get(&format!("{prefix}.{key}")).and_then(Value::as_u64);
    let key = format!("{prefix}.attention.key_length");
    match unsigned("attention.key_length") {
        Some(64) => {}
        Some(found) => {
            let detail = format!("`{key}` is {found}, gpt-oss has 64: rope and attention would split heads otherwise");
            findings.push(Finding::new(Weight::Trouble, "head-size", detail));
        }
        None => {
            let guess =
                unsigned("embedding_length").zip(unsigned("attention.head_count")).filter(|(_, heads)| *heads > 0);
            let guess = guess.map_or("something else".into(), |(width, heads)| (width / heads).to_string());
            let detail =
                format!("`{key}` is missing: readers take embedding_length / head_count = {guess} for the head's 64");
            findings.push(Finding::new(Weight::Trouble, "head-size", detail));
        }
    }
}

/// Whether `general.file_type` fits the dense tensors: llama.cpp's numbers.
fn file_type(gguf: &Gguf, findings: &mut Vec<Finding>) {
    let told = gguf.metadata().get("general.file_type").and_then(Value::as_u64);
    let dense = gguf.tensor("blk.0.attn_q.weight").map(|located| located.info.ggml_type);
    let fits: &[u64] = match dense {
        Some(GgmlType::F32) => &[0],
        Some(GgmlType::F16) => &[1],
        Some(GgmlType::BF16) => &[32, 38],
        Some(GgmlType::Q8_0) => &[7, 38],
        _ => return,
    };
    if let (Some(told), Some(dense)) = (told.filter(|told| !fits.contains(told)), dense) {
        let detail =
            format!("`general.file_type` is {told}, dense tensors are {dense}: only a label, nothing computes with it");
        findings.push(Finding::new(Weight::Unusual, "file-type", detail));
    }
}

/// Special tokens: key, id in o200k_harmony, name.
const SPECIAL: [(&str, u64, &str); 3] = [
    ("tokenizer.ggml.bos_token_id", 199_998, "<|startoftext|>"),
    ("tokenizer.ggml.eos_token_id", 200_002, "<|return|>"),
    ("tokenizer.ggml.padding_token_id", 199_999, "<|endoftext|>"),
];

/// The tokenizer's keys.
pub(super) fn tokenizer(gguf: &Gguf, findings: &mut Vec<Finding>) {
    let metadata = gguf.metadata();
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    let Some(model) = text("tokenizer.ggml.model") else {
        let detail = "no tokenizer.ggml.model: llama.cpp runs it on ids only; this program brings o200k_harmony itself";
        return findings.push(Finding::new(Weight::Trouble, "tokenizer-missing", detail));
    };
    if model != "gpt2" {
        let detail = format!("`tokenizer.ggml.model` is {model:?}, gpt-oss has gpt2 (BPE)");
        findings.push(Finding::new(Weight::Trouble, "tokenizer", detail));
    }
    match text("tokenizer.ggml.pre") {
        Some("gpt-4o") => {}
        found => {
            let found = found.map_or("missing".into(), |pre| format!("{pre:?}"));
            let detail =
                format!("`tokenizer.ggml.pre` is {found}, gpt-oss has gpt-4o: llama.cpp splits text into other tokens");
            findings.push(Finding::new(Weight::Trouble, "tokenizer", detail));
        }
    }
    let tokens = metadata.get("tokenizer.ggml.tokens").and_then(Value::as_array).map(|tokens| tokens.len() as u64);
    let rows = gguf.tensor("token_embd.weight").and_then(|located| located.info.dims.get(1).copied());
    if let Some((tokens, rows)) = tokens.zip(rows).filter(|(tokens, rows)| tokens != rows) {
        let detail =
            format!("{tokens} tokens, but token_embd.weight has {rows} rows: llama.cpp does not load the file");
        findings.push(Finding::new(Weight::Trouble, "tokenizer", detail));
    }
    for (key, want, name) in SPECIAL {
        let found = metadata.get(key).and_then(Value::as_u64);
        if let Some(found) = found.filter(|found| *found != want) {
            let detail = format!("`{key}` is {found}, OpenAI's is {want} {name}");
            findings.push(Finding::new(Weight::Unusual, "special-token", detail));
        }
    }
    if metadata.get("tokenizer.chat_template").is_none() {
        let detail = "no tokenizer.chat_template: chat through llama.cpp needs one given";
        findings.push(Finding::new(Weight::Unusual, "chat-template", detail));
    }
}
