//! From the path of a request to a file below the root, or to nothing.
//!
//! The path is decoded once, segment by segment; what is no plain name (`..`, an encoded slash, a hidden file) names
//! nothing.  Links are followed, and must end below the root.

use std::path::{Path, PathBuf};

/// Why a path names no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceError {
    /// Its encoding is broken.
    Malformed,
    /// It would lead out of the root, or to a hidden file.
    Outside,
    /// There is no such file.
    Absent,
}

/// The file that the path of a request names.
///
/// # Errors
/// [`PlaceError`].
pub fn resolve(root: &Path, path: &str) -> Result<PathBuf, PlaceError> {
    let mut below = PathBuf::new();
    for segment in path.strip_prefix('/').ok_or(PlaceError::Malformed)?.split('/') {
        below.push(name(&decoded(segment)?)?);
    }
    let found = root.join(below).canonicalize().map_err(|_| PlaceError::Absent)?;
    match (found.starts_with(root), found.is_file()) {
        (false, _) => Err(PlaceError::Outside),
        (true, false) => Err(PlaceError::Absent),
        (true, true) => Ok(found),
    }
}

/// A segment without its percent signs.
fn decoded(segment: &str) -> Result<String, PlaceError> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or(PlaceError::Malformed);
                (digit()? * 16 + digit()?) as u8
            }
            _ => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| PlaceError::Malformed)
}

/// A segment that is the name of one visible file or folder, on any system.
fn name(segment: &str) -> Result<&str, PlaceError> {
    let is_name = |c: char| !c.is_control() && !['/', '\\', ':'].contains(&c);
    match segment {
        "" => Err(PlaceError::Absent),
        _ if segment.starts_with('.') || !segment.chars().all(is_name) => Err(PlaceError::Outside),
        _ => Ok(segment),
    }
}
