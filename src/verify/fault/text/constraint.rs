//! Answers that are held to nothing, to too much, or to something else.

use serde_json::Value;

use super::{Fault, Wrong};
use crate::generate::tokenizer::special;
use crate::verify::cases::text::constraint::{self as ours, Asked, Gate, Wish};

/// Every one.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "constraint/not-applied",
        about: "every token may come anywhere",
        wrong: Wrong::Streams(|_| Ok(Box::new(Open))),
    },
    Fault {
        name: "constraint/of-thoughts",
        about: "reasoning is held to the schema of the answer, too",
        wrong: Wrong::Streams(|asked| wrapped(asked, |seen, id| seen.in_thought().then_some(id == special::END))),
    },
    Fault {
        name: "constraint/ends-early",
        about: "a message may end before its JSON is complete",
        wrong: Wrong::Streams(|asked| {
            wrapped(asked, |seen, id| (seen.in_answer() && id == special::RETURN).then_some(true))
        }),
    },
    Fault {
        name: "constraint/thoughts-end-it",
        about: "the answer may end after reasoning, without a last word",
        wrong: Wrong::Streams(|asked| {
            wrapped(asked, |seen, id| (seen.in_thought() && id == special::RETURN).then_some(true))
        }),
    },
    Fault {
        name: "constraint/arguments-unbound",
        about: "the arguments of a call follow no schema",
        wrong: Wrong::Streams(|asked| ours::ours(&Asked { calls: unbound(asked.calls), ..*asked })),
    },
    Fault {
        name: "constraint/answer-unbound",
        about: "the last word follows no schema",
        wrong: Wrong::Streams(|asked| ours::ours(&Asked { answer: asked.answer.map(|_| Wish::Free), ..*asked })),
    },
    Fault {
        name: "constraint/call-optional",
        about: "where a call must come, the last word may come instead",
        wrong: Wrong::Streams(|asked| {
            ours::ours(&Asked { answer: Some(asked.answer.unwrap_or(Wish::Free)), ..*asked })
        }),
    },
    Fault {
        name: "constraint/no-thought",
        about: "where a call must come, the model may not think before it",
        wrong: Wrong::Streams(|asked| {
            let must = asked.answer.is_none();
            wrapped(asked, move |seen, id| (must && seen.opens_thought(id)).then_some(false))
        }),
    },
    Fault {
        name: "constraint/calls-forgotten",
        about: "beside a format, functions may not be called",
        wrong: Wrong::Streams(|asked| match asked.answer {
            Some(_) => ours::ours(&Asked { calls: &[], ..*asked }),
            None => ours::ours(asked),
        }),
    },
    Fault {
        name: "constraint/required-ignored",
        about: "required properties may be left out",
        wrong: Wrong::Schemas(|schema, text| ours::admits(&without(schema, &["required"])?, text)),
    },
    Fault {
        name: "constraint/extra-properties",
        about: "additionalProperties is ignored",
        wrong: Wrong::Schemas(|schema, text| ours::admits(&without(schema, &["additionalProperties"])?, text)),
    },
    Fault {
        name: "constraint/bounds-ignored",
        about: "numbers have no bounds",
        wrong: Wrong::Schemas(|schema, text| {
            ours::admits(&without(schema, &["minimum", "maximum", "exclusiveMinimum"])?, text)
        }),
    },
    Fault {
        name: "constraint/lengths-ignored",
        about: "strings and arrays have any length",
        wrong: Wrong::Schemas(|schema, text| {
            ours::admits(&without(schema, &["minLength", "maxLength", "minItems", "maxItems"])?, text)
        }),
    },
    Fault {
        name: "constraint/any-json",
        about: "of a schema nothing is left but that it is JSON",
        wrong: Wrong::Schemas(|_, text| ours::admits("{}", text)),
    },
    Fault {
        name: "constraint/reserved-ids",
        about: "ids that no text has may come in a text",
        wrong: Wrong::Ids(|asked| wrapped(asked, |seen, id| (seen.in_text() && id > special::CALL).then_some(true))),
    },
    Fault {
        name: "constraint/controls-in-text",
        about: "a message may begin inside another",
        wrong: Wrong::Ids(|asked| wrapped(asked, |seen, id| (seen.in_text() && id == special::START).then_some(true))),
    },
    Fault {
        name: "constraint/mask-as-bias",
        about: "what is ruled out is made unlikely, and a bias brings it back",
        wrong: Wrong::Masked(|params, allowed, logits| {
            let masked = masked(allowed, logits, |logit| logit - 100.0);
            ours::chosen(params, &masked, logits)
        }),
    },
    Fault {
        name: "constraint/mask-ignored",
        about: "the draw does not look at what is allowed",
        wrong: Wrong::Masked(|params, _, logits| ours::chosen(params, logits, logits)),
    },
    Fault {
        name: "constraint/logprobs-of-what-is-left",
        about: "log-probabilities are those among the tokens that are left, not the model's",
        wrong: Wrong::Masked(|params, allowed, logits| {
            let masked = masked(allowed, logits, |_| f32::NEG_INFINITY);
            ours::chosen(params, &masked, &masked)
        }),
    },
];

fn masked(allowed: &[u32], logits: &[f32], rule_out: fn(f32) -> f32) -> Vec<f32> {
    let one = |(id, logit): (u32, &f32)| if allowed.contains(&id) { *logit } else { rule_out(*logit) };
    (0..).zip(logits).map(one).collect()
}

/// The same functions with arguments of any kind; the catalogue's cases have these.
fn unbound(calls: &[(&'static str, Wish)]) -> &'static [(&'static str, Wish)] {
    match calls {
        [] => &[],
        [_, ("note", _)] => &[("find", Wish::Free), ("note", Wish::Free)],
        _ => &[("find", Wish::Free), ("find_all", Wish::Free)],
    }
}

/// A schema without these keywords, at any depth.
fn without(schema: &str, keywords: &[&str]) -> Result<String, String> {
    fn strip(value: &mut Value, keywords: &[&str]) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| strip(value, keywords)),
            Value::Object(entries) => {
                entries.retain(|key, _| !keywords.contains(&key.as_str()));
                entries.values_mut().for_each(|value| strip(value, keywords));
            }
            _ => {}
        }
    }
    let mut value: Value = serde_json::from_str(schema).map_err(|e| e.to_string())?;
    strip(&mut value, keywords);
    Ok(value.to_string())
}

/// Nothing is held to anything.
struct Open;

impl Gate for Open {
    fn allows(&mut self, _: u32) -> bool {
        true
    }

    fn take(&mut self, _: u32) {}
}

/// What came so far.
#[derive(Default)]
struct Seen {
    ids: Vec<u32>,
}

impl Seen {
    /// The tokens of the header of the message whose text is coming in.
    fn header(&self) -> Option<&[u32]> {
        let at = self.ids.iter().rposition(|&id| id == special::MESSAGE)?;
        let start = self.ids[..at].iter().rposition(|&id| id == special::START).unwrap_or(0);
        let is_open = !self.ids[at..].contains(&special::END);
        is_open.then(|| &self.ids[start..at])
    }

    fn in_text(&self) -> bool {
        self.header().is_some()
    }

    fn in_thought(&self) -> bool {
        self.header().is_some_and(|header| header.contains(&ANALYSIS))
    }

    fn in_answer(&self) -> bool {
        self.header().is_some_and(|header| header.contains(&FINAL))
    }

    fn opens_thought(&self, id: u32) -> bool {
        id == ANALYSIS && self.ids.last() == Some(&special::CHANNEL)
    }
}

/// The words `analysis` and `final`.
const ANALYSIS: u32 = 35_644;
const FINAL: u32 = 17_196;

/// Ours, but where `other` has a verdict.
struct Wrapped<F> {
    ours: Box<dyn Gate>,
    seen: Seen,
    other: F,
}

fn wrapped(asked: &Asked, other: impl Fn(&Seen, u32) -> Option<bool> + 'static) -> Result<Box<dyn Gate>, String> {
    Ok(Box::new(Wrapped { ours: ours::ours(asked)?, seen: Seen::default(), other }))
}

impl<F: Fn(&Seen, u32) -> Option<bool>> Gate for Wrapped<F> {
    fn allows(&mut self, id: u32) -> bool {
        (self.other)(&self.seen, id).unwrap_or_else(|| self.ours.allows(id))
    }

    fn take(&mut self, id: u32) {
        self.ours.take(id);
        self.seen.ids.push(id);
    }
}
