//! From the engine's events to the pieces of an answer: text, thoughts, calls of tools, and the end.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::error::ApiError;
use crate::generate::engine::EngineEvent;
use crate::generate::harmony::{Mode, Role, StreamParser};
use crate::generate::sampling::TokenLogprob;
use crate::generate::stop::{FinishReason, TextStop};
use crate::generate::tokenizer::{StreamDecoder, Tokenizer};

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// Of the answer, with the log-probabilities of the token that completed it, if asked for.
    Text(String, Option<Value>),
    /// Of the thoughts before it.
    Thought(String),
    /// Of a call's arguments; the first one of a call is empty.
    Call { index: usize, name: String, arguments: String },
    /// The end: nothing comes after it.
    End(End),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// In OpenAI's words.
    pub(super) reason: &'static str,
    pub(super) usage: Usage,
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: usize,
    pub(super) cached: usize,
    pub(super) completion: usize,
    pub(super) reasoning: usize,
}

impl Usage {
    pub(super) fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": { "cached_tokens": self.cached },
            "completion_tokens_details": { "reasoning_tokens": self.reasoning },
        })
    }
}

/// How tokens are read.
enum Reader {
    /// As an assistant's messages.
    Messages(Box<StreamParser>),
    /// As text.
    Text(StreamDecoder),
}

/// An answer that is coming in.
pub(super) struct Answer {
    events: UnboundedReceiver<EngineEvent>,
    deadline: Instant,
    tokenizer: Tokenizer,
    reader: Reader,
    stop: TextStop,
    usage: Usage,
    /// The message of each call, by its number.
    calls: Vec<usize>,
    ready: VecDeque<Piece>,
}

impl Answer {
    /// An assistant's answer to a conversation.
    pub(super) fn of_messages(
        events: UnboundedReceiver<EngineEvent>,
        deadline: Instant,
        tokenizer: Tokenizer,
        stop: TextStop,
        prompt: usize,
    ) -> Self {
        let parser = StreamParser::new(tokenizer, Mode::Lenient, Some(Role::Assistant));
        Self::new(events, deadline, tokenizer, Reader::Messages(Box::new(parser)), stop, prompt)
    }

    /// Text that goes on.
    pub(super) fn of_text(
        events: UnboundedReceiver<EngineEvent>,
        deadline: Instant,
        tokenizer: Tokenizer,
        stop: TextStop,
        prompt: usize,
    ) -> Self {
        Self::new(events, deadline, tokenizer, Reader::Text(tokenizer.stream()), stop, prompt)
    }

    fn new(
        events: UnboundedReceiver<EngineEvent>,
        deadline: Instant,
        tokenizer: Tokenizer,
        reader: Reader,
        stop: TextStop,
        prompt: usize,
    ) -> Self {
        let usage = Usage { prompt, ..Usage::default() };
        Self { events, deadline, tokenizer, reader, stop, usage, calls: Vec::new(), ready: VecDeque::new() }
    }

    /// The next piece; after [`Piece::End`] there is none.
    pub(super) async fn next(&mut self) -> Result<Piece, ApiError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(piece);
            }
            let event = tokio::time::timeout_at(self.deadline.into(), self.events.recv());
            match event.await.map_err(|_| ApiError::timeout())? {
                None => return Err(ApiError::engine("the engine has ended")),
                Some(EngineEvent::Failed(reason)) => return Err(ApiError::engine(reason)),
                Some(EngineEvent::Token { id, logprob, top }) => self.token(id, logprob, &top),
                Some(EngineEvent::Done { reason, cached_prompt_tokens }) => {
                    self.usage.cached = cached_prompt_tokens;
                    self.end(reason);
                }
            }
        }
    }

    fn token(&mut self, id: u32, logprob: Option<f64>, top: &[TokenLogprob]) {
        self.usage.completion += 1;
        let logprobs = logprob.map(|logprob| self.logprobs(id, logprob, top));
        match &mut self.reader {
            Reader::Text(decoder) => {
                let text = decoder.push(id).unwrap_or_default();
                self.text(&text, logprobs);
            }
            Reader::Messages(parser) => {
                // Lenient: nothing is refused.
                let _ = parser.process(id);
                let delta = parser.last_delta().unwrap_or_default().to_string();
                let message = parser.messages().len();
                let recipient = parser.current_recipient().map(String::from);
                let answers = matches!(parser.current_channel(), None | Some("final"));
                match recipient {
                    Some(to) => self.call(message, to.strip_prefix("functions.").unwrap_or(&to), delta),
                    None if delta.is_empty() => {}
                    None if answers => self.text(&delta, logprobs),
                    None => {
                        self.usage.reasoning += 1;
                        self.ready.push_back(Piece::Thought(delta));
                    }
                }
            }
        }
    }

    /// Text of the answer, up to a stop string.
    fn text(&mut self, text: &str, logprobs: Option<Value>) {
        let mut shown = Vec::new();
        let found = self.stop.push(text.as_bytes(), &mut shown);
        let shown = String::from_utf8_lossy(&shown).into_owned();
        if !shown.is_empty() || logprobs.is_some() {
            self.ready.push_back(Piece::Text(shown, logprobs));
        }
        if found.is_some() {
            // Nothing after it is wanted: the engine ends the sequence.
            self.events.close();
            self.ready.push_back(Piece::End(End { reason: "stop", usage: self.usage }));
        }
    }

    fn call(&mut self, message: usize, name: &str, arguments: String) {
        let known = self.calls.iter().position(|&call| call == message);
        let index = known.unwrap_or(self.calls.len());
        if known.is_none() {
            self.calls.push(message);
            self.ready.push_back(Piece::Call { index, name: name.into(), arguments: String::new() });
        }
        if !arguments.is_empty() {
            self.ready.push_back(Piece::Call { index, name: name.into(), arguments });
        }
    }

    fn end(&mut self, reason: FinishReason) {
        let mut held = Vec::new();
        self.stop.finish(&mut held);
        let mut text = String::from_utf8_lossy(&held).into_owned();
        if let Reader::Text(decoder) = &mut self.reader {
            text += &decoder.finish();
        }
        if !text.is_empty() {
            self.ready.push_back(Piece::Text(text, None));
        }
        let reason = match reason {
            FinishReason::Length => "length",
            _ if !self.calls.is_empty() => "tool_calls",
            _ => "stop",
        };
        self.ready.push_back(Piece::End(End { reason, usage: self.usage }));
    }

    /// A token's entry of `logprobs.content`.
    fn logprobs(&self, id: u32, logprob: f64, top: &[TokenLogprob]) -> Value {
        let entry = |id: u32, logprob: f64| {
            let bytes = self.tokenizer.decode_bytes(&[id]).unwrap_or_default();
            json!({ "token": String::from_utf8_lossy(&bytes), "logprob": logprob, "bytes": bytes })
        };
        let mut value = entry(id, logprob);
        value["top_logprobs"] = top.iter().map(|t| entry(t.token, t.logprob)).collect();
        value
    }
}
