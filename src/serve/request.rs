//! What both kinds of requests have in common: JSON bodies with named errors, sampling, and the way into the engine.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::App;
use super::error::ApiError;
use super::prompt::Prompt;
use crate::generate::engine::{EngineEvent, Job, Sink, SubmitError};
use crate::generate::sampling::SamplingParams;
use crate::generate::stop::{StopError, TextStop};

/// Fields that choose tokens; unknown fields are passed over, as clients send what other servers know.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Choice {
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) stream: bool,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) max_tokens: Option<usize>,
    pub(super) max_completion_tokens: Option<usize>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<u32>,
    pub(super) min_p: Option<f64>,
    pub(super) n: Option<u32>,
    pub(super) seed: Option<u64>,
    pub(super) stop: Option<OneOrMany>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) repetition_penalty: Option<f64>,
    pub(super) logit_bias: Option<BTreeMap<String, f64>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub(super) include_usage: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A body's JSON; a wrong field is named.
pub(super) fn body<T: DeserializeOwned>(app: &App, body: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    let bytes = body.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(app.options.body_bytes_max),
        _ => ApiError::invalid(None, "the request body could not be read"),
    })?;
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            // The text is no JSON at all, or the whole is of another kind.
            "." | "?" => ApiError::invalid(None, format!("the request body: {}", error.inner())),
            path => ApiError::invalid(Some(path), format!("`{path}`: {}", error.inner())),
        }
    })
}

impl Choice {
    /// Checks what holds for every request: the model's name, and one choice.
    pub(super) fn check(&self, app: &App) -> Result<(), ApiError> {
        match &self.model {
            None => return Err(ApiError::invalid(Some("model"), "`model` is missing")),
            Some(id) if *id != app.options.model_id => return Err(ApiError::model(id)),
            Some(_) => {}
        }
        match self.n {
            Some(n) if n != 1 => {
                Err(ApiError::invalid(Some("n"), format!("`n` is {n}; there is one choice a request")))
            }
            _ => Ok(()),
        }
    }

    /// The sampling parameters; without a seed, one of the clock's.
    pub(super) fn sampling(&self, logprobs: Option<u8>) -> Result<SamplingParams, ApiError> {
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
        let defaults = SamplingParams::default();
        let bias = |(id, bias): (&String, &f64)| {
            let wrong = || ApiError::invalid(Some("logit_bias"), format!("`logit_bias`: `{id}` is no token id"));
            Ok((id.parse::<u32>().map_err(|_| wrong())?, *bias))
        };
        let params = SamplingParams {
            logit_bias: self.logit_bias.iter().flatten().map(bias).collect::<Result<_, ApiError>>()?,
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            seed: self.seed.unwrap_or_else(clock),
            logprobs,
        };
        params.validate()?;
        Ok(params)
    }

    /// Strings that end the text.
    pub(super) fn stops(&self) -> Result<TextStop, ApiError> {
        let strings = match &self.stop {
            None => Vec::new(),
            Some(OneOrMany::One(text)) => vec![text.clone()],
            Some(OneOrMany::Many(texts)) => texts.clone(),
        };
        TextStop::new(&strings).map_err(|e: StopError| ApiError::invalid(Some("stop"), format!("`stop`: {e}")))
    }

    /// Most tokens of the answer to a prompt of so many.
    pub(super) fn tokens_max(&self, app: &App, prompt: usize) -> usize {
        let asked = self.max_completion_tokens.or(self.max_tokens).unwrap_or(usize::MAX);
        let room = app.engine.options().context.saturating_sub(prompt).max(1);
        asked.min(app.options.max_tokens).min(room)
    }

    /// Whether a stream ends in a chunk of usage.
    pub(super) fn streams_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage)
    }
}

/// Hands the engine's events to a handler; a dropped receiver ends the sequence.
struct Pipe(UnboundedSender<EngineEvent>);

impl Sink for Pipe {
    fn event(&mut self, event: EngineEvent) {
        // Nobody may be left to read it; the engine looks before the next step.
        let _ = self.0.send(event);
    }

    fn is_open(&self) -> bool {
        !self.0.is_closed()
    }
}

/// Queues a prompt.  The channel holds at most as many events as tokens were allowed.
pub(super) fn submit(
    app: &App,
    prompt: Prompt,
    sampling: SamplingParams,
    max_tokens: usize,
    stop_tokens: &[u32],
) -> Result<UnboundedReceiver<EngineEvent>, ApiError> {
    let (sender, receiver) = unbounded_channel();
    let (sink, stop_tokens) = (Box::new(Pipe(sender)), stop_tokens.to_vec());
    let Prompt { ids, param, constraint } = prompt;
    let job = Job { prompt: ids, sampling, max_tokens, stop_tokens, constraint, sink };
    app.engine.submit(job).map_err(|error| match error {
        SubmitError::Empty | SubmitError::TooLong { .. } | SubmitError::TokenOutOfRange { .. } => {
            ApiError::from(error).at(param)
        }
        _ => error.into(),
    })?;
    Ok(receiver)
}
