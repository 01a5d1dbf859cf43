//! The bytes of an input: a read-only memory map of a file, or bytes already in memory.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

/// Bytes of an input file.  Dereferences to `[u8]`.
///
/// A map assumes that nobody shortens the file while it is open: the kernel then ends the process with SIGBUS.
/// Outputs of this project appear by rename, so replacing a file never shortens one that is mapped.
#[derive(Debug)]
pub enum FileBytes {
    /// A mapped file.
    Mapped(memmap2::Mmap),
    /// Bytes in memory: tests, and files of length zero, which no system maps.
    Owned(Vec<u8>),
}

impl FileBytes {
    /// Maps a file for reading.
    pub fn map(path: &Path) -> io::Result<FileBytes> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "expected a file, found a directory"));
        }
        if !metadata.is_file() {
            // A pipe or a device has no length and may never end.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(FileBytes::Owned(Vec::new()));
        }
        // SAFETY: the map is read-only and private to this process; the type's documentation states the one
        // assumption that no API can check, that the file is not shortened while it is mapped.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(FileBytes::Mapped(map))
    }

    /// Where `part` lies in this file; `None` if it is no part of it.
    pub fn range_of(&self, part: &[u8]) -> Option<Range<usize>> {
        let start = (part.as_ptr() as usize).checked_sub(self.as_ptr() as usize)?;
        (start < self.len()).then(|| start..start + part.len())
    }

    /// Tells the kernel that `range` is about to be read from front to back.  Only a hint: failure is harmless.
    pub fn will_read(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let FileBytes::Mapped(map) = self {
            let end = range.end.min(map.len());
            if range.start < end {
                let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, end - range.start);
            }
        }
    }

    /// Tells the kernel that nobody reads `range` again soon: its pages no longer count as this process's, and are read from
    /// the file once more if someone does.
    pub fn has_read(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let FileBytes::Mapped(map) = self {
            let end = range.end.min(map.len());
            if range.start < end {
                // SAFETY: the pages of a read-only map of a file hold nothing that is not in the file; reading one that was
                // given back fetches the same bytes again.
                let _ = unsafe {
                    map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, end - range.start)
                };
            }
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            FileBytes::Mapped(map) => map,
            FileBytes::Owned(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        FileBytes::Owned(bytes)
    }
}

/// Reads at an offset without moving a shared cursor.
pub fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], offset + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }
    #[cfg(not(any(unix, windows)))]
    {
        let _ = (file, bytes, offset);
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_read_again() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(file.path(), &bytes).expect("it is written");
        let map = FileBytes::map(file.path()).expect("it maps");
        assert_eq!(map[..], bytes[..]);
        [(0..100_000), (5000..70_001), (90_000..200_000), (100_000..100_000)].into_iter().for_each(|r| map.has_read(r));
        assert_eq!(map[..], bytes[..]);
        let owned = FileBytes::from(bytes.clone());
        owned.has_read(0..bytes.len());
        assert_eq!(owned[..], bytes[..], "bytes in memory stay");
        assert_eq!(owned.range_of(&owned[5..7]), Some(5..7));
        assert_eq!(owned.range_of(&map[5..7]), None);
    }
}
