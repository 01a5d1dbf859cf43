//! What went over the wire: requests by path and status, their times, connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use crate::telemetry::durations::Durations;

/// The status under which a request is counted whose client went away before it had one; nginx counts so, too.
const CLIENT_GONE: u16 = 499;

/// Counters of a server, since it began.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Connections that are open.
    pub(super) connections: AtomicU64,
    /// Connections that were told 503, for there were too many.
    pub(super) refused: AtomicU64,
    /// Connections that were closed because the client took nothing.
    pub(super) given_up: Arc<AtomicU64>,
    /// Requests by path and status, and the time to the end of the answer by path.
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    counts: BTreeMap<(String, u16), u64>,
    times: BTreeMap<String, Arc<Durations>>,
}

/// A connection that is open while this lives.
pub(super) struct Open<'a>(&'a AtomicU64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Traffic {
    pub(super) fn open(&self) -> Open<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Open(&self.connections)
    }

    fn record(&self, path: &str, status: u16, time: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.counts.entry((path.into(), status)).or_default() += 1;
        requests.times.entry(path.into()).or_default().observe(time);
    }

    /// Requests by path and status.
    #[cfg(feature = "metrics")]
    pub(super) fn counts(&self) -> BTreeMap<(String, u16), u64> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// Times by path.
    #[cfg(feature = "metrics")]
    pub(super) fn times(&self) -> BTreeMap<String, Arc<Durations>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).times.clone()
    }
}

/// A request under way; it is counted when this is dropped.
pub(super) struct Call {
    app: Shared,
    path: String,
    began: Instant,
    pub(super) status: Option<u16>,
}

impl Call {
    pub(super) fn begin(app: Shared, path: String) -> Self {
        Self { app, path, began: Instant::now(), status: None }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.app.traffic.record(&self.path, self.status.unwrap_or(CLIENT_GONE), self.began.elapsed());
    }
}
