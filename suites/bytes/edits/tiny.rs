//! The smallest honest files: one layer, four experts, some tens of kilobytes.

use std::path::Path;
use std::sync::LazyLock;

use gptoss::checkpoint::{Layout, ModelConfig};
use gptoss::model_bin::ModelBin;
use gptoss::open::AnyCheckpoint;
use gptoss::telemetry::Silent;
use gptoss::verify::cases::fixtures::{exported_bytes, small_tokenizer};
use gptoss::verify::fixture::{HeaderWriter, Recipe, in_memory, shard_bytes, shard_plans};
use gptoss::verify::manifest::Manifest;

/// The recipe's text.
pub(super) const RECIPE: &str = r#"{"name": "tiny", "layers": 1, "experts": 4, "hidden": 32, "intermediate": 32,
    "heads": 1, "kv_heads": 1, "vocab": 64, "rope_theta": 150000, "rope_ntk_alpha": 1, "swiglu_limit": 7.0}"#;

/// The recipe.
pub(super) fn recipe() -> Recipe {
    Recipe::parse(RECIPE.as_bytes(), Path::new("tiny.json")).expect("the recipe is valid")
}

/// The model.
pub(super) fn config() -> ModelConfig {
    recipe().config()
}

/// Its SafeTensors files: name and bytes.
pub(super) fn shards(layout: Layout, count: usize) -> Vec<(String, Vec<u8>)> {
    let recipe = recipe();
    let plans = shard_plans(&recipe.config(), layout, count);
    plans.iter().map(|plan| (plan.file.clone(), shard_bytes(&recipe, plan))).collect()
}

/// Every file of its checkpoint directory.
pub(super) fn directory(layout: Layout, count: usize) -> Vec<(String, Vec<u8>)> {
    let recipe = recipe();
    let plans = shard_plans(&recipe.config(), layout, count);
    let mut files = shards(layout, count);
    files.push(("config.json".into(), recipe.config_text(layout).into_bytes()));
    if count > 1 {
        files.push(("model.safetensors.index.json".into(), HeaderWriter::index(&plans).into_bytes()));
    }
    files
}

/// Its model.bin.
pub(super) fn model_bin() -> Vec<u8> {
    let recipe = recipe();
    let source = in_memory(&recipe, Layout::Original, 1).expect("the recipe is valid");
    exported_bytes(&source, &small_tokenizer(recipe.vocab as usize)).expect("the recipe can be exported")
}

/// The files, made once.
pub(super) struct Honest {
    pub(super) model_bin: Vec<u8>,
    pub(super) original: Vec<u8>,
    pub(super) hf: Vec<u8>,
    /// Of the model.bin.
    pub(super) manifest: Manifest,
}

pub(super) static HONEST: LazyLock<Honest> = LazyLock::new(|| {
    let model_bin = model_bin();
    let opened = ModelBin::from_bytes(Path::new("model.bin"), model_bin.clone().into()).expect("the file is honest");
    Honest {
        original: shards(Layout::Original, 1).remove(0).1,
        hf: shards(Layout::Hf, 1).remove(0).1,
        manifest: Manifest::of(&AnyCheckpoint::ModelBin(opened), &Silent),
        model_bin,
    }
});
