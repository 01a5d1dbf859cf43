//! Conversations and their JSON form: openai-harmony's, read as its Rust core reads it and written as the Python
//! package's `to_json` writes it.
//!
//! ```text
//! {"messages": [{"role": "assistant", "name": null, "content": [{"type": "text", "text": "…"}],
//!                "channel": "final", "recipient": "…", "content_type": "…"}, …]}
//! ```
//!
//! `content` may be a plain string; items are `text`, `system_content` or `developer_content`.  Absent keys mean "not
//! said": the defaults of [`SystemContent`] belong to whoever writes a conversation, not to its reader.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::CONSTRAIN_MARK;
use super::tools::{Tool, ToolNamespace};

/// The namespace of functions that a developer defines.
pub const FUNCTIONS: &str = "functions";

/// Messages in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Conversation {
    pub messages: Vec<Message>,
}

impl Conversation {
    /// Reads openai-harmony's JSON form.
    ///
    /// # Errors
    /// Text that is not JSON of that form, with line and column.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    #[serde(flatten)]
    pub author: Author,
    /// What is said; several items follow each other without a separator.
    #[serde(deserialize_with = "text_or_items")]
    pub content: Vec<Content>,
    /// `analysis`, `commentary`, `final`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// To whom, if not to all: a tool, for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Such as `<|constrain|>json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// Who speaks: a role, and a name within it.  A tool's name is rendered in place of its role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Author {
    pub role: Role,
    #[serde(default)]
    pub name: Option<String>,
}

/// The five roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::EnumString, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

impl Role {
    /// The word in a header.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// An item of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Content {
    Text { text: String },
    SystemContent(SystemContent),
    DeveloperContent(DeveloperContent),
}

/// What the system says of the model and its surroundings.  A part that is `None` is not rendered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SystemContent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_identity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<ReasoningEffort>,
    /// `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_start_date: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knowledge_cutoff: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_config: Option<ChannelConfig>,
    /// Built-in tools, rendered in the order of their keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeMap<String, ToolNamespace>>,
}

impl Default for SystemContent {
    /// gpt-oss's own: its identity and cutoff, medium effort, three channels of which one is required; no date.
    fn default() -> Self {
        let channels = [super::ANALYSIS, "commentary", super::FINAL];
        Self {
            model_identity: Some("You are ChatGPT, a large language model trained by OpenAI.".into()),
            reasoning_effort: Some(ReasoningEffort::Medium),
            conversation_start_date: None,
            knowledge_cutoff: Some("2024-06".into()),
            channel_config: Some(ChannelConfig {
                valid_channels: channels.map(String::from).into(),
                channel_required: true,
            }),
            tools: None,
        }
    }
}

/// How long the model should think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs)]
pub enum ReasoningEffort {
    Low,
    Medium,
    High,
}

/// The channels that the system announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ChannelConfig {
    pub valid_channels: Vec<String>,
    pub channel_required: bool,
}

/// The developer's instructions and functions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DeveloperContent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Rendered in the order of their keys; [`FUNCTIONS`] is the one of functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeMap<String, ToolNamespace>>,
}

impl DeveloperContent {
    /// With functions in the namespace [`FUNCTIONS`].
    pub fn with_functions(mut self, tools: Vec<Tool>) -> Self {
        let functions = ToolNamespace { name: FUNCTIONS.into(), description: None, tools };
        self.tools.get_or_insert_default().insert(FUNCTIONS.into(), functions);
        self
    }
}

impl From<Role> for Author {
    fn from(role: Role) -> Self {
        Self { role, name: None }
    }
}

impl<T: Into<String>> From<T> for Content {
    fn from(text: T) -> Self {
        Content::Text { text: text.into() }
    }
}

impl Message {
    /// A message of one item, to all, in no channel.
    pub fn new(author: impl Into<Author>, content: impl Into<Content>) -> Self {
        let content = vec![content.into()];
        Self { author: author.into(), content, channel: None, recipient: None, content_type: None }
    }

    /// The same in a channel.
    pub fn in_channel(self, channel: impl Into<String>) -> Self {
        Self { channel: Some(channel.into()), ..self }
    }

    /// The same to one recipient.
    pub fn to(self, recipient: impl Into<String>) -> Self {
        Self { recipient: Some(recipient.into()), ..self }
    }

    /// The assistant's call of a function; `arguments` is the text of a JSON object.
    pub fn call_of(function: &str, arguments: &str) -> Self {
        let call = Self::new(Role::Assistant, arguments).in_channel("commentary").to(format!("{FUNCTIONS}.{function}"));
        Self { content_type: Some(format!("{CONSTRAIN_MARK}json")), ..call }
    }

    /// A function's reply to a call of it.
    pub fn reply_of(function: &str, text: impl Into<Content>) -> Self {
        let author = Author { role: Role::Tool, name: Some(format!("{FUNCTIONS}.{function}")) };
        Self::new(author, text).in_channel("commentary").to("assistant")
    }

    /// The text of its text items.
    pub fn text(&self) -> String {
        let text = |item: &Content| match item {
            Content::Text { text } => text.clone(),
            _ => String::new(),
        };
        self.content.iter().map(text).collect()
    }

    /// Whether it is in `channel`.
    pub fn is_in(&self, channel: &str) -> bool {
        self.channel.as_deref() == Some(channel)
    }
}

/// `"text"` is short for `[{"type": "text", "text": "text"}]`.
fn text_or_items<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Content>, D::Error> {
    struct TextOrItems;
    impl<'de> Visitor<'de> for TextOrItems {
        type Value = Vec<Content>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of content items")
        }

        fn visit_str<E>(self, text: &str) -> Result<Vec<Content>, E> {
            Ok(vec![text.into()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<Content>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(items))
        }
    }
    deserializer.deserialize_any(TextOrItems)
}
