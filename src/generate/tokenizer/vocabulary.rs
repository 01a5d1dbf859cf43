//! Is a checkpoint's tokenizer ours?  Its vocabulary, id by id, against o200k_harmony.
//!
//! A model.bin lists the bytes of its text tokens (`text_tokens().zip(0..)`).  Hugging Face's `tokenizer.json` writes
//! them as text in GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes, in order, for U+0100
//! and up.  A GGUF has the same text, all tokens in one list, and a number for the kind of each.

use std::borrow::Borrow;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::{TEXT_TOKENS, Tokenizer, VOCABULARY};
use crate::checkpoint::WeightSource;
use crate::gguf::GgufModel;
use crate::gguf::dialect::TokenList;

/// What o200k_base calls the token that o200k_harmony reserves: checkpoints use either name.
const END_OF_PROMPT: (u32, &[u8]) = (200_018, b"<|endofprompt|>");

/// The first difference between a vocabulary and ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum Mismatch {
    #[error("token {id} is `{found}`, o200k_harmony has `{want}`", found = found.escape_ascii(), want = want.escape_ascii())]
    Bytes { id: u32, want: Vec<u8>, found: Vec<u8> },
    #[error("token {id}, `{found}`, is outside the ids 0 to {last}", found = found.escape_ascii(), last = VOCABULARY - 1)]
    UnknownId { id: u32, found: Vec<u8> },
    #[error("token {id} is given twice")]
    Twice { id: u32 },
    #[error("text token {id} is missing")]
    Missing { id: u32 },
}

/// Why a `tokenizer.json` holds no vocabulary.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)]
pub enum VocabularyError {
    #[error("not a tokenizer.json: {source}")]
    Json {
        #[from]
        source: serde_json::Error,
    },
    #[error("token {id}, `{token}`: `{found}` stands for no byte")]
    NotAByte { id: u32, token: String, found: char },
    #[error("token {id} is not UTF-8: `{found}`")]
    NotUtf8 { id: u32, found: String },
}

/// Why the tokenizer of a GGUF is not o200k_harmony.  [`GgufTokenizerError::name`] is the variant's stable kebab-case name.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)]
pub enum GgufTokenizerError {
    #[error("metadata `tokenizer.ggml.tokens`: {0}")]
    TokensUnreadable(VocabularyError),
    #[error("metadata `tokenizer.ggml.tokens`: {0}")]
    TokensForeign(Mismatch),
    #[error("metadata `tokenizer.ggml.merges`: pair {index} is {found}, o200k_harmony has {want}")]
    MergesForeign { index: usize, want: String, found: String },
}

impl GgufTokenizerError {
    /// The stable name of the cause.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// Compares the tokens of a GGUF with ours, or for a small model with a start of them; their number, `None` if it has none.
///
/// # Errors
/// The first token that differs.
pub fn compare_gguf_tokens(model: &GgufModel) -> Result<Option<usize>, GgufTokenizerError> {
    let Some(tokens) = model.tokens() else { return Ok(None) };
    let tokens = gguf_vocabulary(tokens, &model.token_kinds()).map_err(GgufTokenizerError::TokensUnreadable)?;
    let count = tokens.len();
    Tokenizer::o200k_harmony().compare_start(tokens).map_err(GgufTokenizerError::TokensForeign)?;
    Ok(Some(count))
}

/// Compares the merges of a GGUF with those that its tokens give; their number, `None` if it has none.
///
/// # Errors
/// The first pair that differs.
pub fn compare_gguf_merges(model: &GgufModel) -> Result<Option<usize>, GgufTokenizerError> {
    let Some(merges) = model.merges() else { return Ok(None) };
    let rows = model.config().vocab;
    let want = TokenList::o200k_harmony(rows).expect("the bundled vocabulary has every id").merges;
    let found: Vec<&[u8]> = merges.collect();
    let differs = |index: &usize| want.get(*index).map(String::as_bytes) != found.get(*index).copied();
    match (0..want.len().max(found.len())).find(differs) {
        None => Ok(Some(found.len())),
        Some(index) => {
            let shown =
                |pair: Option<&[u8]>| pair.map_or("none".into(), |pair| format!("`{}`", String::from_utf8_lossy(pair)));
            let want = shown(want.get(index).map(String::as_bytes));
            Err(GgufTokenizerError::MergesForeign { index, want, found: shown(found.get(index).copied()) })
        }
    }
}

impl Tokenizer {
    /// Compares a vocabulary, in any order, with ours.  Text tokens must be there, special tokens may be.
    ///
    /// # Errors
    /// The first id that differs, in the order given; then the first text token that is missing.
    pub fn compare<B: Borrow<[u8]>>(&self, other: impl IntoIterator<Item = (u32, B)>) -> Result<(), Mismatch> {
        let mut seen = vec![false; VOCABULARY as usize];
        for (id, found) in other {
            let found = found.borrow();
            let Ok(want) = self.decode_bytes(&[id]) else {
                return Err(Mismatch::UnknownId { id, found: found.into() });
            };
            if want != found && (id, found) != END_OF_PROMPT {
                return Err(Mismatch::Bytes { id, want, found: found.into() });
            }
            if std::mem::replace(&mut seen[id as usize], true) {
                return Err(Mismatch::Twice { id });
            }
        }
        match (0..TEXT_TOKENS).find(|id| !seen[*id as usize]) {
            Some(id) => Err(Mismatch::Missing { id }),
            None => Ok(()),
        }
    }

    /// Compares the first tokens of a vocabulary that may be cut short, as synthetic models have it.
    ///
    /// # Errors
    /// The first id that differs.
    pub fn compare_start<B: Borrow<[u8]>>(&self, tokens: impl IntoIterator<Item = (u32, B)>) -> Result<(), Mismatch> {
        match self.compare(tokens) {
            Err(Mismatch::Missing { .. }) | Ok(()) => Ok(()),
            Err(other) => Err(other),
        }
    }
}

/// llama.cpp's number for a token that no text gives: `[PAD200019]` and so on fill up the embedding's rows.
const UNUSED: i64 = 5;

/// Ids and bytes of a GGUF's `tokenizer.ggml.tokens`, whose kinds are `tokenizer.ggml.token_type`; unused ones left out.
///
/// Special tokens stand under their plain names, text in the byte alphabet.
///
/// # Errors
/// [`VocabularyError`] for a token outside the byte alphabet.
fn gguf_vocabulary<'a>(
    tokens: impl Iterator<Item = &'a [u8]>,
    kinds: &[i64],
) -> Result<Vec<(u32, Vec<u8>)>, VocabularyError> {
    let mut vocabulary = Vec::new();
    for (id, token) in (0u32..).zip(tokens) {
        let not_utf8 = |_| VocabularyError::NotUtf8 { id, found: token.escape_ascii().to_string() };
        let text = std::str::from_utf8(token).map_err(not_utf8)?;
        if kinds.get(id as usize) == Some(&UNUSED) && text == format!("[PAD{id}]") {
            continue;
        }
        let bytes = match id < TEXT_TOKENS {
            false => text.as_bytes().to_vec(),
            true => text
                .chars()
                .map(|c| byte_of(c).ok_or_else(|| VocabularyError::NotAByte { id, token: text.into(), found: c }))
                .collect::<Result<_, _>>()?,
        };
        vocabulary.push((id, bytes));
    }
    Ok(vocabulary)
}

/// Ids and bytes of a Hugging Face `tokenizer.json`, by id: `model.vocab`, and the special ones of `added_tokens`.
///
/// # Errors
/// [`VocabularyError`]; text that is not JSON of that form, or a token outside the byte alphabet.
pub fn hf_vocabulary(json: &[u8]) -> Result<Vec<(u32, Vec<u8>)>, VocabularyError> {
    let file: HfTokenizer = serde_json::from_slice(json)?;
    let mut tokens: Vec<(u32, Vec<u8>)> = Vec::with_capacity(file.model.vocab.0.len() + file.added_tokens.len());
    for (token, id) in file.model.vocab.0 {
        let bytes = token.chars().map(|c| byte_of(c).ok_or(c)).collect::<Result<_, char>>();
        match bytes {
            Ok(bytes) => tokens.push((id, bytes)),
            // Some files repeat their special tokens in the vocabulary, under their plain names.
            Err(_) if file.added_tokens.iter().any(|added| added.id == id && added.content == token) => {}
            Err(found) => return Err(VocabularyError::NotAByte { id, token, found }),
        }
    }
    for added in file.added_tokens {
        let bytes = added.content.into_bytes();
        if !tokens.iter().any(|(id, known)| *id == added.id && *known == bytes) {
            tokens.push((added.id, bytes));
        }
    }
    tokens.sort();
    Ok(tokens)
}

/// The byte that a character of GPT-2's alphabet stands for.
fn byte_of(c: char) -> Option<u8> {
    let stands_for_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u8::try_from(c) {
        Ok(byte) => stands_for_itself(byte).then_some(byte),
        Err(_) => {
            let index = (c as usize).checked_sub(0x100)?;
            (0..=u8::MAX).filter(|byte| !stands_for_itself(*byte)).nth(index)
        }
    }
}

#[derive(Deserialize)]
struct HfTokenizer {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    model: HfModel,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct HfModel {
    vocab: Pairs,
}

/// A JSON object of ids as it is written: a map would hide a token given twice.
struct Pairs(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object from tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some((token, id)) = map.next_entry::<String, u64>()? {
                    let id = u32::try_from(id).map_err(|_| A::Error::custom(format!("`{token}` has id {id}")))?;
                    pairs.push((token, id));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
