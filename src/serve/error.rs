//! Errors as OpenAI's API words them: `{"error": {"message", "type", "param", "code"}}`.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::generate::engine::SubmitError;
use crate::generate::sampling::ParamError;

/// An error of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, kind, code, param: None, message: message.into() }
    }

    /// A request that is not as it must be; `param` names the field.
    pub fn invalid(param: Option<&str>, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message);
        Self { param: param.map(String::from), ..error }
    }

    /// The same about another field.
    pub fn at(self, param: &str) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// A body that is too large.
    pub fn too_large(bytes: usize) -> Self {
        let message = format!("the request body is larger than {bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", Some("request_too_large"), message)
    }

    /// No path of ours.
    pub fn route(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("unknown_url"), format!("there is no {path}"))
    }

    /// A path of ours with another method.
    pub fn method() -> Self {
        let message = "this path takes another method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", Some("method_not_allowed"), message)
    }

    /// A model that is not here.
    pub fn model(id: &str) -> Self {
        let message = format!("the model `{id}` does not exist; GET /v1/models lists what does");
        let error = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("model_not_found"), message);
        Self { param: Some("model".into()), ..error }
    }

    /// A response that is not kept, or no longer.
    pub fn response(id: &str) -> Self {
        let message = format!("there is no response `{id}`; the oldest are forgotten first");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("response_not_found"), message)
    }

    /// The same of the one that a request would go on from.
    pub fn previous(id: &str) -> Self {
        let error = Self { code: Some("previous_response_not_found"), ..Self::response(id) };
        Self { status: StatusCode::BAD_REQUEST, ..error.at("previous_response_id") }
    }

    /// The token is missing or wrong.
    pub fn unauthorised() -> Self {
        let message = "the bearer token is missing or wrong";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", Some("invalid_api_key"), message)
    }

    /// A body that did not come in time.
    pub fn late() -> Self {
        let message = "the request body did not come in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", Some("body_timeout"), message)
    }

    /// Too many connections.
    pub fn crowded() -> Self {
        let message = "there are too many connections";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("too_many_connections"), message)
    }

    /// The engine failed.
    pub fn engine(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", Some("engine_failed"), message)
    }

    /// The request took too long.
    pub fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "server_error", Some("timeout"), "the request took too long")
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error's object.
    pub fn json(&self) -> serde_json::Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": self.param, "code": self.code } })
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::Full { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full"), message)
            }
            SubmitError::TooLong { .. } => {
                Self { code: Some("context_length_exceeded"), ..Self::invalid(Some("messages"), message) }
            }
            SubmitError::Sampling(error) => error.into(),
            SubmitError::Empty | SubmitError::TokenOutOfRange { .. } => Self::invalid(Some("prompt"), message),
            SubmitError::Vocabulary { .. } => Self::invalid(None, message),
            SubmitError::NoTokens => Self::invalid(Some("max_tokens"), message),
            SubmitError::Stopped(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("engine_stopped"), message)
            }
        }
    }
}

impl From<ParamError> for ApiError {
    fn from(error: ParamError) -> Self {
        let message = error.to_string();
        // The field's name is between the first two backquotes.
        let param = message.split('`').nth(1).map(String::from);
        Self { param, ..Self::invalid(None, message) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}
