//! What an answer should look like: `response_format` of chat completions, `text.format` of responses.
//!
//! The model is told of a format at the end of the developer message, as Harmony documents it,
//!
//! ```text
//! # Response Formats
//!
//! ## NAME
//!
//! // description
//! {"type":"object",…}
//! ```
//!
//! and the answer is held to it token by token: see [`form`](super::form).

use serde::Deserialize;

use super::error::ApiError;
use super::form::Hold;
use crate::generate::harmony::json::Json as Schema;

/// How the answer should look.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    /// As it comes.
    Text,
    /// JSON of this kind; its schema is in this field.
    Json(Named, String),
}

/// A schema and what it is called.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) schema: Option<Schema>,
}

/// `response_format` of chat completions.
#[derive(Debug, Deserialize)]
pub(super) struct ChatFormat {
    r#type: String,
    json_schema: Option<Named>,
}

impl ChatFormat {
    pub(super) fn read(self) -> Result<Format, ApiError> {
        of(&self.r#type, self.json_schema, "response_format", "response_format.json_schema.schema")
    }
}

/// The format called `kind`; `param` is the field that says so, `place` the one of a schema.
pub(super) fn of(kind: &str, named: Option<Named>, param: &str, place: &str) -> Result<Format, ApiError> {
    match (kind, named) {
        ("text", _) => Ok(Format::Text),
        ("json_object", _) => {
            let description = Some("The answer is one JSON object and nothing else.".into());
            let schema = Schema::Object(vec![("type".into(), Schema::String("object".into()))]);
            let named = Named { name: "json_object".into(), description, schema: Some(schema) };
            Ok(Format::Json(named, param.into()))
        }
        ("json_schema", Some(named)) => {
            let name = named.name.as_str();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                let message = format!("a format's name is letters, digits, `_` or `-`, not `{name}`");
                return Err(ApiError::invalid(Some(param), message));
            }
            Ok(Format::Json(named, place.into()))
        }
        ("json_schema", None) => {
            Err(ApiError::invalid(Some(param), format!("`{param}` is json_schema, but there is no schema with a name")))
        }
        (other, _) => {
            let message = format!("`{param}` is of type `{other}`; it may be text, json_object or json_schema");
            Err(ApiError::invalid(Some(param), message))
        }
    }
}

impl Format {
    /// What binds the answer.
    pub(super) fn hold(&self) -> Hold {
        match self {
            Format::Text => Hold::Nothing,
            Format::Json(named, place) => {
                let any = || Schema::Object(Vec::new());
                Hold::Schema(named.schema.clone().unwrap_or_else(any), place.clone())
            }
        }
    }

    /// What the model is told of it.
    pub(super) fn section(&self) -> Option<String> {
        let Format::Json(named, _) = self else { return None };
        let mut text = format!("# Response Formats\n\n## {}\n\n", named.name);
        for line in named.description.iter().flat_map(|description| description.lines()) {
            text += &format!("// {line}\n");
        }
        text += &named.schema.as_ref().map_or("{}".into(), Schema::to_string);
        Some(text)
    }
}
