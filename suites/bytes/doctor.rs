//! The doctor: each thing that can be odd about a gpt-oss GGUF is found, by name, and an honest file has none of it.

use std::path::Path;

use gptoss::gguf::Gguf;
use gptoss::verify::doctor::{Finding, Weight, examine, known_file};
use gptoss::verify::fixture::gguf::{File, Meta, Tensor, model, sample, value_type};

fn findings(file: &File) -> Vec<Finding> {
    let gguf = Gguf::from_bytes(Path::new("far/model.gguf"), file.write().bytes.into());
    examine(&gguf.unwrap_or_else(|error| panic!("{error}")))
}

/// The names of what is said beyond what the file is, with texts.
fn complaints(file: &File) -> Vec<(&'static str, String)> {
    let beyond = findings(file).into_iter().filter(|finding| finding.weight != Weight::Is);
    beyond.map(|finding| (finding.name, finding.detail)).collect()
}

#[test]
fn an_honest_file_is_described_and_nothing_is_odd() {
    let names: Vec<_> = findings(&model()).iter().map(|finding| (finding.name, finding.weight)).collect();
    let is = ["dialect", "tensors", "types", "scales"].map(|name| (name, Weight::Is));
    assert_eq!(names, [&is[..], &[("yarn-rounded-by-ggml", Weight::Trouble)]].concat());
    let details: Vec<String> = findings(&model()).into_iter().map(|finding| finding.detail).collect();
    assert!(
        details[1].starts_with("22 tensors; 1 layers (the published models have 24 and 36) call for 22"),
        "{details:?}"
    );
    assert!(details[2].starts_with("F32 13, Q8_0 6, MXFP4 3: dense Q8_0, experts MXFP4"), "{details:?}");
    assert!(details[3].contains("384 MXFP4 blocks with scale bytes 118 to 122"), "{details:?}");
}

fn set(key: &'static str, meta: Option<Meta>) -> impl Fn(&mut File) {
    move |file| {
        let at = file.metadata.iter().position(|meta| meta.key == key.as_bytes());
        match (at, &meta) {
            (Some(at), Some(meta)) => file.metadata[at] = meta.clone(),
            (Some(at), None) => drop(file.metadata.remove(at)),
            (None, Some(meta)) => file.metadata.push(meta.clone()),
            (None, None) => panic!("{key} is not there"),
        }
    }
}

fn u32(key: &'static str, to: u32) -> Box<dyn Fn(&mut File)> {
    Box::new(set(key, Some(Meta::u32(key, to))))
}

fn f32(key: &'static str, to: f32) -> Box<dyn Fn(&mut File)> {
    Box::new(set(key, Some(Meta::f32(key, to))))
}

fn string(key: &'static str, to: &str) -> Box<dyn Fn(&mut File)> {
    Box::new(set(key, Some(Meta::string(key, to))))
}

fn without(key: &'static str) -> Box<dyn Fn(&mut File)> {
    Box::new(set(key, None))
}

/// A change of the metadata, the one finding that it must add, and a text of that.
type Row = (Box<dyn Fn(&mut File)>, &'static str, &'static str);

fn metadata_rows() -> Vec<Row> {
    vec![
        (u32("gpt-oss.attention.key_length", 45), "head-size", "is 45, gpt-oss has 64"),
        (without("gpt-oss.attention.key_length"), "head-size", "embedding_length / head_count = 32"),
        (
            f32("gpt-oss.attention.layer_norm_rms_epsilon", 1e-6),
            "key-value",
            "rms_epsilon` is 1e-6, gpt-oss has 0.00001",
        ),
        (without("gpt-oss.attention.layer_norm_rms_epsilon"), "key-missing", "llama.cpp does not load"),
        (without("gpt-oss.attention.sliding_window"), "key-missing", "llama.cpp does not load"),
        (u32("gpt-oss.attention.sliding_window", 127), "key-value", "sliding_window` is 127"),
        (without("gpt-oss.expert_feed_forward_length"), "key-missing", "expert_feed_forward_length"),
        (without("gpt-oss.rope.scaling.yarn_beta_fast"), "key-missing", "mistral.rs"),
        (without("gpt-oss.rope.scaling.yarn_beta_slow"), "key-missing", "mistral.rs"),
        (f32("gpt-oss.rope.scaling.yarn_beta_fast", 64.0), "key-value", "yarn_beta_fast` is 64.0"),
        (f32("gpt-oss.rope.freq_base", 10_000.0), "key-value", "freq_base` is 10000.0"),
        (f32("gpt-oss.rope.scaling.factor", 16.0), "key-value", "factor` is 16.0"),
        (u32("gpt-oss.rope.scaling.original_context_length", 8192), "key-value", "8192"),
        (string("gpt-oss.rope.scaling.type", "linear"), "key-value", "\"linear\", gpt-oss has yarn"),
        (u32("gpt-oss.expert_used_count", 2), "key-value", "trained with four"),
        (u32("gpt-oss.context_length", 4096), "key-value", "context_length` is 4096"),
        (u32("general.file_type", 1), "file-type", "is 1, dense tensors are Q8_0"),
        (string("tokenizer.ggml.pre", "default"), "tokenizer", "\"default\", gpt-oss has gpt-4o"),
        (without("tokenizer.ggml.pre"), "tokenizer", "is missing, gpt-oss has gpt-4o"),
        (string("tokenizer.ggml.model", "llama"), "tokenizer", "\"llama\", gpt-oss has gpt2"),
        (without("tokenizer.ggml.model"), "tokenizer-missing", "no tokenizer.ggml.model"),
        (u32("tokenizer.ggml.eos_token_id", 199_999), "special-token", "eos_token_id` is 199999"),
        (u32("tokenizer.ggml.padding_token_id", 200_017), "special-token", "<|endoftext|>"),
        (without("tokenizer.chat_template"), "chat-template", "no tokenizer.chat_template"),
        (
            Box::new(set("tokenizer.ggml.tokens", Some(Meta::strings("tokenizer.ggml.tokens", &["a"])))),
            "tokenizer",
            "32 rows",
        ),
        (string("gpt-oss.Remark", "x"), "peculiar", "key-spelling"),
        (without("gpt-oss.block_count"), "layers-unknown", "block_count"),
    ]
}

fn tensor_rows() -> Vec<Row> {
    let change = |name: &'static str, edit: fn(&mut Tensor)| -> Box<dyn Fn(&mut File)> {
        Box::new(move |file| edit(file.tensors.iter_mut().find(|t| t.name == name.as_bytes()).expect("it is there")))
    };
    let remove = |name: &'static str| -> Box<dyn Fn(&mut File)> {
        Box::new(move |file| file.tensors.retain(|tensor| tensor.name != name.as_bytes()))
    };
    vec![
        (remove("blk.0.attn_sinks.weight"), "tensors-missing", "1 missing: blk.0.attn_sinks.weight"),
        (
            Box::new(|file| file.tensors.push(Tensor::counting("blk.0.attn_q.lora", &[8], 0, 32))),
            "tensors-unknown",
            "blk.0.attn_q.lora",
        ),
        (
            change("blk.0.ffn_up_exps.weight", |tensor| tensor.data[17] = 255),
            "scale-nan",
            "1 blocks have the scale 255",
        ),
        (
            change("blk.0.ffn_up_exps.weight", |tensor| tensor.data[34] = 0),
            "scale-subnormal",
            "1 blocks have the scale 0",
        ),
        (change("blk.0.ffn_down_exps.weight", |tensor| tensor.data[0] = 1), "scale-subnormal", "1 blocks"),
        (
            change("blk.0.ffn_down_exps.weight", |tensor| {
                (tensor.ggml_type, tensor.data) = (2, vec![0; 128 * 18]);
            }),
            "experts-requantised",
            "experts are Q4_0",
        ),
        (change("output_norm.weight", |tensor| tensor.ggml_type = 99), "ggml-refuses", "unknown-type"),
    ]
}

#[test]
fn each_oddity_adds_its_finding_and_no_other() {
    let honest = complaints(&model());
    for (change, name, text) in metadata_rows().into_iter().chain(tensor_rows()) {
        let mut file = model();
        change(&mut file);
        let found = complaints(&file);
        let added: Vec<_> = found.iter().filter(|complaint| !honest.contains(complaint)).collect();
        assert!(added.len() == 1 && added[0].0 == name && added[0].1.contains(text), "{name}, {text}: {added:?}");
    }
}

#[test]
fn what_ggml_refuses_is_trouble() {
    let mut file = model();
    let nested = gptoss::verify::fixture::gguf::array(value_type::U8, 0, &[]);
    file.metadata.push(Meta::array("gpt-oss.nested", value_type::ARRAY, 1, &nested));
    let found = complaints(&file);
    assert!(found.iter().any(|(name, detail)| *name == "ggml-refuses" && detail.contains("nested-array")), "{found:?}");
}

#[test]
fn ollamas_early_dialect_is_told() {
    let mut file = model();
    for meta in &mut file.metadata {
        let key = String::from_utf8_lossy(&meta.key).replace("gpt-oss.", "gptoss.");
        meta.key = key.into_bytes();
    }
    file.metadata[0] = Meta::string("general.architecture", "gptoss");
    file.tensors.iter_mut().filter(|tensor| tensor.ggml_type == 39).for_each(|tensor| tensor.ggml_type = 4);
    let all = findings(&file);
    assert!(all[0].detail.contains("as Ollama wrote it"), "{all:?}");
    assert!(
        all.iter().any(|finding| finding.name == "scales" && finding.detail.contains("384 MXFP4 blocks")),
        "{all:?}"
    );
    let names: Vec<_> = complaints(&file).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ggml-refuses", "ollama-legacy", "yarn-rounded-by-ggml"]);
}

#[test]
fn another_model_is_not_judged_as_gpt_oss() {
    let names: Vec<_> = findings(&sample()).iter().map(|finding| finding.name).collect();
    assert_eq!(names, ["dialect", "ggml-refuses"], "the sample has a nested array");
}

/// A sparse file: 280 MiB of nothing.
#[test]
fn tensors_beyond_webgpus_limits_are_told() {
    let mut file = model();
    let rows = 70 << 20;
    file.tensors.push(Tensor { name: b"large.weight".to_vec(), dims: vec![rows], ggml_type: 0, data: Vec::new() });
    let written = file.write();
    let on_disk = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(on_disk.path(), &written.bytes).expect("written");
    on_disk.as_file().set_len(written.bytes.len() as u64 + 4 * rows).expect("a sparse file");
    let found = examine(&Gguf::open(on_disk.path()).expect("the file is sound"));
    for name in ["webgpu-binding", "webgpu-buffer"] {
        let told = found.iter().find(|finding| finding.name == name).expect(name);
        assert!(told.detail.starts_with("1 tensors exceed") && told.detail.contains("`large.weight` with 293601280"));
    }
}

#[test]
fn a_published_file_is_known_by_its_digest() {
    let sha256 = "27cd6c432c7672cb812a92f611cf3ba7bbc35928262bb1e1253ff4ee6ae35901";
    assert!(known_file(sha256).is_some_and(|what| what.contains("ggml-org")));
    assert_eq!(known_file(&sha256.replace('2', "3")), None);
}
