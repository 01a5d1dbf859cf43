//! JSON schemas as grammars.
//!
//! What llguidance knows of a schema is enforced; a schema that says more is refused, for half of it would be no promise.
//! Where JSON leaves a choice, so that no answer can be long for nothing and no key can hide:
//!
//! * between two parts stands nothing, one blank, or a line break with up to [`INDENT_MAX`] blanks;
//! * properties come in the schema's order;
//! * in strings only `\" \\ \b \f \n \r \t` are escapes: a key has one spelling.

use std::fmt::Write;

use llguidance::Matcher;
use llguidance::api::TopLevelGrammar;
use serde_json::{Number, Value, json};

use super::vocabulary::parsers;
use crate::generate::harmony::json::Json;

/// Bytes of a schema at most.
const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// `$ref`s of a schema at most: each may lead a level deeper.
const REFERENCES_MAX: usize = 1000;
/// Patterns of keys in one object at most: each is compared with every other.
const KEY_PATTERNS_MAX: usize = 16;
/// Patterns of a schema at most.
const PATTERNS_MAX: usize = 256;
/// The least common multiple of all `multipleOf`s, in units of their last decimal, at most: a compilation may look at every
/// remainder, and no fuel bounds that.
const MULTIPLE_MAX: u64 = 10_000;
/// Blanks that a line begins with, at most.
const INDENT_MAX: usize = 32;
/// Stack of a compilation, of which a level of a schema takes some kilobytes.
const STACK_BYTES: usize = 64 << 20;
/// Characters of a reason at most.
const REASON_CHARS_MAX: usize = 400;

/// Why a schema is no grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is too long.
    #[error("the schema has {bytes} bytes; it may have {SCHEMA_BYTES_MAX}")]
    TooLong {
        /// As JSON.
        bytes: usize,
    },
    /// It has too much of something.
    #[error("the schema has {found} {what}; it may have {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// As many.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// It is no schema, or says what cannot be enforced.
    #[error("the schema cannot be enforced: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

/// What a text may be, by a JSON schema.
pub struct Grammar(Box<Matcher>);

impl Grammar {
    /// Of the texts that satisfy `schema`.
    ///
    /// Takes milliseconds, and where a schema means ill up to seconds.
    ///
    /// # Errors
    /// [`SchemaError`].
    pub fn of_schema(schema: &Json) -> Result<Self, SchemaError> {
        let text = schema.to_string();
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLong { bytes: text.len() });
        }
        Counts::of(schema).check()?;
        let refused = |reason: String| SchemaError::Refused { reason };
        let mut value: Value = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
        if value == Value::Bool(true) {
            value = json!({});
        }
        if let Value::Object(entries) = &mut value {
            // Of a client's own there is none: these say what is enforced.
            entries.insert("x-guidance".into(), options());
        }
        // Recursive, and so by a thread with room for any schema of that size.
        let compile = move || match parsers().create_parser(TopLevelGrammar::from_json_schema(value)) {
            Ok(parser) => begun(Matcher::new(Ok(parser))),
            Err(error) => Err(first_words(&format!("{error:#}"))),
        };
        let thread = std::thread::Builder::new().name("gptoss-schema".into()).stack_size(STACK_BYTES).spawn(compile);
        let compiled = thread.map_err(|error| refused(error.to_string()))?.join();
        compiled.map_err(|_| refused("it cannot be compiled".into()))?.map(Self).map_err(refused)
    }

    /// Of every JSON object.
    ///
    /// # Errors
    /// None that a schema of one line could have.
    pub fn of_objects() -> Result<Self, SchemaError> {
        Self::of_schema(&Json::Object(vec![("type".into(), Json::String("object".into()))]))
    }

    /// At the beginning of a text.
    pub(super) fn matcher(&self) -> Box<Matcher> {
        Box::new(self.0.deep_clone())
    }
}

impl Clone for Grammar {
    fn clone(&self) -> Self {
        Self(self.matcher())
    }
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grammar")
    }
}

/// A matcher that is no error and allows a first token: what no text satisfies is refused before anybody waits for one.
fn begun(matcher: Matcher) -> Result<Box<Matcher>, String> {
    match matcher.deep_clone().compute_mask() {
        Ok(_) => Ok(Box::new(matcher)),
        Err(error) => Err(format!("no text begins as it asks: {}", first_words(&error.to_string()))),
    }
}

/// How JSON is written.
fn options() -> Value {
    json!({
        "whitespace_pattern": format!(r"\x20|\r?\n[\x20\t]{{0,{INDENT_MAX}}}"),
        "json_allowed_escapes": r#"nrbtf\""#,
    })
}

/// What a schema has much of.
#[derive(Default)]
struct Counts {
    references: usize,
    patterns: usize,
    /// Of one object.
    key_patterns: usize,
    /// Of `multipleOf`s: digits, and how many of them are decimals; nothing for one that has too many.
    multiples: Vec<Option<(u64, u32)>>,
}

impl Counts {
    fn of(schema: &Json) -> Self {
        let mut counts = Self::default();
        let mut left = vec![schema];
        while let Some(value) = left.pop() {
            match value {
                Json::Array(values) => left.extend(values),
                Json::Object(entries) => {
                    for (key, value) in entries {
                        match (key.as_str(), value) {
                            ("$ref", _) => counts.references += 1,
                            ("pattern", _) => counts.patterns += 1,
                            ("multipleOf", Json::Number(number)) => counts.multiples.push(decimal(number)),
                            ("patternProperties", Json::Object(patterns)) => {
                                counts.patterns += patterns.len();
                                counts.key_patterns = counts.key_patterns.max(patterns.len());
                            }
                            _ => {}
                        }
                        left.push(value);
                    }
                }
                _ => {}
            }
        }
        counts
    }

    fn check(&self) -> Result<(), SchemaError> {
        let cases = [
            ("`$ref`s", self.references, REFERENCES_MAX),
            ("patterns", self.patterns, PATTERNS_MAX),
            ("patterns of keys in one object", self.key_patterns, KEY_PATTERNS_MAX),
        ];
        match cases.into_iter().find(|(_, found, max)| found > max) {
            Some((what, found, max)) => Err(SchemaError::TooMany { what, found, max }),
            None if self.multiple().is_none() => Err(SchemaError::Refused {
                reason: "`multipleOf` has, or several have together, too many digits".into(),
            }),
            None => Ok(()),
        }
    }

    /// The least common multiple of all `multipleOf`s, if it is not too large.
    fn multiple(&self) -> Option<u64> {
        let multiples: Vec<(u64, u32)> = self.multiples.iter().copied().collect::<Option<_>>()?;
        let decimals = multiples.iter().map(|(_, decimals)| *decimals).max().unwrap_or(0);
        multiples.into_iter().try_fold(1u64, |common, (digits, own)| {
            let scaled = digits.checked_mul(10u64.checked_pow(decimals - own)?)?.max(1);
            let (mut a, mut b) = (common, scaled);
            while b > 0 {
                (a, b) = (b, a % b);
            }
            (common / a).checked_mul(scaled).filter(|multiple| *multiple <= MULTIPLE_MAX)
        })
    }
}

/// A number's digits, and how many of them are decimals.
fn decimal(number: &Number) -> Option<(u64, u32)> {
    let text = number.to_string();
    let (whole, decimals) = text.trim_start_matches('-').split_once('.').unwrap_or((text.trim_start_matches('-'), ""));
    let decimals = decimals.trim_end_matches('0');
    Some((format!("{whole}{decimals}").parse().ok()?, decimals.len().try_into().ok()?))
}

/// llguidance's reason on one line, without what is for its authors.
pub(super) fn first_words(reason: &str) -> String {
    let end = ["<backtrace>", "<state>", "<non-verbose/>"].iter().filter_map(|mark| reason.find(mark)).min();
    let words = reason[..end.unwrap_or(reason.len())].split_whitespace();
    let mut line = String::new();
    for word in words {
        let _ = write!(line, "{}{word}", if line.is_empty() { "" } else { " " });
    }
    match line.char_indices().nth(REASON_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
