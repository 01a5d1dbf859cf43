//! An answer as items, and as the events that tell how they come about.
//!
//! ```text
//! response.created, in_progress
//!   output_item.added                                              message          reasoning        function_call
//!     content_part.added                                           output_text      reasoning_text
//!       output_text.delta … | reasoning_text.delta … | function_call_arguments.delta …
//!       output_text.done    | reasoning_text.done    | function_call_arguments.done
//!     content_part.done
//!   output_item.done
//! response.completed | incomplete | failed
//! ```
//!
//! **Invariant:** the response of the last event is what the events before it said.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::super::answer::{End, Piece};
use super::super::error::ApiError;
use super::super::now;
use super::items::new_id;

/// A response that comes about.
pub(super) struct Output {
    response: Value,
    items: Vec<Value>,
    open: Option<Open>,
    events: VecDeque<Value>,
    sequence: u64,
    is_over: bool,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Text,
    Thought,
    /// The answer's call of this number.
    Call(usize),
}

/// The item being written.
struct Open {
    kind: Kind,
    id: String,
    text: String,
    /// The function's, and the call's id.
    name: String,
    call_id: String,
}

impl Open {
    /// The item with the text so far.
    fn item(&self, status: &str) -> Value {
        let has_part = status != "in_progress";
        let content = if has_part { json!([self.part()]) } else { json!([]) };
        match self.kind {
            Kind::Text => {
                json!({ "id": self.id, "type": "message", "role": "assistant", "status": status, "content": content })
            }
            Kind::Thought => {
                json!({ "id": self.id, "type": "reasoning", "summary": [], "content": content, "status": status })
            }
            Kind::Call(_) => json!({
                "id": self.id, "type": "function_call", "status": status,
                "call_id": self.call_id, "name": self.name, "arguments": self.text,
            }),
        }
    }

    /// The one part of its content.
    fn part(&self) -> Value {
        match self.kind {
            Kind::Text => json!({ "type": "output_text", "text": self.text, "annotations": [], "logprobs": [] }),
            _ => json!({ "type": "reasoning_text", "text": self.text }),
        }
    }

    /// The name of its events.
    fn stem(&self) -> &'static str {
        match self.kind {
            Kind::Text => "response.output_text",
            Kind::Thought => "response.reasoning_text",
            Kind::Call(_) => "response.function_call_arguments",
        }
    }
}

impl Output {
    /// Nothing yet; `shell` is the response without its output.
    pub(super) fn begin(shell: Value) -> Self {
        let (items, events) = (Vec::new(), VecDeque::new());
        let mut output = Self { response: shell, items, open: None, events, sequence: 0, is_over: false };
        for kind in ["response.created", "response.in_progress"] {
            let response = output.response();
            output.event(kind, json!({ "response": response }));
        }
        output
    }

    /// Events that were not taken yet.
    pub(super) fn events(&mut self) -> &mut VecDeque<Value> {
        &mut self.events
    }

    /// Whether the last event is there.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Items that are complete.
    pub(super) fn items(&self) -> &[Value] {
        &self.items
    }

    /// The response as far as it has come.
    pub(super) fn response(&self) -> Value {
        let mut response = self.response.clone();
        response["output"] = self.items.clone().into();
        response
    }

    /// What comes next.
    pub(super) fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text, _) => self.write(Kind::Text, "", &text),
            Piece::Thought(text) => self.write(Kind::Thought, "", &text),
            Piece::Call { index, name, arguments } => self.write(Kind::Call(index), &name, &arguments),
            Piece::End(end) => self.end(end),
        }
    }

    /// There will be no more.
    pub(super) fn fail(&mut self, error: &ApiError) {
        self.close("incomplete");
        self.response["status"] = "failed".into();
        self.response["error"] = json!({ "code": "server_error", "message": error.message() });
        self.last("response.failed");
    }

    fn end(&mut self, end: End) {
        let (status, event) = match end.reason {
            "length" => ("incomplete", "response.incomplete"),
            _ => ("completed", "response.completed"),
        };
        self.close(status);
        self.response["status"] = status.into();
        if status == "incomplete" {
            self.response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        } else {
            self.response["completed_at"] = now().into();
        }
        let usage = end.usage;
        self.response["usage"] = json!({
            "input_tokens": usage.prompt,
            "input_tokens_details": {
                "cached_tokens": usage.cached,
                "cache_write_tokens": usage.prompt - usage.cached,
            },
            "output_tokens": usage.completion,
            "output_tokens_details": { "reasoning_tokens": usage.reasoning },
            "total_tokens": usage.prompt + usage.completion,
        });
        if !end.warnings.is_empty() {
            self.response["warnings"] = end.warnings.into();
        }
        self.last(event);
    }

    fn last(&mut self, kind: &str) {
        let response = self.response();
        self.event(kind, json!({ "response": response }));
        self.is_over = true;
    }

    fn event(&mut self, kind: &str, mut fields: Value) {
        fields["type"] = kind.into();
        fields["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        self.events.push_back(fields);
    }

    /// An event of the item being written.
    fn item_event(&mut self, kind: &str, mut fields: Value) {
        let (place, open) = (self.items.len(), self.open.as_ref());
        fields["output_index"] = place.into();
        if let (Some(open), false) = (open, kind.starts_with("response.output_item")) {
            fields["item_id"] = open.id.clone().into();
            if !matches!(open.kind, Kind::Call(_)) {
                fields["content_index"] = 0.into();
            }
        }
        self.event(kind, fields);
    }

    /// Goes on with an item, or closes it and begins another.
    fn write(&mut self, kind: Kind, name: &str, text: &str) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close("completed");
            let prefix = match kind {
                Kind::Text => "msg",
                Kind::Thought => "rs",
                Kind::Call(_) => "fc",
            };
            let (id, call_id) = (new_id(prefix), new_id("call"));
            let open = Open { kind, id, text: String::new(), name: name.into(), call_id };
            let (item, part) = (open.item("in_progress"), open.part());
            let has_parts = !matches!(open.kind, Kind::Call(_));
            self.open = Some(open);
            self.item_event("response.output_item.added", json!({ "item": item }));
            if has_parts {
                self.item_event("response.content_part.added", json!({ "part": part }));
            }
        }
        let Some(open) = self.open.as_mut().filter(|_| !text.is_empty()) else { return };
        open.text += text;
        let (stem, mut fields) = (open.stem(), json!({ "delta": text }));
        if open.kind == Kind::Text {
            fields["logprobs"] = json!([]);
        }
        self.item_event(&format!("{stem}.delta"), fields);
    }

    /// Ends the item being written, if there is one.
    fn close(&mut self, status: &str) {
        let Some(open) = &self.open else { return };
        let (item, part, stem, text) = (open.item(status), open.part(), open.stem(), open.text.clone());
        let (fields, has_parts) = match open.kind {
            Kind::Text => (json!({ "text": text, "logprobs": [] }), true),
            Kind::Thought => (json!({ "text": text }), true),
            Kind::Call(_) => (json!({ "arguments": text, "name": open.name }), false),
        };
        self.item_event(&format!("{stem}.done"), fields);
        if has_parts {
            self.item_event("response.content_part.done", json!({ "part": part }));
        }
        self.item_event("response.output_item.done", json!({ "item": item }));
        self.items.push(item);
        self.open = None;
    }
}
