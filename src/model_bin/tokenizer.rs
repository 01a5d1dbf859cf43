//! The tokenizer section: special-token UUIDs, the pre-tokenizer's pattern, and the bytes of every text token.
//!
//! ```text
//! special tokens   16 bytes each: slot i is token id num_text_tokens + i; zeros mean "none"
//! regex            ASCII, then one NUL
//! text tokens      ids ascending: u16 length ≥ 1, then the token's bytes (not always UTF-8)
//! ```
//!
//! The upstream converter asks for `end_untrusted` but names the token `endofuntrusted`, so slot 3 stays zero in
//! every published file, and here.

use std::path::Path;

use super::ModelBinError;
use super::header::{TokenizerHeader, uuid_text};
use super::layout::{HEADER_BYTES, TokenizerBytes};

/// Special tokens a model.bin can name, with their UUIDs.
const SPECIAL_TOKENS: [(&str, [u8; 16]); 10] = [
    ("untrusted", 0x07d7da55_b346_4cff_8b37_7cefacf8a3e8_u128.to_be_bytes()),
    ("end_untrusted", 0xf265bd9c_c717_469e_a447_920687d65d90_u128.to_be_bytes()),
    ("return", 0xf799ff69_1992_43c4_a3d8_d831f475dc75_u128.to_be_bytes()),
    ("constrain", 0xc0bb14c7_6022_49da_ad08_792d67e8b470_u128.to_be_bytes()),
    ("channel", 0xfd3dda11_c8ab_4033_876e_d93deb172c93_u128.to_be_bytes()),
    ("start", 0x55a77c2f_8a01_4c54_8ac2_313bfc7e208d_u128.to_be_bytes()),
    ("end", 0xfcac2f6d_4705_4f6b_b228_642accac7238_u128.to_be_bytes()),
    ("message", 0x16e40431_f47f_4b22_b59b_8b278fc30a54_u128.to_be_bytes()),
    ("call", 0x1220f796_e388_4de5_b487_fe2eb5fe03c0_u128.to_be_bytes()),
    ("refusal", 0xe15ba702_28c4_4292_ab8f_ffa434709128_u128.to_be_bytes()),
];

/// Slots of o200k_harmony, ids 199 998 to 200 013, as the upstream converter fills them.
pub const HARMONY_SLOTS: [Option<&str>; 16] = [
    None, // 199998 startoftext
    None, // 199999 endoftext
    Some("untrusted"),
    None, // 200001 end_untrusted: see the module's documentation
    Some("return"),
    Some("constrain"),
    None,
    Some("channel"),
    Some("start"),
    Some("end"),
    Some("message"),
    None,
    None,
    None,
    Some("call"),
    Some("refusal"),
];

/// Text tokens of o200k_harmony; their ids start at 0.
const HARMONY_TEXT_TOKENS: u32 = 199_998;

/// The bytes of a tokenizer section, as an exporter writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerSection {
    special_tokens: Vec<[u8; 16]>,
    regex: Vec<u8>,
    text_tokens: Vec<u8>,
    text_token_count: usize,
}

impl TokenizerSection {
    /// A section from its parts; `slots` name special tokens.
    ///
    /// # Panics
    /// If a slot's name is not a special token of the format, or a token is empty or longer than a u16 counts.
    pub fn new<'a>(slots: &[Option<&str>], pattern: &str, tokens: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let uuid = |name: &str| SPECIAL_TOKENS.iter().find(|t| t.0 == name).expect("a special token of the format").1;
        let mut section = TokenizerSection {
            special_tokens: slots.iter().map(|slot| slot.map_or([0; 16], uuid)).collect(),
            regex: [pattern.as_bytes(), b"\0"].concat(),
            text_tokens: Vec::new(),
            text_token_count: 0,
        };
        for token in tokens {
            assert!(!token.is_empty(), "text token {} is empty", section.text_token_count);
            let length = u16::try_from(token.len()).expect("a text token's length fits a u16");
            section.text_tokens.extend_from_slice(&length.to_le_bytes());
            section.text_tokens.extend_from_slice(token);
            section.text_token_count += 1;
        }
        section
    }

    /// The section of every gpt-oss model, from the vocabulary bundled in `tiktoken-rs`.
    ///
    /// # Errors
    /// A description, if the bundled vocabulary lacks one of the ids 0 to 199 997.
    pub fn o200k_harmony() -> Result<Self, String> {
        let bpe = tiktoken_rs::o200k_harmony().map_err(|e| e.to_string())?;
        let tokens = (0..HARMONY_TEXT_TOKENS)
            .map(|id| bpe.decode_bytes(&[id]).map_err(|e| format!("id {id}: {e}")))
            .collect::<Result<Vec<_>, _>>()?;
        let tokens = tokens.iter().map(Vec::as_slice);
        Ok(TokenizerSection::new(&HARMONY_SLOTS, tiktoken_rs::O200K_BASE_PAT_STR, tokens))
    }

    /// Tokens of both kinds: the rows of the embedding in the file.
    pub fn vocab_rows(&self) -> usize {
        self.special_tokens.len() + self.text_token_count
    }

    /// Its numbers for the header.
    pub fn header(&self) -> TokenizerHeader {
        TokenizerHeader {
            num_special_tokens: self.special_tokens.len() as u32,
            num_text_tokens: self.text_token_count as u32,
            regex_size: self.regex.len() as u32,
            tokens_size: self.text_tokens.len() as u32,
        }
    }

    /// Special tokens, regex and text tokens as they follow the header.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.special_tokens.as_flattened(), &self.regex, &self.text_tokens].concat()
    }
}

/// A validated tokenizer section inside a file.
#[derive(Debug, Clone)]
pub struct Tokenizer<'a> {
    header: TokenizerHeader,
    /// Special tokens, regex, text tokens.
    bytes: &'a [u8],
}

impl TokenizerHeader {
    /// Sizes of the section's parts.
    pub fn part_bytes(&self) -> TokenizerBytes {
        TokenizerBytes {
            special_tokens: 16 * u64::from(self.num_special_tokens),
            regex: u64::from(self.regex_size),
            text_tokens: u64::from(self.tokens_size),
        }
    }

    /// Tokens of both kinds.
    pub fn vocab_rows(&self) -> usize {
        (self.num_special_tokens + self.num_text_tokens) as usize
    }

    /// Absolute end of the section.
    fn end(&self) -> u64 {
        let parts = self.part_bytes();
        HEADER_BYTES + parts.special_tokens + parts.regex + parts.text_tokens
    }
}

impl<'a> Tokenizer<'a> {
    /// Validates the section of `file` that `header` describes.
    pub fn parse(path: &Path, file: &'a [u8], header: TokenizerHeader) -> Result<Tokenizer<'a>, ModelBinError> {
        let (want_bytes, found_bytes) = (header.end(), file.len() as u64);
        if want_bytes > found_bytes {
            return Err(ModelBinError::TokenizerTruncated { path: path.into(), want_bytes, found_bytes });
        }
        let tokenizer = Tokenizer { header, bytes: &file[HEADER_BYTES as usize..want_bytes as usize] };
        tokenizer.check_special_tokens(path)?;
        tokenizer.check_regex(path)?;
        tokenizer.check_text_tokens(path)?;
        Ok(tokenizer)
    }

    /// A section that [`Tokenizer::parse`] accepted before.
    pub(super) fn trusted(file: &'a [u8], header: TokenizerHeader) -> Tokenizer<'a> {
        Tokenizer { header, bytes: &file[HEADER_BYTES as usize..header.end() as usize] }
    }

    /// The section's bytes: special tokens, regex, text tokens.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Special-token names by slot; slot i is id `num_text_tokens + i`.
    pub fn special_tokens(&self) -> impl Iterator<Item = Option<&'static str>> + 'a {
        self.slots().iter().map(|slot| SPECIAL_TOKENS.iter().find(|t| t.1 == *slot).map(|t| t.0))
    }

    /// The pre-tokenizer's pattern, without its NUL.
    pub fn pattern(&self) -> &'a [u8] {
        let regex = self.regex();
        &regex[..regex.len() - 1]
    }

    /// The bytes of each text token, by id.
    pub fn text_tokens(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.records();
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first_chunk::<2>()?;
            let (token, tail) = tail.split_at(usize::from(u16::from_le_bytes(*length)));
            rest = tail;
            Some(token)
        })
    }

    fn slots(&self) -> &'a [[u8; 16]] {
        self.bytes[..self.header.part_bytes().special_tokens as usize].as_chunks().0
    }

    fn regex(&self) -> &'a [u8] {
        let parts = self.header.part_bytes();
        &self.bytes[parts.special_tokens as usize..][..parts.regex as usize]
    }

    fn records(&self) -> &'a [u8] {
        let parts = self.header.part_bytes();
        &self.bytes[(parts.special_tokens + parts.regex) as usize..]
    }

    fn check_special_tokens(&self, path: &Path) -> Result<(), ModelBinError> {
        let mut first_slots = [None; SPECIAL_TOKENS.len()];
        for (slot, uuid) in self.slots().iter().enumerate().filter(|(_, uuid)| **uuid != [0; 16]) {
            let (path, offset) = (path.to_path_buf(), HEADER_BYTES + 16 * slot as u64);
            let Some(index) = SPECIAL_TOKENS.iter().position(|t| t.1 == *uuid) else {
                return Err(ModelBinError::SpecialTokenUnknown { path, slot, offset, found: uuid_text(uuid) });
            };
            if let Some(first) = first_slots[index].replace(slot) {
                let token = SPECIAL_TOKENS[index].0;
                return Err(ModelBinError::SpecialTokenDuplicate { path, slot, offset, first, token });
            }
        }
        Ok(())
    }

    fn check_regex(&self, path: &Path) -> Result<(), ModelBinError> {
        let regex = self.regex();
        let last = regex.len() - 1; // the header's rule: regex_size ≥ 1
        let wrong = |(at, &byte): (usize, &u8)| !byte.is_ascii() || (byte == 0) != (at == last);
        match regex.iter().enumerate().position(wrong) {
            Some(at) => {
                let offset = HEADER_BYTES + self.header.part_bytes().special_tokens + at as u64;
                Err(ModelBinError::Regex { path: path.into(), offset, found: regex[at] })
            }
            None => Ok(()),
        }
    }

    fn check_text_tokens(&self, path: &Path) -> Result<(), ModelBinError> {
        let records = self.records();
        let start = self.header.end() - records.len() as u64;
        let mut at = 0;
        for id in 0..self.header.num_text_tokens as usize {
            let offset = start + at as u64;
            let end = self.header.end();
            let (path, rest) = (|| path.to_path_buf(), &records[at..]);
            let Some(length) = rest.first_chunk::<2>() else {
                return Err(ModelBinError::TextTokenTruncated { path: path(), id, offset, want_bytes: 2, end });
            };
            let length = usize::from(u16::from_le_bytes(*length));
            if length == 0 {
                return Err(ModelBinError::TextTokenEmpty { path: path(), id, offset });
            }
            if rest.len() < 2 + length {
                let want_bytes = 2 + length as u64;
                return Err(ModelBinError::TextTokenTruncated { path: path(), id, offset, want_bytes, end });
            }
            at += 2 + length;
        }
        if at == records.len() {
            return Ok(());
        }
        let (offset, count) = (start + at as u64, self.header.num_text_tokens as usize);
        Err(ModelBinError::TextTokensTrailing { path: path.into(), offset, count, end: self.header.end() })
    }
}
