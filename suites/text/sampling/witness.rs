//! `goldens/text/sampling.json`, written by `scripts/witness/sampling.py`.

use std::collections::BTreeMap;
use std::str::FromStr;

use gptoss::generate::sampling::{Sampler, SamplingParams};
use gptoss::verify::golden::Golden;
use serde::Deserialize;

/// One case: what goes in, and the processed distribution.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) set: String,
    pub(crate) params: SamplingParams,
    pub(crate) prompt: String,
    pub(crate) output: String,
    #[serde(flatten)]
    pub(crate) want: Want,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Want {
    Greedy { greedy: u32 },
    Drawn(Distribution),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Distribution {
    /// Tokens that stay.
    pub(crate) kept: usize,
    /// Sum of (id + 1)² over them.
    pub(crate) kept_squares: u64,
    /// The likeliest of them.
    pub(crate) tokens: String,
    /// Of those.
    pub(crate) probabilities: String,
    /// By each of the witness's uniform numbers.
    pub(crate) drawn: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Logprobs {
    pub(crate) tokens: String,
    pub(crate) values: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Draws {
    pub(crate) seed: String,
    pub(crate) tokens: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Witness {
    sets: BTreeMap<String, String>,
    uniforms: String,
    pub(crate) cases: Vec<Case>,
    pub(crate) logprobs: BTreeMap<String, Logprobs>,
    /// From the set `mixed`, nothing filtered.
    pub(crate) draws: Vec<Draws>,
}

impl Witness {
    pub(crate) fn read() -> Self {
        let payload = Golden::load("text/sampling").expect("a golden").payload;
        serde_json::from_value(payload).expect("the witness's form")
    }

    pub(crate) fn uniforms(&self) -> Vec<f64> {
        list(&self.uniforms)
    }

    /// Logits of a set; `wide` is the recipe of the witness.
    pub(crate) fn logits(&self, set: &str) -> Vec<f32> {
        match set {
            "wide" => {
                let rank = |id: u32| (1009 * id + 17) % 2003;
                (0..2003).map(|id| (12.0 - f64::from(rank(id) * rank(id)) / 131072.0) as f32).collect()
            }
            _ => list(&self.sets[set]),
        }
    }

    pub(crate) fn case(&self, name: &str) -> &Case {
        self.cases.iter().find(|case| case.name == name).expect("a case of this name")
    }

    /// A sampler with the parameters and the history of `case`, and its logits.
    pub(crate) fn sampler(&self, case: &Case) -> (Sampler, Vec<f32>) {
        let logits = self.logits(&case.set);
        let mut sampler = Sampler::new(case.params.clone(), logits.len()).expect("parameters in range");
        sampler.push_prompt(&list(&case.prompt)).expect("tokens of the vocabulary");
        sampler.push_generated(&list(&case.output)).expect("tokens of the vocabulary");
        (sampler, logits)
    }
}

/// Values separated by spaces.
pub(crate) fn list<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> Vec<T> {
    text.split_whitespace().map(|word| word.parse().expect("a value")).collect()
}
