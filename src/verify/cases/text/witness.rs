//! `goldens/text/sampling.json`, written by `scripts/witness/sampling.py`.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::generate::sampling::{Sampler, SamplingParams};
use crate::verify::golden::Golden;
use serde::Deserialize;

/// One case: what goes in, and the processed distribution.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Its logits: see [`Witness::logits`].
    pub set: String,
    /// How to sample.
    pub params: SamplingParams,
    /// Tokens of the prompt.
    pub prompt: String,
    /// Tokens of the output so far.
    pub output: String,
    /// What it must give.
    #[serde(flatten)]
    pub want: Want,
}

/// What a case must give.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Want {
    /// A token.
    Greedy {
        /// Which.
        greedy: u32,
    },
    /// Something to draw from.
    Drawn(Distribution),
}

/// A processed distribution.
#[derive(Debug, Deserialize)]
pub struct Distribution {
    /// Tokens that stay.
    pub kept: usize,
    /// Sum of (id + 1)² over them.
    pub kept_squares: u64,
    /// The likeliest of them.
    pub tokens: String,
    /// Of those.
    pub probabilities: String,
    /// By each of the witness's uniform numbers.
    pub drawn: String,
}

/// The most likely tokens of a set.
#[derive(Debug, Deserialize)]
pub struct Logprobs {
    /// The tokens.
    pub tokens: String,
    /// Their log-probabilities.
    pub values: String,
}

/// What a seed draws.
#[derive(Debug, Deserialize)]
pub struct Draws {
    /// The seed.
    pub seed: String,
    /// Its tokens.
    pub tokens: String,
}

/// The golden.
#[derive(Debug, Deserialize)]
pub struct Witness {
    sets: BTreeMap<String, String>,
    uniforms: String,
    /// Every case.
    pub cases: Vec<Case>,
    /// Of sets.
    pub logprobs: BTreeMap<String, Logprobs>,
    /// From the set `mixed`, nothing filtered.
    pub draws: Vec<Draws>,
}

impl Witness {
    /// The golden, which must be there.
    pub fn read() -> Self {
        let payload = Golden::load("text/sampling").expect("a golden").payload;
        serde_json::from_value(payload).expect("the witness's form")
    }

    /// Uniform numbers of the draws.
    pub fn uniforms(&self) -> Vec<f64> {
        list(&self.uniforms)
    }

    /// Logits of a set; `wide` is the recipe of the witness.
    pub fn logits(&self, set: &str) -> Vec<f32> {
        match set {
            "wide" => {
                let rank = |id: u32| (1009 * id + 17) % 2003;
                (0..2003).map(|id| (12.0 - f64::from(rank(id) * rank(id)) / 131072.0) as f32).collect()
            }
            _ => list(&self.sets[set]),
        }
    }

    /// A case by its name.
    pub fn case(&self, name: &str) -> &Case {
        self.cases.iter().find(|case| case.name == name).expect("a case of this name")
    }

    /// A sampler with the parameters and the history of `case`, and its logits.
    pub fn sampler(&self, case: &Case) -> (Sampler, Vec<f32>) {
        let logits = self.logits(&case.set);
        let mut sampler = Sampler::new(case.params.clone(), logits.len()).expect("parameters in range");
        sampler.push_prompt(&list(&case.prompt)).expect("tokens of the vocabulary");
        sampler.push_generated(&list(&case.output)).expect("tokens of the vocabulary");
        (sampler, logits)
    }
}

/// Values separated by spaces.
pub fn list<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> Vec<T> {
    text.split_whitespace().map(|word| word.parse().expect("a value")).collect()
}
