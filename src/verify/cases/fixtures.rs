//! Fixtures against the digests of the numpy witness.

use std::path::Path;

use serde_json::Value;

use super::with_golden;
use crate::checkpoint::{Layout, ModelConfig, TensorId, WeightSource};
use crate::model_bin::tokenizer::HARMONY_SLOTS;
use crate::model_bin::{ExportError, ModelBin, TokenizerSection, export};
use crate::output::OutputError;
use crate::telemetry::Silent;
use crate::verify::compare::digest::{hex_sha256, hex_sha256_of};
use crate::verify::fixture::values::{fill, seed};
use crate::verify::fixture::{Recipe, in_memory, shard_bytes, shard_plans};
use crate::verify::outcome::{Check, Level};

/// Recipes small enough to generate in every run.
const SMALL: [&str; 7] = ["T1", "T2", "T3", "small-vocab", "odd-experts", "one-layer", "wide-heads"];
/// Largest tensor of the full-size recipes that every run generates.
const FULL_TENSOR_BYTES_MAX: usize = 4 << 20;

/// `config.json` texts, and both dialects into one config.
pub(super) fn config_cases() -> Vec<Check> {
    let judge = |name: &str| {
        let recipe = Recipe::built_in(name);
        let check = format!("bytes/config/{name}");
        let golden = if SMALL.contains(&name) { "bytes/fixtures" } else { "bytes/fixtures-full" };
        let mut checks = with_golden(golden, &check, Level::Bytes, |golden| {
            let want = golden[name]["config"].as_str().unwrap_or("nothing").to_string();
            vec![Check::equal(check.clone(), Level::Bytes, want, recipe.config_text(Layout::Original))]
        });
        let read = |layout| ModelConfig::parse(recipe.config_text(layout).as_bytes(), Path::new(name));
        let (original, hf) = (read(Layout::Original), read(Layout::Hf));
        let same = matches!((&original, &hf), (Ok(a), Ok(b)) if a == b);
        let name = format!("{check}/dialects");
        checks.push(match same {
            true => Check::pass(name, Level::Bytes, "both dialects give the same model"),
            false => Check::fail(name, Level::Bytes, format!("original {original:?}, HF {hf:?}")),
        });
        checks
    };
    SMALL.iter().chain(&["full-20b", "full-120b"]).flat_map(|name| judge(name)).collect()
}

/// Digests of tensors and files.
pub(super) fn digest_cases() -> Vec<Check> {
    let mut checks = Vec::new();
    for name in SMALL {
        let recipe = Recipe::built_in(name);
        let honest = |salt: &str, tensor: TensorId, out: &mut [u8]| fill(tensor.role, seed(salt, tensor), 0, out);
        checks.extend(tensor_digest_checks(&recipe, honest));
        checks.extend(hf_check(&recipe));
        checks.extend(file_check(&recipe));
    }
    checks.extend(["full-20b", "full-120b"].into_iter().flat_map(full_check));
    checks
}

/// The tensors that `generate` makes of a recipe, against the witness.
pub fn tensor_digest_checks(recipe: &Recipe, generate: impl Fn(&str, TensorId, &mut [u8]) + Sync) -> Vec<Check> {
    let check = format!("bytes/fixture/{}/tensors", recipe.name);
    with_golden("bytes/fixtures", &check, Level::Bytes, |golden| {
        let tensors = TensorId::all(&recipe.config());
        vec![digests_check(&check, recipe, &golden[&recipe.name]["tensors"], &tensors, generate)]
    })
}

fn digests_check(
    check: &str,
    recipe: &Recipe,
    want: &Value,
    tensors: &[TensorId],
    generate: impl Fn(&str, TensorId, &mut [u8]) + Sync,
) -> Check {
    use rayon::prelude::*;
    let config = recipe.config();
    let wrong: Vec<String> = tensors
        .par_iter()
        .filter_map(|&tensor| {
            let want = &want[tensor.original_name()];
            let shape: Vec<u64> = tensor.shape(&config).into_iter().map(|n| n as u64).collect();
            if want["shape"] != serde_json::json!(shape) || want["dtype"] != tensor.role.dtype().name() {
                return Some(format!("{tensor}: expected {want}, found {} {shape:?}", tensor.role.dtype()));
            }
            let mut bytes = vec![0; tensor.bytes(&config)];
            generate(&recipe.salt, tensor, &mut bytes);
            let found = hex_sha256(&bytes);
            (want["sha256"] != found.as_str()).then(|| format!("{tensor}: expected {}, found {found}", want["sha256"]))
        })
        .collect();
    match wrong.first() {
        None if tensors.is_empty() => Check::fail(check, Level::Bytes, "no tensor was compared"),
        None => Check::pass(check, Level::Bytes, format!("{} tensors equal", tensors.len())),
        Some(first) => {
            Check::fail(check, Level::Bytes, format!("{} of {} differ, first {first}", wrong.len(), tensors.len()))
        }
    }
}

/// The whole original file as PyPI's safetensors package writes it.
fn file_check(recipe: &Recipe) -> Vec<Check> {
    let check = format!("bytes/fixture/{}/file", recipe.name);
    with_golden("bytes/fixtures", &check, Level::Bytes, |golden| {
        let want = golden[&recipe.name]["original"]["file_sha256"].as_str().unwrap_or("nothing").to_string();
        let plans = shard_plans(&recipe.config(), Layout::Original, 1);
        vec![Check::equal(check.clone(), Level::Bytes, want, hex_sha256(&shard_bytes(recipe, &plans[0])))]
    })
}

/// Every tensor of the HF layout, in two shards.
fn hf_check(recipe: &Recipe) -> Vec<Check> {
    let check = format!("bytes/fixture/{}/hf", recipe.name);
    with_golden("bytes/fixtures", &check, Level::Bytes, |golden| {
        let want = golden[&recipe.name]["hf"].as_object().cloned().unwrap_or_default();
        let checkpoint = match in_memory(recipe, Layout::Hf, 2) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return vec![Check::fail(check.clone(), Level::Bytes, error.to_string())],
        };
        let found: serde_json::Map<String, Value> = checkpoint
            .shards()
            .iter()
            .flat_map(|shard| {
                shard.tensors().iter().map(|t| (t.name.clone(), Value::from(hex_sha256_of([shard.data(t)]))))
            })
            .collect();
        let wrong = want.keys().chain(found.keys()).find(|name| want.get(*name) != found.get(*name));
        vec![match wrong {
            None => Check::pass(check.clone(), Level::Bytes, format!("{} tensors equal", found.len())),
            Some(name) => {
                let detail = format!("{name}: expected {:?}, found {:?}", want.get(name), found.get(name));
                Check::fail(check.clone(), Level::Bytes, detail)
            }
        }]
    })
}

/// The small tensors of a full-size recipe; all of them are checked by `check --level digests` on the written fixture.
fn full_check(name: &str) -> Vec<Check> {
    let check = format!("bytes/fixture/{name}/tensors");
    with_golden("bytes/fixtures-full", &check, Level::Bytes, |golden| {
        let recipe = Recipe::built_in(name);
        let config = recipe.config();
        let want = &golden[name]["tensors"];
        let tensors: Vec<TensorId> = TensorId::all(&config)
            .into_iter()
            .filter(|t| want.get(t.original_name()).is_some() && t.bytes(&config) <= FULL_TENSOR_BYTES_MAX)
            .collect();
        let honest = |salt: &str, tensor: TensorId, out: &mut [u8]| fill(tensor.role, seed(salt, tensor), 0, out);
        vec![digests_check(&check, &recipe, want, &tensors, honest)]
    })
}

/// A tokenizer section for a vocabulary smaller than o200k's, with its special slots: token i is its number.
pub fn small_tokenizer(vocab_rows: usize) -> TokenizerSection {
    let tokens: Vec<String> = (0..vocab_rows - HARMONY_SLOTS.len()).map(|id| format!("token {id}")).collect();
    TokenizerSection::new(&HARMONY_SLOTS, tiktoken_rs::O200K_BASE_PAT_STR, tokens.iter().map(|t| t.as_bytes()))
}

/// Exports to a temporary file and opens the result in memory.
pub fn exported(source: &dyn WeightSource, tokenizer: &TokenizerSection) -> Result<ModelBin, ExportError> {
    let bytes = exported_bytes(source, tokenizer)?;
    Ok(ModelBin::from_bytes(Path::new("model.bin"), bytes.into()).expect("an export is a valid model.bin"))
}

/// The bytes of an export.
pub fn exported_bytes(source: &dyn WeightSource, tokenizer: &TokenizerSection) -> Result<Vec<u8>, ExportError> {
    let output = OutputError::of(Path::new("temporary directory"));
    let directory = tempfile::tempdir().map_err(&output)?;
    let path = directory.path().join("model.bin");
    export(source, tokenizer, &path, &Silent)?;
    Ok(std::fs::read(&path).map_err(output)?)
}
