//! A lane of the caches, and the sequence that has it.

use std::time::Instant;

use super::{EngineEvent, Job, Waiting};
use crate::generate::constraint::{Allowed, Constraint, ConstraintError};
use crate::generate::sampling::{SampleError, Sampler};
use crate::generate::stop::FinishReason;

/// A lane: the tokens that the caches hold of it, and who has it.
#[derive(Default)]
pub(super) struct Lane {
    /// Tokens in the caches.
    pub(super) tokens: Vec<u32>,
    /// The sequence that runs here.
    pub(super) running: Option<Running>,
    /// The step at which it was last used.
    pub(super) used: u64,
}

/// A sequence that runs.
pub(super) struct Running {
    job: Job,
    sampler: Sampler,
    /// What the constraint allows next, if that was found out beforehand.
    allowed: Option<Result<Allowed, ConstraintError>>,
    /// Logits without the tokens that it rules out.
    masked: Vec<f32>,
    /// Tokens that are not in the caches yet: the rest of the prompt, or the token just chosen.
    pub(super) pending: Vec<u32>,
    pub(super) generated: usize,
    cached_prompt_tokens: usize,
    /// When it was submitted, and when it was admitted.
    pub(super) submitted: Instant,
    pub(super) admitted: Instant,
    /// When it was admitted: prompts go in in that order.
    pub(super) order: u64,
}

/// Why there is no next token.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChooseError {
    #[error(transparent)]
    Sample(#[from] SampleError),
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

impl Lane {
    /// How many tokens of `prompt` it holds from the beginning, all but the last at most.
    pub(super) fn common(&self, prompt: &[u32]) -> usize {
        let common = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        common.min(prompt.len() - 1)
    }
}

impl Running {
    /// A sequence whose first `cached` tokens are in the caches.
    pub(super) fn new(waiting: Waiting, cached: usize, vocab: usize, order: u64) -> Result<Self, Box<(Job, String)>> {
        let Waiting { job, since: submitted } = waiting;
        let sampler = Sampler::new(job.sampling.clone(), vocab).map_err(|e| e.to_string()).and_then(|mut sampler| {
            sampler.push_prompt(&job.prompt).map_err(|e| e.to_string())?;
            Ok(sampler)
        });
        match sampler {
            Err(reason) => Err(Box::new((job, reason))),
            Ok(sampler) => {
                let pending = job.prompt[cached..].to_vec();
                let (allowed, masked) = (None, Vec::new());
                let (cached_prompt_tokens, admitted) = (cached, Instant::now());
                Ok(Self {
                    job,
                    sampler,
                    allowed,
                    masked,
                    pending,
                    generated: 0,
                    cached_prompt_tokens,
                    submitted,
                    admitted,
                    order,
                })
            }
        }
    }

    /// Whether its prompt is in and only the last token is to be run.
    pub(super) fn is_decoding(&self) -> bool {
        self.generated > 0
    }

    pub(super) fn is_open(&self) -> bool {
        self.job.sink.is_open()
    }

    /// Finds out what may be chosen next, for which no logits are needed.
    pub(super) fn prepare(&mut self) {
        self.allowed = self.job.constraint.as_mut().map(Constraint::allowed);
    }

    /// Chooses the next token from `logits`, and tells it; why it ends here, if it does.
    pub(super) fn choose(&mut self, logits: &[f32], room: usize) -> Result<Option<FinishReason>, ChooseError> {
        let sampled = match &mut self.job.constraint {
            None => self.sampler.sample(logits)?,
            Some(constraint) => {
                let allowed = self.allowed.take().unwrap_or_else(|| constraint.allowed());
                allowed?.mask(logits, &mut self.masked);
                self.sampler.sample_masked(&self.masked, logits)?
            }
        };
        let (id, logprob, top) = (sampled.token, sampled.logprob, sampled.top_logprobs.to_vec());
        self.generated += 1;
        self.pending.clear();
        self.pending.push(id);
        if let Some(constraint) = &mut self.job.constraint {
            constraint.take(id)?;
        }
        let is_over = self.job.constraint.as_ref().is_some_and(Constraint::is_over);
        self.job.sink.event(EngineEvent::Token { id, logprob, top });
        Ok(if is_over || self.job.stop_tokens.contains(&id) {
            Some(FinishReason::Stop)
        } else if self.generated >= self.job.max_tokens || room == 0 {
            Some(FinishReason::Length)
        } else {
            None
        })
    }

    /// Tells the end.
    pub(super) fn finish(mut self, reason: FinishReason) {
        let cached_prompt_tokens = self.cached_prompt_tokens;
        self.job.sink.event(EngineEvent::Done { reason, cached_prompt_tokens });
    }

    /// Tells that there will be no more.
    pub(super) fn fail(mut self, reason: &str) {
        self.job.sink.event(EngineEvent::Failed(reason.into()));
    }
}
