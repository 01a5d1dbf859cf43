//! `POST /v1/chat/completions`: conversations, with function tools and reasoning in its own field.

mod chunks;
mod messages;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use self::messages::ChatMessage;
use super::answer::Answer;
use super::calls::{Calls, FunctionDefinition, Places};
use super::error::ApiError;
use super::format::{ChatFormat, Format};
use super::prompt::{Ask, Prompt, effort};
use super::request::{Choice, body, submit};
use super::{App, Shared, form, now};
use crate::generate::harmony::STOP_TOKENS_OF_ACTIONS;

#[derive(Debug, Deserialize)]
struct ChatRequest {
    #[serde(flatten)]
    choice: Choice,
    messages: Vec<ChatMessage>,
    tools: Option<Vec<ToolDefinition>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<ChatFormat>,
    reasoning_effort: Option<String>,
    logprobs: Option<bool>,
    top_logprobs: Option<u8>,
    /// The forms that `tools` and `tool_choice` replaced: refused, for a model that is not told of its functions would
    /// seem to have no use for them.
    functions: Option<Value>,
    function_call: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ToolDefinition {
    r#type: String,
    function: Option<FunctionDefinition>,
}

const PLACES: Places = Places { function: "function.name", schema: "function.parameters", choice: "/function/name" };

pub(super) async fn handle(
    State(app): State<Shared>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request: ChatRequest = body(&app, bytes)?;
    request.choice.check(&app)?;
    let choice = request.choice.clone();
    let logprobs = request.logprobs.unwrap_or_default().then(|| request.top_logprobs.unwrap_or(0));
    let (sampling, stop) = (choice.sampling(logprobs)?, choice.stops()?);
    let ask = ask(request)?;
    let (calls_max, deadline) = (ask.calls.max(), Instant::now() + app.options.request_time_max);
    let constraint = form::constraint(&app, &ask, deadline).await?;
    let prompt = Prompt { ids: ask.ids(app.tokenizer, "messages")?, param: "messages", constraint };
    let count = prompt.ids.len();
    let tokens_max = choice.tokens_max(&app, count);
    let events = submit(&app, prompt, sampling, tokens_max, &STOP_TOKENS_OF_ACTIONS)?;
    let answer = Answer::of_messages(events, deadline, app.tokenizer, stop, count, calls_max);
    if choice.stream {
        let events = chunks::events_of(answer, shell(&app, "chat.completion.chunk"), choice.streams_usage());
        return Ok(Sse::new(events).into_response());
    }
    chunks::whole(answer, shell(&app, "chat.completion")).await.map(|value| Json(value).into_response())
}

/// An answer's object, without what is answered.
fn shell(app: &App, object: &str) -> Value {
    let id = format!("chatcmpl-{:016x}", unique());
    json!({ "id": id, "object": object, "created": now(), "model": app.options.model_id })
}

/// A number that no other answer of this process has, and hardly one of another.
pub(super) fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let clock = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64);
    clock.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What the model is asked.
fn ask(request: ChatRequest) -> Result<Ask, ApiError> {
    for (field, value) in [("functions", &request.functions), ("function_call", &request.function_call)] {
        if value.is_some() {
            let message = format!("`{field}` is not supported; `tools` and `tool_choice` are");
            return Err(ApiError::invalid(Some(field), message));
        }
    }
    let effort = effort(request.reasoning_effort.as_deref(), "reasoning_effort")?;
    let definitions = functions(request.tools.unwrap_or_default())?;
    let calls = Calls::read(definitions, request.tool_choice.as_ref(), request.parallel_tool_calls, &PLACES)?;
    let format = request.response_format.map_or(Ok(Format::Text), ChatFormat::read)?;
    let (instructions, said) = messages::read(&request.messages)?;
    Ok(Ask { effort, instructions, calls, format, said })
}

fn functions(tools: Vec<ToolDefinition>) -> Result<Vec<FunctionDefinition>, ApiError> {
    let function = |(index, tool): (usize, ToolDefinition)| match (tool.r#type.as_str(), tool.function) {
        ("function", Some(function)) => Ok(function),
        ("function", None) => {
            let param = format!("tools[{index}].function");
            Err(ApiError::invalid(Some(&param), "the tool's `function` is missing"))
        }
        (other, _) => {
            let param = format!("tools[{index}].type");
            Err(ApiError::invalid(Some(&param), format!("there are function tools only, not `{other}`")))
        }
    };
    tools.into_iter().enumerate().map(function).collect()
}
