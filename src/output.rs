//! Outputs that appear whole or not at all: written beside, synced, renamed.
//!
//! A pending file lives in the directory of its final name as `.NAME.XXXXXX.partial`.  Dropping it removes it; a
//! process that is killed leaves it behind, never the final name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// A file that gets its name when it is complete.
#[derive(Debug)]
pub struct PendingFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl PendingFile {
    /// Begins a file that will be called `path`.
    pub fn create(path: &Path) -> io::Result<PendingFile> {
        if path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "expected a file name, found a directory"));
        }
        let directory = directory_of(path);
        let mut builder = Builder::new();
        let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
        builder.prefix(&prefix).suffix(".partial");
        #[cfg(unix)]
        {
            // As any new file: the process's umask decides, not a temporary file's 0600.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        Ok(PendingFile { temporary: builder.tempfile_in(directory)?, path: path.into() })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Syncs the contents and gives the file its name, replacing what had it.
    pub fn commit(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.path).map_err(|e| e.error)?;
        sync_directory(directory_of(&self.path))
    }
}

/// Writes a small file whole.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let pending = PendingFile::create(path)?;
    pending.file().write_all(bytes)?;
    pending.commit()
}

/// A directory that gets its name when it is complete.
#[derive(Debug)]
pub struct PendingDirectory {
    temporary: tempfile::TempDir,
    path: PathBuf,
}

impl PendingDirectory {
    /// Begins a directory that will be called `path`.
    pub fn create(path: &Path) -> io::Result<PendingDirectory> {
        let parent = directory_of(path);
        fs::create_dir_all(parent)?;
        let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        Ok(PendingDirectory { temporary: builder.tempdir_in(parent)?, path: path.into() })
    }

    /// Where to write the files.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the directory its name.  One that has it already moves aside first and is removed last.
    pub fn commit(self) -> io::Result<()> {
        sync_directory(self.temporary.path())?;
        let parent = directory_of(&self.path).to_path_buf();
        let new = self.temporary.keep();
        let replaced = match fs::symlink_metadata(&self.path) {
            Ok(_) => {
                let aside = Builder::new().prefix(".replaced.").tempdir_in(&parent)?;
                fs::rename(&self.path, aside.path().join("old"))?;
                Some(aside)
            }
            Err(_) => None,
        };
        fs::rename(&new, &self.path)?;
        sync_directory(&parent)?;
        drop(replaced);
        Ok(())
    }
}

/// Bytes free for this user on the file system of `path`'s directory; `None` where the system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(directory_of(path)).ok()?;
        Some(stat.f_bavail * stat.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A rename is durable once its directory is synced; where directories cannot be opened, the system sees to it.
fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Writes at an offset without moving a shared cursor.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            done += std::os::windows::fs::FileExt::seek_write(file, &bytes[done..], offset + done as u64)?;
        }
        Ok(())
    }
    #[cfg(not(any(unix, windows)))]
    {
        let _ = (file, bytes, offset);
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}
