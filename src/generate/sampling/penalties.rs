//! Bias and penalties: what is known of a sequence moves the logits of single tokens.
//!
//! In this order, on logits x in f64:
//!
//! * bias: `x + b`
//! * repetition: `x · ρ` if x < 0, else `x / ρ`, once for each distinct token of **prompt and output** (CTRL, arXiv
//!   1909.05858; `RepetitionPenaltyLogitsProcessor` of transformers)
//! * frequency and presence: `x − c · α_f − [c > 0] · α_p`, c the occurrences in the **output only** (formula of
//!   OpenAI's API documentation; vLLM, too, counts the generated text, while "text so far" could be read to hold the prompt)
//!
//! Costs by the distinct tokens of the sequence, not by the vocabulary.

use super::params::SamplingParams;
use super::ranked::Candidate;

/// The tokens of one sequence, as far as penalties look at them.
#[derive(Debug, Clone)]
pub(super) struct History {
    /// Distinct tokens of prompt and output, in order of appearance; room for all from the start.
    seen: Vec<u32>,
    is_seen: Vec<bool>,
    /// Occurrences in the output, by id.
    generated: Vec<u32>,
}

impl History {
    /// An empty history over `vocab` tokens.
    pub(super) fn new(vocab: usize) -> Self {
        Self { seen: Vec::with_capacity(vocab), is_seen: vec![false; vocab], generated: vec![0; vocab] }
    }

    /// A token of the prompt; `token` is below the vocabulary.
    pub(super) fn push_prompt(&mut self, token: u32) {
        if !std::mem::replace(&mut self.is_seen[token as usize], true) {
            self.seen.push(token);
        }
    }

    /// A token of the output; `token` is below the vocabulary.
    pub(super) fn push_generated(&mut self, token: u32) {
        self.push_prompt(token);
        self.generated[token as usize] = self.generated[token as usize].saturating_add(1);
    }

    /// Applies bias and penalties to `logits`, `[vocab]`, ordered by id.
    pub(super) fn penalise(&self, params: &SamplingParams, logits: &mut [Candidate]) {
        for (&token, bias) in &params.logit_bias {
            logits[token as usize].logit += bias;
        }
        for &token in &self.seen {
            let logit = &mut logits[token as usize].logit;
            *logit = repetition(*logit, params.repetition_penalty);
            let count = f64::from(self.generated[token as usize]);
            if count > 0.0 {
                *logit -= count * params.frequency_penalty + params.presence_penalty;
            }
        }
    }
}

fn repetition(logit: f64, penalty: f64) -> f64 {
    if logit < 0.0 { logit * penalty } else { logit / penalty }
}

/// The factor by which bias and penalties may enlarge a difference of logits: they are continuous, and steepest where
/// the repetition penalty is.
pub(super) fn noise_gain(params: &SamplingParams) -> f64 {
    params.repetition_penalty.max(1.0 / params.repetition_penalty)
}
