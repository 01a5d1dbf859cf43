//! What the model is asked: a system message, the developer's, what was said, and how its answer begins.

use super::calls::Calls;
use super::error::ApiError;
use super::format::Format;
use crate::generate::engine::Beginnings;
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

/// The prompt, and the answer's beginning.
pub(super) struct Prompt {
    /// Its tokens; the last of them are `begun`.
    pub(super) ids: Vec<u32>,
    /// What of the answer the prompt holds already.
    pub(super) begun: Vec<u32>,
    /// How it may go on from there.
    pub(super) beginnings: Beginnings,
}

impl Prompt {
    /// A prompt whose answer is free.
    pub(super) fn of(ids: Vec<u32>) -> Self {
        Self { ids, begun: Vec::new(), beginnings: Beginnings::default() }
    }
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
    pub(super) fn prompt(self, tokenizer: Tokenizer, param: &str) -> Result<Prompt, ApiError> {
        let invalid = |reason: String| ApiError::invalid(Some(param), reason);
        let mut beginnings = self.calls.beginnings(tokenizer).map_err(|e| invalid(e.to_string()))?;
        let mut ids = Renderer::new(tokenizer)
            .for_completion(&self.conversation(), Role::Assistant, Analysis::DropAnswered)
            .map_err(|e| invalid(e.to_string()))?;
        // What all beginnings share needs no choice: it is part of the prompt, and runs in one pass.
        let shared = shared_prefix(&beginnings);
        let begun = beginnings.first().map_or(Vec::new(), |first| first[..shared].to_vec());
        ids.extend(&begun);
        beginnings.iter_mut().for_each(|beginning| drop(beginning.drain(..shared)));
        beginnings.retain(|beginning| !beginning.is_empty());
        Ok(Prompt { ids, begun, beginnings: Beginnings::one_of(beginnings) })
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

/// Tokens that all of `sequences` begin with.
fn shared_prefix(sequences: &[Vec<u32>]) -> usize {
    let Some((first, others)) = sequences.split_first() else { return 0 };
    let agree = |other: &Vec<u32>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    others.iter().map(agree).min().unwrap_or(first.len())
}
