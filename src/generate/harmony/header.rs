//! The header of a message: the text between `<|start|>` and `<|message|>`.
//!
//! openai-harmony reads it as *text*: control tokens appear by their names, so that a channel spelled in ordinary
//! letters counts too.  [`Header::strict`] gives what it gives; [`Header::salvage`] makes the best of what it refuses.

use super::conversation::{Author, Message, Role};
use super::{CHANNEL_MARK, CONSTRAIN_MARK, Content};

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) author: Author,
    pub(super) recipient: Option<String>,
    pub(super) channel: Option<String>,
    pub(super) content_type: Option<String>,
}

/// Why a header was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum HeaderError {
    #[error("header is not text: it holds bytes that are not UTF-8, or unknown tokens")]
    HeaderUndecodable,
    #[error("header has a channel mark, but no channel after it")]
    ChannelMissing,
    #[error("header names no role")]
    RoleMissing,
    #[error("header names the unknown role `{role}`")]
    RoleUnknown { role: String },
    #[error("header has more parts than role, recipient and content type: `{text}`")]
    HeaderLeftover { text: String },
    #[error("header holds a control token out of place: `{text}`")]
    ControlMisplaced { text: String },
}

impl Header {
    /// A header of nothing but a role.
    pub(super) fn of(role: Role) -> Self {
        Self { author: role.into(), recipient: None, channel: None, content_type: None }
    }

    /// The message that this is the header of.
    pub(super) fn message(&self, text: String) -> Message {
        Message {
            author: self.author.clone(),
            content: vec![Content::Text { text }],
            channel: self.channel.clone(),
            recipient: self.recipient.clone(),
            content_type: self.content_type.clone(),
        }
    }

    /// Reads a header; `role` is the author's where the prompt has said it.
    pub(super) fn strict(text: &str, role: Option<Role>) -> Result<Self, HeaderError> {
        let (channel, rest) = split_channel(text)?;
        let rest = rest.trim().replace(CONSTRAIN_MARK, &format!(" {CONSTRAIN_MARK}"));
        let mut words = rest.split_ascii_whitespace().collect();
        let author = take_author(&mut words, role)?;
        let (recipient, content_type) = take_ends(&mut words);
        match words.is_empty() {
            true => Ok(Self { author, recipient, channel, content_type }),
            false => Err(HeaderError::HeaderLeftover { text: words.join(" ") }),
        }
    }

    /// Reads what [`Header::strict`] refuses: the last channel, the first `to=`, the first `<|constrain|>`; and returns
    /// the text that is none of the parts.
    pub(super) fn salvage(text: &str, role: Option<Role>) -> (Self, String) {
        let mut rest = text.replace(CONSTRAIN_MARK, &format!(" {CONSTRAIN_MARK}"));
        let (channel, other_channels) = take_channels(&mut rest);
        let author = match role {
            Some(role) => role.into(),
            None => take_word(&mut rest, |_| true).map_or(Role::Assistant.into(), |word| author_of(&word)),
        };
        take_first_word(&mut rest, author.role.as_str());
        let recipient = take_word(&mut rest, |word| word.starts_with("to=")).map(|word| word["to=".len()..].into());
        let mut content_type = take_word(&mut rest, |word| word.starts_with(CONSTRAIN_MARK));
        if content_type.is_none() && recipient.is_some() && rest.split_whitespace().count() == 1 {
            content_type = Some(std::mem::take(&mut rest).trim().into());
        }
        let leftover = [other_channels.join(" "), rest.trim().into()].into_iter().filter(|text| !text.is_empty());
        (Self { author, recipient, channel, content_type }, leftover.collect::<Vec<_>>().join(" "))
    }

    /// Reads a header whose `<|message|>` never came: what follows the role and the channel is the content.
    pub(super) fn without_message(text: &str, role: Option<Role>) -> (Self, String) {
        let mut rest = text.to_string();
        let (channel, other_channels) = take_channels(&mut rest);
        let role = match role {
            Some(role) => role,
            None => take_word_if_role(&mut rest).unwrap_or(Role::Assistant),
        };
        take_first_word(&mut rest, role.as_str());
        let content = [other_channels.join(" "), rest.trim().into()].into_iter().filter(|text| !text.is_empty());
        (Self { channel, ..Self::of(role) }, content.collect::<Vec<_>>().join(" "))
    }

    /// Whether a part other than the content type still holds a control token's name.
    pub(super) fn control_inside(&self) -> Option<&str> {
        let content_type = self.content_type.as_deref().map(|text| text.strip_prefix(CONSTRAIN_MARK).unwrap_or(text));
        let parts = [self.author.name.as_deref(), self.recipient.as_deref(), self.channel.as_deref(), content_type];
        parts.into_iter().flatten().find(|part| part.contains("<|"))
    }
}

/// The first channel, and the header without it.
fn split_channel(text: &str) -> Result<(Option<String>, String), HeaderError> {
    let Some((before, after)) = text.split_once(CHANNEL_MARK) else { return Ok((None, text.into())) };
    let (channel, rest) = after.split_at(channel_bytes(after));
    match channel {
        "" => Err(HeaderError::ChannelMissing),
        _ => Ok((Some(channel.into()), format!("{before}{rest}"))),
    }
}

/// A channel ends at a blank or at the next control token.
fn channel_bytes(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(text.len())
}

/// The author.  A first word that is no role is a tool's name, provided that anything follows it.
fn take_author(words: &mut Vec<&str>, role: Option<Role>) -> Result<Author, HeaderError> {
    let author = match (role, words.first().copied()) {
        (Some(role), _) => role.into(),
        (None, None) => return Err(HeaderError::RoleMissing),
        (None, Some(word)) => match word.parse() {
            Ok(Role::Tool) => Author { role: Role::Tool, name: Some(word.into()) },
            Ok(role) => role.into(),
            Err(_) if words.len() > 1 || word.starts_with("to=") => {
                words.remove(0);
                Author { role: Role::Tool, name: Some(word.into()) }
            }
            Err(_) => return Err(HeaderError::RoleUnknown { role: word.into() }),
        },
    };
    if words.first() == Some(&author.role.as_str()) {
        words.remove(0);
    }
    Ok(author)
}

/// Recipient and content type, from the end.  A lone word is a recipient.
fn take_ends(words: &mut Vec<&str>) -> (Option<String>, Option<String>) {
    let recipient = |word: &str| word.strip_prefix("to=").unwrap_or(word).to_string();
    let is_alone = words.len() == 1;
    match words.pop() {
        Some(word) if is_alone || word.starts_with("to=") => (Some(recipient(word)), None),
        Some(word) => (words.pop().map(recipient), Some(word.into())),
        None => (None, None),
    }
}

/// Takes every channel out: the last one named, and the others that differ from it.
fn take_channels(text: &mut String) -> (Option<String>, Vec<String>) {
    let mut channels = Vec::new();
    while let Some(at) = text.find(CHANNEL_MARK) {
        let start = at + CHANNEL_MARK.len();
        let end = start + channel_bytes(&text[start..]);
        channels.push(text[start..end].to_string());
        text.replace_range(at..end, "");
    }
    channels.retain(|channel| !channel.is_empty());
    let last = channels.pop();
    channels.retain(|channel| Some(channel) != last.as_ref());
    (last, channels)
}

/// Cuts out the first word for which `wanted` holds.
fn take_word(text: &mut String, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let word = text.split_whitespace().find(|word| wanted(word))?;
    let at = word.as_ptr() as usize - text.as_ptr() as usize;
    let word = word.to_string();
    text.replace_range(at..at + word.len(), "");
    Some(word)
}

fn take_first_word(text: &mut String, word: &str) {
    if text.split_whitespace().next() == Some(word) {
        take_word(text, |_| true);
    }
}

fn take_word_if_role(text: &mut String) -> Option<Role> {
    let role = text.split_whitespace().next()?.parse().ok()?;
    take_word(text, |_| true);
    Some(role)
}

/// `role`, `role:name`, or a tool's name.
fn author_of(word: &str) -> Author {
    let (role, name) = match word.split_once(':') {
        Some((role, name)) => (role, Some(name.to_string())),
        None => (word, None),
    };
    match role.parse() {
        Ok(role) => Author { role, name },
        Err(_) => Author { role: Role::Tool, name: Some(word.into()) },
    }
}
