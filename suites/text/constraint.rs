//! Answers held to schemas, whatever the model: one that draws at random, judged by the crate `jsonschema`.

mod hostile;
mod random_schemas;

use std::sync::OnceLock;

use gptoss::generate::constraint::{Callable, Constraint, Form, Grammar, Text};
use gptoss::generate::harmony::json::Json;
use gptoss::generate::harmony::{Message, Mode, Role, StreamParser};
use gptoss::generate::sampling::{Sampler, SamplingParams};
use gptoss::generate::tokenizer::{TEXT_TOKENS, Tokenizer, special};
use serde_json::Value;

/// Logits of a model: more than it has tokens, as checkpoints do.
const ROWS: usize = 201_100;

/// A model that knows nothing, and some day wants to be done.
pub(crate) struct Random {
    state: u64,
    /// By id: how much a token closes what is open.
    closing: &'static [f32],
    logits: Vec<f32>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        static CLOSING: OnceLock<Vec<f32>> = OnceLock::new();
        let closing = CLOSING.get_or_init(|| {
            let tokenizer = Tokenizer::o200k_harmony();
            let bytes =
                |id| if id < TEXT_TOKENS { tokenizer.decode_bytes(&[id]).unwrap_or_default() } else { Vec::new() };
            let closes = |id: u32| match (bytes(id).as_slice(), id) {
                (b"\"" | b"}" | b"]" | b"\"}" | b"\"]" | b"]}" | b"}}", _) => 12.0,
                (_, special::END | special::RETURN | special::CALL) => 12.0,
                (b"\":" | b"," | b"\"," | b"\":\"", _) => 6.0,
                _ => 0.0,
            };
            (0..ROWS as u32).map(closes).collect()
        });
        Self { state: seed | 1, closing, logits: Vec::new() }
    }

    /// Its logits after `written` tokens.
    pub(crate) fn logits(&mut self, written: usize) -> &[f32] {
        let haste = if written > 12 { 1.0 } else { 0.0 };
        let state = &mut self.state;
        let noise = |closing: &f32| {
            // xorshift64 (Marsaglia 2003).
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            (*state >> 40) as f32 / (1 << 24) as f32 * 6.0 + haste * closing
        };
        self.logits.clear();
        self.logits.extend(self.closing.iter().map(noise));
        &self.logits
    }
}

pub(crate) fn json(text: &str) -> Json {
    serde_json::from_str(text).expect("JSON")
}

pub(crate) fn grammar(schema: &str) -> Grammar {
    Grammar::of_schema(&json(schema)).unwrap_or_else(|error| panic!("{schema}: {error}"))
}

/// What a random model writes under a form, and whether it came to its end within `max` tokens.
pub(crate) fn written(form: Form, seed: u64, max: usize) -> (Vec<u32>, bool) {
    let mut constraint = Constraint::new(form, Tokenizer::o200k_harmony()).expect("names that can be tokenized");
    let params = SamplingParams { seed, ..SamplingParams::default() };
    let mut sampler = Sampler::new(params, ROWS).expect("parameters");
    let (mut model, mut masked, mut ids) = (Random::new(seed), Vec::new(), Vec::new());
    while ids.len() < max && !constraint.is_over() {
        let logits = model.logits(ids.len());
        constraint.allowed().unwrap_or_else(|error| panic!("seed {seed}: {error}")).mask(logits, &mut masked);
        let id = sampler.sample_masked(&masked, logits).expect("a token").token;
        constraint.take(id).expect("it was allowed");
        ids.push(id);
    }
    let is_over = constraint.is_over();
    (ids, is_over)
}

/// The messages of an assistant; strictly read, for under a form nothing may be malformed.
pub(crate) fn messages(ids: &[u32]) -> Vec<Message> {
    let mut parser = StreamParser::new(Tokenizer::o200k_harmony(), Mode::Strict, Some(Role::Assistant));
    parser.process_all(ids.iter().copied()).unwrap_or_else(|error| panic!("{ids:?}: {error}"));
    parser.into_messages()
}

/// The judge's verdict about a text.
pub(crate) fn demand_valid(schema: &str, text: &str) {
    let schema_value: Value = serde_json::from_str(schema).expect("JSON");
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{schema}: {error}: {text}"));
    let validator = jsonschema::validator_for(&schema_value).expect("a schema");
    let wrong: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{schema}: {text}: {wrong:?}");
}

const CITY: &str = r#"{"type":"object","properties":{"city":{"type":"string","maxLength":20},"days":{"enum":[1,2,3]}},
    "required":["city","days"],"additionalProperties":false}"#;

fn city() -> Text {
    Text::Bound(grammar(CITY))
}

#[test]
fn a_random_model_answers_in_the_format_or_calls() {
    let (mut answers, mut calls, mut thoughts, mut cut) = (0, 0, 0, 0);
    for seed in 1..=60 {
        let calls_of = |name: &str| Callable { name: name.into(), arguments: city() };
        let form = Form { answer: Some(city()), calls: vec![calls_of("get"), calls_of("get_weather")] };
        let (ids, is_over) = written(form, seed, 150);
        if !is_over {
            cut += 1;
            continue;
        }
        let messages = messages(&ids);
        let (last, before) = messages.split_last().expect("a message");
        demand_valid(CITY, &last.text());
        match (&last.recipient, ids.last()) {
            (None, Some(&special::RETURN)) => {
                assert_eq!(last.channel.as_deref(), Some("final"));
                answers += 1;
            }
            (Some(to), Some(&special::CALL)) => {
                assert!(["functions.get", "functions.get_weather"].contains(&to.as_str()), "{to}");
                calls += 1;
            }
            other => panic!("{other:?}"),
        }
        assert!(before.iter().all(|message| message.recipient.is_none()), "{messages:?}");
        thoughts += before.len();
    }
    assert!(answers > 5 && calls > 5 && thoughts > 5 && cut < 20, "{answers}, {calls}, {thoughts}, {cut}");
}

#[test]
fn a_random_model_calls_where_it_must() {
    let (mut finished, mut thoughts) = (0, 0);
    for seed in 1..=30 {
        let form = Form { answer: None, calls: vec![Callable { name: "get_weather".into(), arguments: city() }] };
        let (ids, is_over) = written(form, seed, 150);
        if is_over {
            let messages = messages(&ids);
            let last = messages.last().expect("a message");
            assert_eq!(last.recipient.as_deref(), Some("functions.get_weather"));
            demand_valid(CITY, &last.text());
            finished += 1;
            thoughts += messages.len() - 1;
        }
    }
    assert!(finished > 15 && thoughts > 5, "{finished} calls after {thoughts} other messages");
}

#[test]
fn equal_seeds_write_equal_answers() {
    let write = |seed| written(Form { answer: Some(city()), calls: Vec::new() }, seed, 60).0;
    assert_eq!(write(7), write(7));
    assert_ne!(write(7), write(8));
}

/// The judge must be able to say no.
#[test]
#[should_panic(expected = "is not of type")]
fn the_judge_refuses() {
    demand_valid(CITY, r#"{"city":1,"days":2}"#);
}
