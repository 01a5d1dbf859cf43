//! Tokens back to messages, one token at a time.
//!
//! ```text
//! ExpectStart ──<|start|>──► Header ──<|message|>──► Content ──<|end|>, <|call|>, <|return|>──► ExpectStart
//! ```
//!
//! [`Mode::Strict`] gives the messages, deltas and refusals of openai-harmony 0.0.8 with `strict=True`;
//! [`Mode::Lenient`] refuses nothing and loses nothing (see the module `lenient`).

use super::conversation::{Message, Role};
use super::header::{Header, HeaderError};
use super::{Problem, STOP_TOKENS};
use crate::generate::tokenizer::{Tokenizer, Utf8Pieces, special};

/// What happens to malformed streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mode {
    Strict,
    Lenient,
}

/// Why a stream was refused; `position` counts tokens from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field means
pub enum ParseError {
    #[error("token {id} at position {position}: expected {start}, the start of a message", start = special::START)]
    UnexpectedToken { position: usize, id: u32 },
    #[error("the stream ends after {position} tokens inside a header")]
    EndInHeader { position: usize },
    #[error("message {message} before position {position}: {source}")]
    Header { position: usize, message: usize, source: HeaderError },
}

impl ParseError {
    /// The cause's stable kebab-case name.
    pub fn name(&self) -> &'static str {
        match self {
            ParseError::UnexpectedToken { .. } => "unexpected-token",
            ParseError::EndInHeader { .. } => "end-in-header",
            ParseError::Header { source, .. } => source.into(),
        }
    }
}

/// Where the parser is.
#[derive(Debug, Clone)]
pub(super) enum State {
    ExpectStart,
    Header(Vec<u32>),
    Content(Header),
}

/// A parser that is fed token by token.
#[derive(Debug, Clone)]
pub struct StreamParser {
    pub(super) tokenizer: Tokenizer,
    mode: Mode,
    pub(super) state: State,
    /// The author of the next header, where it is known beforehand.
    pub(super) next_role: Option<Role>,
    pub(super) messages: Vec<Message>,
    pub(super) problems: Vec<Problem>,
    /// Tokens seen.
    pub(super) position: usize,
    pub(super) content: Content,
}

/// The content of the message being read.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) text: String,
    pub(super) delta: Option<String>,
    pub(super) pieces: Utf8Pieces,
    /// A token without meaning came: openai-harmony then waits for the end, and shows one U+FFFD for all that followed.
    is_stuck: bool,
}

impl StreamParser {
    /// A parser; `role` is the one that the prompt ends with, so that the stream begins inside that header.
    pub fn new(tokenizer: Tokenizer, mode: Mode, role: Option<Role>) -> Self {
        let state = if role.is_some() { State::Header(Vec::new()) } else { State::ExpectStart };
        let content = Content::default();
        let (messages, problems) = (Vec::new(), Vec::new());
        Self { tokenizer, mode, state, next_role: role, messages, problems, position: 0, content }
    }

    /// Reads a token.
    ///
    /// # Errors
    /// In [`Mode::Strict`], what is wrong; the messages before it stay.
    pub fn process(&mut self, id: u32) -> Result<(), ParseError> {
        let position = self.position;
        self.position += 1;
        match self.mode {
            Mode::Strict => self.strict(position, id),
            Mode::Lenient => {
                self.lenient(position, id);
                Ok(())
            }
        }
    }

    /// Reads tokens up to the first that is refused.
    ///
    /// # Errors
    /// As [`StreamParser::process`].
    pub fn process_all(&mut self, ids: impl IntoIterator<Item = u32>) -> Result<(), ParseError> {
        ids.into_iter().try_for_each(|id| self.process(id))
    }

    /// Ends the stream: a message in the midst of its content ends here.
    ///
    /// # Errors
    /// In [`Mode::Strict`], if the stream ends inside a header.
    pub fn finish(&mut self) -> Result<(), ParseError> {
        match (self.mode, &self.state) {
            (Mode::Lenient, _) => self.lenient_finish(),
            (Mode::Strict, State::ExpectStart) => {}
            (Mode::Strict, State::Content(_)) => self.end_message(),
            (Mode::Strict, State::Header(_)) => return Err(ParseError::EndInHeader { position: self.position }),
        }
        Ok(())
    }

    fn strict(&mut self, position: usize, id: u32) -> Result<(), ParseError> {
        match &mut self.state {
            State::ExpectStart if id == special::START => self.state = State::Header(Vec::new()),
            State::ExpectStart => return Err(ParseError::UnexpectedToken { position, id }),
            State::Header(header) if id == special::MESSAGE => {
                let header = std::mem::take(header);
                self.state = State::ExpectStart;
                let message = self.messages.len();
                let refused = |source| ParseError::Header { position, message, source };
                let header = self.read_header(&header).map_err(refused)?;
                self.next_role = None;
                self.state = State::Content(header);
            }
            State::Header(header) => header.push(id),
            State::Content(_) if STOP_TOKENS.contains(&id) => self.end_message(),
            State::Content(_) => self.content.push_strict(self.tokenizer, id),
        }
        Ok(())
    }

    fn read_header(&self, ids: &[u32]) -> Result<Header, HeaderError> {
        let bytes = self.tokenizer.decode_bytes(ids).map_err(|_| HeaderError::HeaderUndecodable)?;
        let text = String::from_utf8(bytes).map_err(|_| HeaderError::HeaderUndecodable)?;
        Header::strict(&text, self.next_role)
    }

    /// Completes the message whose content was being read.
    pub(super) fn end_message(&mut self) {
        let State::Content(header) = std::mem::replace(&mut self.state, State::ExpectStart) else { return };
        let text = std::mem::take(&mut self.content).into_text();
        self.messages.push(header.message(text));
    }

    /// The messages completed so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The messages, at the end.
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }

    /// What was wrong so far, in order; always empty in [`Mode::Strict`].
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Tokens read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The author's role, once it is known.
    pub fn current_role(&self) -> Option<Role> {
        self.header().map_or(self.next_role, |header| Some(header.author.role))
    }

    /// The channel of the message being read.
    pub fn current_channel(&self) -> Option<&str> {
        self.header()?.channel.as_deref()
    }

    /// The recipient of the message being read.
    pub fn current_recipient(&self) -> Option<&str> {
        self.header()?.recipient.as_deref()
    }

    /// The content type of the message being read.
    pub fn current_content_type(&self) -> Option<&str> {
        self.header()?.content_type.as_deref()
    }

    /// The content of the message being read, as far as its characters are whole.
    pub fn current_content(&self) -> &str {
        &self.content.text
    }

    /// What the last token added to the content.
    pub fn last_delta(&self) -> Option<&str> {
        self.content.delta.as_deref()
    }

    /// The state's name as openai-harmony says it: `ExpectStart`, `Header` or `Content`.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::ExpectStart => "ExpectStart",
            State::Header(_) => "Header",
            State::Content(_) => "Content",
        }
    }

    fn header(&self) -> Option<&Header> {
        match &self.state {
            State::Content(header) => Some(header),
            _ => None,
        }
    }
}

impl Content {
    /// Appends a token as openai-harmony does: at most one invalid sequence is replaced per token.
    fn push_strict(&mut self, tokenizer: Tokenizer, id: u32) {
        match tokenizer.decode_bytes(&[id]) {
            Ok(bytes) if !self.is_stuck => {
                self.pieces.extend(&bytes);
                let piece = self.pieces.take_piece();
                self.append(piece);
            }
            _ => {
                self.is_stuck = true;
                self.delta = None;
            }
        }
    }

    /// Appends a piece, which is then the last delta.
    pub(super) fn append(&mut self, piece: Option<String>) {
        self.text.push_str(piece.as_deref().unwrap_or_default());
        self.delta = piece;
    }

    fn into_text(mut self) -> String {
        if self.is_stuck {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        self.text + &self.pieces.take_rest()
    }
}
