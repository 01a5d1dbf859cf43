//! `POST /v1/chat/completions`: conversations, with function tools and reasoning in its own field.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Piece};
use super::error::ApiError;
use super::request::{Choice, body, submit};
use super::{Shared, now};
use crate::generate::harmony::json::Json as Schema;
use crate::generate::harmony::{
    Analysis, Author, Content, Conversation, DeveloperContent, Message, ReasoningEffort, Renderer, Role,
    STOP_TOKENS_OF_ACTIONS, SystemContent, Tool,
};

#[derive(Debug, Deserialize)]
struct ChatRequest {
    #[serde(flatten)]
    choice: Choice,
    messages: Vec<ChatMessage>,
    #[serde(default)]
    tools: Vec<ToolDefinition>,
    tool_choice: Option<Value>,
    reasoning_effort: Option<String>,
    #[serde(default)]
    logprobs: bool,
    top_logprobs: Option<u8>,
}

#[derive(Debug, Deserialize)]
struct ChatMessage {
    role: String,
    content: Option<ChatContent>,
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Vec<ToolCall>,
    tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ChatContent {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
struct ContentPart {
    r#type: String,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ToolCall {
    id: String,
    function: CalledFunction,
}

#[derive(Debug, Deserialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

#[derive(Debug, Deserialize)]
struct ToolDefinition {
    r#type: String,
    function: FunctionDefinition,
}

#[derive(Debug, Deserialize)]
struct FunctionDefinition {
    name: String,
    #[serde(default)]
    description: String,
    parameters: Option<Schema>,
}

const JSON_CONTENT: &str = "<|constrain|>json";

pub(super) async fn handle(
    State(app): State<Shared>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request: ChatRequest = body(&app, bytes)?;
    request.choice.check(&app)?;
    let conversation = conversation(&request)?;
    let invalid = |e: String| ApiError::invalid(Some("messages"), e);
    let prompt = Renderer::new(app.tokenizer)
        .for_completion(&conversation, Role::Assistant, Analysis::DropAnswered)
        .map_err(|e| invalid(e.to_string()))?;
    let (choice, count) = (&request.choice, prompt.len());
    let deadline = Instant::now() + app.options.request_time_max;
    let logprobs = request.logprobs.then(|| request.top_logprobs.unwrap_or(0));
    let (sampling, stop) = (choice.sampling(logprobs)?, choice.stops()?);
    let events = submit(&app, prompt, sampling, choice.tokens_max(&app, count), &STOP_TOKENS_OF_ACTIONS)?;
    let answer = Answer::of_messages(events, deadline, app.tokenizer, stop, count);
    let shell = |object: &str| {
        let id = format!("chatcmpl-{:016x}", unique());
        json!({ "id": id, "object": object, "created": now(), "model": app.options.model_id })
    };
    if choice.stream {
        let events = events_of(answer, shell("chat.completion.chunk"), choice.streams_usage());
        return Ok(Sse::new(events).into_response());
    }
    whole(answer, shell("chat.completion")).await.map(|value| Json(value).into_response())
}

/// A number that no other answer of this process has, and hardly one of another.
pub(super) fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let clock = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64);
    clock.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The conversation that the model is shown.
fn conversation(request: &ChatRequest) -> Result<Conversation, ApiError> {
    let invalid = |param: &str, message: String| ApiError::invalid(Some(param), message);
    let effort = match request.reasoning_effort.as_deref() {
        None => ReasoningEffort::Medium,
        Some(name) => name.parse().map_err(|_| {
            invalid("reasoning_effort", format!("`reasoning_effort` is `{name}`; it may be low, medium or high"))
        })?,
    };
    let tools = match request.tool_choice.as_ref().map(|choice| choice.as_str()) {
        Some(Some("none")) => Vec::new(),
        None | Some(Some("auto")) => tools(&request.tools)?,
        Some(_) => {
            return Err(invalid("tool_choice", "`tool_choice` may be none or auto: the model decides".into()));
        }
    };
    if request.messages.is_empty() {
        return Err(invalid("messages", "`messages` is empty".into()));
    }
    let mut instructions = Vec::new();
    let mut said = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        let text = text_of(index, message)?;
        match message.role.as_str() {
            "system" | "developer" => instructions.push(text.unwrap_or_default()),
            "user" => said.push(Message::new(Role::User, text.unwrap_or_default())),
            "assistant" => assistant(message, text, &mut said),
            "tool" => said.push(reply(request, index, message, text)?),
            other => return Err(invalid(&format!("messages[{index}].role"), format!("there is no role `{other}`"))),
        }
    }
    let system = SystemContent { reasoning_effort: Some(effort), ..SystemContent::default() };
    let mut messages = vec![Message::new(Role::System, Content::SystemContent(system))];
    if !(instructions.is_empty() && tools.is_empty()) {
        let text = (!instructions.is_empty()).then(|| instructions.join("\n\n"));
        let content = DeveloperContent { instructions: text, tools: None };
        let content = if tools.is_empty() { content } else { content.with_functions(tools) };
        messages.push(Message::new(Role::Developer, Content::DeveloperContent(content)));
    }
    messages.extend(said);
    Ok(Conversation { messages })
}

fn tools(definitions: &[ToolDefinition]) -> Result<Vec<Tool>, ApiError> {
    let tool = |(index, tool): (usize, &ToolDefinition)| match tool.r#type.as_str() {
        "function" => Ok(Tool {
            name: tool.function.name.clone(),
            description: tool.function.description.clone(),
            parameters: tool.function.parameters.clone(),
        }),
        other => {
            let param = format!("tools[{index}].type");
            Err(ApiError::invalid(Some(&param), format!("there are function tools only, not `{other}`")))
        }
    };
    definitions.iter().enumerate().map(tool).collect()
}

/// The text of a message; other parts are refused.
fn text_of(index: usize, message: &ChatMessage) -> Result<Option<String>, ApiError> {
    match &message.content {
        None => Ok(None),
        Some(ChatContent::Text(text)) => Ok(Some(text.clone())),
        Some(ChatContent::Parts(parts)) => {
            let text = |part: &ContentPart| match (part.r#type.as_str(), &part.text) {
                ("text", Some(text)) => Ok(text.clone()),
                (other, _) => {
                    let param = format!("messages[{index}].content");
                    Err(ApiError::invalid(Some(&param), format!("the model reads text, not `{other}`")))
                }
            };
            Ok(Some(parts.iter().map(text).collect::<Result<String, _>>()?))
        }
    }
}

/// What the assistant thought, called and said.
fn assistant(message: &ChatMessage, text: Option<String>, said: &mut Vec<Message>) {
    if let Some(thought) = &message.reasoning_content {
        said.push(Message::new(Role::Assistant, thought.as_str()).in_channel("analysis"));
    }
    for call in &message.tool_calls {
        let to = format!("functions.{}", call.function.name);
        let called = Message::new(Role::Assistant, call.function.arguments.as_str()).in_channel("commentary").to(to);
        said.push(Message { content_type: Some(JSON_CONTENT.into()), ..called });
    }
    if let Some(text) = text.filter(|text| !text.is_empty() || message.tool_calls.is_empty()) {
        said.push(Message::new(Role::Assistant, text).in_channel("final"));
    }
}

/// A tool's reply to the call that it names.
fn reply(
    request: &ChatRequest,
    index: usize,
    message: &ChatMessage,
    text: Option<String>,
) -> Result<Message, ApiError> {
    let id = message.tool_call_id.as_deref().unwrap_or_default();
    let mut calls = request.messages[..index].iter().rev().flat_map(|message| &message.tool_calls);
    let Some(call) = calls.find(|call| call.id == id) else {
        let param = format!("messages[{index}].tool_call_id");
        return Err(ApiError::invalid(Some(&param), format!("no call before it has the id `{id}`")));
    };
    let author = Author { role: Role::Tool, name: Some(format!("functions.{}", call.function.name)) };
    Ok(Message::new(author, text.unwrap_or_default()).in_channel("commentary").to("assistant"))
}

async fn whole(mut answer: Answer, mut shell: Value) -> Result<Value, ApiError> {
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
    shell["choices"] = json!([{ "index": 0, "message": message, "logprobs": logprobs, "finish_reason": end.reason }]);
    shell["usage"] = end.usage.json();
    Ok(shell)
}

fn call_id() -> String {
    format!("call_{:016x}", unique())
}

/// An event: the shell with these fields.
pub(super) fn event(shell: &Value, fields: &[(&str, Value)]) -> Event {
    let mut value = shell.clone();
    for (name, field) in fields {
        value[*name] = field.clone();
    }
    Event::default().data(value.to_string())
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
    let reason = if let Piece::End(end) = piece { Some(end.reason) } else { None };
    json!([{ "index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason }])
}

/// Server-sent events of an answer: the role, the pieces, the end, usage if asked for, `[DONE]`.
fn events_of(answer: Answer, shell: Value, usage: bool) -> impl Stream<Item = Result<Event, Infallible>> {
    let role = json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "logprobs": null, "finish_reason": null }]);
    let ready = VecDeque::from([event(&shell, &[("choices", role)])]);
    stream::unfold((answer, ready, false), move |(mut answer, mut ready, mut over)| {
        let shell = shell.clone();
        async move {
            loop {
                if let Some(event) = ready.pop_front() {
                    return Some((Ok(event), (answer, ready, over)));
                }
                if over {
                    return None;
                }
                match answer.next().await {
                    Ok(piece) => {
                        ready.push_back(event(&shell, &[("choices", delta(&piece))]));
                        if let Piece::End(end) = piece {
                            if usage {
                                ready.push_back(event(&shell, &[("choices", json!([])), ("usage", end.usage.json())]));
                            }
                            ready.push_back(Event::default().data("[DONE]"));
                            over = true;
                        }
                    }
                    Err(error) => {
                        ready.push_back(Event::default().data(error.json().to_string()));
                        over = true;
                    }
                }
            }
        }
    })
}
