//! Answers as chat completions, whole or in chunks.

use std::convert::Infallible;

use axum::response::sse::Event;
use futures_util::stream::Stream;
use serde_json::{Map, Value, json};

use super::super::answer::{Answer, Piece};
use super::super::error::ApiError;
use super::super::stream::{self, event, usage_event};
use super::unique;

/// The whole answer.
pub(super) async fn whole(mut answer: Answer, mut shell: Value) -> Result<Value, ApiError> {
    let (mut text, mut thought, mut logprobs) = (String::new(), String::new(), Vec::new());
    let mut calls: Vec<(String, String)> = Vec::new();
    let end = loop {
        match answer.next().await? {
            Piece::Text(piece, entry) => {
                text += &piece;
                logprobs.extend(entry);
            }
            Piece::Thought(piece) => thought += &piece,
            Piece::Call { index, name, arguments } => match calls.get_mut(index) {
                Some(call) => call.1 += &arguments,
                None => calls.push((name, arguments)),
            },
            Piece::End(end) => break end,
        }
    };
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    let silent = text.is_empty() && !calls.is_empty();
    message.insert("content".into(), if silent { Value::Null } else { text.into() });
    message.insert("refusal".into(), Value::Null);
    if !thought.is_empty() {
        message.insert("reasoning_content".into(), thought.into());
    }
    if !calls.is_empty() {
        let call = |(name, arguments): (String, String)| json!({ "id": call_id(), "type": "function", "function": { "name": name, "arguments": arguments } });
        message.insert("tool_calls".into(), calls.into_iter().map(call).collect());
    }
    let logprobs = if logprobs.is_empty() { Value::Null } else { json!({ "content": logprobs, "refusal": null }) };
    let mut choice = json!({ "index": 0, "message": message, "logprobs": logprobs, "finish_reason": end.reason });
    if !end.warnings.is_empty() {
        choice["warnings"] = end.warnings.into();
    }
    shell["choices"] = json!([choice]);
    shell["usage"] = end.usage.json();
    Ok(shell)
}

fn call_id() -> String {
    format!("call_{:016x}", unique())
}

/// The chunk of a piece.
fn delta(piece: &Piece) -> Value {
    let (delta, logprobs) = match piece {
        Piece::Text(text, entry) => {
            let logprobs = entry.as_ref().map(|entry| json!({ "content": [entry], "refusal": null }));
            (json!({ "content": text }), logprobs)
        }
        Piece::Thought(text) => (json!({ "reasoning_content": text }), None),
        Piece::Call { index, name, arguments } if arguments.is_empty() => {
            let function = json!({ "name": name, "arguments": "" });
            let call = json!({ "index": index, "id": call_id(), "type": "function", "function": function });
            (json!({ "tool_calls": [call] }), None)
        }
        Piece::Call { index, arguments, .. } => {
            (json!({ "tool_calls": [{ "index": index, "function": { "arguments": arguments } }] }), None)
        }
        Piece::End(_) => (json!({}), None),
    };
    let mut choice = json!({ "index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": null });
    if let Piece::End(end) = piece {
        choice["finish_reason"] = end.reason.into();
        if !end.warnings.is_empty() {
            choice["warnings"] = end.warnings.clone().into();
        }
    }
    json!([choice])
}

/// Server-sent events of an answer: the role, the pieces, the end, usage if asked for, `[DONE]`.
pub(super) fn events_of(answer: Answer, shell: Value, usage: bool) -> impl Stream<Item = Result<Event, Infallible>> {
    let role = json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "logprobs": null, "finish_reason": null }]);
    let first = vec![event(&shell, &[("choices", role)])];
    stream::events_of(answer, first, move |piece| {
        let mut events = vec![event(&shell, &[("choices", delta(piece))])];
        if let (Piece::End(end), true) = (piece, usage) {
            events.push(usage_event(&shell, end.usage));
        }
        events
    })
}
