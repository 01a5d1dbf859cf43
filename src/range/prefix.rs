//! The front of a source, for headers that say how long they are only as they are read.
//!
//! What was read stays; what is missing is read in ever larger steps.  A header of n bytes costs about log₂ n requests and
//! at most 2 n bytes, none of them twice.

use super::{RangeError, RangeSource};

/// Bytes of the first step: the header of a SafeTensors shard, or of a GGUF without its vocabulary.
const FIRST_BYTES: u64 = 1 << 20;

/// What a parser says of the bytes it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    /// The header is complete.
    Done(T),
    /// At least so many bytes from the front are needed.
    More(u64),
}

/// A growing front of a source.
pub struct Prefix<'a> {
    source: &'a dyn RangeSource,
    bytes: Vec<u8>,
    max_bytes: u64,
}

impl<'a> Prefix<'a> {
    /// Nothing yet; at most `max_bytes` will be read.
    pub fn new(source: &'a dyn RangeSource, max_bytes: u64) -> Prefix<'a> {
        Prefix { source, bytes: Vec::new(), max_bytes }
    }

    /// What has been read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads on until there are at least `want_bytes`: twice as many as before, if that is more.
    ///
    /// # Errors
    /// [`RangeError::PrefixEnds`] if the source is shorter, [`RangeError::PrefixTooLong`] beyond the limit.
    pub async fn grow(&mut self, want_bytes: u64) -> Result<(), RangeError> {
        let (held, total_bytes) = (self.bytes.len() as u64, self.source.total_bytes());
        let name = || self.source.name().to_string();
        if want_bytes > total_bytes {
            return Err(RangeError::PrefixEnds { name: name(), want_bytes, total_bytes });
        }
        if want_bytes > self.max_bytes {
            return Err(RangeError::PrefixTooLong { name: name(), max_bytes: self.max_bytes });
        }
        if want_bytes > held {
            let to = want_bytes.max(2 * held).max(FIRST_BYTES).min(total_bytes).min(self.max_bytes);
            let more = self.source.read(held..to).await?;
            self.bytes.extend_from_slice(&more);
        }
        Ok(())
    }

    /// Grows until `parse` is done.  It must ask for more than it was given.
    ///
    /// # Errors
    /// Those of [`grow`](Prefix::grow), and the parser's own.
    pub async fn parse<T, E: From<RangeError>>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<Step<T>, E>,
    ) -> Result<T, E> {
        self.grow(self.source.total_bytes().min(1)).await?;
        loop {
            match parse(&self.bytes)? {
                Step::Done(value) => return Ok(value),
                Step::More(want_bytes) => self.grow(want_bytes.max(self.bytes.len() as u64 + 1)).await?,
            }
        }
    }
}
