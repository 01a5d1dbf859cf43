//! From logits to a token.
//!
//! ```text
//! logits ─► mask ─► bias ─► repetition ─► frequency, presence ─► temperature ─► top-k ─► top-p ─► min-p ─► draw
//!   │                       penalties                                       filters                        draw
//!   └─► logprobs: of the model, before all of it
//! ```
//!
//! The mask is −∞ for tokens that a [constraint](super::constraint) rules out: no bias brings them back, and the filters count
//! what is left.  Log-probabilities are those of the model without it.
//!
//! The order is that of transformers (`_get_logits_processor`), with OpenAI's additive penalties after the repetition
//! penalty.  gpt-oss's own reference has temperature alone.
//!
//! * **Invariant:** equal parameters, tokens and logits give equal tokens on every platform: the generator works on
//!   integers, sums are in f64 in a fixed order, and `exp` and `log` are `libm`'s.
//! * **Invariant:** the vocabulary is never sorted whole unless a draw reaches its end, and a token allocates nothing.
//! * **Invariant:** after an error the sampler is as it was before.

mod draw;
mod filters;
mod logprobs;
mod margin;
pub mod params;
mod penalties;
mod ranked;

pub use logprobs::TokenLogprob;
pub use margin::Margin;
pub use params::{ParamError, SamplingParams};

use draw::Uniforms;
use penalties::History;
use ranked::{Candidate, Ranked};

/// Why no token was chosen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each field means
pub enum SampleError {
    #[error("{found} logits for a vocabulary of {vocab}")]
    Length { found: usize, vocab: usize },
    #[error("the logit of token {token} is NaN")]
    NotANumber { token: u32 },
    #[error("the logit of token {token} is +inf")]
    Infinite { token: u32 },
    #[error("every logit is -inf: no token is left to choose")]
    AllMasked,
    #[error("token {token} is outside the vocabulary of {vocab}")]
    TokenOutOfRange { token: u32, vocab: usize },
    #[error("the uniform number is {value}; it must be at least 0 and less than 1")]
    Uniform { value: f64 },
}

/// One choice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled<'a> {
    /// The token.
    pub token: u32,
    /// Its log-probability in the model, if the parameters ask for any: see [`TokenLogprob`].
    pub logprob: Option<f64>,
    /// The most likely tokens of the model, as many as the parameters ask for; of equal ones the lowest ids.
    pub top_logprobs: &'a [TokenLogprob],
    /// How far it was from another choice.
    pub margin: Margin,
}

/// Samples one sequence.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    vocab: usize,
    history: History,
    uniforms: Uniforms,
    ranked: Ranked,
    scratch: Vec<f64>,
    top_logprobs: Vec<TokenLogprob>,
}

impl Sampler {
    /// A sampler for an empty sequence over `vocab` tokens.  Allocates some 33 bytes a token, and nothing later.
    pub fn new(params: SamplingParams, vocab: usize) -> Result<Self, ParamError> {
        params.validate_for(vocab)?;
        Ok(Self {
            vocab,
            history: History::new(vocab),
            uniforms: Uniforms::new(params.seed),
            ranked: Ranked::with_capacity(vocab),
            scratch: Vec::with_capacity(vocab),
            top_logprobs: Vec::with_capacity(usize::from(params.logprobs.unwrap_or(0)) + 1),
            params,
        })
    }

    /// Its parameters.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Tokens that were given: the repetition penalty looks at them, frequency and presence do not.
    pub fn push_prompt(&mut self, tokens: &[u32]) -> Result<(), SampleError> {
        self.check_tokens(tokens)?;
        tokens.iter().for_each(|&token| self.history.push_prompt(token));
        Ok(())
    }

    /// Tokens of the output that the caller chose: every penalty looks at them.  [`Self::sample`] adds its own.
    pub fn push_generated(&mut self, tokens: &[u32]) -> Result<(), SampleError> {
        self.check_tokens(tokens)?;
        tokens.iter().for_each(|&token| self.history.push_generated(token));
        Ok(())
    }

    /// Chooses a token from `logits`, `[vocab]`, and adds it to the output.
    ///
    /// −∞ is never chosen; NaN, +∞ and nothing but −∞ are errors.  Takes one uniform number of the seed, or none if
    /// greedy.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Sampled<'_>, SampleError> {
        self.sample_masked(logits, logits)
    }

    /// As [`Self::sample`], from `masked`: the model's `logits` with −∞ in place of tokens that are ruled out.
    ///
    /// Log-probabilities are those of `logits`.
    pub fn sample_masked(&mut self, masked: &[f32], logits: &[f32]) -> Result<Sampled<'_>, SampleError> {
        if logits.len() != masked.len() {
            return Err(SampleError::Length { found: logits.len(), vocab: masked.len() });
        }
        if self.params.is_greedy() && !self.params.moves_logits() && masked.len() == self.vocab {
            let (token, margin) = draw::largest(masked)?;
            return Ok(self.chosen(logits, token, margin));
        }
        self.prepare(masked)?;
        let uniform = if self.params.is_greedy() { 0.0 } else { self.uniforms.draw() };
        Ok(self.choose(logits, uniform))
    }

    /// As [`Self::sample`], with a uniform number in [0, 1) in place of the seed's.
    pub fn sample_at(&mut self, logits: &[f32], uniform: f64) -> Result<Sampled<'_>, SampleError> {
        if !(0.0..1.0).contains(&uniform) {
            return Err(SampleError::Uniform { value: uniform });
        }
        self.prepare(logits)?;
        Ok(self.choose(logits, uniform))
    }

    /// What [`Self::sample`] would draw from: tokens and probabilities, likeliest first.  Chooses nothing.
    pub fn distribution(&mut self, logits: &[f32]) -> Result<Vec<(u32, f64)>, SampleError> {
        self.prepare(logits)?;
        if self.params.is_greedy() {
            return Ok(vec![(draw::greedy(&self.ranked, &self.params).0, 1.0)]);
        }
        let kept = filters::keep(&mut self.ranked, &self.params, &mut self.scratch);
        let ranks = (0..kept.count).map_while(|rank| self.ranked.get(rank));
        Ok(ranks.map(|candidate| (candidate.id, kept.weights.of(candidate) / kept.mass)).collect())
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), SampleError> {
        match tokens.iter().find(|&&token| token as usize >= self.vocab) {
            Some(&token) => Err(SampleError::TokenOutOfRange { token, vocab: self.vocab }),
            None => Ok(()),
        }
    }

    /// Candidates by ascending id, biased and penalised; those at −∞ are left out.
    fn prepare(&mut self, logits: &[f32]) -> Result<(), SampleError> {
        if logits.len() != self.vocab {
            return Err(SampleError::Length { found: logits.len(), vocab: self.vocab });
        }
        let candidates = self.ranked.restart();
        for (id, &logit) in (0..).zip(logits) {
            if logit.is_nan() {
                return Err(SampleError::NotANumber { token: id });
            }
            if logit == f32::INFINITY {
                return Err(SampleError::Infinite { token: id });
            }
            // Adding 0 turns −0 into 0: equal logits must be equal bits.
            candidates.push(Candidate { logit: f64::from(logit) + 0.0, id });
        }
        self.history.penalise(&self.params, candidates);
        candidates.retain(|candidate| candidate.logit > f64::NEG_INFINITY);
        match candidates.is_empty() {
            true => Err(SampleError::AllMasked),
            false => Ok(()),
        }
    }

    /// Chooses among the candidates at hand; `logits` are the model's.
    fn choose(&mut self, logits: &[f32], uniform: f64) -> Sampled<'_> {
        let (token, margin) = if self.params.is_greedy() {
            draw::greedy(&self.ranked, &self.params)
        } else {
            let kept = filters::keep(&mut self.ranked, &self.params, &mut self.scratch);
            draw::inverse(&mut self.ranked, &kept, &self.params, uniform)
        };
        self.chosen(logits, token, margin)
    }

    /// Adds `token` to the output, and says what was asked for.
    fn chosen(&mut self, logits: &[f32], token: u32, margin: Margin) -> Sampled<'_> {
        self.history.push_generated(token);
        let logprob = self.params.logprobs.map(|count| {
            let norm = logprobs::log_sum_exp(logits);
            logprobs::top(logits, count.into(), norm, &mut self.top_logprobs);
            f64::from(logits[token as usize]) - norm
        });
        Sampled { token, logprob, top_logprobs: &self.top_logprobs, margin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_way_to_the_largest_is_the_long_one() {
        let plain = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        // A bias of nothing: the long way.
        let long = SamplingParams { logit_bias: [(3, 0.0)].into(), ..plain.clone() };
        let none = f32::NEG_INFINITY;
        for logits in [
            vec![0.5, -1.0, 2.25, 2.0, none],
            vec![1.0, 2.0, 2.0, 2.0],
            vec![-0.0, 0.0, none, -1.0],
            vec![none, none, none, 7.0],
            vec![3.0, f32::NAN, f32::INFINITY, 0.0],
            vec![3.0, f32::INFINITY, f32::NAN, 0.0],
            vec![none; 4],
        ] {
            let mut ways = [&plain, &long].map(|p| Sampler::new(p.clone(), logits.len()).expect("parameters"));
            let [short, long] = ways.each_mut().map(|way| way.sample(&logits).map(|s| (s.token, s.margin)));
            assert_eq!(short, long, "{logits:?}");
        }
        let mut short = Sampler::new(plain, 4).expect("parameters");
        assert_eq!(short.sample(&[0.0; 3]).err(), Some(SampleError::Length { found: 3, vocab: 4 }));
    }
}
