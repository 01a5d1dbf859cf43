//! One turn of one sequence: a prompt goes in, tokens come out one by one.

use super::constraint::{Constraint, ConstraintError};
use super::sampling::{ParamError, SampleError, Sampler, SamplingParams, TokenLogprob};
use super::session::{Session, SessionError};

/// Why a turn cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The session refused, or the device failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The parameters are out of range.
    #[error(transparent)]
    Params(#[from] ParamError),
    /// No token could be chosen.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The answer's form leaves no token.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

/// A token of a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Which.
    pub id: u32,
    /// Its log-probability in the model, if asked for.
    pub logprob: Option<f64>,
    /// The most likely tokens, if asked for.
    pub top: Vec<TokenLogprob>,
}

/// A turn under way.
pub struct Turn<'a> {
    session: &'a mut Session,
    sampler: Sampler,
    constraint: Option<Constraint>,
    masked: Vec<f32>,
    logits: Vec<f32>,
    /// The token chosen last, which is not in the session yet.
    last: Option<u32>,
    /// Tokens of the prompt that the session held already.
    pub cached: usize,
}

impl<'a> Turn<'a> {
    /// Runs `prompt`, of which the session may hold the beginning.
    pub fn begin(session: &'a mut Session, prompt: &[u32], sampling: &SamplingParams) -> Result<Self, TurnError> {
        let mut sampler = Sampler::new(sampling.clone(), session.vocab_rows())?;
        let held = session.tokens().iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let logits = session.replace(prompt)?;
        sampler.push_prompt(prompt)?;
        let cached = held.min(prompt.len().saturating_sub(1));
        Ok(Self { session, sampler, constraint: None, masked: Vec::new(), logits, last: None, cached })
    }

    /// The same turn, whose tokens are held to `constraint`; the vocabulary has [`ROWS_MIN`](super::constraint::ROWS_MIN) rows.
    pub fn held_to(self, constraint: Constraint) -> Self {
        Self { constraint: Some(constraint), ..self }
    }

    /// The next token.
    ///
    /// # Errors
    /// [`SessionError::ContextPassed`] where the sequence has no room for the last one.
    pub fn next_token(&mut self) -> Result<Chosen, TurnError> {
        if let Some(last) = self.last.take() {
            self.logits = self.session.decode(last)?;
        }
        let sampled = match &mut self.constraint {
            None => self.sampler.sample(&self.logits)?,
            Some(constraint) => {
                constraint.allowed()?.mask(&self.logits, &mut self.masked);
                self.sampler.sample_masked(&self.masked, &self.logits)?
            }
        };
        let chosen = Chosen { id: sampled.token, logprob: sampled.logprob, top: sampled.top_logprobs.to_vec() };
        if let Some(constraint) = &mut self.constraint {
            constraint.take(chosen.id)?;
        }
        self.last = Some(chosen.id);
        Ok(chosen)
    }

    /// Tokens that may still come.
    pub fn room(&self) -> usize {
        self.session.room() + usize::from(self.last.is_none())
    }
}
