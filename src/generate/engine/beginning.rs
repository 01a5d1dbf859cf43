//! What an output must begin with, where whoever asks leaves only so much open: a call of one of several functions.

use std::borrow::Cow;

/// Sequences of tokens of which the output begins with one; none at all leaves it free.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beginnings {
    /// Those that agree with the output so far.
    left: Vec<Vec<u32>>,
    /// Tokens of the output.
    at: usize,
}

impl Beginnings {
    /// The output begins with one of `sequences`: with the first that is complete, so none should begin another.
    pub fn one_of(sequences: Vec<Vec<u32>>) -> Self {
        Self { left: sequences, at: 0 }
    }

    /// The first token that has no row in a vocabulary of `vocab`.
    pub(super) fn outside(&self, vocab: usize) -> Option<u32> {
        self.left.iter().flatten().copied().find(|&id| id as usize >= vocab)
    }

    /// The logits with −∞ for every token that none of the sequences has next.
    pub(super) fn mask<'a>(&self, logits: &'a [f32]) -> Cow<'a, [f32]> {
        if self.left.is_empty() || self.left.iter().any(|sequence| sequence.len() <= self.at) {
            return Cow::Borrowed(logits);
        }
        let mut masked = vec![f32::NEG_INFINITY; logits.len()];
        for id in self.left.iter().map(|sequence| sequence[self.at] as usize) {
            masked[id] = logits[id];
        }
        Cow::Owned(masked)
    }

    /// The token that came.
    pub(super) fn push(&mut self, id: u32) {
        let at = self.at;
        self.at += 1;
        if self.left.iter().any(|sequence| sequence.len() <= at) {
            self.left.clear();
        }
        self.left.retain(|sequence| sequence[at] == id);
    }
}
