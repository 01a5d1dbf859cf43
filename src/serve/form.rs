//! What of a request binds its answer, token by token.
//!
//! | request                                     | the answer                                                            |
//! |---------------------------------------------|-----------------------------------------------------------------------|
//! | `response_format`, `text.format`: JSON      | what the model thinks; then JSON of the schema, or a call if it may    |
//! | `tool_choice` required, or a function       | what the model thinks; then a call of one of them, whatever the format |
//! | a function with `strict: true`              | as the model likes; a call of it follows its schema                    |
//! | none of these                               | as the model likes                                                     |
//!
//! Schemas are compiled beside the engine, few at once; a compilation outlives the client who went away, and then only itself.

use std::time::Instant;

use super::App;
use super::error::ApiError;
use super::prompt::Ask;
use crate::generate::constraint::{Callable, Constraint, Form, Grammar, SchemaError, Text};
use crate::generate::harmony::json::Json as Schema;
use crate::generate::tokenizer::Tokenizer;

/// What binds a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Hold {
    Nothing,
    /// This schema, which is in this field.
    Schema(Schema, String),
    /// This schema if it can be enforced; otherwise, that it is an object.
    IfPossible(Schema),
}

/// What is to be compiled.
struct Wanted {
    answer: Option<Hold>,
    calls: Vec<(String, Hold)>,
}

/// The constraint of an answer, if it has one.
///
/// # Errors
/// Names the schema that cannot be enforced.
pub(super) async fn constraint(app: &App, ask: &Ask, deadline: Instant) -> Result<Option<Constraint>, ApiError> {
    let Some(wanted) = Wanted::of(ask) else { return Ok(None) };
    let (compilers, tokenizer) = (app.compilers.clone(), app.tokenizer);
    let compiled = async move {
        let stopped = |error: &dyn std::fmt::Display| ApiError::engine(format!("a schema was not compiled: {error}"));
        let turn = compilers.acquire_owned().await.map_err(|error| stopped(&error))?;
        let compile = move || {
            // Until it is done, whether or not somebody still waits.
            let _turn = turn;
            wanted.compile(tokenizer)
        };
        tokio::task::spawn_blocking(compile).await.map_err(|error| stopped(&error))?
    };
    tokio::time::timeout_at(deadline.into(), compiled).await.map_err(|_| ApiError::timeout())?.map(Some)
}

impl Wanted {
    /// Of a request; nothing, if nothing binds its answer.
    fn of(ask: &Ask) -> Option<Self> {
        let calls: Vec<(String, Hold)> = ask.calls.callable().map(|(name, hold)| (name.into(), hold)).collect();
        let answer = (!ask.calls.must()).then(|| ask.format.hold());
        let is_free = answer == Some(Hold::Nothing) && calls.iter().all(|(_, hold)| *hold == Hold::Nothing);
        (!is_free).then_some(Self { answer, calls })
    }

    fn compile(self, tokenizer: Tokenizer) -> Result<Constraint, ApiError> {
        let answer = self.answer.map(Hold::compile).transpose()?;
        let call = |(name, hold): (String, Hold)| Ok(Callable { name, arguments: hold.compile()? });
        let calls = self.calls.into_iter().map(call).collect::<Result<_, ApiError>>()?;
        Constraint::new(Form { answer, calls }, tokenizer).map_err(|e| ApiError::invalid(Some("tools"), e.to_string()))
    }
}

impl Hold {
    fn compile(self) -> Result<Text, ApiError> {
        match self {
            Hold::Nothing => Ok(Text::Free),
            Hold::Schema(schema, place) => {
                let refused = |error: SchemaError| ApiError::invalid(Some(&place), format!("`{place}`: {error}"));
                Grammar::of_schema(&schema).map(Text::Bound).map_err(refused)
            }
            Hold::IfPossible(schema) => {
                let grammar = Grammar::of_schema(&schema).or_else(|_| Grammar::of_objects());
                grammar.map(Text::Bound).map_err(|error| ApiError::engine(error.to_string()))
            }
        }
    }
}
