//! Streaming decoding: what is shown is always whole characters.
//!
//! A character may be spread over tokens, and a token may end inside one.  Bytes that are not UTF-8 become U+FFFD where
//! and as often as in the lossy decoding of the whole, so that the pieces of a stream add up to exactly that.

use super::{Tokenizer, TokenizerError};

/// Bytes on their way to becoming text.
#[derive(Debug, Clone, Default)]
pub struct Utf8Pieces {
    bytes: Vec<u8>,
}

impl Utf8Pieces {
    /// Appends bytes, of which nothing is read yet.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the valid text up to the first invalid sequence, with a U+FFFD for that; `None` if no character is whole.
    pub fn take_piece(&mut self) -> Option<String> {
        let (valid, invalid) = match std::str::from_utf8(&self.bytes) {
            Ok(text) => (text.len(), 0),
            Err(e) => (e.valid_up_to(), e.error_len().unwrap_or(0)),
        };
        let mut piece = String::from_utf8_lossy(&self.bytes[..valid]).into_owned();
        if invalid > 0 {
            piece.push(char::REPLACEMENT_CHARACTER);
        }
        self.bytes.drain(..valid + invalid);
        (!piece.is_empty()).then_some(piece)
    }

    /// Takes all that is whole.
    pub fn take_whole(&mut self) -> String {
        std::iter::from_fn(|| self.take_piece()).collect()
    }

    /// Takes everything: an unfinished character becomes U+FFFD.
    pub fn take_rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned()
    }
}

/// Turns ids, one by one, into text that only grows.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    pieces: Utf8Pieces,
    position: usize,
}

impl StreamDecoder {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, pieces: Utf8Pieces::default(), position: 0 }
    }

    /// The text that `id` completes: empty while a character is unfinished.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownId`]; the decoder goes on as if that id had not come.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        let position = self.position;
        self.position += 1;
        let bytes = self.tokenizer.decode_bytes(&[id]).map_err(|_| TokenizerError::UnknownId { id, position })?;
        self.pieces.extend(&bytes);
        Ok(self.pieces.take_whole())
    }

    /// What was held back, at the end of the stream; the decoder is then as new.
    pub fn finish(&mut self) -> String {
        self.position = 0;
        self.pieces.take_rest()
    }
}
