//! `POST /v1/completions`: text goes on.

use std::convert::Infallible;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::Stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Piece};
use super::error::ApiError;
use super::prompt::Prompt;
use super::request::{Choice, body, submit};
use super::stream::{self, event, usage_event};
use super::{App, Shared, now};
use crate::generate::tokenizer::special;

#[derive(Debug, Deserialize)]
struct CompletionRequest {
    #[serde(flatten)]
    choice: Choice,
    prompt: Given,
    #[serde(default)]
    echo: bool,
}

/// Text, ids, or a list of one text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Given {
    Text(String),
    Ids(Vec<u32>),
    Texts(Vec<String>),
}

/// Tokens of an answer if nobody says otherwise, as OpenAI has it here.
const TOKENS_DEFAULT: usize = 16;

pub(super) async fn handle(
    State(app): State<Shared>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let mut request: CompletionRequest = body(&app, bytes)?;
    request.choice.check(&app)?;
    request.choice.max_tokens.get_or_insert(TOKENS_DEFAULT);
    let prompt = ids(&app, &request.prompt)?;
    let (choice, count) = (&request.choice, prompt.len());
    let deadline = Instant::now() + app.options.request_time_max;
    let (sampling, stop) = (choice.sampling(None)?, choice.stops()?);
    let echoed = if request.echo { app.tokenizer.decode(&prompt).unwrap_or_default() } else { String::new() };
    let stops = [special::END_OF_TEXT, special::RETURN, special::CALL];
    let prompt = Prompt { ids: prompt, param: "prompt", constraint: None };
    let events = submit(&app, prompt, sampling, choice.tokens_max(&app, count), &stops)?;
    let answer = Answer::of_text(events, deadline, app.tokenizer, stop, count);
    let shell = json!({
        "id": format!("cmpl-{:016x}", super::chat::unique()),
        "object": "text_completion",
        "created": now(),
        "model": app.options.model_id,
    });
    if choice.stream {
        return Ok(Sse::new(events_of(answer, shell, echoed, choice.streams_usage())).into_response());
    }
    whole(answer, shell, echoed).await.map(|value| Json(value).into_response())
}

fn ids(app: &App, prompt: &Given) -> Result<Vec<u32>, ApiError> {
    let text = match prompt {
        Given::Ids(ids) => return Ok(ids.clone()),
        Given::Text(text) => text,
        Given::Texts(texts) => match texts.as_slice() {
            [text] => text,
            _ => return Err(ApiError::invalid(Some("prompt"), "`prompt` may have one text")),
        },
    };
    app.tokenizer.encode(text).map_err(|e| ApiError::invalid(Some("prompt"), e.to_string()))
}

fn choice(text: &str, reason: Option<&str>) -> Value {
    json!([{ "index": 0, "text": text, "logprobs": null, "finish_reason": reason }])
}

async fn whole(mut answer: Answer, mut shell: Value, mut text: String) -> Result<Value, ApiError> {
    loop {
        match answer.next().await? {
            Piece::Text(piece, _) => text += &piece,
            Piece::End(end) => {
                shell["choices"] = choice(&text, Some(end.reason));
                shell["usage"] = end.usage.json();
                return Ok(shell);
            }
            Piece::Thought(_) | Piece::Call { .. } => {}
        }
    }
}

/// Server-sent events of an answer, the last one `[DONE]`.
fn events_of(
    answer: Answer,
    shell: Value,
    echoed: String,
    usage: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let first = (!echoed.is_empty()).then(|| event(&shell, &[("choices", choice(&echoed, None))]));
    stream::events_of(answer, first.into_iter().collect(), move |piece| match piece {
        Piece::Text(text, _) => vec![event(&shell, &[("choices", choice(text, None))])],
        Piece::End(end) => {
            let last = event(&shell, &[("choices", choice("", Some(end.reason)))]);
            [last].into_iter().chain(usage.then(|| usage_event(&shell, end.usage))).collect()
        }
        Piece::Thought(_) | Piece::Call { .. } => Vec::new(),
    })
}
