//! Schemas that mean ill, and such that say what cannot be enforced: each is refused or costs little, and nothing panics.

use std::time::{Duration, Instant};

use gptoss::generate::constraint::{Constraint, Form, Grammar, SchemaError, Text};
use gptoss::generate::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{Random, json as ordered, written};

/// No compilation and no answer of a few tokens may take longer, on a machine that is busy.
const LONG: Duration = Duration::from_secs(30);

/// What llguidance does not enforce is refused by its name, whatever else the schema says.
#[test]
fn what_cannot_be_enforced_is_refused_by_its_name() {
    for (schema, word) in [
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"not": {"type": "string"}}), "not"),
        (json!({"if": {"type": "string"}, "then": {"minLength": 3}}), "if"),
        (json!({"type": "object", "properties": {"a": {"type": "array", "contains": {}}}}), "contains"),
        (json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "oneOf"),
        (json!({"type": "string", "format": "telephone"}), "telephone"),
        (json!({"type": "strange"}), "strange"),
        (json!({"$ref": "#/$defs/missing"}), "missing"),
        (json!({"$ref": "https://example.com/schema"}), "https://example.com/schema"),
        (json!({"type": "string", "pattern": "(?=a)b"}), "look"),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "minimum"),
        (json!({"minLength": "three", "type": "string"}), "minLength"),
        (json!(false), "false"),
        (json!([1, 2]), "object or boolean"),
        (json!({"$ref": "#"}), "no text"),
    ] {
        let error = Grammar::of_schema(&ordered(&schema.to_string())).expect_err("it cannot be enforced").to_string();
        assert!(error.contains(word), "{schema}: {error}");
        assert!(!error.contains('\n') && error.len() < 600, "{error}");
    }
}

/// A client's own `x-guidance` could switch the promises off.
#[test]
fn a_schema_cannot_loosen_its_own_enforcement() {
    let lenient = json!({"type": "array", "uniqueItems": true, "x-guidance": {"lenient": true}});
    assert!(matches!(Grammar::of_schema(&ordered(&lenient.to_string())), Err(SchemaError::Refused { .. })));
}

#[test]
fn what_is_too_much_is_refused_before_it_is_compiled() {
    let many = |key: &str, count: usize| -> Value {
        (0..count).map(|i| (format!("k{i}"), json!({ key: format!("#/$defs/k{}", i + 1) }))).collect()
    };
    let keys = |count: usize| -> Value { (0..count).map(|i| (format!("^k{i}$"), json!(true))).collect() };
    for (schema, what) in [
        (json!({"type": "object", "properties": many("$ref", 1001)}), "`$ref`s"),
        (json!({"type": "object", "properties": many("pattern", 300)}), "patterns"),
        (json!({"patternProperties": keys(17)}), "keys"),
        (json!({"enum": ["x".repeat(300_000)]}), "bytes"),
        (json!({"type": "integer", "multipleOf": 10_001}), "multipleOf"),
        (json!({"type": "integer", "multipleOf": 4_294_967_291_u32}), "multipleOf"),
        (json!({"allOf": [{"multipleOf": 97}, {"multipleOf": 0.0001}, {"multipleOf": 7}]}), "multipleOf"),
        (json!({"multipleOf": 1e-30}), "multipleOf"),
    ] {
        let error = Grammar::of_schema(&ordered(&schema.to_string())).expect_err("it is too much").to_string();
        assert!(error.contains(what), "{error}");
    }
}

/// Schemas that are small and would be much.
fn mean() -> Vec<(&'static str, Value)> {
    let chain: Value = (0..900)
        .map(|i| (format!("d{i}"), json!({"type": "array", "items": {"$ref": format!("#/$defs/d{}", i + 1)}})))
        .chain([("d900".to_string(), json!({"type": "null"}))])
        .collect();
    let refs: Value = (0..900)
        .map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)})))
        .chain([("d900".to_string(), json!({"type": "null"}))])
        .collect();
    let deep = (0..100).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner}));
    let nested = (0..50).fold(json!({"type": "null"}), |inner, _| json!({"anyOf": [inner, {"type": "integer"}]}));
    let doubled: Value = (0..24)
        .map(|i| {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            (format!("d{i}"), json!({"allOf": [next, next], "anyOf": [next, next]}))
        })
        .chain([("d24".to_string(), json!({"type": "object"}))])
        .collect();
    let wide: Value = (0..3000).map(|i| (format!("property_{i}"), json!({"type": "string"}))).collect();
    let words: Vec<String> = (0..5000).map(|i| format!("word {}", i * 7919 % 100_003)).collect();
    let ambiguous = json!({"anyOf": (0..200).map(|i| json!({"type": "array", "items": {"type": "integer"},
        "maxItems": i})).collect::<Vec<_>>()});
    vec![
        ("what people ask for", serde_json::from_str(super::CITY).expect("JSON")),
        ("a chain of arrays", json!({"$ref": "#/$defs/d0", "$defs": chain})),
        ("a chain of references", json!({"$ref": "#/$defs/d0", "$defs": refs})),
        ("a reference to itself", json!({"$ref": "#"})),
        ("two that meet", json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#"}]}}})),
        ("depth", deep),
        ("alternatives of alternatives", nested),
        ("doubled intersections", json!({"$ref": "#/$defs/d0", "$defs": doubled})),
        ("many properties, none required", json!({"type": "object", "properties": wide})),
        ("many words", json!({"enum": words})),
        ("ambiguity", ambiguous),
        ("a long count", json!({"type": "string", "minLength": 100_000, "maxLength": 200_000})),
        ("a count of counts", json!({"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"})),
        ("states that double", json!({"type": "string", "pattern": "(a|b)*a(a|b){40}$"})),
        ("nested groups", json!({"type": "string", "pattern": format!("{}a{}", "(".repeat(240), ")*".repeat(240))})),
        (
            "two patterns at once",
            json!({"allOf": [{"pattern": "(a.*){12}"}, {"pattern": "(.*b){12}"}], "type": "string"}),
        ),
        ("a large multiple", json!({"type": "integer", "multipleOf": 9_973})),
        ("many items", json!({"type": "array", "items": {"enum": [1]}, "minItems": 1_000_000})),
        ("a long word", json!({"const": "lorem ipsum ".repeat(15_000)})),
        (
            "names of all kinds",
            json!({"type": "object", "additionalProperties": {"type": "null"},
            "properties": {"\u{0}": true, "\u{7f}": true, "\u{ffff}": true, "": true}}),
        ),
    ]
}

#[test]
fn a_schema_that_means_ill_is_refused_or_costs_little() {
    for (name, schema) in mean() {
        let start = Instant::now();
        let compiled = Grammar::of_schema(&ordered(&schema.to_string()));
        let compiling = start.elapsed();
        // It is written on a thread with the stack that engines have.
        let said = compiled.map(|grammar| {
            let mut constraint = Constraint::new(
                Form { answer: Some(Text::Bound(grammar)), calls: Vec::new() },
                Tokenizer::o200k_harmony(),
            )
            .expect("a header");
            let (mut model, mut masked, start, mut slowest) =
                (Random::new(5), Vec::new(), Instant::now(), Duration::ZERO);
            for at in 0..40 {
                let logits = model.logits(at);
                let begun = Instant::now();
                let Ok(allowed) = constraint.allowed() else { break };
                slowest = slowest.max(begun.elapsed());
                allowed.mask(logits, &mut masked);
                let best = (0..masked.len()).max_by(|&a, &b| masked[a].total_cmp(&masked[b])).expect("logits");
                if constraint.is_over() || constraint.take(best as u32).is_err() {
                    break;
                }
            }
            (start.elapsed(), slowest)
        });
        let (writing, slowest) = match &said {
            Ok(times) => *times,
            Err(_) => (Duration::ZERO, Duration::ZERO),
        };
        let refused = said.err().map(|error| error.to_string()).unwrap_or_default();
        println!("{name}: {compiling:.0?}, {writing:.0?}, slowest {slowest:.0?} {refused}");
        assert!(compiling < LONG && writing < LONG, "{name}: {compiling:?}, {writing:?}");
    }
}

#[test]
fn an_answer_of_one_long_word_is_written_without_masks() {
    let word = "lorem ipsum ".repeat(1000);
    let schema = json!({ "const": word }).to_string();
    let form = Form { answer: Some(Text::Bound(super::grammar(&schema))), calls: Vec::new() };
    let (ids, _) = written(form, 3, 400);
    assert_eq!(ids.len(), 400);
}
