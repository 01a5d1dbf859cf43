//! Reading a header front to back, from the bytes that are there: more may come.

use std::path::Path;

use super::error::GgufError;
use super::limits::HEADER_BYTES_MAX;

/// Why reading stopped.
pub(super) enum Stop {
    /// The prefix must reach at least this far.
    NeedMore(u64),
    /// No further byte will mend it.
    Refused(GgufError),
}

impl From<GgufError> for Stop {
    fn from(error: GgufError) -> Stop {
        Stop::Refused(error)
    }
}

/// A place in the header.
///
/// **Invariant:** whether the file ends before a field is decided by `file_bytes`, never by the prefix, so that a longer
/// prefix never turns an error into another.
pub(super) struct Cursor<'a> {
    pub(super) path: &'a Path,
    prefix: &'a [u8],
    file_bytes: Option<u64>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, prefix: &'a [u8], file_bytes: Option<u64>) -> Cursor<'a> {
        // A file cannot be shorter than its own prefix.
        let file_bytes = file_bytes.map(|bytes| bytes.max(prefix.len() as u64));
        Cursor { path, prefix, file_bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.at as u64
    }

    /// The bytes from `start` up to here.
    pub(super) fn since(&self, start: u64) -> &'a [u8] {
        &self.prefix[start as usize..self.at]
    }

    /// How many things of at least `bytes_min` each the prefix can still hold: what may be reserved for them.
    pub(super) fn room_for(&self, count: u64, bytes_min: u64) -> usize {
        count.min((self.prefix.len() - self.at) as u64 / bytes_min) as usize
    }

    /// Demands that the file goes on for `bytes`, without reading them; `field` is what needs them.
    pub(super) fn demand(&self, bytes: u64, field: impl Fn() -> String) -> Result<u64, Stop> {
        let offset = self.offset();
        let want_bytes = offset.saturating_add(bytes);
        if let Some(found_bytes) = self.file_bytes.filter(|found| want_bytes > *found) {
            let (path, field) = (self.path.into(), field());
            return Err(GgufError::GgufTruncated { path, field, offset, want_bytes, found_bytes }.into());
        }
        if want_bytes > HEADER_BYTES_MAX {
            let (path, field) = (self.path.into(), format!("bytes of the header, up to {}", field()));
            return Err(GgufError::GgufLimit { path, field, offset, found: want_bytes, max: HEADER_BYTES_MAX }.into());
        }
        Ok(want_bytes)
    }

    /// The next `bytes` bytes.
    pub(super) fn take(&mut self, bytes: u64, field: impl Fn() -> String) -> Result<&'a [u8], Stop> {
        let end = self.demand(bytes, field)?;
        let Some(taken) = self.prefix.get(self.at..end as usize) else { return Err(Stop::NeedMore(end)) };
        self.at = end as usize;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: impl Fn() -> String) -> Result<[u8; N], Stop> {
        let taken = self.take(N as u64, field)?;
        Ok(*taken.first_chunk().expect("that many were taken"))
    }

    pub(super) fn u32(&mut self, field: impl Fn() -> String) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: impl Fn() -> String) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A u64 that counts something: at most `max`, and the file must have `bytes_min` for each.
    pub(super) fn count(&mut self, max: u64, bytes_min: u64, field: impl Fn() -> String) -> Result<u64, Stop> {
        let offset = self.offset();
        let found = self.u64(&field)?;
        if found > max {
            let (path, field) = (self.path.into(), field());
            return Err(GgufError::GgufLimit { path, field, offset, found, max }.into());
        }
        self.demand(found * bytes_min, || format!("{} = {found}", field()))?;
        Ok(found)
    }

    /// A string: its length, at most `max`, and its bytes.
    pub(super) fn string(&mut self, max: u64, field: impl Fn() -> String) -> Result<&'a [u8], Stop> {
        let length = self.count(max, 1, || format!("length of {}", field()))?;
        self.take(length, field)
    }
}
