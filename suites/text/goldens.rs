//! The goldens of this suite.

use std::collections::BTreeMap;

use gptoss::verify::golden::Golden;
use serde_json::Value;

/// A golden's payload.
pub(crate) fn load(name: &str) -> Value {
    Golden::load(name).expect("a golden").payload
}

/// Cases of a golden by name; there must be some.
pub(crate) fn cases(value: &Value) -> BTreeMap<&str, &Value> {
    let cases: BTreeMap<&str, &Value> =
        value.as_object().expect("an object").iter().map(|(k, v)| (k.as_str(), v)).collect();
    assert!(!cases.is_empty());
    cases
}

/// Elements of a list; there must be some.
pub(crate) fn list(value: &Value) -> &[Value] {
    let list = value.as_array().expect("a list");
    assert!(!list.is_empty());
    list
}

/// A string.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// Ids separated by blanks.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    text(value).split_whitespace().map(|id| id.parse().expect("an id")).collect()
}
