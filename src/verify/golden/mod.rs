//! The golden store: payloads with the provenance that makes them worth comparing with.
//!
//! A golden is `goldens/<suite>/<name>.json` (tensors: `.safetensors`) and beside it `<name>.provenance.json`: who made it, from what
//! independent source, with which package versions, by which command, and the payload's SHA-256.  Payloads are
//! compiled in, so that an installed `gptoss-verify` judges by the same goldens as the suites.
//!
//! **Invariant:** a payload whose digest is not the recorded one is no golden: [`Golden::load`] refuses it.

mod store;
pub mod tensors;

pub use store::{Rebuilt, StoreError, check_store, find, matches, regenerate};

use serde::{Deserialize, Serialize};

use super::compare::digest::hex_sha256;

macro_rules! goldens {
    ($($name:literal),* $(,)?) => {
        /// Every golden: name, payload, provenance.
        pub const ALL: &[(&str, &str, &str)] = &[$((
            $name,
            include_str!(concat!("../../../goldens/", $name, ".json")),
            include_str!(concat!("../../../goldens/", $name, ".provenance.json")),
        )),*];
    };
}

macro_rules! tensor_goldens {
    ($($name:literal),* $(,)?) => {
        /// Every golden whose payload is a SafeTensors file: name, payload, provenance.
        pub const TENSORS: &[(&str, &[u8], &str)] = &[$((
            $name,
            include_bytes!(concat!("../../../goldens/", $name, ".safetensors")),
            include_str!(concat!("../../../goldens/", $name, ".provenance.json")),
        )),*];
    };
}

tensor_goldens![
    "logits/T1.torch",
    "logits/T1.transformers",
    "logits/T2.torch",
    "logits/T3.torch",
    "logits/T3.transformers",
    "logits/odd-experts.torch",
    "logits/one-layer.torch",
    "logits/small-vocab.torch",
    "logits/wide-heads.torch",
];

goldens![
    "bytes/fixtures",
    "bytes/fixtures-full",
    "bytes/gguf-py",
    "bytes/gguf-tensors",
    "bytes/llama-converter",
    "bytes/upstream-model-bin",
    "logits/forward",
    "tensors/bf16",
    "tensors/ggml-decode",
    "tensors/ggml-encode",
    "tensors/ggml-nearest",
    "tensors/mxfp4-decode",
    "tensors/mxfp4-encode",
    "tensors/rope-ggml",
    "text/harmony-parse",
    "text/harmony-render",
    "text/sabotage",
    "text/sampling",
    "text/schemas",
    "text/tokenizer",
];

/// Who made a golden, from what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The program that wrote the payload.
    pub producer: String,
    /// The independent source it drew from, in a sentence.
    pub source: String,
    /// Versions of the packages it used.
    pub packages: std::collections::BTreeMap<String, String>,
    /// Commit or version of the upstream program, if one was run.
    pub upstream: Option<String>,
    /// The command that makes it again.
    pub command: String,
    /// SHA-256 of the payload file.
    pub payload_sha256: String,
    /// Why it was made, or made again.
    pub reason: String,
}

/// A golden whose payload is what its provenance says.
#[derive(Debug, Clone)]
pub struct Golden {
    /// The payload.
    pub payload: serde_json::Value,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum GoldenError {
    #[error("golden {0} does not exist")]
    Missing(String),
    #[error("golden {name}: {source}")]
    Json { name: String, source: serde_json::Error },
    #[error("golden {name}: payload has SHA-256 {found}, its provenance says {want}")]
    Digest { name: String, want: String, found: String },
    #[error("golden {name}: `{tensor}` is missing or of another shape")]
    Shape { name: String, tensor: String },
}

impl Golden {
    /// Loads a golden by name.
    pub fn load(name: &str) -> Result<Golden, GoldenError> {
        let Some((_, payload, provenance)) = ALL.iter().find(|golden| golden.0 == name) else {
            return Err(GoldenError::Missing(name.into()));
        };
        Golden::parse(name, payload, provenance)
    }

    /// Checks payload text against provenance text.
    pub fn parse(name: &str, payload: &str, provenance: &str) -> Result<Golden, GoldenError> {
        let json = |source| GoldenError::Json { name: name.into(), source };
        let provenance = checked(name, payload.as_bytes(), provenance)?;
        Ok(Golden { payload: serde_json::from_str(payload).map_err(json)?, provenance })
    }
}

/// The bytes of a golden whose payload is a SafeTensors file.
pub fn binary(name: &str) -> Result<&'static [u8], GoldenError> {
    let Some((_, payload, provenance)) = TENSORS.iter().find(|golden| golden.0 == name) else {
        return Err(GoldenError::Missing(name.into()));
    };
    checked(name, payload, provenance).map(|_| *payload)
}

/// The provenance of a payload, if the payload is the one it describes.
pub fn checked(name: &str, payload: &[u8], provenance: &str) -> Result<Provenance, GoldenError> {
    let json = |source| GoldenError::Json { name: name.into(), source };
    let provenance: Provenance = serde_json::from_str(provenance).map_err(json)?;
    let found = hex_sha256(payload);
    match found == provenance.payload_sha256 {
        true => Ok(provenance),
        false => Err(GoldenError::Digest { name: name.into(), want: provenance.payload_sha256, found }),
    }
}

/// Names of all goldens, with the ending of their payload files.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().map(|golden| (golden.0, "json")).chain(TENSORS.iter().map(|golden| (golden.0, "safetensors")))
}
