//! Functions that the model may call, whether it may, must not or must, and what binds the arguments.
//!
//! | function          | `tool_choice` auto     | required, or this function                                      |
//! |-------------------|------------------------|-----------------------------------------------------------------|
//! | `strict: true`    | follow its schema      | follow its schema                                               |
//! | not strict        | are the model's own    | follow its schema, as far as it can be enforced; else an object |
//!
//! A schema of a strict function that cannot be enforced is refused.  A call that must come does come, after what the model
//! thinks before it: see [`form`](super::form).

use serde::Deserialize;
use serde_json::Value;

use super::error::ApiError;
use super::form::Hold;
use crate::generate::harmony::Tool;
use crate::generate::harmony::json::Json as Schema;

/// Bytes of a function's name; OpenAI's limit.
const NAME_BYTES_MAX: usize = 64;

/// A function as OpenAI's APIs describe it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct FunctionDefinition {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) parameters: Option<Schema>,
    /// Whether a call's arguments must follow `parameters`.
    pub(super) strict: Option<bool>,
}

/// Whether the model calls.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// It decides.
    May,
    /// It does not, and is not told of the functions.
    MustNot,
    /// One of these.
    Must(Vec<String>),
}

/// The functions of a request, and the rule for calling them.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    tools: Vec<Tool>,
    /// Of each tool, whether it is strict.
    strict: Vec<bool>,
    /// Of each tool, the field that holds its schema.
    places: Vec<String>,
    rule: Rule,
    max: usize,
}

/// Where an API has the parts of its requests.
pub(super) struct Places {
    /// A function in the entry of `tools`.
    pub(super) function: &'static str,
    /// A function's schema in the entry of `tools`.
    pub(super) schema: &'static str,
    /// A function's name in `tool_choice`.
    pub(super) choice: &'static str,
}

impl Calls {
    /// Reads `tools`, `tool_choice` and `parallel_tool_calls`.
    pub(super) fn read(
        definitions: Vec<FunctionDefinition>,
        choice: Option<&Value>,
        parallel: Option<bool>,
        places: &Places,
    ) -> Result<Self, ApiError> {
        let (mut tools, mut strict, mut schemas): (Vec<Tool>, _, _) = (Vec::new(), Vec::new(), Vec::new());
        for (index, definition) in definitions.into_iter().enumerate() {
            let place = format!("tools[{index}].{}", places.function);
            check_name(&definition.name, place.trim_end_matches('.'))?;
            if tools.iter().any(|tool| tool.name == definition.name) {
                let message = format!("there are two functions `{}`", definition.name);
                return Err(ApiError::invalid(Some(&format!("tools[{index}]")), message));
            }
            strict.push(definition.strict.unwrap_or_default());
            schemas.push(format!("tools[{index}].{}", places.schema));
            let description = definition.description.unwrap_or_default();
            tools.push(Tool { name: definition.name, description, parameters: definition.parameters });
        }
        let rule = rule(&tools, choice, places)?;
        let max = match (&rule, tools.is_empty(), parallel) {
            (Rule::MustNot, ..) | (_, true, _) => 0,
            (_, _, Some(false)) => 1,
            _ => usize::MAX,
        };
        Ok(Self { tools, strict, places: schemas, rule, max })
    }

    /// The functions that the model is told of.
    pub(super) fn tools(&self) -> &[Tool] {
        if self.rule == Rule::MustNot { &[] } else { &self.tools }
    }

    /// Calls that an answer may have.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Whether the answer must be a call.
    pub(super) fn must(&self) -> bool {
        matches!(self.rule, Rule::Must(_))
    }

    /// The functions that the answer may call, each with what binds its arguments.
    pub(super) fn callable(&self) -> impl Iterator<Item = (&str, Hold)> {
        let tools = self.tools.iter().zip(&self.strict).zip(&self.places);
        tools.filter_map(|((tool, strict), place)| {
            let hold = match &self.rule {
                Rule::MustNot => return None,
                Rule::Must(names) if !names.contains(&tool.name) => return None,
                _ if *strict => Hold::Schema(parameters(tool), place.clone()),
                Rule::Must(_) => Hold::IfPossible(parameters(tool)),
                Rule::May => Hold::Nothing,
            };
            Some((tool.name.as_str(), hold))
        })
    }
}

/// The schema of a function's arguments; without one, it takes none.
fn parameters(tool: &Tool) -> Schema {
    let nothing = || {
        Schema::Object(vec![
            ("type".into(), Schema::String("object".into())),
            ("additionalProperties".into(), Schema::Bool(false)),
        ])
    };
    tool.parameters.clone().unwrap_or_else(nothing)
}

fn rule(tools: &[Tool], choice: Option<&Value>, places: &Places) -> Result<Rule, ApiError> {
    let invalid = |message: String| ApiError::invalid(Some("tool_choice"), message);
    let names = || tools.iter().map(|tool| tool.name.clone()).collect();
    match choice {
        None => Ok(Rule::May),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(Rule::May),
            "none" => Ok(Rule::MustNot),
            "required" if tools.is_empty() => Err(invalid("`tool_choice` is required, but there are no tools".into())),
            "required" => Ok(Rule::Must(names())),
            other => Err(invalid(format!("`tool_choice` is `{other}`; it may be none, auto, required or a function"))),
        },
        Some(choice) => match (choice["type"].as_str(), choice.pointer(places.choice).and_then(Value::as_str)) {
            (Some("function"), Some(name)) if tools.iter().any(|tool| tool.name == name) => {
                Ok(Rule::Must(vec![name.into()]))
            }
            (Some("function"), Some(name)) => Err(invalid(format!("`tool_choice` names `{name}`, which no tool is"))),
            _ => Err(invalid("`tool_choice` may be none, auto, required or a function".into())),
        },
    }
}

/// A name stands in headers: letters, digits, `_` and `-` only, as OpenAI has it.
fn check_name(name: &str, place: &str) -> Result<(), ApiError> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_plain && (1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("a function's name is 1 to {NAME_BYTES_MAX} letters, digits, `_` or `-`, not `{name}`");
    Err(ApiError::invalid(Some(place), message))
}
