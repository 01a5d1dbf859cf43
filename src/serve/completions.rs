//! `POST /v1/completions`: text goes on.

use std::convert::Infallible;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Piece};
use super::error::ApiError;
use super::prompt::Prompt;
use super::request::{Choice, body, submit};
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
    let events = submit(&app, Prompt::of(prompt), "prompt", sampling, choice.tokens_max(&app, count), &stops)?;
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
    let first = (!echoed.is_empty()).then(|| super::chat::event(&shell, &[("choices", choice(&echoed, None))]));
    let state = (answer, first.into_iter().collect::<std::collections::VecDeque<_>>(), false);
    stream::unfold(state, move |(mut answer, mut ready, mut over)| {
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
                    Ok(Piece::Text(text, _)) => {
                        ready.push_back(super::chat::event(&shell, &[("choices", choice(&text, None))]));
                    }
                    Ok(Piece::End(end)) => {
                        ready.push_back(super::chat::event(&shell, &[("choices", choice("", Some(end.reason)))]));
                        if usage {
                            let fields = [("choices", json!([])), ("usage", end.usage.json())];
                            ready.push_back(super::chat::event(&shell, &fields));
                        }
                        ready.push_back(Event::default().data("[DONE]"));
                        over = true;
                    }
                    Ok(Piece::Thought(_) | Piece::Call { .. }) => {}
                    Err(error) => {
                        ready.push_back(Event::default().data(error.json().to_string()));
                        over = true;
                    }
                }
            }
        }
    })
}
