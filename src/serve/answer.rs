//! From the engine's events to the pieces of an answer: text, thoughts, calls of tools, and the end.
//!
//! **Invariant:** every character that the model wrote is told, also where it is malformed: text that it left in a header
//! becomes text of the answer or a thought, as its channel says, and what was wrong is listed at the end.

#[cfg(test)]
mod scripted;

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::error::ApiError;
use crate::generate::engine::EngineEvent;
use crate::generate::harmony::{Message, Mode, ProblemKind, Role, StreamParser};
use crate::generate::sampling::TokenLogprob;
use crate::generate::stop::{FinishReason, TextStop};
use crate::generate::tokenizer::{StreamDecoder, Tokenizer};

/// Warnings of an answer at most: the first ones say what happened.
const WARNINGS_MAX: usize = 16;

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
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    /// In OpenAI's words.
    pub(super) reason: &'static str,
    pub(super) usage: Usage,
    /// What was wrong with it, each `{"code", "message", "token"}`.
    pub(super) warnings: Vec<Value>,
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

/// An assistant's messages, as far as they were read and told.
struct Messages {
    parser: Box<StreamParser>,
    /// Messages told whole, and bytes told of the next one.
    told: (usize, usize),
    /// The message of each call, by its number.
    calls: Vec<usize>,
    calls_max: usize,
}

/// How tokens are read.
enum Reader {
    /// As an assistant's messages.
    Messages(Messages),
    /// As text.
    Text(StreamDecoder),
}

/// A text for somebody.
struct Part {
    message: usize,
    channel: Option<String>,
    recipient: Option<String>,
    text: String,
}

/// An answer that is coming in.
pub(super) struct Answer {
    events: UnboundedReceiver<EngineEvent>,
    deadline: Instant,
    tokenizer: Tokenizer,
    reader: Reader,
    stop: TextStop,
    usage: Usage,
    warnings: Vec<Value>,
    ready: VecDeque<Piece>,
}

impl Answer {
    /// An assistant's answer to a conversation, with so many calls at most.
    pub(super) fn of_messages(
        events: UnboundedReceiver<EngineEvent>,
        deadline: Instant,
        tokenizer: Tokenizer,
        stop: TextStop,
        prompt: usize,
        calls_max: usize,
    ) -> Self {
        let parser = Box::new(StreamParser::new(tokenizer, Mode::Lenient, Some(Role::Assistant)));
        let messages = Messages { parser, told: (0, 0), calls: Vec::new(), calls_max };
        Self::new(events, deadline, tokenizer, Reader::Messages(messages), stop, prompt)
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
        Self { events, deadline, tokenizer, reader, stop, usage, warnings: Vec::new(), ready: VecDeque::new() }
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
            Reader::Messages(messages) => {
                let _ = messages.parser.process(id);
                let parts = messages.untold();
                if parts.iter().any(Part::is_thought) {
                    self.usage.reasoning += 1;
                }
                self.tell(parts, logprobs);
            }
        }
    }

    /// Hands out parts; the log-probabilities are those of the last one's last token.
    fn tell(&mut self, parts: Vec<Part>, mut logprobs: Option<Value>) {
        for part in parts {
            match &part.recipient {
                Some(_) if self.may_call() => self.call(part),
                Some(to) => {
                    // Nobody waits for a call: what it says is still the model's answer.
                    let message = format!("the model called `{to}`, which this request does not let it; told as text");
                    self.warn("call-not-allowed", message, self.usage.completion);
                    if !part.text.is_empty() {
                        self.text(&part.text, logprobs.take());
                    }
                }
                None if part.text.is_empty() => {}
                None if part.is_thought() => self.ready.push_back(Piece::Thought(part.text)),
                None => self.text(&part.text, logprobs.take()),
            }
        }
    }

    fn may_call(&self) -> bool {
        matches!(&self.reader, Reader::Messages(messages) if messages.calls_max > 0)
    }

    /// Text of the answer, up to a stop string.
    fn text(&mut self, text: &str, logprobs: Option<Value>) {
        let mut shown = Vec::new();
        let found = self.stop.push(text.as_bytes(), &mut shown);
        let shown = String::from_utf8_lossy(&shown).into_owned();
        self.show(shown, logprobs);
        if found.is_some() {
            self.leave("stop");
        }
    }

    fn show(&mut self, text: String, logprobs: Option<Value>) {
        if !text.is_empty() || logprobs.is_some() {
            self.ready.push_back(Piece::Text(text, logprobs));
        }
    }

    fn call(&mut self, part: Part) {
        let Reader::Messages(messages) = &mut self.reader else { return };
        let name = part.recipient.as_deref().unwrap_or_default();
        let name: String = name.strip_prefix("functions.").unwrap_or(name).into();
        let known = messages.calls.iter().position(|&call| call == part.message);
        let index = known.unwrap_or(messages.calls.len());
        if index >= messages.calls_max {
            // One call was asked for, at the most.
            return self.leave("tool_calls");
        }
        if known.is_none() {
            messages.calls.push(part.message);
            self.ready.push_back(Piece::Call { index, name: name.clone(), arguments: String::new() });
        }
        if !part.text.is_empty() {
            self.ready.push_back(Piece::Call { index, name, arguments: part.text });
        }
    }

    /// Ends here, whatever the model would say: the engine then ends the sequence.
    fn leave(&mut self, reason: &'static str) {
        self.events.close();
        self.finish(reason);
    }

    /// The engine has ended.
    fn end(&mut self, reason: FinishReason) {
        let mut rest = String::new();
        match &mut self.reader {
            Reader::Text(decoder) => rest = decoder.finish(),
            Reader::Messages(messages) => {
                let _ = messages.parser.finish();
                let parts = messages.untold();
                self.tell(parts, None);
            }
        }
        let mut held = Vec::new();
        self.stop.push(rest.as_bytes(), &mut held);
        self.stop.finish(&mut held);
        self.show(String::from_utf8_lossy(&held).into_owned(), None);
        let has_called = matches!(&self.reader, Reader::Messages(messages) if !messages.calls.is_empty());
        self.finish(match reason {
            FinishReason::Length => "length",
            _ if has_called => "tool_calls",
            _ => "stop",
        });
    }

    fn finish(&mut self, reason: &'static str) {
        let mut warnings = Vec::new();
        if let Reader::Messages(messages) = &self.reader {
            // That an answer is cut off is what the reason says.
            let told = |kind: &ProblemKind| reason == "length" && *kind == ProblemKind::Unfinished;
            let problems = messages.parser.problems().iter().filter(|problem| !told(&problem.kind));
            warnings = problems
                .map(|problem| warning(problem.kind.name(), problem.kind.to_string(), problem.position))
                .collect();
        }
        self.warnings.extend(warnings);
        self.warnings.truncate(WARNINGS_MAX);
        let warnings = std::mem::take(&mut self.warnings);
        self.ready.push_back(Piece::End(End { reason, usage: self.usage, warnings }));
    }

    fn warn(&mut self, code: &str, message: String, token: usize) {
        // One of a kind: a call that is not allowed comes in many pieces.
        if self.warnings.iter().all(|warning| warning["code"] != code) {
            self.warnings.push(warning(code, message, token));
        }
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

fn warning(code: &str, message: String, token: usize) -> Value {
    json!({ "code": code, "message": message, "token": token })
}

impl Messages {
    /// What was read and not told yet.
    fn untold(&mut self) -> Vec<Part> {
        let (mut parts, (mut message, mut bytes)) = (Vec::new(), self.told);
        let completed: &[Message] = &self.parser.messages()[message..];
        for read in completed {
            let (channel, recipient) = (read.channel.clone(), read.recipient.clone());
            let text = read.text().get(bytes..).unwrap_or_default().to_string();
            parts.push(Part { message, channel, recipient, text });
            (message, bytes) = (message + 1, 0);
        }
        if self.parser.state_name() == "Content" {
            let text = self.parser.current_content()[bytes..].to_string();
            let owned = |text: Option<&str>| text.map(String::from);
            let channel = owned(self.parser.current_channel());
            let recipient = owned(self.parser.current_recipient());
            bytes += text.len();
            parts.push(Part { message, channel, recipient, text });
        }
        self.told = (message, bytes);
        parts
    }
}

impl Part {
    /// Whether it is not for the user: in a channel that is not `final`, to nobody in particular.
    fn is_thought(&self) -> bool {
        self.recipient.is_none() && !self.text.is_empty() && !matches!(self.channel.as_deref(), None | Some("final"))
    }
}
