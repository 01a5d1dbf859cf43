//! What holds for every request, whatever its path: it is counted, may have to show a token, and its body comes in whole, in
//! time and within its size; streams that are silent send comments.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::error::ApiError;
use super::traffic::Call;

/// Times the size limit: how much of a body that is too large is read and thrown away, so that the client, which may look
/// at no answer before it has sent everything, sees why.
const THROWN_AWAY: usize = 8;

/// Bounds of `Retry-After`, seconds.
const RETRY_SECONDS: (f64, f64) = (1.0, 60.0);

/// A comment, as server-sent events have it.
const COMMENT: &[u8] = b": waiting\n\n";

/// Counts a request, says when to try again, and keeps silent streams alive.
pub(super) async fn watched(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_string();
    let mut call = Call::begin(app.clone(), path);
    let mut response = next.run(request).await;
    let status = response.status();
    call.status = Some(status.as_u16());
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let (least, most) = RETRY_SECONDS;
        let seconds = app.engine.place_free_in().map_or(least, |time| time.as_secs_f64().ceil().clamp(least, most));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds as u64));
    }
    let is_stream =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"text/event-stream");
    if !is_stream {
        return response;
    }
    let (parts, body) = response.into_parts();
    let silence = app.options.limits.silence_max;
    Response::from_parts(parts, Body::from_stream(commented(body.into_data_stream(), silence, call)))
}

/// A stream's events, with comments in its silences.  Its request is under way until it is dropped.
fn commented(
    events: BodyDataStream,
    silence: Duration,
    call: Call,
) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    stream::unfold((events, call), move |(mut events, call)| async move {
        match timeout(silence, events.next()).await {
            Err(_) => Some((Ok(Bytes::from_static(COMMENT)), (events, call))),
            Ok(Some(event)) => Some((event, (events, call))),
            Ok(None) => None,
        }
    })
}

/// Lets through who presents the token, if there is one.
pub(super) async fn authorised(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match &app.options.token {
        Some(token) if !given.is_some_and(|given| equal(given.as_bytes(), token.as_bytes())) => {
            let room = app.options.body_bytes_max;
            let _ = body(request, 0, room, app.options.limits.read_time_max).await;
            ApiError::unauthorised().into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether two byte strings are equal, in a time that does not tell where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |found, (a, b)| found | (a ^ b)) == 0
}

/// Reads a body before anything is done about it.
pub(super) async fn whole(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let (max, time) = (app.options.body_bytes_max, app.options.limits.read_time_max);
    let (parts, sent) = request.into_parts();
    let head = Request::from_parts(parts.clone(), sent);
    match body(head, max, max.saturating_mul(THROWN_AWAY), time).await {
        Ok(bytes) => next.run(Request::from_parts(parts, bytes.into())).await,
        Err(error) => error.into_response(),
    }
}

/// A request's body of at most `max` bytes; of a longer one, at most `thrown_away` bytes are read.
async fn body(request: Request, max: usize, thrown_away: usize, time: Duration) -> Result<Vec<u8>, ApiError> {
    let (end, declared) = (Instant::now() + time, declared(request.headers()));
    // Who waits for a word before sending has it in the answer.
    let waits = request.headers().contains_key(header::EXPECT);
    if declared.is_some_and(|bytes| bytes > max && (waits || bytes > thrown_away)) {
        return Err(ApiError::too_large(max));
    }
    let mut chunks = request.into_body().into_data_stream();
    let (mut bytes, mut taken) = (Vec::new(), 0usize);
    loop {
        let is_over = taken > max;
        match timeout_at(end, chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                taken = taken.saturating_add(chunk.len());
                if taken <= max {
                    bytes.extend_from_slice(&chunk);
                } else if taken > thrown_away {
                    return Err(ApiError::too_large(max));
                }
            }
            _ if is_over => return Err(ApiError::too_large(max)),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(_))) => return Err(ApiError::invalid(None, "the request body could not be read")),
            Err(_) => return Err(ApiError::late()),
        }
    }
}

/// The length that a head announces.
fn declared(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
