//! `gptoss-verify inspect --doctor`: what a person's GGUF is, what is unusual about it, and what will go wrong where.
//!
//! | module   | looks at                                                                     |
//! |----------|------------------------------------------------------------------------------|
//! | [`kind`] | dialect, tensors by name, types, who makes such files, a known digest        |
//! | [`keys`] | metadata: the model's numbers, what other programs need, the tokenizer       |
//! | [`data`] | sizes against WebGPU's limits, scales of MXFP4                               |
//!
//! A finding is no verdict: `check` decides whether a file holds a model.

mod data;
mod keys;
mod kind;

use serde::Serialize;

use crate::gguf::Gguf;
use crate::verify::inspect::gguf::peculiarities;

pub use kind::known_file;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// What the file is.
    Is,
    /// What is unlike other gpt-oss files.
    Unusual,
    /// What will go wrong, and where.
    Trouble,
}

impl Weight {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Weight::Is => "is",
            Weight::Unusual => "unusual",
            Weight::Trouble => "trouble",
        }
    }
}

/// One thing that the doctor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its stable name.
    pub name: &'static str,
    /// How much it matters.
    pub weight: Weight,
    /// What was found, with tensors, keys and numbers.
    pub detail: String,
}

impl Finding {
    fn new(weight: Weight, name: &'static str, detail: impl Into<String>) -> Finding {
        Finding { name, weight, detail: detail.into() }
    }
}

/// Everything that is to be said of a file: first what it is, then what is unusual, then what goes wrong.
pub fn examine(gguf: &Gguf) -> Vec<Finding> {
    let mut findings = Vec::new();
    for found in peculiarities(gguf) {
        let (weight, name, who) = match found.kind.refused_by_ggml() {
            true => (Weight::Trouble, "ggml-refuses", "; ggml's reader, and with it llama.cpp, refuses such a file"),
            false => (Weight::Unusual, "peculiar", ""),
        };
        findings.push(Finding::new(weight, name, format!("{found}{who}")));
    }
    let dialect = kind::dialect(gguf, &mut findings);
    if let Some(dialect) = dialect {
        kind::tensors(gguf, dialect, &mut findings);
        kind::types(gguf, dialect, &mut findings);
        keys::model(gguf, dialect, &mut findings);
        keys::tokenizer(gguf, &mut findings);
        data::scales(gguf, dialect, &mut findings);
    }
    data::limits(gguf, &mut findings);
    let rank = |finding: &Finding| match finding.weight {
        Weight::Is => 0,
        Weight::Unusual => 1,
        Weight::Trouble => 2,
    };
    findings.sort_by_key(rank);
    findings
}
