//! `/v1/responses`: answers as lists of typed items, kept for a while so that the next request can go on from them.
//!
//! ```text
//! POST   /v1/responses                    an answer, or its stream of typed events     request ─► items ─► output
//! POST   /v1/responses/input_tokens       how many tokens its prompt would have
//! GET    /v1/responses/{id}               a stored answer                              store
//! DELETE /v1/responses/{id}
//! GET    /v1/responses/{id}/input_items   what it was asked
//! POST   /v1/responses/{id}/cancel        refused: nothing runs in the background
//! ```
//!
//! Reasoning is an item of type `reasoning` whose content is the model's own text; there are no summaries.  What this server
//! cannot do is refused with the field's name, and so is a field that nobody knows.

mod items;
mod output;
mod request;
pub(super) mod store;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};

use self::output::Output;
use self::request::{ResponsesRequest, Turn};
use self::store::Stored;
use super::answer::Answer;
use super::error::ApiError;
use super::prompt::Prompt;
use super::request::{body, submit};
use super::{App, Shared, form};
use crate::generate::harmony::STOP_TOKENS_OF_ACTIONS;

/// The paths.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/responses", post(create))
        .route("/v1/responses/input_tokens", post(count))
        .route("/v1/responses/{id}", get(retrieve).delete(remove))
        .route("/v1/responses/{id}/input_items", get(input_items))
        .route("/v1/responses/{id}/cancel", post(cancel))
}

async fn create(State(app): State<Shared>, bytes: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    let request: ResponsesRequest = body(&app, bytes)?;
    let (turn, ask) = request.read(&app)?;
    let (sampling, stop) = (turn.choice.sampling(None)?, turn.choice.stops()?);
    let (calls_max, deadline) = (ask.calls.max(), Instant::now() + app.options.request_time_max);
    let constraint = form::constraint(&app, &ask, deadline).await?;
    let prompt = Prompt { ids: ask.ids(app.tokenizer, "input")?, param: "input", constraint };
    let count = prompt.ids.len();
    let tokens_max = turn.choice.tokens_max(&app, count);
    let events = submit(&app, prompt, sampling, tokens_max, &STOP_TOKENS_OF_ACTIONS)?;
    let mut answer = Answer::of_messages(events, deadline, app.tokenizer, stop, count, calls_max);
    let mut output = Output::begin(turn.shell.clone());
    if turn.choice.stream {
        return Ok(Sse::new(events_of(app, turn, answer, output)).into_response());
    }
    while !output.is_over() {
        output.piece(answer.next().await?);
        output.events().clear();
    }
    let response = output.response();
    keep(&app, turn, &output);
    Ok(Json(response).into_response())
}

/// Keeps an answer that is complete, if it is to be kept.
fn keep(app: &App, mut turn: Turn, output: &Output) {
    if !turn.store {
        return;
    }
    turn.context.extend(output.items().iter().cloned());
    app.responses.insert(turn.id, Stored { response: output.response(), context: turn.context, input: turn.input });
}

/// Server-sent events: each typed and numbered; the last one tells how it ended.
fn events_of(
    app: Arc<App>,
    turn: Turn,
    answer: Answer,
    output: Output,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((app, Some(turn), answer, output), |(app, mut turn, mut answer, mut output)| async move {
        loop {
            if let Some(event) = output.events().pop_front() {
                let kind = event["type"].as_str().unwrap_or_default().to_string();
                let event = Event::default().event(kind).data(event.to_string());
                return Some((Ok(event), (app, turn, answer, output)));
            }
            if output.is_over() {
                return None;
            }
            match answer.next().await {
                Err(error) => output.fail(&error),
                Ok(piece) => {
                    output.piece(piece);
                    // Before the last event is seen: whoever has seen it may go on from the answer at once.
                    if output.is_over()
                        && let Some(turn) = turn.take()
                    {
                        keep(&app, turn, &output);
                    }
                }
            }
        }
    })
}

async fn count(State(app): State<Shared>, bytes: Result<Bytes, BytesRejection>) -> Result<Json<Value>, ApiError> {
    let request: ResponsesRequest = body(&app, bytes)?;
    let (_, ask) = request.read(&app)?;
    let tokens = ask.ids(app.tokenizer, "input")?.len();
    Ok(Json(json!({ "object": "response.input_tokens", "input_tokens": tokens })))
}

async fn retrieve(
    State(app): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    if query.is_some_and(|query| query.split('&').any(|pair| pair == "stream=true")) {
        return Err(ApiError::invalid(Some("stream"), "a stored response is given whole; its events are not kept"));
    }
    Ok(Json(stored(&app, &id)?.response.clone()))
}

async fn remove(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    app.responses.remove(&id).ok_or_else(|| ApiError::response(&id))?;
    Ok(Json(json!({ "id": id, "object": "response.deleted", "deleted": true })))
}

async fn cancel(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    stored(&app, &id)?;
    Err(ApiError::invalid(None, "only responses in the background can be cancelled; close the connection of others"))
}

async fn input_items(
    State(app): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let stored = stored(&app, &id)?;
    items::page(&stored.context[stored.input.clone()], &query.unwrap_or_default()).map(Json)
}

fn stored(app: &App, id: &str) -> Result<Arc<Stored>, ApiError> {
    app.responses.get(id).ok_or_else(|| ApiError::response(id))
}
