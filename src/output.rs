//! Outputs that appear whole or not at all: written beside, synced, renamed.
//!
//! On Linux a pending file has no name at all until it is complete, so that even a killed process leaves nothing.
//! Elsewhere, and on file systems without such files, it is `.NAME.XXXXXX.partial` beside the final name: dropping it
//! removes it, a killed process leaves it, and never the final name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// Why an output was not written.  [`OutputError::name`] is the variant's stable kebab-case name.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum OutputError {
    #[error("{path}: {source}", path = path.display())]
    #[strum(serialize = "output")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: needs {want_bytes} bytes, the file system has {found_bytes} free", path = path.display())]
    NoSpace { path: PathBuf, want_bytes: u64, found_bytes: u64 },
}

impl OutputError {
    /// The stable name of the cause.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// What makes the system's errors those of the output `path`.
    pub fn of(path: &Path) -> impl Fn(io::Error) -> OutputError + '_ {
        move |source| OutputError::Io { path: path.into(), source }
    }
}

/// Whether the file system of `path` has room for `want_bytes`, as far as it says.
///
/// # Errors
/// [`OutputError::NoSpace`].
pub fn check_space(path: &Path, want_bytes: u64) -> Result<(), OutputError> {
    match free_bytes(path).filter(|&free| free < want_bytes) {
        Some(found_bytes) => Err(OutputError::NoSpace { path: path.into(), want_bytes, found_bytes }),
        None => Ok(()),
    }
}

/// A file that gets its name when it is complete.
#[derive(Debug)]
pub struct PendingFile {
    contents: Contents,
    path: PathBuf,
}

#[derive(Debug)]
enum Contents {
    /// A file without a name (`O_TMPFILE`).
    #[cfg(target_os = "linux")]
    Unnamed(File),
    /// A file under a temporary name.
    Named(NamedTempFile),
}

impl PendingFile {
    /// Begins a file that will be called `path`.
    pub fn create(path: &Path) -> io::Result<PendingFile> {
        if path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "expected a file name, found a directory"));
        }
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed_file(directory_of(path)) {
            return Ok(PendingFile { contents: Contents::Unnamed(file), path: path.into() });
        }
        Ok(PendingFile { contents: Contents::Named(named_file(path)?), path: path.into() })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        match &self.contents {
            #[cfg(target_os = "linux")]
            Contents::Unnamed(file) => file,
            Contents::Named(temporary) => temporary.as_file(),
        }
    }

    /// Syncs the contents and gives the file its name, replacing what had it.
    pub fn commit(self) -> io::Result<()> {
        self.file().sync_all()?;
        match self.contents {
            #[cfg(target_os = "linux")]
            Contents::Unnamed(file) => name_file(&file, &self.path)?,
            Contents::Named(temporary) => drop(temporary.persist(&self.path).map_err(|e| e.error)?),
        }
        sync_directory(directory_of(&self.path))
    }
}

/// A new file without a name; `None` where the file system has no such files.
#[cfg(target_os = "linux")]
fn unnamed_file(directory: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    open(directory, flags, Mode::from_bits_retain(0o666)).ok().map(File::from)
}

/// Gives an unnamed file its name.  A link cannot replace a file and a rename can, so it goes through a temporary name.
#[cfg(target_os = "linux")]
fn name_file(file: &File, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, linkat};
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Only a name that is free: the temporary file is removed before the link takes its place.
    let free = named_file(path)?.into_temp_path();
    let beside = free.to_path_buf();
    free.close()?;
    linkat(CWD, &unnamed, CWD, &beside, AtFlags::SYMLINK_FOLLOW)?;
    fs::rename(&beside, path).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

fn named_file(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    builder.prefix(&prefix).suffix(".partial");
    #[cfg(unix)]
    {
        // As any new file: the process's umask decides, not a temporary file's 0600.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory_of(path))
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
fn free_bytes(path: &Path) -> Option<u64> {
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
