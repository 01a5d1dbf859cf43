//! A sequence on a model: prompts in chunks, tokens one by one, rewinding, and reuse of what is already there.
//!
//! Any chunking gives the same result within the budget of f32 sums.  Several sessions share one model.

use std::sync::Arc;

use burn::tensor::Tensor;
use cubecl::future::block_on;

use crate::device::DeviceError;
use crate::models::gpt_oss::probe::Probe;
use crate::models::gpt_oss::stage::Stage;
use crate::models::gpt_oss::trace::Tracer;
use crate::models::gpt_oss::{GptOss, Segment};
use crate::nn::kv_cache::KvCache;
use crate::telemetry::events::{Logged, Observer};

/// Tokens of a chunk if nobody says otherwise: enough to fill the experts' tiles, little enough scratch.
pub const CHUNK_DEFAULT: usize = 512;
/// Largest chunk: grids and scratch are sized for it.
pub const CHUNK_MAX: usize = 4096;

/// How a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Tokens of a prompt chunk.
    pub chunk: usize,
    /// Longest sequence, tokens.
    pub context: usize,
}

impl SessionOptions {
    /// The default chunk, and the model's own context.
    pub fn of(model: &GptOss) -> Self {
        Self { chunk: CHUNK_DEFAULT, context: model.config().rope.context_length() }
    }
}

/// Why a step could not be taken; the session is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is nothing to run.
    #[error("the prompt has no token")]
    Empty,
    /// An id the model has no row for.
    #[error("token {id} at position {position} is outside the vocabulary of {vocab} rows")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Where.
        position: usize,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// The sequence would pass the context.
    #[error("{tokens} tokens from position {position} pass the context of {context}")]
    ContextPassed {
        /// Tokens to add.
        tokens: usize,
        /// Where they would start.
        position: usize,
        /// The longest sequence.
        context: usize,
    },
    /// The cache of a layer would pass what one buffer may hold.
    #[error(
        "a sequence of {positions} tokens needs {bytes} bytes for the keys of a layer, the adapter's buffers hold {max}"
    )]
    CacheTooLarge {
        /// The sequence's length.
        positions: usize,
        /// Bytes of one layer's keys.
        bytes: usize,
        /// The adapter's limit.
        max: usize,
    },
    /// A chunk size out of range.
    #[error("a chunk of {0} tokens; it must be from 1 to {CHUNK_MAX}")]
    Chunk(usize),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A sequence and its caches.
#[derive(Debug)]
pub struct Session {
    model: Arc<GptOss>,
    options: SessionOptions,
    cache: KvCache,
    tokens: Vec<u32>,
    tracer: Option<Tracer>,
}

/// Which positions of a chunk get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want<'a> {
    /// None.
    Nothing,
    /// The last of the prompt.
    Last,
    /// All.
    All,
    /// Those at these positions of the sequence, ascending.
    These(&'a [usize]),
}

impl Session {
    /// An empty sequence.
    pub fn new(model: Arc<GptOss>, options: SessionOptions) -> Result<Self, SessionError> {
        if !(1..=CHUNK_MAX).contains(&options.chunk) {
            return Err(SessionError::Chunk(options.chunk));
        }
        let cache = model.new_cache(1, options.chunk, options.context);
        let logged: Option<Box<dyn Observer>> = Logged::is_wanted().then(|| Box::new(Logged) as _);
        let tracer = logged.map(|logged| Tracer::new(vec![logged]));
        Ok(Self { model, options, cache, tokens: Vec::new(), tracer })
    }

    /// Tells `observer` what every layer and chunk costs from now on, which makes them slower.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.tracer.get_or_insert_with(|| Tracer::new(Vec::new())).add(observer);
    }

    /// The tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Rows of the vocabulary: logits are that wide.
    pub fn vocab_rows(&self) -> usize {
        self.model.vocab_rows()
    }

    /// Tokens for which the context has room.
    pub fn room(&self) -> usize {
        self.options.context - self.tokens.len()
    }

    /// Device bytes of its caches.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Adds `tokens` and gives the logits of the last of them: `[vocab]`.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<Vec<f32>, SessionError> {
        let mut out = Vec::new();
        block_on(self.run(tokens, Want::Last, None, &mut |_, logits| out = logits.to_vec()))?;
        Ok(out)
    }

    /// Adds one token and gives its logits: `[vocab]`.
    pub fn decode(&mut self, token: u32) -> Result<Vec<f32>, SessionError> {
        self.prefill(&[token])
    }

    /// Keeps the common prefix with `tokens`, adds the rest, and gives the logits of the last token.
    ///
    /// Where a windowed layer no longer holds what the prefix needs, the sequence starts again from the beginning.
    pub fn replace(&mut self, tokens: &[u32]) -> Result<Vec<f32>, SessionError> {
        self.check(tokens, 0)?;
        let common = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // The last token is always run: its logits are asked for.
        let kept = self.rewind(common.min(tokens.len() - 1));
        self.prefill(&tokens[kept..])
    }

    /// Forgets everything from `position` on, or all of it where windowed layers no longer hold enough; the new length.
    pub fn rewind(&mut self, position: usize) -> usize {
        let position = position.min(self.tokens.len());
        let keep = if self.cache.can_rewind(0, position) { position } else { 0 };
        self.cache.rewind(0, keep);
        self.tokens.truncate(keep);
        keep
    }

    fn check(&self, tokens: &[u32], position: usize) -> Result<(), SessionError> {
        let (vocab, context) = (self.model.vocab_rows(), self.options.context);
        if tokens.is_empty() {
            return Err(SessionError::Empty);
        }
        if position + tokens.len() > context {
            return Err(SessionError::ContextPassed { tokens: tokens.len(), position, context });
        }
        let positions = position + tokens.len();
        let (bytes, max) = (self.model.cache_bytes(positions, context), self.model.compute().buffer_bytes_max());
        if bytes > max {
            return Err(SessionError::CacheTooLarge { positions, bytes, max });
        }
        match tokens.iter().position(|&id| id as usize >= vocab) {
            Some(i) => Err(SessionError::TokenOutOfRange { id: tokens[i], position: position + i, vocab }),
            None => Ok(()),
        }
    }

    /// Adds `tokens` in chunks; hands `sink` the position and logits of every position wanted.
    ///
    /// After an error of the device the session holds the chunks that were finished.
    pub async fn run(
        &mut self,
        tokens: &[u32],
        want: Want<'_>,
        mut probe: Option<&mut Probe>,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), SessionError> {
        self.check(tokens, self.tokens.len())?;
        let end = self.tokens.len() + tokens.len();
        let mut tracing = Probe::default();
        if self.tracer.is_some() {
            let probe = probe.get_or_insert(&mut tracing);
            probe.tracer = self.tracer.take();
        }
        let result = self.chunks(tokens, end, want, probe.as_deref_mut(), sink).await;
        self.tracer = probe.and_then(|probe| probe.tracer.take());
        result
    }

    async fn chunks(
        &mut self,
        tokens: &[u32],
        end: usize,
        want: Want<'_>,
        mut probe: Option<&mut Probe>,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), SessionError> {
        for chunk in tokens.chunks(self.options.chunk) {
            let (model, position) = (self.model.clone(), self.tokens.len());
            let segment = Segment { lane: 0, tokens: chunk };
            let x = model.hidden(&[segment], &mut self.cache, probe.as_deref_mut()).await?;
            self.tokens.extend_from_slice(chunk);
            let rows: Vec<usize> = (0..chunk.len())
                .filter(|row| match want {
                    Want::Nothing => false,
                    Want::Last => position + row + 1 == end,
                    Want::All => true,
                    Want::These(positions) => positions.contains(&(position + row)),
                })
                .collect();
            self.emit(&x, position, &rows, probe.as_deref_mut(), sink).await?;
            if let Some(tracer) = probe.as_mut().and_then(|probe| probe.tracer.as_mut()) {
                tracer.end(model.compute(), self.cache_bytes() as u64);
            }
        }
        Ok(())
    }

    /// Computes and reads the logits of some rows of a chunk, as many at a time as fit a buffer.
    async fn emit(
        &self,
        x: &Tensor<2>,
        position: usize,
        rows: &[usize],
        mut probe: Option<&mut Probe>,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), SessionError> {
        let (model, vocab) = (&self.model, self.model.vocab_rows());
        // Runs of neighbouring rows, so that a chunk that wants all of them is read in few pieces.
        let mut at = 0;
        while at < rows.len() {
            let most = model.logit_rows_max().min(LOGIT_ROWS_MAX);
            let run = (1..most.min(rows.len() - at)).take_while(|i| rows[at + i] == rows[at] + i).count() + 1;
            let part = x.clone().narrow(0, rows[at], run);
            let logits = model.logits(&part, probe.as_deref_mut());
            if let Some(probe) = &mut probe {
                probe.natural(Stage::Logits, None, &logits);
            }
            let values = model.compute().read_floats(logits).await?;
            for (i, row) in values.chunks_exact(vocab).enumerate() {
                sink(position + rows[at] + i, row);
            }
            at += run;
        }
        Ok(())
    }
}

/// Rows of logits in memory at once: 64 of the real vocabulary are 51 MB.
const LOGIT_ROWS_MAX: usize = 64;
