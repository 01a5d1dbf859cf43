//! Harmony: how conversations become tokens, and tokens conversations.
//!
//! ```text
//! <|start|>role[:name][ to=recipient][<|channel|>channel][ content-type]<|message|>content<|end|>
//!                                                          a call of a tool ends in <|call|>, the last word in <|return|>
//! ```
//!
//! * [`conversation`]: what is said, in openai-harmony's JSON form; [`tools`]: what the model may call;
//! * [`render`]: to tokens, equal to openai-harmony 0.0.8 id for id;
//! * [`parse`]: token by token back to messages, strict like openai-harmony, or lenient without loss: [`Problem`].
//!
//! **Invariant:** the control tokens of a rendering come from the format alone: no text, name or schema of a user
//! becomes one, save a content type that starts with `<|constrain|>`, as upstream has it.

pub mod conversation;
mod header;
pub mod json;
mod lenient;
pub mod parse;
pub mod render;
pub mod tools;
mod typescript;

pub use conversation::{
    Author, Content, Conversation, DeveloperContent, Message, ReasoningEffort, Role, SystemContent,
};
pub use header::HeaderError;
pub use lenient::{Problem, ProblemKind};
pub use parse::{Mode, ParseError, StreamParser};
pub use render::{Analysis, RenderError, Renderer};
pub use tools::{Tool, ToolNamespace};

use super::tokenizer::special;

/// Tokens that end a message.
pub const STOP_TOKENS: [u32; 3] = [special::RETURN, special::END, special::CALL];

/// Tokens at which a sampler stops, for then it is someone else's turn.
pub const STOP_TOKENS_OF_ACTIONS: [u32; 2] = [special::RETURN, special::CALL];

/// The channel of chains of thought.
const ANALYSIS: &str = "analysis";
/// The channel of answers.
const FINAL: &str = "final";
/// The control tokens that a header is read for, by their names.
const CHANNEL_MARK: &str = "<|channel|>";
const CONSTRAIN_MARK: &str = "<|constrain|>";
