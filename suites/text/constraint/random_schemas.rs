//! Schemas that nobody wrote.

use gptoss::generate::constraint::{Form, Text};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{demand_valid, grammar, messages, written};

/// Names of properties, some of which need an escape or begin like others.
const NAMES: [&str; 7] = ["a", "ab", "name", "Straße", "x y", "q\"t", "🎈"];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "null"})),
        Just(json!({"type": "string", "maxLength": 12})),
        (0..4u32, 0..6u32).prop_map(|(min, more)| json!({"type": "string", "minLength": min, "maxLength": min + more})),
        Just(json!({"type": "string", "pattern": "^[a-f]{1,3}-?[0-9]+$", "maxLength": 8})),
        Just(json!({"type": "string", "format": "date"})),
        (-50..50i32, 0..200i32)
            .prop_map(|(min, more)| json!({"type": "integer", "minimum": min, "maximum": min + more})),
        (-5..5i32).prop_map(|min| json!({"type": "number", "minimum": min, "exclusiveMaximum": 7})),
        proptest::sample::subsequence(vec![json!("one"), json!("onety"), json!(2), json!(null), json!(true)], 1..=4)
            .prop_map(|values| json!({ "enum": values })),
        Just(json!({"const": {"k": [1, "two"]}})),
        Just(json!({"type": ["string", "null"], "maxLength": 3})),
        Just(json!({"$ref": "#/$defs/list"})),
    ]
}

fn object(inner: impl Strategy<Value = Value> + Clone) -> impl Strategy<Value = Value> {
    let names = proptest::sample::subsequence(NAMES.to_vec(), 0..=4);
    let additional = prop_oneof![3 => Just(json!(false)), 1 => Just(json!({"type": "boolean"}))];
    (names, proptest::collection::vec((inner, any::<bool>()), 4), additional).prop_map(|(names, parts, additional)| {
        let properties: Map<String, Value> =
            names.iter().zip(&parts).map(|(name, (schema, _))| (name.to_string(), schema.clone())).collect();
        let required: Vec<&str> =
            names.iter().zip(&parts).filter(|(_, (_, required))| *required).map(|(name, _)| *name).collect();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": additional})
    })
}

fn schema() -> impl Strategy<Value = Value> {
    let inner = leaf().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            3 => object(inner.clone()),
            1 => (inner.clone(), 0..3u32, 0..3u32).prop_map(|(items, min, more)| {
                json!({"type": "array", "items": items, "minItems": min, "maxItems": min + more})
            }),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"anyOf": [a, b]})),
        ]
    });
    // A list that may hold lists.
    let list = json!({"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]}},
        "required": ["next"], "additionalProperties": false});
    inner.prop_map(move |mut schema| {
        schema.as_object_mut().expect("an object").insert("$defs".into(), json!({ "list": list }));
        schema
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(120) })]

    #[test]
    fn what_is_finished_is_valid(schema in schema(), seed in any::<u32>()) {
        let text = schema.to_string();
        let form = Form { answer: Some(Text::Bound(grammar(&text))), calls: Vec::new() };
        let (ids, is_over) = written(form, seed.into(), 160);
        if is_over {
            let messages = messages(&ids);
            demand_valid(&text, &messages.last().expect("a message").text());
        }
    }
}

/// Most random answers come to their end, or the property above would hold of nothing.
#[test]
fn most_random_answers_are_finished() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let finished = (1..=40).filter(|&seed| {
        let schema = schema().new_tree(&mut runner).expect("a schema").current().to_string();
        written(Form { answer: Some(Text::Bound(grammar(&schema))), calls: Vec::new() }, seed, 160).1
    });
    let finished = finished.count();
    assert!(finished >= 24, "{finished} of 40");
}
