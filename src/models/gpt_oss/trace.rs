//! Makes the events of a chunk while the forward pass runs.

use std::fmt;
use std::time::Instant;

use burn::tensor::{Int, Tensor};

use crate::device::{Compute, DeviceError};
use crate::kernels::launches;
use crate::telemetry::events::{ChunkEvent, Event, ExpertRows, LayerEvent, Observer, Paging, Span};

/// Observers of a sequence, and what is known of its present chunk.
pub struct Tracer {
    observers: Vec<Box<dyn Observer>>,
    chunk: Chunk,
}

#[derive(Default)]
struct Chunk {
    position: usize,
    tokens: usize,
    start: Option<Instant>,
    last: Option<Instant>,
    launches: u64,
    /// Device bytes before the chunk: weights and caches.
    base: u64,
    peak: u64,
    layer_peak: u64,
    weight_bytes: u64,
    paging: Paging,
    spans: Vec<Span>,
    outside: Vec<Span>,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracer of {} observers", self.observers.len())
    }
}

impl Tracer {
    /// Tells `observers` everything.
    pub fn new(observers: Vec<Box<dyn Observer>>) -> Self {
        Self { observers, chunk: Chunk::default() }
    }

    /// Tells `observer` everything from now on.
    pub fn add(&mut self, observer: Box<dyn Observer>) {
        self.observers.push(observer);
    }

    /// A chunk of `tokens` tokens from `position` on begins.
    pub fn begin(&mut self, compute: &Compute, position: usize, tokens: usize) {
        compute.wait();
        let (now, (base, _)) = (Instant::now(), compute.memory_bytes());
        let launches = launches();
        self.chunk = Chunk {
            position,
            tokens,
            start: Some(now),
            last: Some(now),
            launches,
            base,
            peak: base,
            layer_peak: base,
            ..Chunk::default()
        };
    }

    /// `kernel` has been launched: waits for it.
    pub fn lap(&mut self, compute: &Compute, kernel: &'static str) {
        compute.wait();
        let now = Instant::now();
        let seconds = self.chunk.last.map_or(0.0, |last| now.duration_since(last).as_secs_f64());
        self.chunk.spans.push(Span { kernel, seconds });
        self.chunk.layer_peak = self.chunk.layer_peak.max(compute.memory_bytes().0);
        // Again: asking for the memory took time, too.
        self.chunk.last = Some(Instant::now());
    }

    /// A layer is done: `ids` `[tokens, chosen]` are its experts, `bytes` those of its dense weights and of one expert.
    pub async fn layer(
        &mut self,
        compute: &Compute,
        layer: usize,
        ids: &Tensor<2, Int>,
        bytes: (u64, u64),
        paging: Paging,
    ) -> Result<(), DeviceError> {
        let mut routed = compute.read_words(ids.clone()).await?;
        routed.sort_unstable();
        let rows = |run: &[u32]| ExpertRows { expert: run[0], rows: run.len() as u32 };
        let experts: Vec<ExpertRows> = routed.chunk_by(|a, b| a == b).map(rows).collect();
        let chunk = &mut self.chunk;
        let weight_bytes = bytes.0 + bytes.1 * experts.len() as u64;
        let event = LayerEvent {
            position: chunk.position,
            tokens: chunk.tokens,
            layer,
            experts,
            weight_bytes,
            paging,
            scratch_bytes: chunk.layer_peak - chunk.base,
            kernels: std::mem::take(&mut chunk.spans),
        };
        chunk.weight_bytes += weight_bytes;
        chunk.paging = chunk.paging + paging;
        chunk.peak = chunk.peak.max(chunk.layer_peak);
        chunk.layer_peak = chunk.base;
        self.tell(&Event::Layer(event));
        self.chunk.last = Some(Instant::now());
        Ok(())
    }

    /// What was launched since the last layer, or before the first, belongs to no layer.
    pub fn outside(&mut self, weight_bytes: u64) {
        let chunk = &mut self.chunk;
        chunk.outside.append(&mut chunk.spans);
        chunk.weight_bytes += weight_bytes;
    }

    /// The chunk is done; its sequence's caches take `cache_bytes`.
    pub fn end(&mut self, compute: &Compute, cache_bytes: u64) {
        let (in_use, reserved) = compute.memory_bytes();
        let chunk = std::mem::take(&mut self.chunk);
        self.tell(&Event::Chunk(ChunkEvent {
            position: chunk.position,
            tokens: chunk.tokens,
            seconds: chunk.start.map_or(0.0, |start| start.elapsed().as_secs_f64()),
            launches: launches() - chunk.launches,
            weight_bytes: chunk.weight_bytes,
            paging: chunk.paging,
            cache_bytes,
            scratch_bytes: chunk.peak.max(chunk.layer_peak) - chunk.base,
            device_bytes: in_use,
            device_bytes_reserved: reserved,
            kernels: chunk.outside,
        }));
    }

    fn tell(&mut self, event: &Event) {
        self.observers.iter_mut().for_each(|observer| observer.event(event));
    }
}
