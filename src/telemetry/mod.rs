//! What the runtime tells of its work: progress of long operations, events of the forward pass, and counters of them.

pub mod durations;
pub mod events;
#[cfg(feature = "metrics")]
pub mod metrics;

/// Receives the progress of one long operation, from several threads.
pub trait Progress: Sync {
    /// Work of `total_bytes` begins.
    fn begin(&self, what: &str, total_bytes: u64);

    /// So many more bytes are done.
    fn advance(&self, bytes: u64);

    /// The work is over.
    fn finish(&self);

    /// Whether the work should stop; asked between pieces of at most some tens of megabytes.
    fn cancelled(&self) -> bool;
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total_bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
    fn cancelled(&self) -> bool {
        false
    }
}
