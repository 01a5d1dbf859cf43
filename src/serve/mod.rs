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
//! * Requests beyond the engine's queue get 429 and `Retry-After`; heads, bodies, connections and times have limits
//!   ([`Limits`]); a token, if one is set, is asked for on every path but `/health`.
//! * A client that takes nothing of its answer stalls nobody: the engine never waits for it, what it has not taken is bounded
//!   by the tokens of a request, and after a time its connection is closed.
//! * Errors have OpenAI's shape: see [`error`].  A head that is no HTTP, too long or late is answered, if at all, without one.

mod answer;
mod calls;
mod chat;
mod completions;
pub mod error;
pub mod files;
mod form;
mod format;
mod limits;
mod listen;
#[cfg(feature = "metrics")]
mod metrics;
mod patient;
mod prompt;
mod request;
mod responses;
mod stream;
mod traffic;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub use self::limits::Limits;
pub use self::listen::Ended;

use self::error::ApiError;
use self::traffic::Traffic;
use crate::generate::constraint;
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
    /// What a client may take otherwise.
    pub limits: Limits,
}

/// Schemas that are compiled at once: one that means ill takes seconds, and leaves the other cores alone.
const COMPILERS: usize = 2;

/// What every handler sees.
struct App {
    engine: Engine,
    options: ServeOptions,
    tokenizer: Tokenizer,
    responses: responses::store::Store,
    traffic: Traffic,
    /// Schemas that may be compiled at once.
    compilers: Arc<Semaphore>,
}

type Shared = Arc<App>;

/// Serves `engine` on `listener` until `shutdown` resolves, then lets answers under way come to their end.
pub async fn serve(
    listener: tokio::net::TcpListener,
    engine: Engine,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Ended {
    let app = Arc::new(App {
        engine,
        options,
        tokenizer: Tokenizer::o200k_harmony(),
        responses: Default::default(),
        traffic: Traffic::default(),
        compilers: Arc::new(Semaphore::new(COMPILERS)),
    });
    // Before anybody asks for it.
    tokio::task::spawn_blocking(constraint::prepare);
    let refusal = Router::new().fallback(|| async { ApiError::crowded() });
    listen::listen(listener, app.clone(), routes(&app), watched(refusal, &app), shutdown).await
}

/// The routes over an engine.
fn routes(app: &Shared) -> Router {
    let limit = DefaultBodyLimit::max(app.options.body_bytes_max);
    let routes = Router::new()
        .route("/v1/chat/completions", post(chat::handle))
        .route("/v1/completions", post(completions::handle))
        .merge(responses::routes())
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model));
    #[cfg(feature = "metrics")]
    let routes = routes.route("/metrics", get(metrics::handle));
    let routes = routes
        .layer(limit)
        .layer(middleware::from_fn_with_state(app.clone(), watch::whole))
        .layer(middleware::from_fn_with_state(app.clone(), watch::authorised))
        .route("/health", get(health))
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .fallback(|request: Request| async move { ApiError::route(request.uri().path()) });
    watched(routes, app)
}

/// The routes, every request counted.
fn watched(routes: Router<Shared>, app: &Shared) -> Router {
    routes.layer(middleware::from_fn_with_state(app.clone(), watch::watched)).with_state(app.clone())
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

async fn health(State(app): State<Shared>) -> (StatusCode, Json<Value>) {
    let engine = app.engine.status();
    match app.engine.stopped() {
        None => (StatusCode::OK, Json(json!({ "status": "ok", "engine": engine }))),
        Some(why) => {
            let body = json!({ "status": "stopped", "reason": why, "engine": engine });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
    }
}
