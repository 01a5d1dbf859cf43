//! Which version of a file an answer is of.
//!
//! The ETag is made of length, inode, time of modification and time of change.  A digest of the contents would say more and
//! would cost minutes of reading for a checkpoint before its first byte could be sent.  What the tag rests on: every
//! write and every replacement moves the time of change, which no program can set back.  Times have steps, so a file that was
//! written a moment ago gets a weak tag: two writes in one step could look the same.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Steps of the times of any file system in use: FAT has two seconds.
const STEP: Duration = Duration::from_secs(2);

/// A version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// Length.
    pub(super) bytes: u64,
    /// Time of modification.
    pub(super) modified: SystemTime,
    /// Inode and time of change, in nanoseconds, where the system has them.
    identity: (u64, u128),
}

impl Version {
    fn of(metadata: &Metadata) -> Version {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ino(), (metadata.ctime() as u128) * 1_000_000_000 + metadata.ctime_nsec() as u128)
        };
        #[cfg(not(unix))]
        let identity = (0, 0);
        Version { bytes: metadata.len(), modified: metadata.modified().unwrap_or(UNIX_EPOCH), identity }
    }

    /// The tag without its quotes.
    fn opaque(&self) -> String {
        let modified = self.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (inode, changed) = self.identity;
        format!("{:x}-{inode:x}-{modified:x}-{changed:x}", self.bytes)
    }

    fn is_settled(&self) -> bool {
        let changed = UNIX_EPOCH + Duration::from_nanos(self.identity.1.min(u64::MAX.into()) as u64);
        // A time that is still to come settles nothing.
        SystemTime::now().duration_since(self.modified.max(changed)).is_ok_and(|age| age > STEP)
    }

    /// The ETag: strong, unless the file was written a moment ago.
    pub(super) fn etag(&self) -> String {
        let weak = if self.is_settled() { "" } else { "W/" };
        format!("{weak}\"{}\"", self.opaque())
    }

    /// Strong comparison, as `If-Range` asks for: a weak tag, or a date, is never the same.
    pub(super) fn is_strongly(&self, tag: &str) -> bool {
        self.is_settled() && tag.trim() == format!("\"{}\"", self.opaque())
    }

    /// Weak comparison with a list, as `If-None-Match` asks for.
    pub(super) fn is_among(&self, tags: &str) -> bool {
        let own = format!("\"{}\"", self.opaque());
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    first: Version,
}

impl OpenFile {
    /// Opens a file for reading.
    pub(super) fn open(path: &Path) -> io::Result<OpenFile> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => Ok(OpenFile { first: Version::of(&metadata), file }),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The version now; the first one where the file can no longer be asked.
    pub(super) fn version(&self) -> Version {
        self.file.metadata().map_or(self.first, |metadata| Version::of(&metadata))
    }

    /// Exactly `bytes` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut chunk = vec![0; bytes];
        crate::mapped::read_exact_at(&self.file, &mut chunk, offset)?;
        Ok(chunk)
    }
}
