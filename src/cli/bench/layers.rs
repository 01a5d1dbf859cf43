//! One step of N sequences, traced: the bytes it reads and the time of each kernel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cubecl::future::block_on;
use rayon::prelude::*;
use serde::Serialize;

use super::streams::{PROMPT, prompt_of};
use crate::cli::Failure;
use crate::cli::model::device_failure;
use crate::exit::Exit;
use crate::generate::sampling::{Sampler, SamplingParams};
use crate::models::gpt_oss::probe::Probe;
use crate::models::gpt_oss::trace::Tracer;
use crate::models::gpt_oss::{GptOss, Segment};
use crate::telemetry::events::{Event, Observer};

/// Times a step is traced, after one that compiles the kernels; the fastest counts.
const TRACED: usize = 3;

/// Milliseconds of a part of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Part {
    /// Kernels of this name in all layers, or what the host does.
    pub(super) part: &'static str,
    /// Waited for: more than in a step that is not traced.
    pub(super) milliseconds: f64,
}

/// A step of some sequences.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// Bytes of weights and caches, each counted once however many sequences need it.
    pub(super) bytes: u64,
    /// Experts in use, over all layers.
    pub(super) experts: usize,
    /// Launches.
    pub(super) launches: u64,
    /// Its parts, in order.
    pub(super) parts: Vec<Part>,
}

/// Adds up what it is told.
#[derive(Default)]
struct Sum {
    weight_bytes: u64,
    experts: usize,
    launches: u64,
    spans: BTreeMap<&'static str, f64>,
    order: Vec<&'static str>,
}

impl Observer for Sum {
    fn event(&mut self, event: &Event) {
        let kernels = match event {
            Event::Layer(layer) => {
                self.experts += layer.experts.len();
                &layer.kernels
            }
            Event::Chunk(chunk) => {
                self.weight_bytes = chunk.weight_bytes;
                self.launches = chunk.launches;
                &chunk.kernels
            }
        };
        for span in kernels {
            if !self.spans.contains_key(span.kernel) {
                self.order.push(span.kernel);
            }
            *self.spans.entry(span.kernel).or_default() += 1e3 * span.seconds;
        }
    }
}

/// A step of `count` sequences that have read their prompts.
pub(super) fn step_of(model: &GptOss, count: usize) -> Result<Step, Failure> {
    let vocab = model.vocab_rows();
    let mut cache = model.new_cache(count, PROMPT, PROMPT + TRACED + 1);
    let tokens: Vec<Vec<u32>> = (0..count).map(|stream| prompt_of(stream, PROMPT + TRACED + 1, vocab)).collect();
    for (lane, tokens) in tokens.iter().enumerate() {
        let segment = Segment { lane, tokens: &tokens[..PROMPT] };
        block_on(model.hidden(&[segment], &mut cache, None)).map_err(device_failure)?;
    }
    let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let sampler = Sampler::new(params, vocab).map_err(|e| Failure::new(Exit::Internal, e, "report it"))?;
    let mut samplers = vec![sampler; count];
    let mut best: Option<(f64, Step)> = None;
    for round in 0..=TRACED {
        let at = PROMPT + round;
        let segments: Vec<Segment> =
            tokens.iter().enumerate().map(|(lane, tokens)| Segment { lane, tokens: &tokens[at..=at] }).collect();
        let sum = Arc::new(Mutex::new(Sum::default()));
        let mut probe = Probe::of([]);
        probe.tracer = Some(Tracer::new(vec![Box::new(sum.clone())]));
        let start = Instant::now();
        let x = block_on(model.hidden(&segments, &mut cache, Some(&mut probe))).map_err(device_failure)?;
        let logits = model.logits(&x, Some(&mut probe));
        let mut clock = Instant::now();
        let logits = block_on(model.compute().read_floats(logits)).map_err(device_failure)?;
        let read = lap(&mut clock);
        let chosen = samplers.par_iter_mut().zip(logits.par_chunks_exact(vocab)).map(|(s, row)| s.sample(row).is_ok());
        if !chosen.reduce(|| true, |a, b| a && b) {
            return Err(Failure::new(Exit::Internal, "logits that are no numbers", "gptoss-verify run logits"));
        }
        let sample = lap(&mut clock);
        let seconds = start.elapsed().as_secs_f64();
        probe.tracer.iter_mut().for_each(|tracer| tracer.end(model.compute(), 0));
        let sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts: Vec<Part> = sum.order.iter().map(|&part| Part { part, milliseconds: sum.spans[part] }).collect();
        parts.extend([("read", read), ("sample", sample)].map(|(part, milliseconds)| Part { part, milliseconds }));
        let bytes = sum.weight_bytes + count as u64 * model.cache_bytes_per_token(at);
        let step = Step { bytes, experts: sum.experts, launches: sum.launches, parts };
        if round > 0 && best.as_ref().is_none_or(|(least, _)| seconds < *least) {
            best = Some((seconds, step));
        }
    }
    best.map(|(_, step)| step).ok_or_else(|| Failure::new(Exit::Internal, "nothing was traced", "report it"))
}

/// Milliseconds since `clock`, which is set to now.
fn lap(clock: &mut Instant) -> f64 {
    let milliseconds = 1e3 * clock.elapsed().as_secs_f64();
    *clock = Instant::now();
    milliseconds
}
