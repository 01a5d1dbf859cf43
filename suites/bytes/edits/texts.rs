//! `config.json` of both dialects, recipes, manifests.

use std::path::Path;

use gptoss::checkpoint::config::limits;
use gptoss::checkpoint::{Layout, ModelConfig, TensorId};
use gptoss::model_bin::ModelBin;
use gptoss::model_bin::header::ModelHeader;
use gptoss::model_bin::layout::{Plan, TokenizerBytes};
use gptoss::open::AnyCheckpoint;
use gptoss::telemetry::Silent;
use gptoss::verify::check::digest_checks;
use gptoss::verify::fixture::Recipe;
use gptoss::verify::manifest::Manifest;
use proptest::prelude::*;

use super::{HEAP_OF_A_FILE, HEAP_OF_JSON, deterministic, heap, heap_bytes_max, json, read, tiny};

fn meet_as_config(text: &[u8]) -> Option<ModelConfig> {
    let path = Path::new("config.json");
    let config = read(path, heap_bytes_max(text.len(), HEAP_OF_JSON), || ModelConfig::parse(text, path))?;
    // No size of any tensor overflows, and a header can be made and read back.
    let bytes: usize = TensorId::each(&config).map(|tensor| tensor.bytes(&config)).sum();
    assert!(bytes > 0);
    ModelHeader::new(&config).config(config.vocab);
    // What the config asks for is not what a file holds: a plan stops where the file does.
    const FILE_BYTES: usize = 1 << 16;
    let prefix = TokenizerBytes { special_tokens: 16, regex: 2, text_tokens: 3 };
    let (plan, heap) = heap::peak_bytes_of(|| Plan::within(&config, config.vocab, prefix, FILE_BYTES as u64));
    assert!(heap <= heap_bytes_max(FILE_BYTES, 1), "{heap} bytes of heap for a plan of {FILE_BYTES} bytes");
    assert!(plan.is_err() || bytes < FILE_BYTES);
    Some(config)
}

fn meet_as_recipe(text: &[u8]) {
    let path = Path::new("recipe.json");
    let Some(recipe) = read(path, heap_bytes_max(text.len(), HEAP_OF_JSON), || Recipe::parse(text, path)) else {
        return;
    };
    let config = |layout| meet_as_config(recipe.config_text(layout).as_bytes());
    assert_eq!(config(Layout::Original), Some(recipe.config()));
    assert_eq!(config(Layout::Hf), Some(recipe.config()));
}

/// A manifest that can be read judges any checkpoint.
fn meet_as_manifest(text: &[u8], checkpoint: &AnyCheckpoint) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("manifest.json");
    std::fs::write(&path, text).expect("a temporary file can be written");
    let manifest = read(&path, heap_bytes_max(text.len(), HEAP_OF_A_FILE), || Manifest::read(&path));
    if let Some(manifest) = manifest {
        assert!(!digest_checks(checkpoint, Some(&manifest), None, &Silent).is_empty());
    }
}

fn honest_model_bin() -> AnyCheckpoint {
    let file = tiny::HONEST.model_bin.clone();
    AnyCheckpoint::ModelBin(ModelBin::from_bytes(Path::new("model.bin"), file.into()).expect("the file is honest"))
}

proptest! {
    #![proptest_config(deterministic(20_000))]

    #[test]
    fn original_configs_with_other_members_are_read_or_refused(
        text in json::twisted(&tiny::recipe().config_text(Layout::Original)),
    ) {
        meet_as_config(&text);
    }

    #[test]
    fn hf_configs_with_other_members_are_read_or_refused(
        text in json::twisted(&tiny::recipe().config_text(Layout::Hf)),
    ) {
        meet_as_config(&text);
    }

    #[test]
    fn recipes_with_other_members_are_refused_or_describe_one_model_in_both_dialects(
        text in json::twisted(tiny::RECIPE),
    ) {
        meet_as_recipe(&text);
    }
}

proptest! {
    #![proptest_config(deterministic(1_000))]

    #[test]
    fn any_text_is_read_or_refused(text in json::text()) {
        meet_as_config(&text);
        meet_as_recipe(&text);
        meet_as_manifest(&text, &honest_model_bin());
    }

    #[test]
    fn manifests_with_other_members_are_read_or_refused(
        text in json::twisted(&Manifest::of(&honest_model_bin(), &Silent).to_json()),
    ) {
        meet_as_manifest(&text, &honest_model_bin());
    }
}

/// The limits promise that no product of dimensions overflows; this build checks arithmetic.
#[test]
fn a_config_at_every_limit_is_read() {
    let (heads, context) = (limits::HEADS_MAX, limits::CONTEXT_MAX);
    let largest = Recipe {
        layers: limits::LAYERS_MAX,
        experts: limits::EXPERTS_MAX,
        hidden: limits::WIDTH_MAX,
        intermediate: limits::WIDTH_MAX,
        vocab: limits::VOCAB_MAX,
        experts_per_token: limits::EXPERTS_MAX,
        sliding_window: context,
        initial_context_length: context,
        rope_scaling_factor: 1.0, // the extended context has the same limit
        heads,
        kv_heads: heads,
        head_dim: heads,
        ..tiny::recipe()
    };
    for layout in [Layout::Original, Layout::Hf] {
        assert_eq!(meet_as_config(largest.config_text(layout).as_bytes()), Some(largest.config()));
    }
}

/// The densest spellings: most to remember for the fewest bytes.
#[test]
fn a_long_text_takes_heap_in_proportion() {
    const COUNT: usize = 100_000;
    for member in ["0", "[0]", r#"{"":0}"#, "\"\"", r#"["",0,[]]"#, r#"["",0,0,""]"#] {
        let members = vec![member; COUNT].join(",");
        meet_as_config(format!(r#"{{"a":[{members}]}}"#).as_bytes());
        meet_as_recipe(format!(r#"{{"name":[{members}]}}"#).as_bytes());
        let manifest = format!(r#"{{"schema":1,"layout":"original","files":[{members}]}}"#);
        meet_as_manifest(manifest.as_bytes(), &honest_model_bin());
        let sections = format!(r#"{{"schema":1,"layout":"original","files":[["",0,[{members}]]]}}"#);
        meet_as_manifest(sections.as_bytes(), &honest_model_bin());
    }
}
