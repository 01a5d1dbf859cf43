//! Wrong text: ids, renderings, readings, ends, distributions, draws, constraints and sequences, judged by the checks of
//! `run text`.
//!
//! What is wrong is put in the place of ours, or in that of the truth; each must be caught by the one check of its kind.

mod constraint;
mod engine;
mod reading;
mod rendering;
mod sampling;
mod tokens;

use crate::generate::harmony::{Conversation, Message, Role};
use crate::generate::sampling::SamplingParams;
use crate::verify::cases::text as checks;
use crate::verify::cases::text::constraint::{Asked, Chosen, Gate};
use crate::verify::outcome::{Check, Outcome};

pub use sampling::Quirk;

/// Something wrong.
pub enum Wrong {
    /// In every rendering: from the right ids to wrong ones.
    Rendering(fn(&[u32]) -> Vec<u32>),
    /// A conversation and a mode to ids.
    Render(fn(&Conversation, &str) -> Result<Vec<u32>, String>),
    /// Text to ids.
    Encode(fn(&str) -> Vec<u32>),
    /// Ids, one at a time, to what is shown.
    Show(fn(&[u32]) -> Vec<String>),
    /// In every reading: from the right messages to wrong ones.
    Reading(fn(Vec<Message>) -> Vec<Message>),
    /// A stream to the length of the turn.
    Turn(fn(&[u32]) -> usize),
    /// In a plain twin of the sampler.
    Distribution(Quirk),
    /// A seed and logits to draws.
    Draws(fn(u64, &[f32], usize) -> Vec<u32>),
    /// Stop strings and a text in pieces to what is shown.
    Stop(fn(&[String], &[&[u8]]) -> Vec<u8>),
    /// What is asked for to what holds an answer to it, judged by streams.
    Streams(fn(&Asked) -> Result<Box<dyn Gate>, String>),
    /// A schema and a text to whether it may be written.
    Schemas(fn(&str, &str) -> Result<bool, String>),
    /// What is asked for to what holds an answer to it, judged by ids.
    Ids(fn(&Asked) -> Result<Box<dyn Gate>, String>),
    /// Parameters, tokens allowed and logits to a token with its log-probability.
    Masked(fn(&SamplingParams, &[u32], &[f32]) -> Chosen),
    /// What a sequence among others is compared with.
    Alone(fn(&[Vec<u32>], usize) -> Vec<u32>),
}

/// One fault.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// The thing.
    pub wrong: Wrong,
}

/// Every fault of text.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    let lists =
        [tokens::FAULTS, rendering::FAULTS, reading::FAULTS, sampling::FAULTS, constraint::FAULTS, engine::FAULTS];
    lists.into_iter().flatten()
}

impl Fault {
    /// The check that must catch it, and only that one.
    pub fn caught_by(&self) -> &'static str {
        match self.wrong {
            Wrong::Rendering(_) | Wrong::Render(_) => "text/harmony/render",
            Wrong::Encode(_) => "text/tokenizer/ids",
            Wrong::Show(_) => "text/tokenizer/stream",
            Wrong::Reading(_) => "text/harmony/parse",
            Wrong::Turn(_) => "text/harmony/turn",
            Wrong::Distribution(_) => "text/sampling/distributions",
            Wrong::Draws(_) => "text/sampling/draws",
            Wrong::Stop(_) => "text/sampling/stop-strings",
            Wrong::Streams(_) => "text/constraint/streams",
            Wrong::Schemas(_) => "text/constraint/schemas",
            Wrong::Ids(_) => "text/constraint/ids",
            Wrong::Masked(_) => "text/constraint/draws",
            Wrong::Alone(_) => "text/engine/alone",
        }
    }

    /// The checks of its kind with the fault in place.
    pub fn checks(&self) -> Vec<Check> {
        match self.wrong {
            Wrong::Rendering(wrong) => {
                checks::harmony::render_checks(&|said, mode| Ok(wrong(&checks::harmony::render(said, mode)?)))
            }
            Wrong::Render(render) => checks::harmony::render_checks(&render),
            Wrong::Encode(encode) => checks::tokens::encode_checks(&encode),
            Wrong::Show(show) => checks::tokens::show_checks(&show),
            Wrong::Reading(wrong) => checks::harmony::parse_checks(&|role: Option<Role>, ids| {
                let (messages, error) = checks::harmony::parse(role, ids);
                (wrong(messages), error)
            }),
            Wrong::Turn(turn) => checks::harmony::turn_checks(&turn),
            Wrong::Distribution(quirk) => checks::sampling::distribution_checks(&|params, prompt, output, logits| {
                sampling::plain(params, prompt, output, logits, Some(quirk))
            }),
            Wrong::Draws(draws) => checks::sampling::draw_checks(&draws),
            Wrong::Stop(shown) => checks::sampling::stop_checks(&shown),
            Wrong::Streams(gates) => checks::constraint::stream_checks(&gates),
            Wrong::Schemas(admits) => checks::constraint::schema_checks(&admits),
            Wrong::Ids(gates) => checks::constraint::id_checks(&gates),
            Wrong::Masked(choose) => checks::constraint::draw_checks(&choose),
            Wrong::Alone(alone) => checks::engine::engine_checks(&alone),
        }
    }

    /// What speaks against the fault itself: without its quirk, the twin must be right.
    pub fn objection(&self) -> Option<String> {
        let Wrong::Distribution(_) = self.wrong else { return None };
        let honest = checks::sampling::distribution_checks(&|params, prompt, output, logits| {
            sampling::plain(params, prompt, output, logits, None)
        });
        let red = honest.into_iter().find(|check| check.outcome != Outcome::Pass);
        red.map(|check| format!("the plain twin is wrong without it: {}", check.detail))
    }
}
