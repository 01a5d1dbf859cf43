//! The messages of a chat request as Harmony's.

use serde::Deserialize;

use super::super::error::ApiError;
use crate::generate::harmony::{Message, Role};

/// A message as a client sends it.
#[derive(Debug, Deserialize)]
pub(super) struct ChatMessage {
    role: String,
    content: Option<ChatContent>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
    tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ChatContent {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
struct ContentPart {
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ToolCall {
    id: String,
    function: CalledFunction,
}

#[derive(Debug, Deserialize)]
struct CalledFunction {
    name: String,
    arguments: String,
}

impl ChatMessage {
    fn calls(&self) -> &[ToolCall] {
        self.tool_calls.as_deref().unwrap_or_default()
    }
}

/// The developer's instructions, and what was said.
pub(super) fn read(messages: &[ChatMessage]) -> Result<(Vec<String>, Vec<Message>), ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid(Some("messages"), "`messages` is empty"));
    }
    let (mut instructions, mut said) = (Vec::new(), Vec::new());
    for (index, message) in messages.iter().enumerate() {
        let text = text_of(index, message)?;
        match message.role.as_str() {
            "system" | "developer" => instructions.push(text.unwrap_or_default()),
            "user" => said.push(Message::new(Role::User, text.unwrap_or_default())),
            "assistant" => assistant(message, text, &mut said),
            "tool" => said.push(reply(messages, index, text)?),
            other => {
                let param = format!("messages[{index}].role");
                return Err(ApiError::invalid(Some(&param), format!("there is no role `{other}`")));
            }
        }
    }
    Ok((instructions, said))
}

/// The text of a message; other parts are refused.
fn text_of(index: usize, message: &ChatMessage) -> Result<Option<String>, ApiError> {
    match &message.content {
        None => Ok(None),
        Some(ChatContent::Text(text)) => Ok(Some(text.clone())),
        Some(ChatContent::Parts(parts)) => {
            let text = |part: &ContentPart| match (part.r#type.as_str(), &part.text, &part.refusal) {
                ("text", Some(text), _) | ("refusal", _, Some(text)) => Ok(text.clone()),
                (other, ..) => {
                    let param = format!("messages[{index}].content");
                    Err(ApiError::invalid(Some(&param), format!("the model reads text, not `{other}`")))
                }
            };
            Ok(Some(parts.iter().map(text).collect::<Result<String, _>>()?))
        }
    }
}

/// What the assistant thought, called and said.
fn assistant(message: &ChatMessage, text: Option<String>, said: &mut Vec<Message>) {
    if let Some(thought) = &message.reasoning_content {
        said.push(Message::new(Role::Assistant, thought.as_str()).in_channel("analysis"));
    }
    for call in message.calls() {
        said.push(Message::call_of(&call.function.name, call.function.arguments.as_str()));
    }
    if let Some(text) = text.filter(|text| !text.is_empty() || message.calls().is_empty()) {
        said.push(Message::new(Role::Assistant, text).in_channel("final"));
    }
}

/// A tool's reply to the call that it names.
fn reply(messages: &[ChatMessage], index: usize, text: Option<String>) -> Result<Message, ApiError> {
    let id = messages[index].tool_call_id.as_deref().unwrap_or_default();
    let mut calls = messages[..index].iter().rev().flat_map(ChatMessage::calls);
    let Some(call) = calls.find(|call| call.id == id) else {
        let param = format!("messages[{index}].tool_call_id");
        return Err(ApiError::invalid(Some(&param), format!("no call before it has the id `{id}`")));
    };
    Ok(Message::reply_of(&call.function.name, text.unwrap_or_default()))
}
