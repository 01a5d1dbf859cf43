//! The thread that runs the steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use burn::tensor::Tensor;
use cubecl::future::block_on;
use rayon::prelude::*;

use super::lane::{ChooseError, Lane, Running};
use super::pace::Pace;
use super::{EngineEvent, EngineOptions, Shared};
use crate::device::DeviceError;
use crate::generate::stop::FinishReason;
use crate::models::gpt_oss::{GptOss, Segment};
use crate::nn::kv_cache::KvCache;

/// What runs, and how much of prompts enters beside it.
pub(super) struct Scheduler {
    model: Arc<GptOss>,
    options: EngineOptions,
    shared: Arc<Shared>,
    cache: KvCache,
    lanes: Vec<Lane>,
    steps: u64,
    pace: Pace,
}

/// What a lane does in a step.
struct Part {
    lane: usize,
    /// Tokens of those pending.
    tokens: usize,
    /// Whether nothing is pending afterwards, so that the last row has logits to choose from.
    chooses: bool,
    /// Whether it is a piece of a prompt.
    enters: bool,
}

impl Scheduler {
    pub(super) fn new(model: Arc<GptOss>, options: EngineOptions, shared: Arc<Shared>) -> Self {
        let cache = model.new_cache(options.lanes, options.chunk, options.context);
        let lanes = (0..options.lanes).map(|_| Lane::default()).collect();
        let pace = Pace::new(options.chunk, options.lanes);
        Self { model, options, shared, cache, lanes, steps: 0, pace }
    }

    /// Runs until told to stop, or until the device fails.
    pub(super) fn run(&mut self) {
        while self.wait() {
            self.release_closed();
            self.admit();
            self.shared.active.store(self.active(), Ordering::Relaxed);
            if let Err(error) = self.step() {
                let reason = error.to_string();
                tracing::error!("the engine ends: {reason}");
                self.shared.stop(&reason);
            }
            self.shared.active.store(self.active(), Ordering::Relaxed);
        }
        let reason = self.shared.queue().stopped.clone().unwrap_or_default();
        for lane in &mut self.lanes {
            if let Some(running) = lane.running.take() {
                running.fail(&reason);
            }
        }
        self.shared.active.store(0, Ordering::Relaxed);
    }

    fn active(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.running.is_some()).count()
    }

    /// Waits for something to do; `false`: it is over.
    fn wait(&self) -> bool {
        let mut queue = self.shared.queue();
        while queue.stopped.is_none() && queue.jobs.is_empty() && self.active() == 0 {
            queue = self.shared.wake.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        queue.stopped.is_none()
    }

    fn count(&self, counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }

    fn release_closed(&mut self) {
        let counters = &self.shared.counters;
        for lane in &mut self.lanes {
            if lane.running.as_ref().is_some_and(|running| !running.is_open()) {
                lane.running = None;
                counters.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.shared.forget_closed(&mut self.shared.queue());
    }

    /// Gives free lanes to jobs that wait: to each the lane that holds most of its prompt, else the one idle longest.
    fn admit(&mut self) {
        while self.lanes.iter().any(|lane| lane.running.is_none()) {
            let Some(waiting) = self.shared.next() else { return };
            let job = &waiting.job;
            if !job.sink.is_open() {
                self.count(&self.shared.counters.cancelled, 1);
                continue;
            }
            let free = self.lanes.iter().enumerate().filter(|(_, lane)| lane.running.is_none());
            let kept = |index: usize, lane: &Lane| {
                let common = lane.common(&job.prompt);
                if self.cache.can_rewind(index, common) { common } else { 0 }
            };
            let best = free.map(|(index, lane)| (kept(index, lane), std::cmp::Reverse(lane.used), index)).max();
            let Some((cached, _, index)) = best else { return };
            self.cache.rewind(index, cached);
            let lane = &mut self.lanes[index];
            lane.tokens.truncate(cached);
            match Running::new(waiting, cached, self.model.vocab_rows(), self.steps) {
                Ok(running) => lane.running = Some(running),
                Err(refused) => {
                    let (mut job, reason) = *refused;
                    job.sink.event(EngineEvent::Failed(reason));
                }
            }
            self.count(&self.shared.counters.cached_tokens, cached);
        }
    }

    /// Every decoding sequence, and of prompts, the oldest first, as many tokens as may enter beside them.
    fn plan(&self) -> Vec<Part> {
        let running = || self.lanes.iter().enumerate().filter_map(|(i, lane)| Some((i, lane.running.as_ref()?)));
        let mut parts: Vec<Part> = running()
            .filter(|(_, running)| running.is_decoding())
            .map(|(lane, _)| Part { lane, tokens: 1, chooses: true, enters: false })
            .collect();
        let mut prompts: Vec<_> = running().filter(|(_, running)| !running.is_decoding()).collect();
        prompts.sort_by_key(|(_, running)| running.order);
        let mut room = if prompts.is_empty() { 0 } else { self.pace.piece(parts.len()) };
        for (lane, prompt) in prompts {
            let tokens = prompt.pending.len().min(room);
            if tokens > 0 {
                parts.push(Part { lane, tokens, chooses: tokens == prompt.pending.len(), enters: true });
                room -= tokens;
            }
        }
        parts
    }

    fn step(&mut self) -> Result<(), DeviceError> {
        let parts = self.plan();
        if parts.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let pending =
            |part: &Part| self.lanes[part.lane].running.as_ref().map_or(&[][..], |r| &r.pending[..part.tokens]);
        let segments: Vec<Segment> =
            parts.iter().map(|part| Segment { lane: part.lane, tokens: pending(part) }).collect();
        let x = block_on(self.model.hidden(&segments, &mut self.cache, None))?;
        let logits = self.logits(x, &parts);
        // While the device computes them.
        self.prepare(&parts);
        let logits = self.read(logits)?;
        self.take(&parts);
        self.choose(&parts, &logits);
        let entered = parts.iter().filter(|part| part.enters).map(|part| part.tokens).sum();
        let decoding = parts.iter().filter(|part| !part.enters).count();
        let took = start.elapsed();
        tracing::trace!(decoding, entered, seconds = took.as_secs_f64(), "step {}", self.steps);
        self.pace.took(decoding, entered, took.as_secs_f64());
        self.shared.counters.step.observe(took);
        self.steps += 1;
        self.count(&self.shared.counters.steps, 1);
        Ok(())
    }

    /// Logits of the last row of every part that chooses, in their order; none where prompts only go on.
    fn logits(&self, x: Tensor<2>, parts: &[Part]) -> Option<Tensor<2>> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let mut end = 0;
        for part in parts {
            end += part.tokens;
            match runs.last_mut() {
                _ if !part.chooses => {}
                Some((first, count)) if *first + *count == end - 1 => *count += 1,
                _ => runs.push((end - 1, 1)),
            }
        }
        let mut rows: Vec<Tensor<2>> =
            runs.into_iter().map(|(first, count)| x.clone().narrow(0, first, count)).collect();
        let chosen = match rows.len() {
            0 => return None,
            1 => rows.remove(0),
            _ => Tensor::cat(rows, 0),
        };
        Some(self.model.logits(&chosen, None))
    }

    /// Waits for the device.
    fn read(&self, logits: Option<Tensor<2>>) -> Result<Vec<f32>, DeviceError> {
        match logits {
            Some(logits) => block_on(self.model.compute().read_floats(logits)),
            None => {
                self.model.compute().wait();
                Ok(Vec::new())
            }
        }
    }

    /// Finds out, side by side, which tokens the sequences that choose may choose.
    fn prepare(&mut self, parts: &[Part]) {
        let row_of = self.rows(parts);
        self.lanes.par_iter_mut().zip(&row_of).for_each(|(lane, row)| {
            if let (Some(running), Some(_)) = (&mut lane.running, row) {
                running.prepare();
            }
        });
    }

    /// Of each lane, the row of the logits from which it chooses, if it does.
    fn rows(&self, parts: &[Part]) -> Vec<Option<usize>> {
        let mut row_of = vec![None; self.lanes.len()];
        let choosing = parts.iter().filter(|part| part.chooses);
        choosing.enumerate().for_each(|(row, part)| row_of[part.lane] = Some(row));
        row_of
    }

    /// What was pending is in the caches now.
    fn take(&mut self, parts: &[Part]) {
        for part in parts {
            let lane = &mut self.lanes[part.lane];
            lane.used = self.steps;
            let Some(running) = &mut lane.running else { continue };
            if !running.is_decoding() {
                self.shared.counters.prompt_tokens.fetch_add(part.tokens as u64, Ordering::Relaxed);
            }
            lane.tokens.extend(running.pending.drain(..part.tokens));
        }
    }

    /// Samples every sequence that has logits, side by side, and ends those that are done.
    fn choose(&mut self, parts: &[Part], logits: &[f32]) {
        let (vocab, row_of, context) = (self.model.vocab_rows(), self.rows(parts), self.options.context);
        let chosen: Vec<Option<Result<Option<FinishReason>, ChooseError>>> = self
            .lanes
            .par_iter_mut()
            .zip(&row_of)
            .map(|(lane, row)| {
                let room = context - lane.tokens.len();
                let running = lane.running.as_mut()?;
                Some(running.choose(&logits[(*row)? * vocab..][..vocab], room))
            })
            .collect();
        for (lane, chosen) in self.lanes.iter_mut().zip(chosen) {
            let Some(result) = chosen else { continue };
            let counters = &self.shared.counters;
            counters.generated_tokens.fetch_add(1, Ordering::Relaxed);
            if let Some(running) = lane.running.as_ref().filter(|running| running.generated == 1) {
                counters.first_token.observe(running.submitted.elapsed());
            }
            match (result, lane.running.take()) {
                (Ok(None), running) => lane.running = running,
                (Ok(Some(reason)), Some(running)) => {
                    counters.sequence.observe(running.admitted.elapsed());
                    running.finish(reason);
                }
                (Err(error), Some(running)) => running.fail(&error.to_string()),
                (_, None) => {}
            }
        }
    }
}
