//! When a sequence ends, and which of its text may be shown before that is known.
//!
//! ```text
//! token ─► a stop token? ─► text ─► a stop string? ─► room left? ─► go on
//!              stop                     stop            length
//! ```
//!
//! Text is bytes: a token may end inside a character.  Stop strings are whole characters and UTF-8 synchronises itself,
//! so pieces of whole characters come out as whole characters.
//!
//! * **Invariant:** what comes out is the text up to the first stop string, however the text is cut into pieces.
//! * **Invariant:** exactly the bytes that may be the beginning of a stop string are held back, no byte more.
//!
//! The first stop string is the one that is complete first; of several that end at the same byte, the longest.  (So with
//! `bc` and `abcd`, `abcd` gives `a`: a stream stops at the first chance and cannot wait for another.)

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;

use serde::Serialize;

/// Stop strings of a request; OpenAI's API allows 4.
pub const STOP_STRINGS_MAX: usize = 16;
/// Bytes of a stop string, and so of held text.
pub const STOP_STRING_BYTES_MAX: usize = 1024;

/// Why a sequence ended, in the words of OpenAI's `finish_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// As many tokens as were allowed.
    Length,
    /// Whoever asked wants no more; OpenAI's API has no word for it.
    Cancelled,
}

/// What ends a sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopRules {
    /// Tokens that end it; their text is not shown.
    pub tokens: BTreeSet<u32>,
    /// Strings that end it; neither they nor what follows is shown.
    pub strings: Vec<String>,
    /// Tokens at most, the stop token counted; absent: no limit but the context's.
    pub max_tokens: Option<NonZeroUsize>,
}

/// Why rules were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field means
pub enum StopError {
    #[error("{found} stop strings; there may be {STOP_STRINGS_MAX}")]
    TooMany { found: usize },
    #[error("stop string {index} is empty")]
    Empty { index: usize },
    #[error("stop string {index} has {bytes} bytes; it may have {STOP_STRING_BYTES_MAX}")]
    TooLong { index: usize, bytes: usize },
}

/// Follows one sequence to its end.
#[derive(Debug, Clone)]
pub struct Stop {
    tokens: BTreeSet<u32>,
    text: TextStop,
    left: Option<usize>,
    finished: Option<FinishReason>,
}

impl Stop {
    /// At the beginning of the output.
    pub fn new(rules: StopRules) -> Result<Self, StopError> {
        let text = TextStop::new(&rules.strings)?;
        Ok(Self { tokens: rules.tokens, text, left: rules.max_tokens.map(NonZeroUsize::get), finished: None })
    }

    /// Takes the next token and its text, and appends to `out` what may be shown now; why it ended, if it has.
    ///
    /// At the end nothing is held back any more.  After it, tokens change nothing.
    pub fn step(&mut self, token: u32, text: &[u8], out: &mut Vec<u8>) -> Option<FinishReason> {
        if self.finished.is_some() {
            return self.finished;
        }
        self.left = self.left.map(|left| left - 1);
        if self.tokens.contains(&token) {
            self.finish(FinishReason::Stop, out);
        } else if self.text.push(text, out).is_some() {
            self.finished = Some(FinishReason::Stop);
        } else if self.left == Some(0) {
            self.finish(FinishReason::Length, out);
        }
        self.finished
    }

    /// Ends the sequence where it is, if it has not ended; appends what was held back.
    pub fn cancel(&mut self, out: &mut Vec<u8>) -> FinishReason {
        match self.finished {
            Some(reason) => reason,
            None => self.finish(FinishReason::Cancelled, out),
        }
    }

    /// Why it ended, if it has.
    pub fn finished(&self) -> Option<FinishReason> {
        self.finished
    }

    fn finish(&mut self, reason: FinishReason, out: &mut Vec<u8>) -> FinishReason {
        self.text.finish(out);
        *self.finished.insert(reason)
    }
}

/// Finds the first of several strings in a text that comes in pieces.
#[derive(Debug, Clone)]
pub struct TextStop {
    patterns: Vec<Pattern>,
    /// Text that may be the beginning of a stop string.
    held: VecDeque<u8>,
    found: Option<usize>,
}

impl TextStop {
    /// Stops at any of `strings`; at none if there is none.
    pub fn new(strings: &[String]) -> Result<Self, StopError> {
        if strings.len() > STOP_STRINGS_MAX {
            return Err(StopError::TooMany { found: strings.len() });
        }
        for (index, string) in strings.iter().enumerate() {
            match string.len() {
                0 => return Err(StopError::Empty { index }),
                1..=STOP_STRING_BYTES_MAX => {}
                bytes => return Err(StopError::TooLong { index, bytes }),
            }
        }
        let patterns = strings.iter().map(|string| Pattern::new(string.as_bytes())).collect();
        Ok(Self { patterns, held: VecDeque::new(), found: None })
    }

    /// Appends to `out` what of the text can no longer be part of a stop string; the index of the one found, if any.
    ///
    /// Once one is found, further pieces give nothing.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        for &byte in piece {
            if self.found.is_some() {
                break;
            }
            self.held.push_back(byte);
            self.patterns.iter_mut().for_each(|pattern| pattern.advance(byte));
            let complete = self.patterns.iter().enumerate().filter(|(_, pattern)| pattern.is_complete());
            self.found = complete.max_by_key(|(_, pattern)| pattern.bytes.len()).map(|(index, _)| index);
            let suspect = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
            let kept = self.found.map_or(suspect, |index| self.patterns[index].bytes.len());
            out.extend(self.held.drain(..self.held.len() - kept));
        }
        if self.found.is_some() {
            self.held.clear();
        }
        self.found
    }

    /// The text has ended: appends what was held back, which is nothing once a stop string was found.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend(self.held.drain(..));
    }
}

/// One string, followed byte by byte (Knuth, Morris, Pratt 1977).
#[derive(Debug, Clone)]
struct Pattern {
    bytes: Vec<u8>,
    /// At n: the longest proper prefix that is a suffix of the first n + 1 bytes.
    borders: Vec<usize>,
    /// The longest prefix that the text ends in.
    matched: usize,
}

impl Pattern {
    fn new(bytes: &[u8]) -> Self {
        let mut pattern = Self { bytes: bytes.to_vec(), borders: vec![0], matched: 0 };
        for &byte in &bytes[1..] {
            pattern.advance(byte);
            pattern.borders.push(pattern.matched);
        }
        pattern.matched = 0;
        pattern
    }

    fn is_complete(&self) -> bool {
        self.matched == self.bytes.len()
    }

    fn advance(&mut self, byte: u8) {
        if self.is_complete() {
            self.matched = self.borders[self.matched - 1];
        }
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.borders[self.matched - 1];
        }
        self.matched += usize::from(self.bytes[self.matched] == byte);
    }
}
