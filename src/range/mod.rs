//! Bytes of a checkpoint wherever it lies: ranges of a file, of a map, or of a file behind HTTP.
//!
//! ```text
//! FileSource ─┐
//! MapSource ──┼─► dyn RangeSource ─► Prefix         headers that say how long they are only as they are read
//! HttpSource ─┘        │    │     └► sha256, pieces  digests in bounded memory; many ranges, few at once
//!                      │    └► Witnessed            every byte held against recorded digests
//!                      └► Cached                    whole blocks on disk, keyed by address and validator
//! ```
//!
//! * **Invariant:** [`RangeSource::read`] gives exactly the bytes of the range, all of one version of the file, or an error.
//! * **Invariant:** what an answer must be like is decided without a client ([`validate`]), so that a browser's `fetch` is
//!   held to the same.
//! * **Invariant:** the trait names no runtime: whoever waits for a [`Reading`] brings one.
//!
//! This module knows no format, no tensor and no device.

#[cfg(not(target_arch = "wasm32"))]
pub mod cache;
mod error;
pub mod file;
#[cfg(not(target_arch = "wasm32"))]
pub mod http;
pub mod pieces;
pub mod prefix;
pub mod validate;
pub mod witnessed;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;

#[cfg(not(target_arch = "wasm32"))]
pub use cache::{Cache, Cached};
pub use error::{RangeError, Waiting};
pub use file::{FileSource, MapSource};
#[cfg(not(target_arch = "wasm32"))]
pub use http::{HttpOptions, HttpSource, Traffic};
pub use prefix::{Prefix, Step};
pub use validate::Require;
pub use witnessed::Witnessed;

/// A read under way.  Where there are threads it may move between them.
#[cfg(not(target_arch = "wasm32"))]
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Bytes, RangeError>> + Send + 'a>>;
/// A read under way.  A browser's promises stay on their thread.
#[cfg(target_arch = "wasm32")]
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Bytes, RangeError>> + 'a>>;

/// What may be shared between threads, where there are any.
#[cfg(not(target_arch = "wasm32"))]
pub trait Shared: Send + Sync {}
#[cfg(not(target_arch = "wasm32"))]
impl<T: Send + Sync + ?Sized> Shared for T {}
/// What may be shared: in a browser, anything.
#[cfg(target_arch = "wasm32")]
pub trait Shared {}
#[cfg(target_arch = "wasm32")]
impl<T: ?Sized> Shared for T {}

/// One file of known length that can be read in ranges.
pub trait RangeSource: Shared {
    /// What messages call it: the path or address it was opened with.
    fn name(&self) -> &str;

    /// Length of the file, bytes.
    fn total_bytes(&self) -> u64;

    /// What, beside its name, tells this version of the file from others; `None` where nothing does.
    fn version(&self) -> Option<&str> {
        None
    }

    /// Exactly the bytes of `range`.  The caller decides how much memory that is.
    ///
    /// # Errors
    /// [`RangeError::OutOfRange`] if the file ends before `range` does; the rest depends on where it lies.
    fn read(&self, range: Range<u64>) -> Reading<'_>;
}

/// Demands that a range lies in a source.
pub(crate) fn within(source: &dyn RangeSource, range: &Range<u64>) -> Result<(), RangeError> {
    let total_bytes = source.total_bytes();
    match range.start <= range.end && range.end <= total_bytes {
        true => Ok(()),
        false => {
            Err(RangeError::OutOfRange { name: source.name().into(), start: range.start, end: range.end, total_bytes })
        }
    }
}
