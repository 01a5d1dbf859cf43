//! Counters of the forward pass as Prometheus text (OpenMetrics), behind the feature `metrics`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::events::{Event, Observer, Paging, Span};

/// Of which kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kernel {
    kernel: &'static str,
}

/// Counters over all chunks observed; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    tokens: Counter,
    chunks: Counter,
    launches: Counter,
    seconds: Family<Kernel, Counter<f64, AtomicU64>>,
    weight_bytes: Counter,
    bytes_paged: Counter,
    hits: Counter,
    misses: Counter,
    evictions: Counter,
    scratch_bytes_peak: Gauge,
    cache_bytes: Gauge,
    device_bytes: Gauge,
}

impl Metrics {
    /// The counters as text.
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("gptoss");
        registry.register("tokens", "Tokens run", self.tokens.clone());
        registry.register("chunks", "Chunks run", self.chunks.clone());
        registry.register("launches", "Kernel launches", self.launches.clone());
        registry.register_with_unit("kernel", "Time in kernels", Unit::Seconds, self.seconds.clone());
        registry.register_with_unit("weights_read", "Weights needed", Unit::Bytes, self.weight_bytes.clone());
        registry.register_with_unit("experts_paged", "Experts brought", Unit::Bytes, self.bytes_paged.clone());
        registry.register("expert_hits", "Experts found on the device", self.hits.clone());
        registry.register("expert_misses", "Experts brought to the device", self.misses.clone());
        registry.register("expert_evictions", "Experts that left for others", self.evictions.clone());
        registry.register_with_unit("scratch_peak", "Largest scratch", Unit::Bytes, self.scratch_bytes_peak.clone());
        registry.register_with_unit("cache", "Keys and values", Unit::Bytes, self.cache_bytes.clone());
        registry.register_with_unit("device", "Device memory in use", Unit::Bytes, self.device_bytes.clone());
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }

    fn spans(&self, spans: &[Span]) {
        for span in spans {
            self.seconds.get_or_create(&Kernel { kernel: span.kernel }).inc_by(span.seconds);
        }
    }

    fn paging(&self, paging: &Paging) {
        self.hits.inc_by(paging.hits);
        self.misses.inc_by(paging.misses);
        self.evictions.inc_by(paging.evictions);
        self.bytes_paged.inc_by(paging.bytes_paged);
    }
}

impl Observer for Metrics {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Layer(e) => self.spans(&e.kernels),
            Event::Chunk(e) => {
                self.spans(&e.kernels);
                self.paging(&e.paging);
                self.tokens.inc_by(e.tokens as u64);
                self.chunks.inc();
                self.launches.inc_by(e.launches);
                self.weight_bytes.inc_by(e.weight_bytes);
                let peak = self.scratch_bytes_peak.get().max(e.scratch_bytes as i64);
                self.scratch_bytes_peak.set(peak);
                self.cache_bytes.set(e.cache_bytes as i64);
                self.device_bytes.set(e.device_bytes as i64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::events::{ChunkEvent, LayerEvent};

    #[test]
    fn events_become_counters() {
        let metrics = Metrics::default();
        let paging = Paging { hits: 3, misses: 2, evictions: 1, bytes_paged: 20 };
        let kernels = vec![Span { kernel: "up", seconds: 0.5 }];
        let layer = LayerEvent {
            position: 0,
            tokens: 7,
            layer: 0,
            experts: Vec::new(),
            weight_bytes: 9,
            paging,
            scratch_bytes: 4,
            kernels: kernels.clone(),
        };
        let chunk = |scratch_bytes| ChunkEvent {
            position: 0,
            tokens: 7,
            seconds: 1.0,
            launches: 11,
            weight_bytes: 9,
            paging,
            cache_bytes: 5,
            scratch_bytes,
            device_bytes: 100,
            device_bytes_reserved: 120,
            kernels: kernels.clone(),
        };
        let mut observer = metrics.clone();
        for event in [Event::Layer(layer), Event::Chunk(chunk(40)), Event::Chunk(chunk(30))] {
            observer.event(&event);
        }
        let text = metrics.text();
        for line in [
            "gptoss_tokens_total 14",
            "gptoss_chunks_total 2",
            "gptoss_launches_total 22",
            "gptoss_kernel_seconds_total{kernel=\"up\"} 1.5",
            "gptoss_weights_read_bytes_total 18",
            "gptoss_experts_paged_bytes_total 40",
            "gptoss_expert_hits_total 6",
            "gptoss_expert_misses_total 4",
            "gptoss_expert_evictions_total 2",
            "gptoss_scratch_peak_bytes 40",
            "gptoss_cache_bytes 5",
            "gptoss_device_bytes 100",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is missing in:\n{text}");
        }
    }
}
