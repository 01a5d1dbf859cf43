//! Conversations to token ids, equal to openai-harmony 0.0.8 id for id.
//!
//! Each part of a header and each item of content is tokenized by itself; only the control tokens between them are
//! special.  Chains of thought that led to an answer already given are left out ([`Analysis::DropAnswered`]).

use super::conversation::{Content, Conversation, DeveloperContent, FUNCTIONS, Message, Role, SystemContent};
use super::{ANALYSIS, CONSTRAIN_MARK, FINAL, tools};
use crate::generate::tokenizer::{Tokenizer, TokenizerError, special};

/// What becomes of earlier chains of thought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Analysis {
    /// If the last assistant message is in channel `final`, messages in `analysis` before the *first* `final` go.
    #[default]
    DropAnswered,
    /// All stay.
    Keep,
}

/// Why a conversation has no rendering.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum RenderError {
    #[error("message {message}: a tool's message needs the tool's name")]
    ToolWithoutName { message: usize },
    #[error("message {message}: system_content belongs into a system message, not into one of role {role}", role = role.as_str())]
    SystemContentMisplaced { message: usize, role: Role },
    #[error("message {message}: developer_content belongs into a developer message, not into one of role {role}", role = role.as_str())]
    DeveloperContentMisplaced { message: usize, role: Role },
    #[error("message {message}: {source}")]
    Text { message: usize, source: TokenizerError },
}

impl RenderError {
    /// The variant's stable kebab-case name.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// Renders conversations.
#[derive(Debug, Clone, Copy)]
pub struct Renderer {
    tokenizer: Tokenizer,
}

impl Renderer {
    /// A renderer to the ids of `tokenizer`.
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer }
    }

    /// The messages, each whole.
    ///
    /// # Errors
    /// The first message that has no rendering.
    pub fn conversation(&self, conversation: &Conversation, analysis: Analysis) -> Result<Vec<u32>, RenderError> {
        let messages = &conversation.messages;
        let mut output = Output::new(self.tokenizer, messages.iter().any(defines_functions));
        let answered = match analysis {
            Analysis::DropAnswered => answered(messages),
            Analysis::Keep => 0,
        };
        for (index, message) in messages.iter().enumerate() {
            if index >= answered || !message.is_in(ANALYSIS) {
                output.index = index;
                output.message(message)?;
            }
        }
        Ok(output.ids)
    }

    /// The messages and the beginning of the next one: a prompt.
    ///
    /// # Errors
    /// As [`Renderer::conversation`].
    pub fn for_completion(
        &self,
        conversation: &Conversation,
        next: Role,
        analysis: Analysis,
    ) -> Result<Vec<u32>, RenderError> {
        let ids = self.conversation(conversation, analysis)?;
        let mut output = Output { ids, index: conversation.messages.len(), ..Output::new(self.tokenizer, false) };
        output.special(special::START);
        output.text(next.as_str())?;
        Ok(output.ids)
    }

    /// The messages as the model should have sampled them: if the last one is the assistant's in channel `final`, its
    /// last token is `<|return|>`, whatever it was.
    ///
    /// # Errors
    /// As [`Renderer::conversation`].
    pub fn for_training(&self, conversation: &Conversation, analysis: Analysis) -> Result<Vec<u32>, RenderError> {
        let mut ids = self.conversation(conversation, analysis)?;
        let is_answer = |message: &Message| message.author.role == Role::Assistant && message.is_in(FINAL);
        if let (Some(last), true) = (ids.last_mut(), conversation.messages.last().is_some_and(is_answer)) {
            *last = special::RETURN;
        }
        Ok(ids)
    }
}

/// Whether a message defines functions, so that the system message must say where calls go.
fn defines_functions(message: &Message) -> bool {
    message.content.iter().any(|item| match item {
        Content::DeveloperContent(DeveloperContent { tools: Some(tools), .. }) => {
            tools.get(FUNCTIONS).is_some_and(|functions| !functions.tools.is_empty())
        }
        _ => false,
    })
}

/// Messages before the first `final`, if the assistant spoke last in `final`; else 0.
fn answered(messages: &[Message]) -> usize {
    let last_of_assistant = messages.iter().rev().find(|message| message.author.role == Role::Assistant);
    let is_answered = last_of_assistant.is_some_and(|message| message.is_in(FINAL));
    let first_final = messages.iter().position(|message| message.is_in(FINAL));
    first_final.filter(|_| is_answered).unwrap_or(0)
}

/// Ids so far.
struct Output {
    tokenizer: Tokenizer,
    ids: Vec<u32>,
    announces_functions: bool,
    /// Of the message being rendered, for errors.
    index: usize,
}

impl Output {
    fn new(tokenizer: Tokenizer, announces_functions: bool) -> Self {
        Self { tokenizer, ids: Vec::new(), announces_functions, index: 0 }
    }

    fn special(&mut self, id: u32) {
        self.ids.push(id);
    }

    fn text(&mut self, text: &str) -> Result<(), RenderError> {
        let message = self.index;
        let ids = self.tokenizer.encode(text).map_err(|source| RenderError::Text { message, source })?;
        self.ids.extend(ids);
        Ok(())
    }

    fn message(&mut self, message: &Message) -> Result<(), RenderError> {
        self.special(special::START);
        self.author(message)?;
        if let Some(recipient) = message.recipient.as_deref().filter(|recipient| *recipient != "all") {
            self.text(&format!(" to={recipient}"))?;
        }
        if let Some(channel) = &message.channel {
            self.special(special::CHANNEL);
            self.text(channel)?;
        }
        if let Some(content_type) = &message.content_type {
            self.content_type(content_type)?;
        }
        self.special(special::MESSAGE);
        for item in &message.content {
            self.content(item, message.author.role)?;
        }
        let is_call = message.author.role == Role::Assistant && message.recipient.is_some();
        self.special(if is_call { special::CALL } else { special::END });
        Ok(())
    }

    fn author(&mut self, message: &Message) -> Result<(), RenderError> {
        match (message.author.role, message.author.name.as_deref()) {
            (Role::Tool, None) => Err(RenderError::ToolWithoutName { message: self.index }),
            (Role::Tool, Some(name)) => self.text(name),
            (role, None) => self.text(role.as_str()),
            (role, Some(name)) => {
                self.text(role.as_str())?;
                self.text(&format!(":{name}"))
            }
        }
    }

    /// The one place where text becomes a special token.
    fn content_type(&mut self, content_type: &str) -> Result<(), RenderError> {
        match content_type.strip_prefix(CONSTRAIN_MARK) {
            None => self.text(&format!(" {content_type}")),
            Some(format) => {
                self.text(" ")?;
                self.special(special::CONSTRAIN);
                self.text(format)
            }
        }
    }

    fn content(&mut self, item: &Content, role: Role) -> Result<(), RenderError> {
        let message = self.index;
        match item {
            Content::Text { text } => self.text(text),
            Content::SystemContent(_) if role != Role::System => {
                Err(RenderError::SystemContentMisplaced { message, role })
            }
            Content::DeveloperContent(_) if role != Role::Developer => {
                Err(RenderError::DeveloperContentMisplaced { message, role })
            }
            Content::SystemContent(system) => self.text(&system_text(system, self.announces_functions)),
            Content::DeveloperContent(developer) => self.text(&developer_text(developer)),
        }
    }
}

fn system_text(system: &SystemContent, announces_functions: bool) -> String {
    let identity = system.model_identity.clone();
    let cutoff = system.knowledge_cutoff.as_ref().map(|date| format!("Knowledge cutoff: {date}"));
    let today = system.conversation_start_date.as_ref().map(|date| format!("Current date: {date}"));
    let top: Vec<String> = [identity, cutoff, today].into_iter().flatten().collect();
    let effort = system.reasoning_effort.map(|effort| format!("Reasoning: {}", <&str>::from(effort)));
    let channels = system.channel_config.as_ref().filter(|config| !config.valid_channels.is_empty());
    let channels = channels.map(|config| {
        let names = config.valid_channels.join(", ");
        let must = if config.channel_required { " Channel must be included for every message." } else { "" };
        let calls = "\nCalls to these tools must go to the commentary channel: 'functions'.";
        format!("# Valid channels: {names}.{must}{}", if announces_functions { calls } else { "" })
    });
    let top = (!top.is_empty()).then(|| top.join("\n"));
    let tools = system.tools.as_ref().filter(|tools| !tools.is_empty()).map(tools::section);
    [top, effort, tools, channels].into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

fn developer_text(developer: &DeveloperContent) -> String {
    let instructions = developer.instructions.as_ref().map(|text| format!("# Instructions\n\n{text}"));
    let tools = developer.tools.as_ref().filter(|tools| !tools.is_empty()).map(tools::section);
    [instructions, tools].into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}
