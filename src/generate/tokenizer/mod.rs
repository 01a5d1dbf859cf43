//! o200k_harmony: text to token ids and back, offline, over the vocabulary that `tiktoken-rs` bundles.
//!
//! | ids               | what                                                                     |
//! |-------------------|--------------------------------------------------------------------------|
//! | 0 to 199 997      | text tokens: the mergeable ranks of o200k_base                           |
//! | 199 998 to 200 012| `<|startoftext|>`, `<|endoftext|>` and Harmony's own ([`special`])       |
//! | up to 201 087     | `<|reserved_ID|>`, like the gaps between the named ones                  |
//!
//! **Invariant:** [`Tokenizer::encode`] gives text tokens only: a user who writes `<|start|>` writes nine characters.

mod stream;
mod vocabulary;

use std::collections::HashSet;
use std::fmt;

pub use stream::{StreamDecoder, Utf8Pieces};
pub use vocabulary::{
    GgufTokenizerError, Mismatch, VocabularyError, compare_gguf_merges, compare_gguf_tokens, hf_vocabulary,
};

/// Text tokens; their ids start at 0, special tokens follow.
pub const TEXT_TOKENS: u32 = 199_998;

/// Tokens of both kinds: the rows of a checkpoint's embedding.
pub const VOCABULARY: u32 = 201_088;

/// Ids of the named special tokens.
#[allow(missing_docs)] // their names in the vocabulary are `<|name|>`
pub mod special {
    pub const START_OF_TEXT: u32 = 199_998;
    pub const END_OF_TEXT: u32 = 199_999;
    pub const RETURN: u32 = 200_002;
    pub const CONSTRAIN: u32 = 200_003;
    pub const CHANNEL: u32 = 200_005;
    pub const START: u32 = 200_006;
    pub const END: u32 = 200_007;
    pub const MESSAGE: u32 = 200_008;
    pub const CALL: u32 = 200_012;
}

/// Why text or ids were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum TokenizerError {
    #[error("token {id} at position {position} is not in the vocabulary of ids 0 to {last}", last = VOCABULARY - 1)]
    UnknownId { id: u32, position: usize },
    #[error("`{name}` is no special token of o200k_harmony")]
    UnknownSpecial { name: String },
    #[error("a text of {bytes} bytes cannot be split into words: {reason}")]
    Split { bytes: usize, reason: String },
}

impl TokenizerError {
    /// The variant's stable kebab-case name.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// The tokenizer of every gpt-oss model.
#[derive(Clone, Copy)]
pub struct Tokenizer {
    bpe: &'static tiktoken_rs::CoreBPE,
}

impl Tokenizer {
    /// The tokenizer; its tables are built once per process, which takes some tenths of a second.
    pub fn o200k_harmony() -> Self {
        Self { bpe: tiktoken_rs::o200k_harmony_singleton() }
    }

    /// Tokens of `text`, in which nothing is special.
    ///
    /// # Errors
    /// [`TokenizerError::Split`] for a run of about a million blanks, where the pattern's matcher gives up.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_allowing(text, &HashSet::new())
    }

    /// Tokens of `text`, in which each name of `allowed` (`<|start|>`, …) is that special token.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownSpecial`] for a name that is none, and as [`Tokenizer::encode`].
    pub fn encode_with_specials(&self, text: &str, allowed: &[&str]) -> Result<Vec<u32>, TokenizerError> {
        let known = self.bpe.special_tokens();
        match allowed.iter().find(|name| !known.contains(**name)) {
            Some(name) => Err(TokenizerError::UnknownSpecial { name: (*name).into() }),
            None => self.encode_allowing(text, &allowed.iter().copied().collect()),
        }
    }

    /// Tokens of `text`, in which the name of every special token is that token: `--allow-special`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_all_specials(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_allowing(text, &self.bpe.special_tokens())
    }

    fn encode_allowing(&self, text: &str, allowed: &HashSet<&str>) -> Result<Vec<u32>, TokenizerError> {
        let split = |e: tiktoken_rs::EncodeError| TokenizerError::Split { bytes: text.len(), reason: e.to_string() };
        Ok(self.bpe.encode(text, allowed).map_err(split)?.0)
    }

    /// The bytes of `ids`, special tokens by their names; often, but not always, UTF-8.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownId`].
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        let unknown = |position: usize| TokenizerError::UnknownId { id: ids[position], position };
        match ids.iter().position(|id| *id >= VOCABULARY) {
            Some(position) => Err(unknown(position)),
            None => self.bpe.decode_bytes(ids).map_err(|e| TokenizerError::UnknownId {
                id: e.token,
                position: ids.iter().position(|id| *id == e.token).unwrap_or(0),
            }),
        }
    }

    /// The text of `ids`, with U+FFFD in place of each invalid sequence.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownId`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        Ok(String::from_utf8_lossy(&self.decode_bytes(ids)?).into_owned())
    }

    /// A decoder of this vocabulary that is fed one id at a time.
    pub fn stream(&self) -> StreamDecoder {
        StreamDecoder::new(*self)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokenizer(o200k_harmony)")
    }
}

/// Whether `id` is a special token's.
pub fn is_special(id: u32) -> bool {
    (TEXT_TOKENS..VOCABULARY).contains(&id)
}
