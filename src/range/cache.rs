//! A cache on disk: whole blocks of one version of one file.
//!
//! ```text
//! DIR/<SHA-256 of address, version and length>/<index of the block>    the block's bytes, then their SHA-256 (32 bytes)
//! ```
//!
//! * A block appears whole or not at all: it is written beside and renamed.  A download that was interrupted goes on with
//!   the blocks that are missing.
//! * A block whose digest does not fit, or that has another length, was damaged: it is removed and read again.
//! * What has no version ([`RangeSource::version`]) is not kept: nothing would tell a new file from the old one.
//! * Beyond the limit, blocks go that were used longest ago, of whatever file.  Several processes may share a directory: each
//!   counts what it writes and looks again when it must make room.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::{RangeError, RangeSource, Reading, pieces, within};
use crate::output::PendingFile;

/// Bytes of a block, but of a file's last: one request.
pub const BLOCK_BYTES: u64 = pieces::PIECE_BYTES;
/// Bytes of the digest behind a block.
const DIGEST_BYTES: usize = 32;
/// What is left of the limit when room has been made, in percent: so that not every block makes room.
const KEPT_PERCENT: u64 = 90;

/// A directory of blocks.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    max_bytes: u64,
    held_bytes: AtomicU64,
}

impl Cache {
    /// Opens a directory, and makes it where there is none.  It will hold about `max_bytes`.
    pub fn open(directory: &Path, max_bytes: u64) -> Result<Cache, RangeError> {
        let cache = Cache { directory: directory.into(), max_bytes, held_bytes: AtomicU64::new(0) };
        fs::create_dir_all(directory).map_err(|source| cache.failed(source))?;
        let held: u64 = cache.blocks().map_err(|source| cache.failed(source))?.iter().map(|block| block.bytes).sum();
        cache.held_bytes.store(held, Ordering::Relaxed);
        Ok(cache)
    }

    /// Bytes of all blocks, as far as this process knows.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    fn failed(&self, source: io::Error) -> RangeError {
        RangeError::Cache { path: self.directory.clone(), source }
    }

    /// A block, if it is there and whole.
    fn load(&self, path: &Path, want_bytes: usize) -> Option<Bytes> {
        let file = File::open(path).ok()?;
        let whole = file.metadata().ok().filter(|m| m.len() == (want_bytes + DIGEST_BYTES) as u64);
        let bytes = whole.and_then(|_| fs::read(path).ok()).filter(|bytes| {
            let (block, digest) = bytes.split_at(bytes.len().saturating_sub(DIGEST_BYTES));
            block.len() == want_bytes && Sha256::digest(block)[..] == *digest
        });
        let Some(bytes) = bytes else {
            tracing::warn!(target: "gptoss::range", "{}: damaged, removed", path.display());
            let _ = fs::remove_file(path);
            return None;
        };
        // The time of use decides who goes first.
        let _ = file.set_modified(SystemTime::now());
        Some(Bytes::from(bytes).slice(..want_bytes))
    }

    fn store(&self, path: &Path, block: &[u8]) -> io::Result<()> {
        let bytes = (block.len() + DIGEST_BYTES) as u64;
        if bytes > self.max_bytes {
            return Ok(());
        }
        if self.held_bytes.load(Ordering::Relaxed).saturating_add(bytes) > self.max_bytes {
            self.make_room(bytes)?;
        }
        fs::create_dir_all(path.parent().expect("a block lies in its file's directory"))?;
        let pending = PendingFile::create(path)?;
        pending.file().write_all(block)?;
        pending.file().write_all(&Sha256::digest(block))?;
        pending.commit()?;
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what was used longest ago, until so many bytes more stay below the limit.
    fn make_room(&self, more_bytes: u64) -> io::Result<()> {
        let mut blocks = self.blocks()?;
        blocks.sort_by_key(|block| block.used);
        let mut held: u64 = blocks.iter().map(|block| block.bytes).sum();
        let goal = (self.max_bytes / 100 * KEPT_PERCENT).saturating_sub(more_bytes);
        for block in &blocks {
            if held <= goal {
                break;
            }
            match fs::remove_file(&block.path) {
                // Another process may have been faster.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => held -= block.bytes,
            }
            // Empty directories go; one that is not empty stays, and says so.
            let _ = block.path.parent().map(fs::remove_dir);
        }
        self.held_bytes.store(held, Ordering::Relaxed);
        Ok(())
    }

    /// Every block of every file.  What is no block is not looked at.
    fn blocks(&self) -> io::Result<Vec<Block>> {
        let mut blocks = Vec::new();
        for folder in fs::read_dir(&self.directory)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let is_block = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
                // Another process may just have removed it.
                if let (true, Ok(metadata)) = (is_block, entry.metadata()) {
                    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    blocks.push(Block { path: entry.path(), bytes: metadata.len(), used });
                }
            }
        }
        Ok(blocks)
    }
}

/// A block on disk.
struct Block {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// A source whose blocks are kept.
#[derive(Debug)]
pub struct Cached<'a, S> {
    inner: S,
    cache: &'a Cache,
    /// Where its blocks lie; `None` where it has no version.
    folder: Option<PathBuf>,
}

impl<'a, S: RangeSource> Cached<'a, S> {
    /// Keeps blocks of `inner` in `cache`.
    pub fn new(inner: S, cache: &'a Cache) -> Cached<'a, S> {
        let key = inner.version().map(|version| {
            let key = format!("{}\n{version}\n{}", inner.name(), inner.total_bytes());
            crate::manifest::hex(&Sha256::digest(key))
        });
        Cached { folder: key.map(|key| cache.directory.join(key)), inner, cache }
    }

    /// The source behind the cache.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    async fn block(&self, folder: &Path, index: u64) -> Result<Bytes, RangeError> {
        let path = folder.join(index.to_string());
        let start = index * BLOCK_BYTES;
        let end = (start + BLOCK_BYTES).min(self.inner.total_bytes());
        if let Some(bytes) = self.cache.load(&path, (end - start) as usize) {
            return Ok(bytes);
        }
        let bytes = self.inner.read(start..end).await?;
        // What was read is right, whether or not it can be kept.
        if let Err(error) = self.cache.store(&path, &bytes) {
            tracing::warn!(target: "gptoss::range", "{}: not kept: {error}", path.display());
        }
        Ok(bytes)
    }

    async fn read_blocks(&self, range: Range<u64>) -> Result<Bytes, RangeError> {
        within(&self.inner, &range)?;
        let folder = match &self.folder {
            Some(folder) if !range.is_empty() => folder,
            _ => return self.inner.read(range).await,
        };
        let first = range.start / BLOCK_BYTES;
        let last = (range.end - 1) / BLOCK_BYTES;
        let part = |index: u64, bytes: Bytes| {
            let start = index * BLOCK_BYTES;
            let to = range.end.min(start + BLOCK_BYTES);
            bytes.slice((range.start.max(start) - start) as usize..(to - start) as usize)
        };
        if first == last {
            return Ok(part(first, self.block(folder, first).await?));
        }
        let blocks = (first..=last).map(|index| async move { Ok((index, self.block(folder, index).await?)) });
        let whole = BytesMut::with_capacity((range.end - range.start) as usize);
        let join = |mut whole: BytesMut, (index, bytes): (u64, Bytes)| {
            whole.extend_from_slice(&part(index, bytes));
            std::future::ready(Ok(whole))
        };
        stream::iter(blocks).buffered(pieces::AT_ONCE).try_fold(whole, join).await.map(BytesMut::freeze)
    }
}

impl<S: RangeSource> RangeSource for Cached<'_, S> {
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
        Box::pin(self.read_blocks(range))
    }
}
