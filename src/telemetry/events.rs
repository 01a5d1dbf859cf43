//! Events of the forward pass: one for every layer of a chunk, then one for the chunk.
//!
//! They are made only while somebody observes.  Timing a kernel means waiting for it, so an observed run is slower than
//! one that is not.

use std::io::Write;

use serde::Serialize;

/// Time of one kernel, or of a few that belong together, from its recording to its end on the device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Span {
    /// Which.
    pub kernel: &'static str,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// An expert that rows of a chunk were routed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExpertRows {
    /// Which.
    pub expert: u32,
    /// Tokens of the chunk that go there.
    pub rows: u32,
}

/// What paging did; all zero where every expert is resident.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Paging {
    /// Experts found on the device.
    pub hits: u64,
    /// Experts that had to be brought.
    pub misses: u64,
    /// Experts that had to leave for them.
    pub evictions: u64,
    /// Bytes brought.
    pub bytes_paged: u64,
}

impl std::ops::Add for Paging {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            evictions: self.evictions + other.evictions,
            bytes_paged: self.bytes_paged + other.bytes_paged,
        }
    }
}

impl std::ops::Sub for Paging {
    type Output = Self;

    /// What was done since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            hits: self.hits - earlier.hits,
            misses: self.misses - earlier.misses,
            evictions: self.evictions - earlier.evictions,
            bytes_paged: self.bytes_paged - earlier.bytes_paged,
        }
    }
}

/// One layer of one chunk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerEvent {
    /// Position of the chunk's first token.
    pub position: usize,
    /// Tokens of the chunk.
    pub tokens: usize,
    /// Which layer.
    pub layer: usize,
    /// The experts in use, ascending.
    pub experts: Vec<ExpertRows>,
    /// Bytes of weights that the layer needed: its dense ones and the experts in use, each counted once.
    pub weight_bytes: u64,
    /// What paging did.
    #[serde(flatten)]
    pub paging: Paging,
    /// Device bytes above weights and caches at the layer's peak.
    pub scratch_bytes: u64,
    /// Its kernels, in order.
    pub kernels: Vec<Span>,
}

/// A chunk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChunkEvent {
    /// Position of its first token.
    pub position: usize,
    /// Its tokens.
    pub tokens: usize,
    /// Wall-clock seconds from its first launch to its last result.
    pub seconds: f64,
    /// Launches.
    pub launches: u64,
    /// Bytes of weights needed, unembedding included.
    pub weight_bytes: u64,
    /// What paging did.
    #[serde(flatten)]
    pub paging: Paging,
    /// Bytes of the sequence's caches.
    pub cache_bytes: u64,
    /// Device bytes above weights and caches at the peak.
    pub scratch_bytes: u64,
    /// Device bytes in use at the end.
    pub device_bytes: u64,
    /// Device bytes that the allocator holds at the end.
    pub device_bytes_reserved: u64,
    /// Kernels outside the layers.
    pub kernels: Vec<Span>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A layer is done.
    Layer(LayerEvent),
    /// A chunk is done.
    Chunk(ChunkEvent),
}

/// Somebody who wants to know.
pub trait Observer: Send {
    /// Takes an event.
    fn event(&mut self, event: &Event);
}

/// Writes each event as a line of JSON, at once: what an interrupted run has told so far is kept.
///
/// The first failure is logged and ends the lines, not the run.
#[derive(Debug)]
pub struct JsonLines<W> {
    out: W,
    failed: bool,
}

impl<W: Write> JsonLines<W> {
    /// Lines into `out`.
    pub fn new(out: W) -> Self {
        Self { out, failed: false }
    }

    fn line(&mut self, event: &Event) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.out.write_all(&line)
    }
}

impl<W: Write + Send> Observer for JsonLines<W> {
    fn event(&mut self, event: &Event) {
        if self.failed {
            return;
        }
        if let Err(error) = self.line(event) {
            tracing::error!("the trace ends here: {error}");
            self.failed = true;
        }
    }
}

/// An observer that somebody else looks into.
impl<O: Observer> Observer for std::sync::Arc<std::sync::Mutex<O>> {
    fn event(&mut self, event: &Event) {
        self.lock().unwrap_or_else(std::sync::PoisonError::into_inner).event(event);
    }
}

/// The target of [`Logged`]'s events.
pub const LOG_TARGET: &str = "gptoss::forward";

/// Hands events to `tracing`, target [`LOG_TARGET`]: chunks at debug level, layers at trace level.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logged;

impl Logged {
    /// Whether anybody listens.
    pub fn is_wanted() -> bool {
        tracing::enabled!(target: LOG_TARGET, tracing::Level::DEBUG)
    }
}

impl Observer for Logged {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Layer(e) => tracing::trace!(
                target: LOG_TARGET,
                position = e.position,
                tokens = e.tokens,
                layer = e.layer,
                experts = e.experts.len(),
                weight_bytes = e.weight_bytes,
                bytes_paged = e.paging.bytes_paged,
                hits = e.paging.hits,
                misses = e.paging.misses,
                evictions = e.paging.evictions,
                scratch_bytes = e.scratch_bytes,
                seconds = e.kernels.iter().map(|span| span.seconds).sum::<f64>(),
                "layer"
            ),
            Event::Chunk(e) => tracing::debug!(
                target: LOG_TARGET,
                position = e.position,
                tokens = e.tokens,
                seconds = e.seconds,
                launches = e.launches,
                weight_bytes = e.weight_bytes,
                bytes_paged = e.paging.bytes_paged,
                cache_bytes = e.cache_bytes,
                scratch_bytes = e.scratch_bytes,
                "chunk"
            ),
        }
    }
}
