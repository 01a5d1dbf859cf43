//! Text against its witnesses: ids, messages, ends, distributions, what answers must be, and sequences among others.
//!
//! Each check takes what it judges as an argument, so that the catalogue can put something wrong in its place.

pub mod constraint;
pub mod engine;
pub mod harmony;
pub mod sampling;
pub mod tokens;
pub mod witness;

use serde_json::Value;

use crate::verify::outcome::{Check, Level};

/// The level of all of them.
const LEVEL: Level = Level::Text;

/// A check of many cases: it passes with their number, and fails with the first that differs.
fn of_cases(name: &str, cases: impl IntoIterator<Item = Result<(), String>>) -> Check {
    let mut count = 0;
    for case in cases {
        match case {
            Ok(()) => count += 1,
            Err(difference) => return Check::fail(name, LEVEL, difference),
        }
    }
    match count {
        0 => Check::fail(name, LEVEL, "there is no case"),
        _ => Check::pass(name, LEVEL, format!("{count} cases")),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Ids separated by blanks.
fn ids(value: &Value) -> Vec<u32> {
    witness::list(text(value))
}

/// The first place where ids differ.
fn same_ids(what: &str, want: &[u32], found: &[u32]) -> Result<(), String> {
    if want == found {
        return Ok(());
    }
    let at = want.iter().zip(found).position(|(want, found)| want != found).unwrap_or(want.len().min(found.len()));
    let id = |ids: &[u32]| ids.get(at).map_or("the end".to_string(), u32::to_string);
    Err(format!("{what}: expected {} at position {at}, found {}", id(want), id(found)))
}
