//! Ranges of a local file: read where they are asked for, or taken from a map.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{RangeError, RangeSource, Reading, within};
use crate::mapped::{FileBytes, read_exact_at};

/// A file that is read at offsets.  Reads block: they are as short as the disk is fast.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    file: File,
    total_bytes: u64,
}

impl FileSource {
    /// Opens a regular file.
    pub fn open(path: &Path) -> Result<FileSource, RangeError> {
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| {
            let metadata = file.metadata()?;
            match metadata.is_file() {
                true => Ok((file, metadata.len())),
                false => Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file")),
            }
        });
        match opened {
            Ok((file, total_bytes)) => Ok(FileSource { name, file, total_bytes }),
            Err(source) => Err(RangeError::Io { name, source }),
        }
    }
}

impl RangeSource for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    fn read(&self, range: Range<u64>) -> Reading<'_> {
        Box::pin(async move {
            within(self, &range)?;
            let mut bytes = vec![0; (range.end - range.start) as usize];
            match read_exact_at(&self.file, &mut bytes, range.start) {
                Ok(()) => Ok(bytes.into()),
                Err(source) => Err(RangeError::Io { name: self.name.clone(), source }),
            }
        })
    }
}

/// A mapped file, or bytes in memory: reads copy nothing.
#[derive(Debug, Clone)]
pub struct MapSource {
    name: String,
    bytes: Bytes,
}

/// A map as the owner of the bytes that are handed out.
struct Owner(Arc<FileBytes>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MapSource {
    /// Maps a regular file.
    pub fn open(path: &Path) -> Result<MapSource, RangeError> {
        let name = path.display().to_string();
        match FileBytes::map(path) {
            Ok(bytes) => Ok(MapSource::new(name, Arc::new(bytes))),
            Err(source) => Err(RangeError::Io { name, source }),
        }
    }

    /// Bytes that are there already; `name` is for messages.
    pub fn new(name: String, bytes: Arc<FileBytes>) -> MapSource {
        MapSource { name, bytes: Bytes::from_owner(Owner(bytes)) }
    }
}

impl RangeSource for MapSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn total_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: Range<u64>) -> Reading<'_> {
        Box::pin(async move {
            within(self, &range)?;
            Ok(self.bytes.slice(range.start as usize..range.end as usize))
        })
    }
}
