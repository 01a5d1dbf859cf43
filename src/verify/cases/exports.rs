//! Exports against the files that OpenAI's own converter wrote.

use std::path::Path;

use serde_json::Value;

use super::fixtures::{exported, exported_bytes};
use super::with_golden;
use crate::checkpoint::{Checkpoint, Layout, Role, TensorId, WeightSource};
use crate::mapped::FileBytes;
use crate::model_bin::TokenizerSection;
use crate::model_bin::header::{Header, ModelHeader};
use crate::model_bin::layout::{HEADER_BYTES, REGION_ALIGN};
use crate::telemetry::Silent;
use crate::verify::check;
use crate::verify::compare::digest::{hex, hex_sha256};
use crate::verify::fixture::{Recipe, in_memory, shard_bytes, shard_plans};
use crate::verify::outcome::{Check, Level};
use crate::verify::sample::Sample;

const GOLDEN: &str = "bytes/upstream-model-bin";

/// Recipes that the upstream converter was run on.
const EXPORTED: [&str; 6] = ["T1", "T2", "T3", "odd-experts", "one-layer", "wide-heads"];

/// Where an export starts from: layout and number of shards.
const ORIGINS: [(&str, Layout, usize); 3] =
    [("original", Layout::Original, 1), ("3-shards", Layout::Original, 3), ("hf", Layout::Hf, 2)];

fn tokenizer(check: &str) -> Result<TokenizerSection, Vec<Check>> {
    TokenizerSection::o200k_harmony().map_err(|error| vec![Check::fail(check, Level::Bytes, error)])
}

/// Header and tokenizer section of the two published models.
pub(super) fn prefix_cases() -> Vec<Check> {
    let name = "bytes/prefix";
    with_golden(GOLDEN, name, Level::Bytes, |golden| {
        let want = &golden["prefix"];
        let section = match tokenizer(name) {
            Ok(section) => section,
            Err(red) => return red,
        };
        let text = |value: &Value| value.as_str().unwrap_or("nothing").to_string();
        let mut checks = Vec::new();
        for model in ["full-20b", "full-120b"] {
            let config = Recipe::built_in(model).config();
            let header = Header { model: ModelHeader::new(&config), tokenizer: section.header() };
            let mut prefix = [header.to_bytes().as_slice(), &section.to_bytes()].concat();
            let end_of_tokens = prefix.len();
            prefix.resize(prefix.len().next_multiple_of(REGION_ALIGN as usize), 0);
            let mut check = |part: &str, want: &Value, bytes: &[u8]| {
                let name = format!("{name}/{model}/{part}");
                checks.push(Check::equal(name, Level::Bytes, text(want), hex_sha256(bytes)));
            };
            check("whole", &want["sha256"][model], &prefix);
            check("header-and-specials", &want["sha256_0_404"][model], &prefix[..404]);
            check("regex-and-tokens", &want["sha256_404_1798345"], &prefix[404..end_of_tokens]);
            if model == "full-20b" {
                let name = format!("{name}/{model}/header-bytes");
                let found = hex(&prefix[..HEADER_BYTES as usize]);
                checks.push(Check::equal(name, Level::Bytes, text(&want["first_148_bytes_20b"]), found));
            }
        }
        checks
    })
}

/// Whole files, from each origin.
pub(super) fn digest_cases() -> Vec<Check> {
    let name = "bytes/export";
    with_golden(GOLDEN, name, Level::Bytes, |golden| {
        let section = match tokenizer(name) {
            Ok(section) => section,
            Err(red) => return red,
        };
        let mut checks = Vec::new();
        for recipe in EXPORTED {
            for (origin, layout, shards) in ORIGINS {
                let source = in_memory(&Recipe::built_in(recipe), layout, shards);
                checks.push(digest_check(format!("{name}/{recipe}/{origin}"), &golden[recipe], source, &section));
            }
        }
        for (key, recipe) in [("bf16-sweep", "one-layer"), ("bf16-sweep-T2", "T2")] {
            let name = format!("{name}/{key}");
            checks.push(digest_check(name, &golden[key], bf16_sweep(&Recipe::built_in(recipe)), &section));
        }
        checks
    })
}

fn digest_check(
    name: String,
    want: &Value,
    source: Result<Checkpoint, crate::checkpoint::CheckpointError>,
    section: &TokenizerSection,
) -> Check {
    let found = source
        .map_err(|error| error.to_string())
        .and_then(|source| exported_bytes(&source, section).map_err(|error| error.to_string()));
    match found {
        Err(error) => Check::fail(name, Level::Bytes, error),
        Ok(bytes) => {
            let text = |bytes: &Value, digest: &str| format!("{bytes} bytes, sha256 {digest}");
            let want = text(&want["bytes"], want["sha256"].as_str().unwrap_or("nothing"));
            Check::equal(name, Level::Bytes, want, text(&bytes.len().into(), &hex_sha256(&bytes)))
        }
    }
}

/// A recipe's checkpoint with every BF16 pattern but NaN in QKV of block 0, and every scale that fits.
///
/// The same overwriting was done in Python before the upstream converter ran (`scripts/witness/upstream_model_bin.py`).
fn bf16_sweep(recipe: &Recipe) -> Result<Checkpoint, crate::checkpoint::CheckpointError> {
    let config = recipe.config();
    let plan = &shard_plans(&config, Layout::Original, 1)[0];
    let mut bytes = shard_bytes(recipe, plan);
    let data: usize = plan.tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    let mut offset = bytes.len() - data;
    for stored in &plan.tensors {
        let target = &mut bytes[offset..offset + stored.bytes.len()];
        offset += stored.bytes.len();
        let factor = match (stored.tensor, stored.tensor.role) {
            (tensor, _) if tensor == TensorId::of_block(Role::QkvWeight, 0) => 1,
            (tensor, _) if tensor == TensorId::of_block(Role::QkvBias, 0) => 257,
            (_, role) if role.is_scales() => {
                target.iter_mut().enumerate().for_each(|(i, scale)| *scale = (i % 241) as u8);
                continue;
            }
            _ => continue,
        };
        for (i, pair) in target.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let bits = (i * factor) as u16;
            *pair = if bits & 0x7fff > 0x7f80 { 0u16 } else { bits }.to_le_bytes();
        }
    }
    let path = Path::new("bf16-sweep");
    let shard = crate::checkpoint::Shard::from_bytes(path, FileBytes::from(bytes))?;
    Checkpoint::from_parts(path, config, vec![shard], Vec::new())
}

/// Exports read back strictly and compared with their source by the oracle.
pub(super) fn read_back_cases() -> Vec<Check> {
    let name = "bytes/read-back";
    let section = match tokenizer(name) {
        Ok(section) => section,
        Err(red) => return red,
    };
    ["T3", "odd-experts", "wide-heads", "one-layer"]
        .into_iter()
        .flat_map(|recipe| read_back(&format!("{name}/{recipe}"), &Recipe::built_in(recipe), &section))
        .collect()
}

fn read_back(name: &str, recipe: &Recipe, section: &TokenizerSection) -> Vec<Check> {
    let model = in_memory(recipe, Layout::Hf, 1)
        .map_err(|error| error.to_string())
        .and_then(|source| exported(&source, section).map_err(|error| error.to_string()));
    let (model, source) = match (model, in_memory(recipe, Layout::Original, 1)) {
        (Ok(model), Ok(source)) => (model, source),
        (Err(error), _) => return vec![Check::fail(name, Level::Bytes, error)],
        (_, Err(error)) => return vec![Check::fail(name, Level::Bytes, error.to_string())],
    };
    let mut checks = vec![check::model_bin_tokenizer(&model, section)];
    checks.extend(check::against_source(&model, &source));
    checks.extend(check::against(&model, &source, &Sample::All, &Silent).checks);
    let red = checks.iter().find(|check| check.outcome != crate::verify::Outcome::Pass);
    let equal = match red {
        None => Check::pass(format!("{name}/equal"), Level::Bytes, format!("{} checks passed", checks.len())),
        Some(red) => Check::fail(format!("{name}/equal"), Level::Bytes, format!("{}: {}", red.name, red.detail)),
    };
    let wrong = TensorId::all(source.config()).into_iter().find(|&tensor| {
        let want = source.segments(tensor).concat();
        let rows = model.restore(tensor);
        rows[..] != want[..rows.len()]
    });
    let restored = match wrong {
        None => Check::pass(format!("{name}/restored"), Level::Bytes, "every tensor restored to the source's bytes"),
        Some(tensor) => {
            Check::fail(format!("{name}/restored"), Level::Bytes, format!("{tensor} differs from its source"))
        }
    };
    vec![equal, restored]
}
