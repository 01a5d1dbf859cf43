//! Every case of the witness: what the filters keep, how likely it is, and what uniform numbers draw from it.

use gptoss::generate::sampling::{Sampler, SamplingParams};

use super::witness::{Case, Distribution, Want, Witness, list};

/// Twelve printed digits.
const RELATIVE: f64 = 1e-11;

fn assert_near(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= RELATIVE * want.abs(), "{what}: {got:e}, not {want:e}");
}

fn check_distribution(witness: &Witness, case: &Case, want: &Distribution) {
    let (mut sampler, logits) = witness.sampler(case);
    let got = sampler.distribution(&logits).expect("a distribution");
    let name = &case.name;
    assert_eq!(got.len(), want.kept, "{name}: tokens kept");
    let squares: u64 = got.iter().map(|(token, _)| (u64::from(*token) + 1).pow(2)).sum();
    assert_eq!(squares, want.kept_squares, "{name}: which tokens are kept");
    let (tokens, probabilities) = (list::<u32>(&want.tokens), list::<f64>(&want.probabilities));
    assert!(!tokens.is_empty() && tokens.len() == probabilities.len() && tokens.len() == got.len().min(24), "{name}");
    for ((token, probability), (want_token, want)) in got.iter().zip(tokens.iter().zip(probabilities)) {
        assert_eq!(token, want_token, "{name}");
        assert_near(*probability, want, &format!("{name}: token {token}"));
    }
    let uniforms = witness.uniforms();
    let drawn = uniforms.iter().map(|&uniform| {
        let mut sampler = sampler.clone(); // each draw from the same history
        sampler.sample_at(&logits, uniform).expect("a token").token
    });
    assert_eq!(drawn.collect::<Vec<_>>(), list::<u32>(&want.drawn), "{name}: tokens drawn");
}

#[test]
fn distributions_and_draws_are_those_of_the_witness() {
    let witness = Witness::read();
    assert!(witness.cases.len() >= 40, "{} cases", witness.cases.len());
    for case in &witness.cases {
        match &case.want {
            Want::Drawn(want) => check_distribution(&witness, case, want),
            Want::Greedy { greedy } => {
                let (mut sampler, logits) = witness.sampler(case);
                assert_eq!(sampler.sample(&logits).expect("a token").token, *greedy, "{}", case.name);
            }
        }
    }
}

#[test]
fn seeds_draw_what_the_witness_draws() {
    let witness = Witness::read();
    assert!(!witness.draws.is_empty());
    let logits = witness.logits("mixed");
    for draws in &witness.draws {
        let seed = draws.seed.parse().expect("a seed");
        let mut sampler = Sampler::new(SamplingParams { seed, ..SamplingParams::default() }, 64).expect("in range");
        let want = list::<u32>(&draws.tokens);
        let got: Vec<u32> = want.iter().map(|_| sampler.sample(&logits).expect("a token").token).collect();
        assert_eq!(got, want, "seed {seed}");
    }
}

/// Parameters that move everything but the log-probabilities.
fn moving(logprobs: u8) -> SamplingParams {
    let bias = [(3, -100.0), (8, 5.0)].into();
    let penalised = SamplingParams { logit_bias: bias, repetition_penalty: 1.3, presence_penalty: 1.0, ..moved() };
    SamplingParams { logprobs: Some(logprobs), ..penalised }
}

fn moved() -> SamplingParams {
    SamplingParams { temperature: 0.7, top_k: 4, top_p: 0.5, min_p: 0.2, ..SamplingParams::default() }
}

#[test]
fn logprobs_are_of_the_model_whatever_the_parameters() {
    let witness = Witness::read();
    for (set, want) in &witness.logprobs {
        let logits = witness.logits(set);
        for params in [moving(5), SamplingParams { logprobs: Some(5), ..SamplingParams::default() }] {
            let mut sampler = Sampler::new(params, logits.len()).expect("in range");
            sampler.push_prompt(&[0, 1, 2]).expect("tokens");
            let sampled = sampler.sample(&logits).expect("a token");
            let (tokens, values) = (list::<u32>(&want.tokens), list::<f64>(&want.values));
            let got: Vec<u32> = sampled.top_logprobs.iter().map(|top| top.token).collect();
            assert_eq!(got, tokens, "{set}");
            for (top, want) in sampled.top_logprobs.iter().zip(values) {
                assert_near(top.logprob, want, set);
            }
            let difference = f64::from(logits[sampled.token as usize]) - f64::from(logits[tokens[0] as usize]);
            let logprob = sampled.logprob.expect("asked for");
            assert!((logprob - sampled.top_logprobs[0].logprob - difference).abs() < 1e-12, "{set}: of the token");
        }
    }
}

#[test]
fn logprobs_are_as_many_as_asked_for() {
    let logits = [1.0, f32::NEG_INFINITY, 3.0, 1.0];
    for (asked, tokens) in [(None, vec![]), (Some(0), vec![]), (Some(2), vec![2, 0]), (Some(20), vec![2, 0, 3])] {
        let params = SamplingParams { logprobs: asked, ..SamplingParams::default() };
        let mut sampler = Sampler::new(params, 4).expect("in range");
        let sampled = sampler.sample(&logits).expect("a token");
        assert_eq!(sampled.logprob.is_some(), asked.is_some());
        assert_eq!(sampled.top_logprobs.iter().map(|top| top.token).collect::<Vec<_>>(), tokens, "{asked:?}");
    }
}
