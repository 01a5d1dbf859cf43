//! Many sequences on one model: continuous batching.
//!
//! One thread owns the caches.  Each of its steps runs one token of every sequence that is being generated, and pieces of
//! the oldest prompts that are not in yet, in one pass over the weights; then it samples.  Sequences come and go between steps.
//!
//! * A sequence has a **lane** of the caches from its admission to its end; the lane keeps its tokens afterwards, and the next
//!   prompt that begins with them goes on from there.
//! * Jobs wait in a bounded queue; a full one refuses at once.
//! * As much of prompts enters as lets a step take at most twice what it takes without: other streams slow down to half at
//!   most.
//! * A sequence that cannot go on, for its constraint allows nothing, ends alone.
//! * **Invariant:** a sequence whose sink has closed has no lane one step later.

mod lane;
mod pace;
mod scheduler;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::scheduler::Scheduler;
use crate::generate::constraint::{Constraint, ROWS_MIN};
use crate::generate::sampling::{ParamError, SamplingParams, TokenLogprob};
use crate::generate::session::CHUNK_MAX;
use crate::generate::stop::FinishReason;
use crate::models::gpt_oss::GptOss;
use crate::telemetry::durations::Durations;

/// Room of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Sequences that run at once.
    pub lanes: usize,
    /// Jobs that wait.
    pub queue: usize,
    /// Tokens of the longest sequence.
    pub context: usize,
    /// Tokens of the largest piece of a prompt.
    pub chunk: usize,
}

/// What a sink is told.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineEvent {
    /// A token; the one at which the sequence stops is told, too.
    Token {
        /// Which.
        id: u32,
        /// Its log-probability in the model, if asked for.
        logprob: Option<f64>,
        /// The most likely tokens, if asked for.
        top: Vec<TokenLogprob>,
    },
    /// The end.
    Done {
        /// Why.
        reason: FinishReason,
        /// Tokens of the prompt that were in the caches already.
        cached_prompt_tokens: usize,
    },
    /// The end, for the engine has failed, or this sequence cannot go on.
    Failed(String),
}

/// Where events go.
pub trait Sink: Send {
    /// Takes an event, without waiting; there are at most `max_tokens + 1`.
    fn event(&mut self, event: EngineEvent);
    /// Whether anybody still listens.
    fn is_open(&self) -> bool;
}

/// What to generate, and for whom.
pub struct Job {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// How to choose.
    pub sampling: SamplingParams,
    /// Most tokens to generate; the context may end it earlier.
    pub max_tokens: usize,
    /// Tokens that end it.
    pub stop_tokens: Vec<u32>,
    /// What it must be; without, whatever the model says.
    pub constraint: Option<Constraint>,
    /// Who listens.
    pub sink: Box<dyn Sink>,
}

/// Why a job was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("{queued} requests are waiting already")]
    Full {
        /// As many.
        queued: usize,
    },
    /// There is nothing to go on from.
    #[error("the prompt has no token")]
    Empty,
    /// Nothing may be generated.
    #[error("max_tokens is 0")]
    NoTokens,
    /// The prompt leaves no room.
    #[error("the prompt has {tokens} tokens, the context {context}; at least one must be left")]
    TooLong {
        /// Of the prompt.
        tokens: usize,
        /// The longest sequence.
        context: usize,
    },
    /// An id without a row.
    #[error("token {id} at position {position} is outside the vocabulary of {vocab} rows")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Where.
        position: usize,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// The parameters are out of range.
    #[error(transparent)]
    Sampling(#[from] ParamError),
    /// The model does not know the tokens that a constraint needs.
    #[error("an answer of a given form takes a vocabulary of {ROWS_MIN} rows, the model has {vocab}")]
    Vocabulary {
        /// Rows of the embedding.
        vocab: usize,
    },
    /// The engine has ended, or failed.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Room for nothing.
    #[error("{field} is {value}; it must be from 1 to {max}")]
    Option {
        /// Of the options.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The largest.
        max: usize,
    },
    /// The caches of a layer would pass what one buffer may hold.
    #[error(
        "{lanes} sequences of {context} tokens need {bytes} bytes for the keys of a layer, the adapter's buffers hold {max}"
    )]
    CacheTooLarge {
        /// Sequences.
        lanes: usize,
        /// Tokens of each.
        context: usize,
        /// Bytes of one layer's keys.
        bytes: usize,
        /// The adapter's limit.
        max: usize,
    },
    /// No thread.
    #[error("the scheduler has no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What an engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct EngineStatus {
    /// Sequences that run.
    pub active: usize,
    /// Jobs that wait.
    pub queued: usize,
    /// Sequences that may run at once.
    pub lanes: usize,
}

/// Counters of an engine, since it began.
#[derive(Debug, Default)]
pub struct EngineCounters {
    /// Jobs taken.
    pub jobs: AtomicU64,
    /// Jobs refused because the queue was full.
    pub refused: AtomicU64,
    /// Jobs whose sink closed before their end, waiting or running.
    pub cancelled: AtomicU64,
    /// Tokens of prompts that were run.
    pub prompt_tokens: AtomicU64,
    /// Tokens of prompts that were in the caches.
    pub cached_tokens: AtomicU64,
    /// Tokens generated.
    pub generated_tokens: AtomicU64,
    /// Steps.
    pub steps: AtomicU64,
    /// From a job's submission to its first token.
    pub first_token: Durations,
    /// From a sequence's admission to its end, where it was not cancelled.
    pub sequence: Durations,
    /// Of the steps.
    pub step: Durations,
}

/// Shared by the handle and the scheduler.
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    active: AtomicUsize,
    counters: EngineCounters,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Waiting>,
    /// Set once: why nothing is taken any more.
    stopped: Option<String>,
}

/// A job, and since when it waits.
struct Waiting {
    job: Job,
    since: Instant,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends everything that waits, and takes nothing more.
    fn stop(&self, reason: &str) {
        let mut queue = self.queue();
        queue.stopped.get_or_insert_with(|| reason.into());
        for mut waiting in queue.jobs.drain(..) {
            waiting.job.sink.event(EngineEvent::Failed(reason.into()));
        }
        self.wake.notify_all();
    }

    /// The job that waits longest.  It counts as running at once: a job under way is never in neither number.
    fn next(&self) -> Option<Waiting> {
        let mut queue = self.queue();
        let waiting = queue.jobs.pop_front()?;
        self.active.fetch_add(1, Ordering::Relaxed);
        Some(waiting)
    }

    /// Forgets jobs that wait for nobody.
    fn forget_closed(&self, queue: &mut Queue) {
        let before = queue.jobs.len();
        queue.jobs.retain(|waiting| waiting.job.sink.is_open());
        self.counters.cancelled.fetch_add((before - queue.jobs.len()) as u64, Ordering::Relaxed);
    }
}

/// A handle of a running engine; dropping it ends what runs.
pub struct Engine {
    model: Arc<GptOss>,
    options: EngineOptions,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine {:?} {:?}", self.options, self.status())
    }
}

impl Engine {
    /// Takes the caches' memory and starts the scheduler.
    pub fn start(model: Arc<GptOss>, options: EngineOptions) -> Result<Self, EngineError> {
        let EngineOptions { lanes, queue, context, chunk } = options;
        let max = model.config().rope.context_length();
        for (field, value, max) in
            [("lanes", lanes, 1024), ("queue", queue, 1 << 20), ("context", context, max), ("chunk", chunk, CHUNK_MAX)]
        {
            if !(1..=max).contains(&value) {
                return Err(EngineError::Option { field, value, max });
            }
        }
        let (bytes, max) = (model.lane_bytes(context) * lanes, model.compute().buffer_bytes_max());
        if bytes > max {
            return Err(EngineError::CacheTooLarge { lanes, context, bytes, max });
        }
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            active: AtomicUsize::new(0),
            counters: EngineCounters::default(),
        });
        let mut scheduler = Scheduler::new(model.clone(), options, shared.clone());
        let ending = Ending(shared.clone());
        let run = move || {
            // Moved in, so that it is dropped however this thread ends.
            let _ending = ending;
            scheduler.run();
        };
        let thread = std::thread::Builder::new().name("gptoss-engine".into()).spawn(run)?;
        Ok(Self { model, options, shared, thread: Some(thread) })
    }

    /// The model.
    pub fn model(&self) -> &Arc<GptOss> {
        &self.model
    }

    /// Its room.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// What it is doing.
    pub fn status(&self) -> EngineStatus {
        let queue = self.shared.queue();
        let active = self.shared.active.load(Ordering::Relaxed);
        EngineStatus { active, queued: queue.jobs.len(), lanes: self.options.lanes }
    }

    /// Its counters.
    pub fn counters(&self) -> &EngineCounters {
        &self.shared.counters
    }

    /// Queues a job; its sink is told the rest.
    pub fn submit(&self, job: Job) -> Result<(), SubmitError> {
        self.check(&job)?;
        let mut queue = self.shared.queue();
        if let Some(reason) = &queue.stopped {
            return Err(SubmitError::Stopped(reason.clone()));
        }
        self.shared.forget_closed(&mut queue);
        if queue.jobs.len() >= self.options.queue {
            self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Err(SubmitError::Full { queued: queue.jobs.len() });
        }
        queue.jobs.push_back(Waiting { job, since: Instant::now() });
        self.shared.counters.jobs.fetch_add(1, Ordering::Relaxed);
        self.shared.wake.notify_all();
        Ok(())
    }

    fn check(&self, job: &Job) -> Result<(), SubmitError> {
        let (tokens, context, vocab) = (job.prompt.len(), self.options.context, self.model.vocab_rows());
        if tokens == 0 {
            return Err(SubmitError::Empty);
        }
        if job.max_tokens == 0 {
            return Err(SubmitError::NoTokens);
        }
        if tokens >= context {
            return Err(SubmitError::TooLong { tokens, context });
        }
        if let Some(position) = job.prompt.iter().position(|&id| id as usize >= vocab) {
            return Err(SubmitError::TokenOutOfRange { id: job.prompt[position], position, vocab });
        }
        if job.constraint.is_some() && vocab < ROWS_MIN {
            return Err(SubmitError::Vocabulary { vocab });
        }
        Ok(job.sampling.validate_for(vocab)?)
    }

    /// Why it takes no more jobs, if it has ended.
    pub fn stopped(&self) -> Option<String> {
        self.shared.queue().stopped.clone()
    }

    /// When a place in a full queue may be free: a sequence's mean time over the number of lanes.
    pub fn place_free_in(&self) -> Option<Duration> {
        let mean = self.shared.counters.sequence.counted().mean_seconds()?;
        Some(Duration::from_secs_f64(mean / self.options.lanes as f64))
    }

    /// Ends the engine without waiting for it: what waits and runs is told `reason`, and nothing more is taken.
    pub fn end(&self, reason: &str) {
        self.shared.stop(reason);
    }

    /// Ends the engine: what waits and runs is told so.
    pub fn stop(&mut self) {
        self.end("it was told to");
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// However the scheduler's thread ends, nobody waits for it afterwards.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        // The first reason stays: this one is for a panic.
        self.0.stop("the scheduler failed");
        self.0.active.store(0, Ordering::Relaxed);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
