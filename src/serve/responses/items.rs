//! Items of a conversation: as clients send them, as they are kept, and as Harmony's messages.
//!
//! | item                   | in Harmony                                             |
//! |------------------------|--------------------------------------------------------|
//! | `message`              | user's; assistant's in `final`; system's, developer's: instructions |
//! | `reasoning`            | assistant's, in `analysis`                             |
//! | `function_call`        | assistant's to `functions.NAME`, in `commentary`       |
//! | `function_call_output` | `functions.NAME`'s to the assistant, in `commentary`   |

use serde_json::{Value, json};

use super::super::chat::unique;
use super::super::error::ApiError;
use crate::generate::harmony::{Message, Role};

/// Items of a page if nobody says otherwise, and at most: OpenAI's.
const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 100;

/// An id that nothing else has.
pub(super) fn new_id(prefix: &str) -> String {
    format!("{prefix}_{:016x}", unique())
}

/// A user's text as an item.
pub(super) fn of_text(text: &str) -> Value {
    let content = json!([{ "type": "input_text", "text": text }]);
    json!({ "id": new_id("msg"), "type": "message", "role": "user", "status": "completed", "content": content })
}

/// An item as it is kept: with its type, its id, and its content as a list.
pub(super) fn normal(mut item: Value, index: usize) -> Result<Value, ApiError> {
    let invalid =
        |field: &str, message: String| Err(ApiError::invalid(Some(&format!("input[{index}]{field}")), message));
    let Some(fields) = item.as_object_mut() else {
        return invalid("", "an item is an object".into());
    };
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or("message").to_string();
    let text = |field: &str| fields.get(field).and_then(Value::as_str);
    let (prefix, required): (&str, &[&str]) = match kind.as_str() {
        "message" => ("msg", &["role"]),
        "reasoning" => ("rs", &[]),
        "function_call" => ("fc", &["call_id", "name", "arguments"]),
        "function_call_output" => ("fco", &["call_id"]),
        other => return invalid(".type", format!("there are no items of type `{other}` here")),
    };
    if let Some(missing) = required.iter().find(|field| text(field).is_none()) {
        return invalid(&format!(".{missing}"), format!("an item of type {kind} has a text `{missing}`"));
    }
    if kind == "message" {
        let role = text("role").unwrap_or_default();
        let part = match role {
            "assistant" => "output_text",
            "user" | "system" | "developer" => "input_text",
            other => return invalid(".role", format!("there is no role `{other}`")),
        };
        let content = fields.get("content").cloned().unwrap_or_default();
        let content = match parts(&content, part) {
            Ok(parts) => parts,
            Err(reason) => return invalid(".content", reason),
        };
        fields.insert("content".into(), content);
    }
    if kind == "function_call_output" {
        let output = fields.get("output").cloned().unwrap_or_default();
        if let Err(reason) = parts(&output, "input_text") {
            return invalid(".output", reason);
        }
    }
    let is_encrypted = kind == "reasoning" && fields.get("encrypted_content").is_some_and(|text| !text.is_null());
    if is_encrypted {
        return invalid(".encrypted_content", "reasoning is read as text, not encrypted".into());
    }
    fields.insert("type".into(), kind.into());
    if fields.get("id").is_none_or(Value::is_null) {
        fields.insert("id".into(), new_id(prefix).into());
    }
    if prefix != "rs" && fields.get("status").is_none_or(Value::is_null) {
        fields.insert("status".into(), "completed".into());
    }
    Ok(item)
}

/// Content as a list of parts; `kind` is that of a plain text.
fn parts(content: &Value, kind: &str) -> Result<Value, String> {
    let part = |text: &str| match kind {
        "output_text" => json!({ "type": kind, "text": text, "annotations": [] }),
        _ => json!({ "type": kind, "text": text }),
    };
    match content {
        Value::String(text) => Ok(json!([part(text)])),
        Value::Array(parts) => {
            let normal = |given: &Value| match (given["type"].as_str(), given["text"].as_str(), &given["refusal"]) {
                (Some("input_text" | "output_text" | "text"), Some(text), _) => Ok(part(text)),
                (Some("refusal"), _, Value::String(text)) => Ok(part(text)),
                (other, ..) => Err(format!("the model reads text, not `{}`", other.unwrap_or("a part without a type"))),
            };
            parts.iter().map(normal).collect()
        }
        _ => Err("it must be a text or a list of parts".into()),
    }
}

/// The text of a list of parts, or of one text.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        parts => parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect(),
    }
}

/// The developer's instructions in a conversation, and what was said.
pub(super) fn messages(items: &[Value]) -> Result<(Vec<String>, Vec<Message>), ApiError> {
    let (mut instructions, mut said) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let field = |name: &str| item[name].as_str().unwrap_or_default();
        match (field("type"), field("role")) {
            ("message", "user") => said.push(Message::new(Role::User, text_of(&item["content"]))),
            ("message", "assistant") => {
                said.push(Message::new(Role::Assistant, text_of(&item["content"])).in_channel("final"));
            }
            ("message", _) => instructions.push(text_of(&item["content"])),
            ("reasoning", _) => {
                let text = Some(text_of(&item["content"])).filter(|text| !text.is_empty());
                let thought = text.unwrap_or_else(|| text_of(&item["summary"]));
                if !thought.is_empty() {
                    said.push(Message::new(Role::Assistant, thought).in_channel("analysis"));
                }
            }
            ("function_call", _) => said.push(Message::call_of(field("name"), field("arguments"))),
            _ => {
                let id = field("call_id");
                let is_call = |item: &&Value| item["type"] == "function_call" && item["call_id"] == id;
                let Some(call) = items[..index].iter().rev().find(is_call) else {
                    return Err(ApiError::invalid(
                        Some("input"),
                        format!("no call before its output has the id `{id}`"),
                    ));
                };
                let name = call["name"].as_str().unwrap_or_default();
                said.push(Message::reply_of(name, text_of(&item["output"])));
            }
        }
    }
    Ok((instructions, said))
}

/// A page of items: `limit`, `order`, `after`; the newest come first if nobody says otherwise.
pub(super) fn page(items: &[Value], query: &str) -> Result<Value, ApiError> {
    let (mut limit, mut is_descending, mut after) = (PAGE_DEFAULT, true, None);
    for (name, value) in query.split('&').filter(|pair| !pair.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")))
    {
        let invalid = |what: &str| ApiError::invalid(Some(name), format!("`{name}` is `{value}`; it must be {what}"));
        match (name, value) {
            ("limit", _) => {
                let count = value.parse().ok().filter(|count| (1..=PAGE_MAX).contains(count));
                limit = count.ok_or_else(|| invalid("from 1 to 100"))?;
            }
            ("order", "asc") => is_descending = false,
            ("order", "desc") => is_descending = true,
            ("order", _) => return Err(invalid("asc or desc")),
            ("after", id) => after = Some(id),
            _ => return Err(ApiError::invalid(Some(name), format!("there is no `{name}` here"))),
        }
    }
    let mut items: Vec<&Value> = items.iter().collect();
    if is_descending {
        items.reverse();
    }
    if let Some(id) = after {
        let place = items.iter().position(|item| item["id"] == id);
        let place = place.ok_or_else(|| ApiError::invalid(Some("after"), format!("there is no item `{id}`")))?;
        items.drain(..=place);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id = |item: Option<&&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    let (first_id, last_id) = (id(items.first()), id(items.last()));
    Ok(json!({ "object": "list", "data": items, "first_id": first_id, "last_id": last_id, "has_more": has_more }))
}
