//! GGUF files that are no gpt-oss models, each refused by name; and every wrong file of the catalogue, caught.

use std::path::Path;

use gptoss::checkpoint::WeightSource;
use gptoss::gguf::dialect::{DenseType, DialectError, TokenList};
use gptoss::gguf::{Gguf, GgufModel};
use gptoss::telemetry::Silent;
use gptoss::verify::Outcome;
use gptoss::verify::check::gguf_tokenizer;
use gptoss::verify::fault::gguf_model::planted;
use gptoss::verify::fixture::{Recipe, gguf_bytes, gguf_file};

/// A lossless file of the small recipe, to be edited.
struct File(Vec<u8>);

impl File {
    fn honest() -> File {
        File(gguf_bytes(&Recipe::built_in("small-vocab"), DenseType::Bf16).expect("the recipe can be written"))
    }

    /// Other bytes for the value of a key.
    fn value(mut self, key: &str, skip: usize, bytes: &[u8]) -> File {
        let gguf = Gguf::from_bytes(Path::new("model.gguf"), self.0.clone().into()).expect("the file has an index");
        let at = gguf.metadata().offset_of(key).unwrap_or_else(|| panic!("{key} is not there")) as usize + skip;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn u32(self, key: &str, value: u32) -> File {
        self.value(key, 0, &value.to_le_bytes())
    }

    fn f32(self, key: &str, value: f32) -> File {
        self.value(key, 0, &value.to_le_bytes())
    }

    /// Where a string with its length stands; behind it.
    fn behind(&self, text: &str) -> usize {
        let wanted = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let found = self.0.windows(wanted.len()).position(|window| window == wanted);
        found.unwrap_or_else(|| panic!("{text} is not there")) + wanted.len()
    }

    /// Another name of the same length, for a key or a tensor.
    fn renamed(mut self, from: &str, to: &str) -> File {
        assert_eq!(from.len(), to.len());
        let end = self.behind(from);
        self.0[end - to.len()..end].copy_from_slice(to.as_bytes());
        self
    }

    /// Another type of a tensor of `dims` dimensions.
    fn typed(mut self, name: &str, dims: usize, id: u32) -> File {
        let at = self.behind(name) + 4 + 8 * dims;
        self.0[at..at + 4].copy_from_slice(&id.to_le_bytes());
        self
    }

    fn open(self) -> Result<GgufModel, DialectError> {
        GgufModel::from_bytes(Path::new("model.gguf"), self.0.into())
    }

    fn refusal(self) -> (&'static str, String) {
        let error = self.open().expect_err("the file is refused");
        (error.name(), error.to_string())
    }
}

fn refused(file: File, name: &str, mentions: &[&str]) {
    let (found, message) = file.refusal();
    assert_eq!(found, name, "{message}");
    for mention in mentions.iter().chain(&["model.gguf"]) {
        assert!(message.contains(mention), "`{message}` does not mention `{mention}`");
    }
}

#[test]
fn files_that_are_no_gpt_oss_models_are_refused_by_name() {
    let honest = File::honest;
    refused(honest().value("general.architecture", 8, b"gemma3n"), "gguf-architecture", &["gemma3n", "gpt-oss"]);
    refused(
        honest().renamed("gpt-oss.expert_count", "gpt-oss.expert_xount"),
        "gguf-key-missing",
        &["gpt-oss.expert_count"],
    );
    refused(honest().renamed("token_embd.weight", "token_embd.waight"), "gguf-tensor-missing", &["token_embd.weight"]);
    refused(
        honest().u32("gpt-oss.block_count", 5),
        "gguf-tensor-missing",
        &["blk.4.attn_norm.weight", "= 5", "11 more"],
    );
    refused(honest().u32("gpt-oss.block_count", 3), "gguf-tensor-unknown", &["19 tensor(s)", "blk.3."]);
    refused(
        honest().u32("gpt-oss.embedding_length", 96),
        "gguf-tensor-dims",
        &["token_embd.weight", "[96, 1024]", "[64, 1024]"],
    );
    refused(honest().u32("gpt-oss.expert_count", 9), "gguf-tensor-dims", &["blk.0.ffn_gate_inp.weight", "num_experts"]);
    refused(honest().typed("blk.0.attn_norm.weight", 1, 8), "gguf-tensor-type", &["blk.0.attn_norm.weight", "Q8_0"]);
    refused(
        honest().typed("blk.1.ffn_up_exps.weight", 3, 99),
        "gguf-unpacked-experts",
        &["blk.1.ffn_up_exps.weight", "99"],
    );
    refused(honest().typed("blk.1.attn_q.weight", 2, 99), "type-unsupported", &["blk.1.attn_q.weight", "99"]);
    // Type 4 means MXFP4 in files of Ollama's dialect alone.
    refused(honest().typed("blk.1.ffn_up_exps.weight", 3, 4), "gguf-unpacked-experts", &["blk.1.ffn_up_exps.weight"]);
}

#[test]
fn metadata_that_contradicts_the_architecture_is_refused() {
    let value = |file: File, mentions: &[&str]| refused(file, "gguf-key-value", mentions);
    let honest = File::honest;
    value(honest().u32("gpt-oss.block_count", 0), &["gpt-oss.block_count", "from 1 to", "found 0"]);
    value(honest().u32("gpt-oss.expert_used_count", 9), &["gpt-oss.expert_used_count", "gpt-oss.expert_count = 8"]);
    value(honest().u32("gpt-oss.attention.head_count", 7), &["gpt-oss.attention.head_count", "a multiple of"]);
    value(
        honest().u32("gpt-oss.attention.value_length", 32),
        &["gpt-oss.attention.value_length", "expected 64", "found 32"],
    );
    value(honest().u32("gpt-oss.feed_forward_length", 96), &["gpt-oss.feed_forward_length", "expected 64", "found 96"]);
    value(honest().f32("gpt-oss.attention.layer_norm_rms_epsilon", 1e-6), &["layer_norm_rms_epsilon", "1e-5", "1e-6"]);
    value(honest().f32("gpt-oss.rope.freq_base", f32::NAN), &["gpt-oss.rope.freq_base", "positive"]);
    value(honest().f32("gpt-oss.rope.scaling.factor", -1.0), &["gpt-oss.rope.scaling.factor", "positive"]);
    value(honest().value("gpt-oss.rope.scaling.type", 8, b"none"), &["gpt-oss.rope.scaling.type", "yarn", "none"]);
    value(honest().f32("gpt-oss.rope.scaling.yarn_beta_fast", 0.5), &["gpt-oss.rope.freq_base", "increasing"]);
    // A key that llama.cpp may write, in the place of one of the same length that can be spared.
    let scaled = honest().renamed("general.quantization_version", "gpt-oss.expert_weights_scale");
    value(scaled, &["gpt-oss.expert_weights_scale", "expected 1.0", "found 2"]);
}

#[test]
fn what_is_unusual_is_told() {
    let model = File::honest().u32("gpt-oss.context_length", 4096).open().expect("the model is usable");
    let told = |what: &str| model.warnings().iter().any(|warning| warning.contains(what));
    assert!(told("context_length` is 4096") && told("tokenizer.ggml.tokens"), "{:?}", model.warnings());
}

/// A file with `tokens` of the vocabulary for the 1024 rows of the small recipe.
fn with_tokens(tokens: &TokenList) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("model.gguf");
    gguf_file(&Recipe::built_in("small-vocab"), DenseType::Bf16, Some(tokens), &path, &Silent).expect("it is written");
    std::fs::read(&path).expect("it was written")
}

#[test]
fn vocabularies_are_held_against_o200k_harmony() {
    let open = |tokens: &TokenList| File(with_tokens(tokens)).open();
    let list = TokenList::o200k_harmony(1024).expect("the vocabulary is bundled");
    let model = open(&list).expect("the model is usable");
    assert_eq!((gguf_tokenizer(&model).outcome, model.vocab_rows()), (Outcome::Pass, 1024));
    assert_eq!(model.tokens().expect("it has tokens").count(), 1024);

    let mut other = list.clone();
    other.tokens.swap(700, 701);
    let check = gguf_tokenizer(&open(&other).expect("the model is usable"));
    assert!(check.outcome == Outcome::Fail && check.detail.contains("token 700"), "{}", check.detail);

    other.tokens[3] = "€".into();
    let check = gguf_tokenizer(&open(&other).expect("the model is usable"));
    assert!(check.outcome == Outcome::Fail && check.detail.contains("stands for no byte"), "{}", check.detail);

    let short = TokenList::o200k_harmony(1000).expect("the vocabulary is bundled");
    refused(File(with_tokens(&short)), "gguf-token-count", &["1024", "1000"]);
}

/// Every wrong file of the catalogue turns exactly its checks red; the sabotage suite also records what was seen.
#[test]
fn every_wrong_gguf_is_caught() {
    let faults = planted();
    println!("{}", gptoss::verify::fault::run::payload(&faults));
    assert!(faults.len() >= 28, "{} faults", faults.len());
    for fault in &faults {
        let check = fault.check();
        assert_eq!(check.outcome, Outcome::Pass, "{}: {}", check.name, check.detail);
    }
}
