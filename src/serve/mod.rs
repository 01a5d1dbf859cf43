//! The model over HTTP, as OpenAI's API speaks.
//!
//! ```text
//! POST /v1/chat/completions   conversations, tools, reasoning      chat
//! POST /v1/completions        text goes on                         completions
//! POST /v1/responses          the same as typed items, kept        responses
//! GET  /v1/models, /health, /metrics
//! ```
//!
//! A request becomes a job of the [`Engine`]; its events come back over a channel and become one answer or a stream of
//! server-sent events.  A client that goes away drops the channel, and with it the sequence.
//!
//! * Requests beyond the engine's queue get 429 and `Retry-After`; bodies have a limit; a token, if one is set, is asked for
//!   on every path but `/health`.
//! * Errors have OpenAI's shape: see [`error`].

mod answer;
mod calls;
mod chat;
mod completions;
pub mod error;
pub mod files;
mod format;
mod prompt;
mod request;
mod responses;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use self::error::ApiError;
use crate::generate::engine::Engine;
use crate::generate::tokenizer::Tokenizer;

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The name by which clients ask for the model.
    pub model_id: String,
    /// Largest request body, bytes.
    pub body_bytes_max: usize,
    /// Longest time of a request.
    pub request_time_max: Duration,
    /// Most tokens of an answer; requests may ask for less.
    pub max_tokens: usize,
    /// What clients must present as a bearer token.
    pub token: Option<String>,
}

/// What every handler sees.
struct App {
    engine: Engine,
    options: ServeOptions,
    tokenizer: Tokenizer,
    responses: responses::store::Store,
}

type Shared = Arc<App>;

/// Serves `engine` on `listener` until `shutdown` resolves, then ends what still runs.
pub async fn serve(
    listener: tokio::net::TcpListener,
    engine: Engine,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = router(engine, options);
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(shutdown)
        .await
}

/// The routes over an engine.
pub fn router(engine: Engine, options: ServeOptions) -> Router {
    let limit = DefaultBodyLimit::max(options.body_bytes_max);
    let app = Arc::new(App { engine, options, tokenizer: Tokenizer::o200k_harmony(), responses: Default::default() });
    Router::new()
        .route("/v1/chat/completions", post(chat::handle))
        .route("/v1/completions", post(completions::handle))
        .merge(responses::routes())
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(app.clone(), authorised))
        .route("/health", get(health))
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .fallback(|request: Request| async move { ApiError::route(request.uri().path()) })
        .layer(limit)
        .with_state(app)
}

/// Lets through who presents the token, if there is one.
async fn authorised(State(app): State<Shared>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match &app.options.token {
        Some(token) if !given.is_some_and(|given| equal(given.as_bytes(), token.as_bytes())) => {
            ApiError::unauthorised().into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether two byte strings are equal, in a time that does not tell where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |found, (a, b)| found | (a ^ b)) == 0
}

/// Seconds since 1970.
fn now() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

fn model_object(app: &App) -> Value {
    json!({ "id": app.options.model_id, "object": "model", "created": 0, "owned_by": "openai" })
}

async fn models(State(app): State<Shared>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [model_object(&app)] }))
}

async fn model(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    if id == app.options.model_id { Ok(Json(model_object(&app))) } else { Err(ApiError::model(&id)) }
}

async fn health(State(app): State<Shared>) -> Json<Value> {
    Json(json!({ "status": "ok", "engine": app.engine.status() }))
}

/// Prometheus text.
async fn metrics(State(app): State<Shared>) -> Response {
    let (counters, status) = (app.engine.counters(), app.engine.status());
    let totals = [
        ("jobs", "Requests taken", &counters.jobs),
        ("refused", "Requests refused because the queue was full", &counters.refused),
        ("cancelled", "Sequences whose client went away", &counters.cancelled),
        ("prompt_tokens", "Tokens of prompts that were run", &counters.prompt_tokens),
        ("cached_tokens", "Tokens of prompts that were in the caches", &counters.cached_tokens),
        ("generated_tokens", "Tokens generated", &counters.generated_tokens),
        ("steps", "Passes over the weights", &counters.steps),
    ];
    let mut text = String::new();
    for (name, help, counter) in totals {
        let value = counter.load(Ordering::Relaxed);
        text += &format!("# HELP gptoss_{name} {help}.\n# TYPE gptoss_{name} counter\ngptoss_{name}_total {value}\n");
    }
    for (name, help, value) in [
        ("active", "Sequences that run", status.active),
        ("queued", "Requests that wait", status.queued),
        ("lanes", "Sequences that may run at once", status.lanes),
    ] {
        text += &format!("# HELP gptoss_{name} {help}.\n# TYPE gptoss_{name} gauge\ngptoss_{name} {value}\n");
    }
    text += "# EOF\n";
    let content = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (StatusCode::OK, [(header::CONTENT_TYPE, content)], text).into_response()
}
