//! Why a range could not be read: one variant per cause.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use strum::IntoStaticStr;

/// What was waited for when time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A connection, with TLS.
    Connection,
    /// The head of an answer.
    Answer,
    /// The next bytes of a body.
    Body,
    /// The whole of one attempt: a server may send a byte now and then for ever.
    Whole,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Waiting::Connection => "a connection",
            Waiting::Answer => "an answer",
            Waiting::Body => "the next bytes",
            Waiting::Whole => "the whole range",
        })
    }
}

/// Why a range could not be read.  `name` is the source as it was opened; ranges are half-open byte offsets.
#[derive(Debug, thiserror::Error, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)]
pub enum RangeError {
    // the source
    #[error("{name}: {source}")]
    Io { name: String, source: io::Error },
    #[error("{name}: {reason}")]
    Address { name: String, reason: String },
    #[error("{name}: bytes {start}..{end} were asked for, it has {total_bytes}")]
    OutOfRange { name: String, start: u64, end: u64, total_bytes: u64 },

    // the way there
    #[error("{name}: no connection to {host}: {source}")]
    Connect { name: String, host: String, source: io::Error },
    #[error("{name}: {host} is not trusted: {source}")]
    Tls { name: String, host: String, source: io::Error },
    #[error("{name}: waited {} s for {waiting}", after.as_secs_f32())]
    Timeout { name: String, waiting: Waiting, after: Duration },
    #[error("{name}: the connection broke: {source}")]
    Broken { name: String, source: hyper_error::Error },
    #[error("{name}: the answer is no HTTP: {source}")]
    Malformed { name: String, source: hyper_error::Error },
    #[error("{name}: redirected to {at}, where it had been before")]
    RedirectLoop { name: String, at: String },
    #[error("{name}: more than {max} redirects, the last to {at}")]
    RedirectCount { name: String, max: usize, at: String },
    #[error("{name}: status {status} with the Location {location:?}: {reason}")]
    RedirectTarget { name: String, status: u16, location: String, reason: &'static str },

    // the answer
    #[error("{name}: status {status}: expected 206")]
    Status { name: String, status: u16 },
    #[error("{name}: status {status}: the server cannot answer now")]
    Busy { name: String, status: u16, retry_after: Option<Duration> },
    #[error("{name}: status 200 to a request for a range: the server does not know ranges")]
    RangeIgnored { name: String },
    #[error("{name}: status 416 to bytes {start}..{end}: the server says that it has {total_bytes}")]
    NotSatisfiable { name: String, start: u64, end: u64, total_bytes: String },
    #[error("{name}: Content-Range: expected {want:?}, found {found:?}")]
    ContentRange { name: String, want: String, found: String },
    #[error("{name}: Content-Range says {found} bytes in all, before it was {want}")]
    TotalChanged { name: String, want: u64, found: u64 },
    #[error("{name}: changed while it was read: {field} was {want}, is {found}")]
    Changed { name: String, field: &'static str, want: String, found: String },
    #[error("{name}: no strong ETag ({found}): parts of two versions could not be told apart; {need}")]
    Unpinned { name: String, found: String, need: &'static str },
    #[error("{name}: Content-Encoding {encoding:?}: offsets would count other bytes than the file's")]
    Encoded { name: String, encoding: String },
    #[error("{name}: Content-Length {found} for bytes {start}..{end}")]
    ContentLength { name: String, start: u64, end: u64, found: String },
    #[error("{name}: the body of bytes {start}..{end} ended after {found_bytes} bytes")]
    BodyShort { name: String, start: u64, end: u64, found_bytes: u64 },
    #[error("{name}: the body of bytes {start}..{end} has at least {found_bytes} bytes")]
    BodyLong { name: String, start: u64, end: u64, found_bytes: u64 },
    #[error("{last}; given up after {attempts} attempts")]
    GaveUp { attempts: u32, last: Box<RangeError> },

    // the use
    #[error("{name}: the header goes on after {max_bytes} bytes, the most that are read for one")]
    PrefixTooLong { name: String, max_bytes: u64 },
    #[error("{name}: the header wants {want_bytes} bytes, the file has {total_bytes}")]
    PrefixEnds { name: String, want_bytes: u64, total_bytes: u64 },
    #[error("{name}: bytes {start}..{end}: SHA-256 is {found}, the manifest has {want}")]
    Digest { name: String, start: u64, end: u64, want: String, found: String },
    #[error("{name}: bytes {start}..{end}: the manifest has no digest for them")]
    NoDigest { name: String, start: u64, end: u64 },
    #[error("{name}: bytes {start}..{end} have one digest: at most {max_bytes} are read at once to check it")]
    DigestTooWide { name: String, start: u64, end: u64, max_bytes: u64 },
    #[error("{path}: the cache: {source}", path = path.display())]
    Cache { path: PathBuf, source: io::Error },
}

/// The client's own errors; a build without the client has none.
pub(crate) mod hyper_error {
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) use hyper::Error;
    #[cfg(target_arch = "wasm32")]
    pub(crate) use std::convert::Infallible as Error;
}

impl RangeError {
    /// The variant's stable name, such as `content-range`; of what was given up, the last attempt's.
    pub fn name(&self) -> &'static str {
        self.cause().into()
    }

    /// What went wrong in the last attempt.
    pub fn cause(&self) -> &RangeError {
        match self {
            RangeError::GaveUp { last, .. } => last.cause(),
            error => error,
        }
    }

    /// Whether the same request may well succeed: the server was busy, or the way to it failed.
    pub fn is_transient(&self) -> bool {
        use RangeError::{BodyShort, Broken, Busy, Connect, Timeout};
        matches!(self, Connect { .. } | Timeout { .. } | Broken { .. } | Busy { .. } | BodyShort { .. })
    }
}
