//! `GET /metrics`: counters of the engine and of the server, in OpenMetrics' text format.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::Ordering;

use super::{App, Shared};
use crate::telemetry::durations::{BOUNDS_SECONDS, Counted};

/// Of which path, with which outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    path: String,
    status: u16,
}

/// Of which path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    path: String,
}

/// A histogram that was counted elsewhere.
#[derive(Debug)]
struct Histogram(Counted);

impl Histogram {
    fn write(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let bounds = BOUNDS_SECONDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.counts).collect();
        encoder.encode_histogram::<NoLabelSet>(self.0.seconds, self.0.count(), &buckets, None)
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.write(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Histograms by path.
#[derive(Debug)]
struct Histograms(Vec<(Of, Histogram)>);

impl EncodeMetric for Histograms {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(of, histogram)| histogram.write(encoder.encode_family(of)?))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

pub(super) async fn handle(State(app): State<Shared>) -> Response {
    let content = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (StatusCode::OK, [(header::CONTENT_TYPE, content)], text(&app)).into_response()
}

fn text(app: &App) -> String {
    let mut registry = Registry::with_prefix("gptoss");
    of_engine(app, &mut registry);
    of_server(app, &mut registry);
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn of_engine(app: &App, registry: &mut Registry) {
    let (counters, status) = (app.engine.counters(), app.engine.status());
    for (name, help, counter) in [
        ("jobs", "Requests taken", &counters.jobs),
        ("refused", "Requests refused because the queue was full", &counters.refused),
        ("cancelled", "Requests whose client went away", &counters.cancelled),
        ("prompt_tokens", "Tokens of prompts that were run", &counters.prompt_tokens),
        ("cached_tokens", "Tokens of prompts that were in the caches", &counters.cached_tokens),
        ("generated_tokens", "Tokens generated", &counters.generated_tokens),
        ("steps", "Passes over the weights", &counters.steps),
    ] {
        total(registry, name, help, counter.load(Ordering::Relaxed));
    }
    for (name, help, value) in [
        ("active", "Sequences that run", status.active),
        ("queued", "Requests that wait", status.queued),
        ("lanes", "Sequences that may run at once", status.lanes),
    ] {
        level(registry, name, help, value as i64);
    }
    for (name, help, durations) in [
        ("first_token", "From a request's arrival in the queue to its first token", &counters.first_token),
        ("sequence", "From the begin of a sequence to its end", &counters.sequence),
        ("step", "A pass over the weights", &counters.step),
    ] {
        registry.register_with_unit(name, help, Unit::Seconds, Histogram(durations.counted()));
    }
}

fn of_server(app: &App, registry: &mut Registry) {
    let traffic = &app.traffic;
    let requests = Family::<Answered, Counter>::default();
    for ((path, status), count) in traffic.counts() {
        requests.get_or_create(&Answered { path, status }).inc_by(count);
    }
    registry.register("requests", "Requests by path and status; 499: the client went away first", requests);
    let times = traffic.times().into_iter().map(|(path, times)| (Of { path }, Histogram(times.counted())));
    let help = "From a request's head to the end of its answer";
    registry.register_with_unit("request", help, Unit::Seconds, Histograms(times.collect()));
    let connections = traffic.connections.load(Ordering::Relaxed);
    level(registry, "connections", "Connections that are open", connections as i64);
    let refused = traffic.refused.load(Ordering::Relaxed);
    total(registry, "connections_refused", "Connections beyond the limit, told 503", refused);
    let given_up = traffic.given_up.load(Ordering::Relaxed);
    total(registry, "connections_given_up", "Connections closed because the client took nothing", given_up);
}

fn total(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn level(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}
