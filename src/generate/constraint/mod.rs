//! What an answer must be, held token by token: before a token is drawn, whatever cannot lead to such an answer is ruled out.
//!
//! ```text
//! <|start|>assistant ─► header ─┬─► analysis                     any text ─► <|end|> ─► <|start|>assistant ─► header …
//!                               ├─► commentary                   any text ─► <|end|> ─► the same
//!                               ├─► commentary to=functions.NAME its JSON ─► <|call|>
//!                               └─► final                        its JSON ─► <|return|>
//! ```
//!
//! Two machines share the work.  Headers are a list of token sequences as gpt-oss writes them, of which the model chooses one
//! token by token ([`header`]); the text of a message is free, or bound by the grammar of a JSON schema ([`Grammar`]), for
//! which llguidance says after every token which tokens may follow.
//!
//! * The model may think first, as often as it likes, in words of its own; then comes what was asked for, and nothing else.
//! * A message that is bound ends when its JSON is complete, and not before.  Only the budget of tokens cuts an answer.
//! * **Invariant:** of the ids from 199 998 on, those that Harmony needs at a place are allowed there; all others never are.
//! * **Invariant:** at least one token is allowed until it is over, or there is an error, which ends this answer alone.

mod allowed;
mod grammar;
mod header;
mod vocabulary;

use std::collections::VecDeque;

use llguidance::Matcher;

pub use self::allowed::Allowed;
pub use self::grammar::{Grammar, SchemaError};
use self::header::{Headers, Kind, Reading};
pub use self::vocabulary::prepare;
use crate::generate::tokenizer::{Tokenizer, TokenizerError, special};

/// Rows that a model's vocabulary must have at least: one for every token that Harmony needs.
pub const ROWS_MIN: usize = vocabulary::ROWS as usize;

/// What a message may say.
#[derive(Debug, Clone)]
pub enum Text {
    /// Any text.
    Free,
    /// JSON of a grammar.
    Bound(Grammar),
}

/// A function that may be called.
#[derive(Debug, Clone)]
pub struct Callable {
    /// Its name, without the namespace.
    pub name: String,
    /// Its arguments.
    pub arguments: Text,
}

/// What an answer may be.
#[derive(Debug, Clone)]
pub struct Form {
    /// The text in the channel `final`; absent: it must be a call.
    pub answer: Option<Text>,
    /// Functions that may be called instead.
    pub calls: Vec<Callable>,
}

/// Why an answer cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The grammar allows nothing, or takes more effort than a token may.
    #[error("no token that the answer's schema allows was found: {reason}")]
    Grammar {
        /// In llguidance's words.
        reason: String,
    },
    /// A token that was not allowed.
    #[error("token {id} does not follow here")]
    NotAllowed {
        /// Which.
        id: u32,
    },
}

/// An answer that comes in, and what may come next.
pub struct Constraint {
    headers: Headers,
    form: Form,
    state: State,
}

/// Where it is.
enum State {
    Header(Reading),
    /// In text of any kind, up to this token.
    Free(u32),
    Bound(Bound),
    Over,
}

impl Constraint {
    /// Of an answer whose prompt ends in `<|start|>assistant`.
    ///
    /// # Errors
    /// [`TokenizerError`], if a function's name cannot be tokenized.
    pub fn new(form: Form, tokenizer: Tokenizer) -> Result<Self, TokenizerError> {
        let headers = Headers::new(&form, tokenizer)?;
        let state = State::Header(headers.first());
        Ok(Self { headers, form, state })
    }

    /// The tokens of which the next must be one; none when it is over.
    ///
    /// # Errors
    /// [`ConstraintError::Grammar`].
    pub fn allowed(&mut self) -> Result<Allowed, ConstraintError> {
        match &mut self.state {
            State::Header(reading) => Ok(Allowed::These(self.headers.next(reading))),
            State::Free(end) => Ok(Allowed::Text { end: *end }),
            State::Bound(bound) => bound.allowed(),
            State::Over => Ok(Allowed::These(Vec::new())),
        }
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// [`ConstraintError`], if it was not one of those allowed.
    pub fn take(&mut self, id: u32) -> Result<(), ConstraintError> {
        let refused = || ConstraintError::NotAllowed { id };
        match &mut self.state {
            State::Header(reading) => match self.headers.take(reading, id) {
                header::Step::Refused => return Err(refused()),
                header::Step::Inside => {}
                header::Step::Message(kind) => self.state = self.open(kind),
            },
            State::Free(end) if id == *end => self.state = self.after(id),
            State::Free(_) if Allowed::is_text(id) => {}
            State::Free(_) | State::Over => return Err(refused()),
            State::Bound(bound) if id == bound.end => {
                if !bound.is_complete()? {
                    return Err(refused());
                }
                self.state = self.after(id);
            }
            State::Bound(bound) => bound.take(id)?,
        }
        Ok(())
    }

    /// Whether the last message is complete: nothing comes after it.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The beginning of a message's text.
    fn open(&self, kind: Kind) -> State {
        let (text, end) = match kind {
            Kind::Thought | Kind::Preamble => (&Text::Free, special::END),
            Kind::Call(index) => (&self.form.calls[index].arguments, special::CALL),
            // A header of an answer is only there if there is one.
            Kind::Answer => (self.form.answer.as_ref().unwrap_or(&Text::Free), special::RETURN),
        };
        match text {
            Text::Free => State::Free(end),
            Text::Bound(grammar) => State::Bound(Bound { matcher: grammar.matcher(), forced: VecDeque::new(), end }),
        }
    }

    /// What comes after the token that ended a message.
    fn after(&self, end: u32) -> State {
        if end == special::END { State::Header(self.headers.another()) } else { State::Over }
    }
}

/// A text that is bound.
struct Bound {
    matcher: Box<Matcher>,
    /// Tokens without an alternative that are still to come: where a schema leaves no choice, no mask is computed.
    forced: VecDeque<u32>,
    /// What ends it, when it is complete.
    end: u32,
}

impl Bound {
    fn allowed(&mut self) -> Result<Allowed, ConstraintError> {
        if self.forced.is_empty() && !self.matcher.is_stopped() {
            self.forced = self.matcher.compute_ff_tokens().into();
        }
        if let Some(&id) = self.forced.front() {
            return Ok(Allowed::These(vec![id]));
        }
        if self.is_complete()? && self.matcher.is_stopped() {
            return Ok(Allowed::These(vec![self.end]));
        }
        let mut set = self.matcher.compute_mask().map_err(failed)?;
        let end = set.is_allowed(vocabulary::END).then_some(self.end);
        set.disallow_token(vocabulary::END);
        Ok(Allowed::Set { set, end })
    }

    fn is_complete(&mut self) -> Result<bool, ConstraintError> {
        if self.matcher.is_stopped() && !self.matcher.is_error() {
            return Ok(self.matcher.stop_reason().is_ok());
        }
        Ok(self.forced.is_empty() && self.matcher.is_accepting().map_err(failed)?)
    }

    fn take(&mut self, id: u32) -> Result<(), ConstraintError> {
        if !Allowed::is_text(id) || self.forced.front().is_some_and(|&forced| forced != id) {
            return Err(ConstraintError::NotAllowed { id });
        }
        if self.forced.pop_front().is_none()
            && (self.matcher.is_stopped() || self.matcher.validate_tokens(&[id]).map_err(failed)? == 0)
        {
            return Err(ConstraintError::NotAllowed { id });
        }
        self.matcher.consume_token(id).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> ConstraintError {
    ConstraintError::Grammar { reason: grammar::first_words(&error.to_string()) }
}
