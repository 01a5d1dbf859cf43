//! Checkpoints that are elsewhere: inspected and checked through ranges.
//!
//! What a local file is asked, an address is asked too, as far as its headers and digests answer it.  Values and kernels need
//! the file here.

pub mod check;
pub mod inspect;
pub mod range;

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::outcome::{Check, Level};
use crate::manifest::{FileDigests, Manifest, hex};
use crate::range::{RangeError, RangeSource, pieces};
use crate::remote::{Access, RemoteError};
use crate::telemetry::Progress;

/// The last part of an address or path, without a query.
fn file_name(address: &str) -> &str {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// A manifest's entry for a file: by name, or the only one there is.
fn file_of<'a>(manifest: &'a Manifest, address: &str) -> Option<&'a FileDigests> {
    match manifest.files.as_slice() {
        [only] => Some(only),
        files => files.iter().find(|file| file.file == file_name(address)),
    }
}

/// SHA-256 of a range, with progress.
async fn hashed(source: &dyn RangeSource, range: Range<u64>, progress: &dyn Progress) -> Result<String, RangeError> {
    progress.begin("digests", range.end - range.start);
    let digest = pieces::sha256(source, range, |bytes| progress.advance(bytes)).await;
    progress.finish();
    digest.map(|digest| hex(&digest))
}

/// The check that a source was refused.
fn refused(name: &str, error: &RemoteError) -> Check {
    Check::fail(name, Level::Structure, error.to_string()).with_error(error.name())
}

/// What was asked for, as a note.
fn traffic(access: &Access) -> String {
    let traffic = &access.http.traffic;
    let [requests, bytes, retries] =
        [&traffic.requests, &traffic.bytes, &traffic.retries].map(|count| count.load(Ordering::Relaxed));
    format!("{requests} requests, {bytes} bytes received, {retries} attempts repeated")
}
