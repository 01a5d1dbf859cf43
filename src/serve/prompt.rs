//! What the model is asked: a system message, the developer's, and what was said.

use super::calls::Calls;
use super::error::ApiError;
use super::format::Format;
use crate::generate::constraint::Constraint;
use crate::generate::harmony::{
    Analysis, Content, Conversation, DeveloperContent, Message, ReasoningEffort, Renderer, Role, SystemContent,
};
use crate::generate::tokenizer::Tokenizer;

/// A request's conversation and wishes.
pub(super) struct Ask {
    pub(super) effort: ReasoningEffort,
    pub(super) instructions: Vec<String>,
    pub(super) calls: Calls,
    pub(super) format: Format,
    pub(super) said: Vec<Message>,
}

/// A prompt, and what its answer must be.
pub(super) struct Prompt {
    /// Its tokens.
    pub(super) ids: Vec<u32>,
    /// The field that they come from.
    pub(super) param: &'static str,
    /// What binds the answer, if anything does.
    pub(super) constraint: Option<Constraint>,
}

/// `reasoning_effort`, or `reasoning.effort`; `param` is the field.
pub(super) fn effort(name: Option<&str>, param: &str) -> Result<ReasoningEffort, ApiError> {
    let invalid = |name| format!("`{param}` is `{name}`; it may be low, medium or high");
    name.map_or(Ok(ReasoningEffort::Medium), |name| {
        name.parse().map_err(|_| ApiError::invalid(Some(param), invalid(name)))
    })
}

impl Ask {
    /// Its tokens; `param` is the field that holds the conversation.
    pub(super) fn ids(self, tokenizer: Tokenizer, param: &str) -> Result<Vec<u32>, ApiError> {
        Renderer::new(tokenizer)
            .for_completion(&self.conversation(), Role::Assistant, Analysis::DropAnswered)
            .map_err(|e| ApiError::invalid(Some(param), e.to_string()))
    }

    fn conversation(self) -> Conversation {
        let system = SystemContent { reasoning_effort: Some(self.effort), ..SystemContent::default() };
        let mut messages = vec![Message::new(Role::System, Content::SystemContent(system))];
        messages.extend(developer(&self.instructions, &self.calls, &self.format));
        messages.extend(self.said);
        Conversation { messages }
    }
}

/// The developer's message: instructions, functions, formats, if there are any.
fn developer(instructions: &[String], calls: &Calls, format: &Format) -> Option<Message> {
    let (tools, mut section) = (calls.tools(), format.section());
    let mut instructions = (!instructions.is_empty()).then(|| instructions.join("\n\n"));
    if let (Some(text), [], Some(format)) = (&mut instructions, tools, &section) {
        // One text, for tokens reach over paragraphs; after functions, which end in a word, they do not.
        *text += &format!("\n\n{format}");
        section = None;
    }
    let is_bare = instructions.is_none() && tools.is_empty();
    let content = DeveloperContent { instructions, tools: None };
    let content = if tools.is_empty() { content } else { content.with_functions(tools.to_vec()) };
    let mut message = Message::new(Role::Developer, Content::DeveloperContent(content));
    match section {
        None if is_bare => return None,
        None => {}
        Some(section) if is_bare => message.content = vec![section.into()],
        Some(section) => message.content.push(format!("\n\n{section}").into()),
    }
    Some(message)
}
