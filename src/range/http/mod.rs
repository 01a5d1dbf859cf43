//! A file behind HTTP, read in validated ranges.
//!
//! ```text
//! read ─► permit ─► attempt ─► follow redirects ─► validate ─► body ─► exactly the range
//!                   ▲  a busy server, a broken way: wait, ask again from the byte reached
//!                   └── anything that is wrong, not busy: an error at once
//! ```
//!
//! The first answer pins the file's validator and length; every later one must repeat them.  Where redirects led is
//! remembered; signed addresses expire, so a refusal there leads back to the address that was given.
//!
//! Proxies of the environment are not used.  Addresses of redirects are told without their queries: those carry signatures.

mod connect;
mod redirect;

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Response, Uri};
use tokio::sync::Semaphore;

use self::connect::{Client, Lease};
use super::validate::{Asked, Pinned};
use super::{RangeError, RangeSource, Reading, Require, Waiting, pieces, within};

/// How a server is asked, and for how long.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// How surely answers must be of one version.
    pub require: Require,
    /// Requests under way at once, over all reads.
    pub parallel: usize,
    /// Bytes of one request; longer reads are several.
    pub request_bytes: u64,
    /// Attempts of one request, the first counted.
    pub attempts: u32,
    /// Wait before the second attempt; it doubles with each further one.
    pub backoff: Duration,
    /// Longest wait between attempts, whatever a server's `Retry-After` asks for.
    pub backoff_max: Duration,
    /// Longest wait for a connection, with TLS.
    pub connect: Duration,
    /// Longest wait for the head of an answer, or for the next bytes of a body.
    pub stall: Duration,
    /// Longest time of one attempt.
    pub whole: Duration,
    /// Redirects that one request follows.
    pub redirects: usize,
    /// Certificates (DER) to trust beside Mozilla's list.
    pub roots: Vec<Vec<u8>>,
    /// Where requests are counted; clones of the options count together.
    pub traffic: Arc<Traffic>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        HttpOptions {
            require: Require::StrongEtag,
            parallel: 8,
            request_bytes: pieces::PIECE_BYTES,
            attempts: 6,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(20),
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            whole: Duration::from_secs(300),
            redirects: 8,
            roots: Vec::new(),
            traffic: Arc::default(),
        }
    }
}

/// What was asked for, and what came.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests sent, redirects and repetitions counted.
    pub requests: AtomicU64,
    /// Bytes of bodies that were kept.
    pub bytes: AtomicU64,
    /// Attempts after the first.
    pub retries: AtomicU64,
}

/// A file behind HTTP.
///
/// Reads need a running tokio runtime with time and I/O.
#[derive(Debug)]
pub struct HttpSource {
    name: String,
    origin: Uri,
    /// Where redirects led.
    target: Mutex<Uri>,
    pinned: OnceLock<Pinned>,
    options: HttpOptions,
    client: Client,
    permits: Semaphore,
}

impl HttpSource {
    /// Asks for the first byte, and so learns length and validator.
    ///
    /// # Errors
    /// [`RangeError::Address`] for what is no `http` or `https` address; whatever a first answer can be wrong in.
    pub async fn open(address: &str, options: HttpOptions) -> Result<HttpSource, RangeError> {
        let name = address.to_string();
        let wrong = |reason: String| RangeError::Address { name: name.clone(), reason };
        let origin = redirect::parse(address).map_err(|reason| wrong(reason.into()))?;
        let source = HttpSource {
            target: Mutex::new(origin.clone()),
            origin,
            pinned: OnceLock::new(),
            client: Client::new(&options).map_err(wrong)?,
            permits: Semaphore::new(options.parallel.max(1)),
            options,
            name,
        };
        source.request(0..1).await?;
        Ok(source)
    }

    /// What was asked for so far, with the same options.
    pub fn traffic(&self) -> &Traffic {
        &self.options.traffic
    }

    /// The range with one request, repeated where that may help.
    async fn request(&self, range: Range<u64>) -> Result<Bytes, RangeError> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
        let mut attempt = 1;
        loop {
            let from = range.start + bytes.len() as u64;
            let work = self.attempt(from..range.end, &mut bytes);
            match self.limited(self.options.whole, Waiting::Whole, work).await.and_then(|done| done) {
                Ok(()) => return Ok(bytes.freeze()),
                Err(error) if !error.is_transient() => return Err(error),
                Err(last) if attempt >= self.options.attempts => {
                    return Err(RangeError::GaveUp { attempts: attempt, last: Box::new(last) });
                }
                Err(error) => {
                    tracing::warn!(target: "gptoss::range", "attempt {attempt}: {error}; {} bytes held", bytes.len());
                    // Without a strong validator the rest could be another version's.
                    if self.pinned.get().is_none_or(|pinned| pinned.if_range().is_none()) {
                        bytes.clear();
                    }
                    tokio::time::sleep(self.backoff(attempt, &error)).await;
                    self.options.traffic.retries.fetch_add(1, Ordering::Relaxed);
                    attempt += 1;
                }
            }
        }
    }

    fn backoff(&self, attempt: u32, error: &RangeError) -> Duration {
        let doubled = self.options.backoff.saturating_mul(1 << (attempt - 1).min(16));
        let asked = match error {
            RangeError::Busy { retry_after: Some(asked), .. } => *asked,
            _ => Duration::ZERO,
        };
        doubled.max(asked).min(self.options.backoff_max)
    }

    /// Asks once, and appends what comes to `bytes` as it comes.
    async fn attempt(&self, range: Range<u64>, bytes: &mut BytesMut) -> Result<(), RangeError> {
        let (response, lease) = self.respond(&range).await?;
        let mut body = response.into_body();
        let want_bytes = range.end - range.start;
        let mut found_bytes = 0;
        while let Some(frame) = self.limited(self.options.stall, Waiting::Body, body.frame()).await? {
            let Ok(data) = frame.map_err(|error| self.broken(error))?.into_data() else { continue };
            found_bytes += data.len() as u64;
            if found_bytes > want_bytes {
                let Range { start, end } = range;
                // What was appended before is within the range, but nobody vouches for it: the request is over.
                return Err(RangeError::BodyLong { name: self.name.clone(), start, end, found_bytes });
            }
            bytes.extend_from_slice(&data);
            self.options.traffic.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if found_bytes < want_bytes {
            let Range { start, end } = range;
            return Err(RangeError::BodyShort { name: self.name.clone(), start, end, found_bytes });
        }
        self.client.put_back(lease);
        Ok(())
    }

    /// A validated answer, its body not read yet.
    async fn respond(&self, range: &Range<u64>) -> Result<(Response<Incoming>, Lease), RangeError> {
        let target = self.target.lock().expect("nothing panics while it is held").clone();
        match self.follow(target.clone(), range).await {
            // A signed address has expired, or its server has forgotten it.
            Err(RangeError::Status { .. }) if target != self.origin => self.follow(self.origin.clone(), range).await,
            other => other,
        }
    }

    async fn follow(&self, from: Uri, range: &Range<u64>) -> Result<(Response<Incoming>, Lease), RangeError> {
        let mut visited = vec![from];
        loop {
            let at = visited.last().expect("it begins with one");
            let (response, lease) = self.send(at, range).await?;
            let status = response.status().as_u16();
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let location = joined(response.headers(), "location").unwrap_or_default();
                let next = redirect::resolve(at, &location).map_err(|reason| RangeError::RedirectTarget {
                    name: self.name.clone(),
                    status,
                    location: redirect::without_query(&location).into(),
                    reason,
                })?;
                let (name, shown) = (self.name.clone(), redirect::shown(&next));
                if visited.contains(&next) {
                    return Err(RangeError::RedirectLoop { name, at: shown });
                }
                if visited.len() > self.options.redirects {
                    return Err(RangeError::RedirectCount { name, max: self.options.redirects, at: shown });
                }
                visited.push(next);
                continue;
            }
            let pinned = self.pinned.get();
            let asked = Asked { name: &self.name, range: range.clone(), pinned, require: self.options.require };
            let found = asked.validate(status, &|name| joined(response.headers(), name))?;
            // Two first answers at once would have to agree: the loser is held to the winner's.
            if self.pinned.set(found.clone()).is_err() && pinned.is_none() {
                Asked { pinned: self.pinned.get(), ..asked }
                    .validate(status, &|name| joined(response.headers(), name))?;
            }
            *self.target.lock().expect("nothing panics while it is held") = at.clone();
            return Ok((response, lease));
        }
    }

    /// One request, up to the head of its answer.
    async fn send(&self, at: &Uri, range: &Range<u64>) -> Result<(Response<Incoming>, Lease), RangeError> {
        let mut headers = HeaderMap::new();
        let value = |text: &str| header::HeaderValue::from_str(text).expect("digits, or a value that came as a header");
        headers.insert(header::RANGE, value(&format!("bytes={}-{}", range.start, range.end - 1)));
        if let Some(etag) = self.pinned.get().and_then(Pinned::if_range) {
            headers.insert(header::IF_RANGE, value(etag));
        }
        self.client.get(self, at, headers).await
    }

    /// Waits for so long and no longer.
    async fn limited<T>(
        &self,
        after: Duration,
        waiting: Waiting,
        work: impl Future<Output = T>,
    ) -> Result<T, RangeError> {
        let timeout = |_| RangeError::Timeout { name: self.name.clone(), waiting, after };
        tokio::time::timeout(after, work).await.map_err(timeout)
    }

    /// The client's error: what a server wrote is no HTTP, or the connection broke.
    fn broken(&self, source: hyper::Error) -> RangeError {
        let name = self.name.clone();
        match source.is_parse() || source.is_user() {
            true => RangeError::Malformed { name, source },
            false => RangeError::Broken { name, source },
        }
    }

    async fn read_all(&self, range: Range<u64>) -> Result<Bytes, RangeError> {
        use futures_util::{StreamExt, TryStreamExt, stream};
        within(self, &range)?;
        let mut parts = pieces::aligned(range.clone(), self.options.request_bytes.max(1));
        match (parts.next(), parts.next()) {
            (None, _) => Ok(Bytes::new()),
            (Some(one), None) => self.request(one).await,
            (Some(first), Some(second)) => {
                let parts = [first, second].into_iter().chain(parts).map(|part| self.request(part));
                let whole = BytesMut::with_capacity((range.end - range.start) as usize);
                let join = |mut whole: BytesMut, part: Bytes| async move {
                    whole.extend_from_slice(&part);
                    Ok(whole)
                };
                let parts = stream::iter(parts).buffered(self.options.parallel.max(1));
                parts.try_fold(whole, join).await.map(BytesMut::freeze)
            }
        }
    }
}

/// Waits for reads on a runtime of its own, for those who have none.
///
/// # Errors
/// If the system gives no runtime.
pub fn wait<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

/// A header's values, joined: one that is sent twice is seen to be.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

impl RangeSource for HttpSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn total_bytes(&self) -> u64 {
        self.pinned.get().expect("an open source has had its first answer").total_bytes
    }

    fn version(&self) -> Option<&str> {
        self.pinned.get().and_then(Pinned::version)
    }

    fn read(&self, range: Range<u64>) -> Reading<'_> {
        Box::pin(self.read_all(range))
    }
}
