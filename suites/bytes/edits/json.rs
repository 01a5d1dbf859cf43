//! JSON files for readers to meet: honest ones with members replaced, removed or added, and mere text.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// One change of a JSON value.
#[derive(Debug, Clone)]
enum Twist {
    Replace(Index, Value),
    Remove(Index),
    Add(&'static str, Value),
}

/// Keys that mean something to one of the readers, for places where the honest file has none.
const KEYS: [&str; 9] = [
    "model_type",
    "num_local_experts",
    "experts_per_token",
    "rope_scaling",
    "rope_parameters",
    "layer_types",
    "rms_norm_eps",
    "salt",
    "unknown",
];

/// `honest` with up to three changes, as text.
pub(super) fn twisted(honest: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let honest: Value = serde_json::from_str(honest).expect("the honest file is JSON");
    prop::collection::vec(twist(), 0..4).prop_map(move |twists| {
        let mut value = honest.clone();
        twists.into_iter().for_each(|twist| apply(&mut value, twist));
        value.to_string().into_bytes()
    })
}

/// Text that may be the start of JSON, or of nothing.
pub(super) fn text() -> impl Strategy<Value = Vec<u8>> {
    let tokens =
        ["{", "}", "[", "]", ",", ":", "\"", "\"a\"", "null", "-1", "1e999", "1e-999", "\\ud800", "\u{0}", " "];
    let joined = prop::collection::vec(prop::sample::select(tokens.to_vec()), 0..300).prop_map(|t| t.concat());
    let deep = (prop::sample::select(vec!["[", "{\"a\":"]), 0..4000usize).prop_map(|(open, depth)| open.repeat(depth));
    prop_oneof![joined, deep, any::<String>()].prop_map(String::into_bytes)
}

fn twist() -> impl Strategy<Value = Twist> {
    prop_oneof![
        6 => (any::<Index>(), scalar()).prop_map(|(at, value)| Twist::Replace(at, value)),
        1 => any::<Index>().prop_map(Twist::Remove),
        1 => (prop::sample::select(KEYS.to_vec()), scalar()).prop_map(|(key, value)| Twist::Add(key, value)),
    ]
}

/// A value that some field may hold, at its limits or beyond them.
fn scalar() -> impl Strategy<Value = Value> {
    let counts = [0, 1, 2, 3, 4, 32, 64, 96, 4096, 4097, 1 << 17, 1 << 24, 1 << 31, (1 << 31) + 1, u64::MAX];
    let floats = [0.0, -1.0, 0.5, 1.0, 1e-5, 1e-40, 5e-324, 1.5, 3.4e38, 3.5e38, f64::MAX, f64::MIN_POSITIVE];
    let others = [
        json!(null),
        json!(true),
        json!(false),
        json!([]),
        json!({}),
        json!(""),
        json!("gpt_oss"),
        json!("yarn"),
        json!("original"),
        json!("full_attention"),
        json!(-1),
        json!({"rope_type": "yarn"}),
        json!(["a", 1]),
    ];
    prop_oneof![
        4 => prop::sample::select(counts.to_vec()).prop_map(Value::from),
        2 => prop::sample::select(floats.to_vec()).prop_map(Value::from),
        2 => prop::sample::select(others.to_vec()),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
    ]
}

fn apply(value: &mut Value, twist: Twist) {
    match twist {
        Twist::Add(key, new) => {
            if let Value::Object(map) = value {
                map.insert(key.into(), new);
            }
        }
        Twist::Replace(at, new) => {
            if let Some(member) = pick(value, at).and_then(|pointer| value.pointer_mut(&pointer)) {
                *member = new;
            }
        }
        Twist::Remove(at) => {
            if let Some(pointer) = pick(value, at) {
                remove(value, &pointer);
            }
        }
    }
}

/// The pointer of some member.
fn pick(value: &Value, at: Index) -> Option<String> {
    let mut pointers = Vec::new();
    list(value, "", &mut pointers);
    (!pointers.is_empty()).then(|| at.get(&pointers).clone())
}

fn list(value: &Value, pointer: &str, pointers: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(values) => values.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (key, member) in members {
        let pointer = format!("{pointer}/{key}");
        list(member, &pointer, pointers);
        pointers.push(pointer);
    }
}

fn remove(value: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').expect("a member's pointer has a slash");
    match value.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.remove(&key.replace("~1", "/").replace("~0", "~"))),
        Some(Value::Array(values)) => drop(values.remove(key.parse().expect("an array's keys are indices"))),
        _ => unreachable!("{pointer} was listed"),
    }
}
