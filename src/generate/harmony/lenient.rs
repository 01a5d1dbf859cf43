//! Reading streams as models write them: nothing is refused, no text and no turn is lost, and what was wrong is told.
//!
//! | what is wrong                      | what becomes of it                                                      |
//! |------------------------------------|-------------------------------------------------------------------------|
//! | text where `<|start|>` should be   | read as a header; if no `<|message|>` comes, the assistant's words      |
//! | a header without `<|message|>`     | role and channel, and all else is the content, as openai-harmony has it |
//! | a header with too many parts       | its text becomes a message of its own, before the one it heads          |
//! | `<|start|>` inside content         | the message ends, the next one begins                                   |
//! | `<|channel|>` inside content       | the same, by the same author                                            |
//! | `<|endoftext|>`                    | the message ends                                                        |
//! | other control tokens in content    | stay there by their names                                               |
//! | unknown ids                        | U+FFFD                                                                  |
//! | the end, before the end            | what was read so far is the last message                                |

use super::STOP_TOKENS;
use super::conversation::{Message, Role};
use super::header::{Header, HeaderError};
use super::parse::{State, StreamParser};
use crate::generate::tokenizer::{is_special, special};

/// Something wrong in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The token at which it showed, counted from 0; the number of tokens, if the end showed it.
    pub position: usize,
    /// What it is.
    pub kind: ProblemKind,
}

/// What can be wrong in a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field means
pub enum ProblemKind {
    #[error("a message does not start with its token: {id} came instead")]
    StartMissing { id: u32 },
    #[error("token {id} ends a message where there is none")]
    StrayStop { id: u32 },
    #[error("a header ends without the token that starts its content")]
    MessageMissing,
    #[error("a message does not end: token {id} came instead")]
    EndMissing { id: u32 },
    #[error("control token {id} stands inside content")]
    ControlInContent { id: u32 },
    #[error("token {id} is not in the vocabulary")]
    UnknownToken { id: u32 },
    #[error("the stream ends inside a message")]
    Unfinished,
    #[error("{0}")]
    Header(#[from] HeaderError),
}

impl ProblemKind {
    /// The kind's stable kebab-case name.
    pub fn name(&self) -> &'static str {
        match self {
            ProblemKind::StartMissing { .. } => "start-missing",
            ProblemKind::StrayStop { .. } => "stray-stop",
            ProblemKind::MessageMissing => "message-missing",
            ProblemKind::EndMissing { .. } => "end-missing",
            ProblemKind::ControlInContent { .. } => "control-in-content",
            ProblemKind::UnknownToken { .. } => "unknown-token",
            ProblemKind::Unfinished => "unfinished",
            ProblemKind::Header(error) => error.into(),
        }
    }
}

/// Whether a message ends at `id`, in content or before.
fn is_stop(id: u32) -> bool {
    STOP_TOKENS.contains(&id) || id == special::END_OF_TEXT
}

impl StreamParser {
    /// Reads a token, whatever it is.
    pub(super) fn lenient(&mut self, position: usize, id: u32) {
        if self.tokenizer.decode_bytes(&[id]).is_err() {
            self.problem(position, ProblemKind::UnknownToken { id });
        }
        match &mut self.state {
            State::ExpectStart => self.lenient_start(position, id),
            State::Header(_) if id == special::MESSAGE => self.lenient_header(position),
            State::Header(_) if is_stop(id) => self.lenient_no_message(position, ProblemKind::MessageMissing),
            State::Header(_) if id == special::START => {
                self.lenient_no_message(position, ProblemKind::MessageMissing);
                self.state = State::Header(Vec::new());
            }
            State::Header(header) => header.push(id),
            State::Content(_) => self.lenient_content(position, id),
        }
    }

    fn problem(&mut self, position: usize, kind: ProblemKind) {
        self.problems.push(Problem { position, kind });
    }

    fn lenient_start(&mut self, position: usize, id: u32) {
        if id == special::START {
            self.state = State::Header(Vec::new());
        } else if is_stop(id) {
            self.problem(position, ProblemKind::StrayStop { id });
        } else {
            self.problem(position, ProblemKind::StartMissing { id });
            match id {
                special::MESSAGE => self.state = State::Content(Header::of(Role::Assistant)),
                special::CHANNEL => self.continue_as(Role::Assistant, id),
                _ => self.state = State::Header(vec![id]),
            }
        }
    }

    /// A header that starts in its midst, at a channel.
    fn continue_as(&mut self, role: Role, id: u32) {
        self.next_role = Some(role);
        self.state = State::Header(vec![id]);
    }

    fn lenient_header(&mut self, position: usize) {
        let (text, is_text) = self.header_text();
        let strict = match is_text {
            true => Header::strict(&text, self.next_role),
            false => Err(HeaderError::HeaderUndecodable),
        };
        let strict = strict.and_then(|header| match header.control_inside() {
            Some(text) => Err(HeaderError::ControlMisplaced { text: text.into() }),
            None => Ok(header),
        });
        let header = match strict {
            Ok(header) => header,
            Err(error) => {
                self.problem(position, error.into());
                let (header, leftover) = Header::salvage(&text, self.next_role);
                if !leftover.is_empty() {
                    let message = header.message(leftover);
                    self.messages.push(Message { recipient: None, content_type: None, ..message });
                }
                header
            }
        };
        self.next_role = None;
        self.state = State::Content(header);
    }

    /// A header after which its content never came.
    fn lenient_no_message(&mut self, position: usize, kind: ProblemKind) {
        let (text, _) = self.header_text();
        let role = self.next_role.take();
        self.state = State::ExpectStart;
        let (header, content) = Header::without_message(&text, role);
        let is_bare = header.channel.is_none() && content.is_empty();
        self.problem(position, kind);
        if !is_bare || (role.is_some() && !text.is_empty()) {
            self.messages.push(header.message(content));
        }
    }

    fn lenient_content(&mut self, position: usize, id: u32) {
        let role = self.current_role().unwrap_or(Role::Assistant);
        match id {
            special::START | special::CHANNEL | special::END_OF_TEXT => {
                self.problem(position, ProblemKind::EndMissing { id });
                self.end_message();
                match id {
                    special::START => self.state = State::Header(Vec::new()),
                    special::CHANNEL => self.continue_as(role, id),
                    _ => {}
                }
            }
            _ if STOP_TOKENS.contains(&id) => self.end_message(),
            _ => {
                if is_special(id) {
                    self.problem(position, ProblemKind::ControlInContent { id });
                }
                self.content.pieces.extend(&self.bytes_of(id));
                let whole = self.content.pieces.take_whole();
                self.content.append((!whole.is_empty()).then_some(whole));
            }
        }
    }

    /// Ends the stream.
    pub(super) fn lenient_finish(&mut self) {
        match self.state {
            State::ExpectStart => {}
            State::Header(_) => self.lenient_no_message(self.position, ProblemKind::Unfinished),
            State::Content(_) => {
                self.problem(self.position, ProblemKind::Unfinished);
                self.end_message();
            }
        }
    }

    /// The header's text, and whether it is UTF-8 of known tokens.
    fn header_text(&self) -> (String, bool) {
        let State::Header(ids) = &self.state else { return (String::new(), true) };
        let is_known = self.tokenizer.decode_bytes(ids).is_ok();
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes_of(*id)).collect();
        match String::from_utf8(bytes) {
            Ok(text) => (text, is_known),
            Err(e) => (String::from_utf8_lossy(e.as_bytes()).into_owned(), false),
        }
    }

    fn bytes_of(&self, id: u32) -> Vec<u8> {
        let unknown = || char::REPLACEMENT_CHARACTER.to_string().into_bytes();
        self.tokenizer.decode_bytes(&[id]).unwrap_or_else(|_| unknown())
    }
}
