//! Checks on headers: is the tokenizer the model's, do two checkpoints describe the same model.

use std::sync::OnceLock;

use super::super::outcome::{Check, Level, Outcome};
use crate::checkpoint::{Layout, ModelConfig, RopeConfig, WeightSource};
use crate::generate::tokenizer::{compare_gguf_merges, compare_gguf_tokens};
use crate::gguf::GgufModel;
use crate::model_bin::header::{Header, ModelHeader};
use crate::model_bin::tokenizer::Tokenizer as SectionTokenizer;
use crate::model_bin::{ModelBin, TokenizerSection};

const TOKENIZER: &str = "structure/tokenizer";

/// Whether a model.bin carries the o200k_harmony vocabulary, the only one gpt-oss models have.
pub fn o200k_tokenizer(model: &ModelBin) -> Check {
    static SECTION: OnceLock<Result<TokenizerSection, String>> = OnceLock::new();
    match SECTION.get_or_init(TokenizerSection::o200k_harmony) {
        Ok(section) => model_bin_tokenizer(model, section),
        Err(error) => Check::fail(TOKENIZER, Level::Structure, error.clone()),
    }
}

/// Whether a model.bin's tokenizer section is `want`, byte for byte; a difference is named by slot or id.
pub fn model_bin_tokenizer(model: &ModelBin, want: &TokenizerSection) -> Check {
    let (want_bytes, want_header) = (want.to_bytes(), want.header());
    let header = model.header().tokenizer;
    let found = model.tokenizer();
    if header != want_header {
        let detail = format!("expected {want_header:?}, found {header:?}");
        return Check::fail(TOKENIZER, Level::Structure, detail);
    }
    if *found.bytes() == *want_bytes {
        let detail = format!("{} special slots, {} text tokens", header.num_special_tokens, header.num_text_tokens);
        return Check::pass(TOKENIZER, Level::Structure, detail);
    }
    let whole = [Header { model: model.header().model, tokenizer: header }.to_bytes().as_slice(), &want_bytes].concat();
    let want = SectionTokenizer::parse(model.path(), &whole, header).expect("an exporter's section is valid");
    Check::fail(TOKENIZER, Level::Structure, first_difference(&want, &found))
}

/// Whether a GGUF's vocabulary is o200k_harmony, or for a small model a start of it: its tokens, and the merges, if it has them.
pub fn gguf_tokenizer(model: &GgufModel) -> Check {
    let compared = compare_gguf_tokens(model).and_then(|tokens| Ok((tokens, compare_gguf_merges(model)?)));
    match compared {
        Ok((None, _)) => {
            let reason = "the file has no `tokenizer.ggml.tokens`: nothing to compare";
            Check::new(TOKENIZER, Level::Structure, Outcome::Skip, reason)
        }
        Ok((Some(tokens), merges)) => {
            let merges = merges.map_or("no merges".into(), |merges| format!("{merges} merges"));
            Check::pass(TOKENIZER, Level::Structure, format!("{tokens} tokens of o200k_harmony, {merges}"))
        }
        Err(error) => {
            let detail = format!("{}: {error}", model.path().display());
            Check::fail(TOKENIZER, Level::Structure, detail).with_error(error.name())
        }
    }
}

fn first_difference(want: &SectionTokenizer, found: &SectionTokenizer) -> String {
    if let Some((slot, (want, found))) =
        want.special_tokens().zip(found.special_tokens()).enumerate().find(|(_, (w, f))| w != f)
    {
        let name = |token: Option<&str>| token.map_or("none".into(), |t| format!("<|{t}|>"));
        return format!("special-token slot {slot}: expected {}, found {}", name(want), name(found));
    }
    if want.pattern() != found.pattern() {
        let at = want.pattern().iter().zip(found.pattern()).position(|(w, f)| w != f).unwrap_or(0);
        return format!("regex: differs from byte {at}");
    }
    let tokens = want.text_tokens().zip(found.text_tokens()).enumerate().find(|(_, (w, f))| w != f);
    let (id, (want, found)) = tokens.expect("sections of equal sizes and other bytes differ in some token");
    format!("text token {id}: expected `{}`, found `{}`", want.escape_ascii(), found.escape_ascii())
}

/// Whether two checkpoints describe the same model.
///
/// Against a model.bin, its header must be the one the other side's config gives, bit for bit; it keeps fewer
/// embedding rows, which is no difference.
pub fn against_source(found: &dyn WeightSource, want: &dyn WeightSource) -> Vec<Check> {
    let name = "structure/config";
    let model_bin = |source: &dyn WeightSource| source.layout() == Layout::ModelBin;
    let gguf = [found, want].iter().any(|source| source.layout() == Layout::Gguf);
    if !model_bin(found) && !model_bin(want) {
        let of = |source: &dyn WeightSource| match gguf {
            // GGUF stores these numbers as f32.
            true => fields(&as_f32(source.config())),
            false => fields(source.config()),
        };
        return vec![equal_fields(name, &of(want), &of(found))];
    }
    let header = |source: &dyn WeightSource| header_fields(&source.model_header());
    let mut checks = vec![equal_fields(name, &header(want), &header(found))];
    if !model_bin(want) && want.vocab_rows() < found.vocab_rows() {
        let detail = format!("vocabulary: expected at most {} rows, found {}", want.vocab_rows(), found.vocab_rows());
        checks.push(Check::fail(name, Level::Structure, detail));
    }
    checks
}

fn fields(config: &ModelConfig) -> Vec<(String, String)> {
    flatten(serde_json::to_value(config).expect("a config has a JSON form"))
}

/// The config with the numbers that are f32 in other formats rounded to them.
fn as_f32(config: &ModelConfig) -> ModelConfig {
    let single = |x: f64| f64::from(x as f32);
    let rope = RopeConfig {
        theta: single(config.rope.theta),
        scaling_factor: single(config.rope.scaling_factor),
        ntk_alpha: single(config.rope.ntk_alpha),
        ntk_beta: single(config.rope.ntk_beta),
        ..config.rope
    };
    ModelConfig { rope, ..config.clone() }
}

fn header_fields(header: &ModelHeader) -> Vec<(String, String)> {
    flatten(serde_json::to_value(header).expect("a header has a JSON form"))
}

fn flatten(value: serde_json::Value) -> Vec<(String, String)> {
    let serde_json::Value::Object(map) = value else { return vec![(String::new(), value.to_string())] };
    map.into_iter()
        .flat_map(|(key, value)| {
            flatten(value).into_iter().map(move |(inner, text)| match inner.is_empty() {
                true => (key.clone(), text),
                false => (format!("{key}.{inner}"), text),
            })
        })
        .collect()
}

fn equal_fields(name: &str, want: &[(String, String)], found: &[(String, String)]) -> Check {
    let wrong: Vec<String> = want
        .iter()
        .zip(found)
        .filter(|(w, f)| w != f)
        .map(|((key, want), (_, found))| format!("{key}: expected {want}, found {found}"))
        .collect();
    match wrong.is_empty() && want.len() == found.len() {
        true => Check::pass(name, Level::Structure, format!("{} fields equal", want.len())),
        false => Check::fail(name, Level::Structure, wrong.join("; ")),
    }
}
