//! The headers that a message may have, as gpt-oss writes them.
//!
//! ```text
//! <|channel|>analysis<|message|>
//! <|channel|>commentary<|message|>                                                 words before a call
//! <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>
//!  to=functions.NAME<|channel|>commentary <|constrain|>json<|message|>             as earlier calls are rendered
//! <|channel|>final<|message|>
//! ```
//!
//! Calls may leave out ` <|constrain|>json`; an answer may not have it, for Harmony's parser takes a lone word there for a
//! recipient.  Each is one sequence of tokens, its text tokenized as a rendering's is.

use super::Form;
use crate::generate::tokenizer::{Tokenizer, TokenizerError, special};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reasoning.
    Thought,
    /// Words to the user before a call.
    Preamble,
    /// A call of the function of this number.
    Call(usize),
    /// The last word.
    Answer,
}

/// All headers, each behind `<|start|>assistant`.
pub(super) struct Headers {
    all: Vec<(Vec<u32>, Kind)>,
    /// `<|start|>assistant`.
    lead: Vec<u32>,
}

/// How far a header has come.
pub(super) struct Reading {
    /// Those that agree with it so far.
    left: Vec<usize>,
    at: usize,
}

/// What a token makes of a header.
pub(super) enum Step {
    Refused,
    Inside,
    /// It is complete: the text of such a message follows.
    Message(Kind),
}

impl Headers {
    pub(super) fn new(form: &Form, tokenizer: Tokenizer) -> Result<Self, TokenizerError> {
        let mut lead = vec![special::START];
        lead.extend(tokenizer.encode("assistant")?);
        let mut headers = Self { all: Vec::new(), lead };
        let in_channel =
            |channel: &str| Ok::<_, TokenizerError>([&[special::CHANNEL], &tokenizer.encode(channel)?[..]].concat());
        let json = [tokenizer.encode(" ")?, vec![special::CONSTRAIN], tokenizer.encode("json")?].concat();
        headers.add(Kind::Thought, &[&in_channel("analysis")?]);
        let commentary = in_channel("commentary")?;
        if !form.calls.is_empty() {
            headers.add(Kind::Preamble, &[&commentary]);
        }
        for (index, call) in form.calls.iter().enumerate() {
            let to = tokenizer.encode(&format!(" to=functions.{}", call.name))?;
            for header in [[&commentary[..], &to[..]], [&to[..], &commentary[..]]] {
                headers.add(Kind::Call(index), &[header[0], header[1], &json]);
                headers.add(Kind::Call(index), &header);
            }
        }
        if form.answer.is_some() {
            headers.add(Kind::Answer, &[&in_channel("final")?]);
        }
        Ok(headers)
    }

    fn add(&mut self, kind: Kind, parts: &[&[u32]]) {
        self.all.push(([&self.lead[..], &parts.concat(), &[special::MESSAGE]].concat(), kind));
    }

    /// A header whose beginning is the prompt's end.
    pub(super) fn first(&self) -> Reading {
        Reading { left: (0..self.all.len()).collect(), at: self.lead.len() }
    }

    /// A header from its first token.
    pub(super) fn another(&self) -> Reading {
        Reading { at: 0, ..self.first() }
    }

    /// The tokens that may come next.
    pub(super) fn next(&self, reading: &Reading) -> Vec<u32> {
        let mut ids: Vec<u32> = reading.left.iter().map(|&index| self.all[index].0[reading.at]).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Takes the token that came.
    pub(super) fn take(&self, reading: &mut Reading, id: u32) -> Step {
        let at = reading.at;
        if reading.left.iter().all(|&index| self.all[index].0[at] != id) {
            return Step::Refused;
        }
        reading.left.retain(|&index| self.all[index].0[at] == id);
        reading.at += 1;
        // Every header ends in a token that none holds before its end, so that none begins another.
        let complete = reading.left.iter().find(|&&index| self.all[index].0.len() == reading.at);
        complete.map_or(Step::Inside, |&index| Step::Message(self.all[index].1))
    }
}
