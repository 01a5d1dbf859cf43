//! The tokenizer against openai-harmony's ids and bytes.

use super::{LEVEL, ids, of_cases, same_ids, text};
use crate::generate::tokenizer::Tokenizer;
use crate::verify::cases::with_golden;
use crate::verify::outcome::Check;

/// Text to ids.
pub type Encode<'a> = &'a dyn Fn(&str) -> Vec<u32>;
/// Ids, one at a time, to what is shown after each, and at the end.
pub type Show<'a> = &'a dyn Fn(&[u32]) -> Vec<String>;

/// Checks of ours.
pub fn run() -> Vec<Check> {
    [encode_checks(&encode), show_checks(&show)].concat()
}

/// Ours.
pub fn encode(text: &str) -> Vec<u32> {
    Tokenizer::o200k_harmony().encode(text).unwrap_or_default()
}

/// Ours.
pub fn show(ids: &[u32]) -> Vec<String> {
    let mut stream = Tokenizer::o200k_harmony().stream();
    let mut shown: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap_or_default()).collect();
    shown.push(stream.finish());
    shown
}

/// Every string has the witness's ids.
pub fn encode_checks(encode: Encode<'_>) -> Vec<Check> {
    let name = "text/tokenizer/ids";
    with_golden("text/tokenizer", name, LEVEL, |golden| {
        let cases = golden["encode"].as_array().into_iter().flatten();
        let judge = |case: &serde_json::Value| {
            let string = text(&case["text"]);
            same_ids(&format!("{string:?}"), &ids(&case["ids"]), &encode(string))
        };
        vec![of_cases(name, cases.map(judge))]
    })
}

/// What is shown after each id is a beginning of the witness's text, and in the end all of it.
pub fn show_checks(show: Show<'_>) -> Vec<Check> {
    let name = "text/tokenizer/stream";
    with_golden("text/tokenizer", name, LEVEL, |golden| {
        let cases = golden["decode"].as_array().into_iter().flatten().enumerate();
        let judge = |(index, case): (usize, &serde_json::Value)| {
            let (want, mut shown) = (text(&case["text"]), String::new());
            for (at, piece) in show(&ids(&case["ids"])).iter().enumerate() {
                shown += piece;
                if !want.starts_with(&shown) {
                    return Err(format!("text {index}: after {} ids \"{}\" was shown", at + 1, piece.escape_default()));
                }
            }
            if shown == want { Ok(()) } else { Err(format!("text {index}: its end is missing")) }
        };
        vec![of_cases(name, cases.map(judge))]
    })
}
