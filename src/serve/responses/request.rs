//! What a request for a response may hold, and what it makes of it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::calls::{Calls, FunctionDefinition, Places};
use super::super::error::ApiError;
use super::super::format::{self, Format, Named};
use super::super::prompt::{Ask, effort};
use super::super::request::Choice;
use super::super::{App, now};
use super::items;
use crate::generate::harmony::json::Json as Schema;

/// Pairs of `metadata` at most: OpenAI's limit.
const METADATA_MAX: usize = 16;

/// A request.  Fields that only say who asks are given back; fields that nobody knows are refused.
#[derive(Debug, Deserialize)]
pub(super) struct ResponsesRequest {
    #[serde(flatten)]
    choice: Choice,
    input: Option<Input>,
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    reasoning: Option<Reasoning>,
    text: Option<TextField>,
    tools: Option<Vec<Schema>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    store: Option<bool>,
    previous_response_id: Option<String>,
    metadata: Option<Map<String, Value>>,
    user: Option<String>,
    safety_identifier: Option<String>,
    prompt_cache_key: Option<String>,
    truncation: Option<String>,
    service_tier: Option<String>,
    include: Option<Vec<String>>,
    background: Option<bool>,
    top_logprobs: Option<u8>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Items(Vec<Value>),
}

#[derive(Debug, Deserialize)]
struct Reasoning {
    effort: Option<String>,
    summary: Option<String>,
    generate_summary: Option<String>,
}

#[derive(Debug, Deserialize)]
struct TextField {
    format: Option<Schema>,
    verbosity: Option<String>,
}

/// What is needed once the prompt is in: where to answer, and what to keep.
pub(super) struct Turn {
    pub(super) id: String,
    pub(super) choice: Choice,
    pub(super) store: bool,
    /// The response without its output.
    pub(super) shell: Value,
    /// The conversation, this request's items the last of it.
    pub(super) context: Vec<Value>,
    pub(super) input: Range<usize>,
}

const PLACES: Places = Places { function: "name", schema: "parameters", choice: "/name" };

impl ResponsesRequest {
    /// Checks it, finds what it goes on from, and says what the model is asked.
    pub(super) fn read(mut self, app: &App) -> Result<(Turn, Ask), ApiError> {
        self.check(app)?;
        self.choice.max_tokens = self.max_output_tokens;
        let mut context = match &self.previous_response_id {
            None => Vec::new(),
            Some(id) => app.responses.get(id).ok_or_else(|| ApiError::previous(id))?.context.clone(),
        };
        let start = context.len();
        match self.input.take() {
            Some(Input::Text(text)) => context.push(items::of_text(&text)),
            Some(Input::Items(given)) => {
                let given = given.into_iter().enumerate().map(|(index, item)| items::normal(item, index));
                context.extend(given.collect::<Result<Vec<_>, _>>()?);
            }
            None => {}
        }
        if context.is_empty() {
            return Err(ApiError::invalid(Some("input"), "`input` is missing or empty"));
        }
        let effort_name = self.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref());
        let effort = effort(effort_name, "reasoning.effort")?;
        let definitions = functions(self.tools.as_deref().unwrap_or_default())?;
        let calls = Calls::read(definitions, self.tool_choice.as_ref(), self.parallel_tool_calls, &PLACES)?;
        let format = self.format()?;
        let (more, said) = items::messages(&context)?;
        // Instructions are this request's; those of the messages stay with the conversation.
        let instructions = self.instructions.clone().into_iter().chain(more).collect();
        let id = items::new_id("resp");
        let shell = self.shell(app, &id, effort.into());
        let (store, input) = (self.store.unwrap_or(true), start..context.len());
        let turn = Turn { id, choice: self.choice, store, shell, context, input };
        Ok((turn, Ask { effort, instructions, calls, format, said }))
    }

    /// Refuses what cannot be done.
    fn check(&self, app: &App) -> Result<(), ApiError> {
        self.choice.check(app)?;
        let unknown = [
            ("max_tokens", self.choice.max_tokens.is_some()),
            ("max_completion_tokens", self.choice.max_completion_tokens.is_some()),
        ];
        let unknown = unknown.iter().find(|(_, is_there)| *is_there).map(|(name, _)| *name);
        // `null` asks for nothing.
        let rest = || self.rest.iter().find(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str());
        if let Some(name) = unknown.or_else(rest) {
            return Err(ApiError::invalid(Some(name), format!("unknown parameter: `{name}`")));
        }
        let (reasoning, text) = (self.reasoning.as_ref(), self.text.as_ref());
        let summary =
            reasoning.and_then(|reasoning| reasoning.summary.as_ref().or(reasoning.generate_summary.as_ref()));
        let is = |value: &Option<String>, known: &[&str]| value.as_deref().is_none_or(|value| known.contains(&value));
        let cases = [
            ("background", self.background == Some(true), "an answer is made while its client waits"),
            ("include", self.include.as_ref().is_some_and(|i| !i.is_empty()), "there is nothing to include"),
            ("top_logprobs", self.top_logprobs.unwrap_or(0) > 0, "chat completions have log-probabilities"),
            ("truncation", !is(&self.truncation, &["disabled"]), "a conversation is never cut; it may be `disabled`"),
            ("service_tier", !is(&self.service_tier, &["auto", "default"]), "there is one tier"),
            ("reasoning.summary", summary.is_some(), "reasoning is given as it is, without a summary"),
            (
                "text.verbosity",
                text.is_some_and(|text| !is(&text.verbosity, &["medium"])),
                "the model knows none but `medium`",
            ),
        ];
        if let Some((param, _, reason)) = cases.iter().find(|(_, is_asked, _)| *is_asked) {
            return Err(ApiError::invalid(Some(param), format!("`{param}` is not supported: {reason}")));
        }
        let metadata = self.metadata.iter().flatten();
        if metadata.clone().count() > METADATA_MAX || metadata.clone().any(|(_, value)| !value.is_string()) {
            let message = format!("`metadata` holds at most {METADATA_MAX} texts");
            return Err(ApiError::invalid(Some("metadata"), message));
        }
        Ok(())
    }

    fn format(&self) -> Result<Format, ApiError> {
        let Some(given) = self.text.as_ref().and_then(|text| text.format.as_ref()) else { return Ok(Format::Text) };
        let text = |field: &str| given.text(field).map(String::from);
        let named = given.get("schema").zip(text("name"));
        let named =
            named.map(|(schema, name)| Named { name, description: text("description"), schema: Some(schema.clone()) });
        format::of(given.text("type").unwrap_or_default(), named, "text.format", "text.format.schema")
    }

    /// The response's object as far as the request decides it.
    fn shell(&self, app: &App, id: &str, effort: &str) -> Value {
        let tools: Vec<Value> = self.tools.iter().flatten().map(tool_object).collect();
        let format = self.text.as_ref().and_then(|text| text.format.as_ref());
        let format = format.map_or(json!({ "type": "text" }), |format| json!(format));
        json!({
            "id": id,
            "object": "response",
            "created_at": now(),
            "status": "in_progress",
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "model": app.options.model_id,
            "output": [],
            "parallel_tool_calls": self.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": self.previous_response_id,
            "reasoning": { "effort": effort, "summary": null },
            "store": self.store.unwrap_or(true),
            "temperature": self.choice.temperature.unwrap_or(1.0),
            "text": { "format": format, "verbosity": "medium" },
            "tool_choice": self.tool_choice.clone().unwrap_or("auto".into()),
            "tools": tools,
            "top_p": self.choice.top_p.unwrap_or(1.0),
            "truncation": "disabled",
            "usage": null,
            "user": self.user,
            "safety_identifier": self.safety_identifier,
            "prompt_cache_key": self.prompt_cache_key,
            "metadata": self.metadata.clone().unwrap_or_default(),
        })
    }
}

/// A tool as it is given back, with the fields that were left out.
fn tool_object(tool: &Schema) -> Value {
    let mut value = json!(tool);
    for (field, default) in [("parameters", Value::Null), ("strict", false.into())] {
        if value.get(field).is_none() {
            value[field] = default;
        }
    }
    value
}

fn functions(tools: &[Schema]) -> Result<Vec<FunctionDefinition>, ApiError> {
    let function = |(index, tool): (usize, &Schema)| {
        let invalid =
            |field: &str, message: String| ApiError::invalid(Some(&format!("tools[{index}]{field}")), message);
        match (tool.text("type"), tool.text("name")) {
            (Some("function"), Some(name)) => Ok(FunctionDefinition {
                name: name.into(),
                description: tool.text("description").map(String::from),
                parameters: tool.get("parameters").filter(|schema| **schema != Schema::Null).cloned(),
                strict: Some(tool.is_true("strict")),
            }),
            (Some("function"), None) => Err(invalid(".name", "the function's `name` is missing".into())),
            (kind, _) => {
                let kind = kind.unwrap_or("a tool without a type");
                Err(invalid(".type", format!("there are function tools only, not `{kind}`")))
            }
        }
    };
    tools.iter().enumerate().map(function).collect()
}
