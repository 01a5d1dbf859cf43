//! A source whose every byte is held against recorded digests before anyone sees it.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::{RangeError, RangeSource, Reading, within};
use crate::manifest::FileDigests;

/// Longest range with one digest that is read whole to check it.
const WIDEST_BYTES: u64 = 512 << 20;

/// A source that checks what it reads against a manifest.
///
/// A read is widened to whole digested ranges: their bytes are what the digests speak of.  What no digest covers is refused.
#[derive(Debug)]
pub struct Witnessed<S> {
    inner: S,
    /// Ranges and their digests in hexadecimal, by start.
    digests: Vec<(Range<u64>, String)>,
}

impl<S: RangeSource> Witnessed<S> {
    /// Holds `inner` against a file's entry in a manifest.
    pub fn new(inner: S, file: &FileDigests) -> Witnessed<S> {
        Witnessed { inner, digests: file.ranges() }
    }

    /// One digested range, checked.
    async fn checked(&self, (range, want): &(Range<u64>, String)) -> Result<Bytes, RangeError> {
        let name = || self.inner.name().to_string();
        let Range { start, end } = *range;
        if end - start > WIDEST_BYTES {
            return Err(RangeError::DigestTooWide { name: name(), start, end, max_bytes: WIDEST_BYTES });
        }
        let bytes = self.inner.read(range.clone()).await?;
        let found = crate::manifest::hex(&Sha256::digest(&bytes));
        match found == *want {
            true => Ok(bytes),
            false => Err(RangeError::Digest { name: name(), start, end, want: want.clone(), found }),
        }
    }

    async fn read_checked(&self, range: Range<u64>) -> Result<Bytes, RangeError> {
        within(&self.inner, &range)?;
        let mut out = BytesMut::with_capacity((range.end - range.start) as usize);
        let first = self.digests.partition_point(|(digested, _)| digested.end <= range.start);
        let mut at = range.start;
        for digested in self.digests[first..].iter().take_while(|(digested, _)| digested.start < range.end) {
            if digested.0.start > at {
                break;
            }
            // A manifest may be anybody's: ranges that overlap are no reason to panic.
            if digested.0.end <= at {
                continue;
            }
            let bytes = self.checked(digested).await?;
            let to = digested.0.end.min(range.end);
            let part = bytes.slice((at - digested.0.start) as usize..(to - digested.0.start) as usize);
            if part.len() as u64 == range.end - range.start {
                return Ok(part);
            }
            out.extend_from_slice(&part);
            at = to;
        }
        match at == range.end {
            true => Ok(out.freeze()),
            false => Err(RangeError::NoDigest { name: self.inner.name().into(), start: at, end: range.end }),
        }
    }
}

impl<S: RangeSource> RangeSource for Witnessed<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn total_bytes(&self) -> u64 {
        self.inner.total_bytes()
    }

    fn version(&self) -> Option<&str> {
        self.inner.version()
    }

    fn read(&self, range: Range<u64>) -> Reading<'_> {
        Box::pin(self.read_checked(range))
    }
}
