//! Noise below a margin changes no token; noise beyond it does where one number decides.

use gptoss::generate::sampling::{Margin, Sampler, SamplingParams};
use proptest::prelude::*;

/// f32 cannot hold every noisy logit exactly.
const ROUNDING: f64 = 1e-5;

#[derive(Debug, Clone)]
struct Draw {
    logits: Vec<f32>,
    params: SamplingParams,
    uniform: f64,
}

impl Draw {
    fn choose(&self, logits: &[f32]) -> (u32, Margin) {
        let mut sampler = Sampler::new(self.params.clone(), logits.len()).expect("in range");
        sampler.push_prompt(&[0, 2]).expect("tokens");
        sampler.push_generated(&[1, 1, 2]).expect("tokens");
        let sampled = sampler.sample_at(logits, self.uniform).expect("a token");
        (sampled.token, sampled.margin)
    }

    /// The token of logits moved by `noise` up or down.
    fn moved(&self, noise: f64, is_up: impl Fn(usize) -> bool) -> u32 {
        let move_by = |id: usize| if is_up(id) { noise } else { -noise };
        let logits = (0..).zip(&self.logits).map(|(id, &logit)| (f64::from(logit) + move_by(id)) as f32);
        self.choose(&logits.collect::<Vec<_>>()).0
    }
}

fn params() -> impl Strategy<Value = SamplingParams> {
    let temperature = prop_oneof![1 => Just(0.0), 6 => 0.2..2.0];
    let filters =
        (prop_oneof![Just(0), 1..12u32], prop_oneof![Just(1.0), 0.05..1.0], prop_oneof![Just(0.0), 0.01..0.9]);
    (temperature, filters, prop_oneof![Just(1.0), 0.6..1.8], -1.0..1.0).prop_map(
        |(temperature, (top_k, top_p, min_p), repetition_penalty, presence_penalty)| SamplingParams {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty: presence_penalty / 2.0,
            logit_bias: [(1, 0.75)].into(),
            ..SamplingParams::default()
        },
    )
}

fn draws() -> impl Strategy<Value = Draw> {
    let logits = prop::collection::vec(-6.0f32..6.0, 3..24);
    (logits, params(), 0.0..1.0).prop_map(|(logits, params, uniform)| Draw { logits, params, uniform })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, max_global_rejects: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_below_the_margin_changes_no_token(draw in draws(), signs in prop::collection::vec(any::<u32>(), 12)) {
        let (token, margin) = draw.choose(&draw.logits);
        let noise = margin.noise_max().min(50.0) * (1.0 - 1e-3) - ROUNDING;
        prop_assume!(noise > 0.0);
        prop_assert!(margin.is_safe_under(noise));
        for signs in signs {
            prop_assert_eq!(draw.moved(noise, |id| signs >> (id % 32) & 1 == 1), token);
        }
        // The directions that hurt most: the token, and what ranks with or above it, against the rest.
        let own = draw.logits[token as usize];
        for (up, inclusive) in [(true, true), (true, false), (false, true), (false, false)] {
            let is_above = |id: usize| draw.logits[id] > own || (inclusive && id == token as usize);
            prop_assert_eq!(draw.moved(noise, |id| is_above(id) == up), token);
        }
    }

    #[test]
    fn noise_beyond_the_margin_changes_an_unfiltered_token(draw in draws()) {
        let free = SamplingParams { temperature: draw.params.temperature, ..SamplingParams::default() };
        let draw = Draw { params: free, ..draw };
        let (token, margin) = draw.choose(&draw.logits);
        let noise = margin.noise_max() * (1.0 + 1e-3) + ROUNDING;
        prop_assume!(noise < 3.0 && (margin.rank - margin.draw).abs() > 0.1);
        let own = draw.logits[token as usize];
        let is_above = |id: usize| draw.logits[id] > own;
        let by_draw = [(true, true), (false, false), (true, false), (false, true)]
            .map(|(up, inclusive)| draw.moved(noise, |id| (is_above(id) || (inclusive && id == token as usize)) == up));
        if margin.draw < margin.rank {
            prop_assert!(by_draw.iter().any(|&moved| moved != token), "the margin is too wide");
        } else if draw.params.temperature == 0.0 {
            prop_assert!(draw.moved(noise, |id| id != token as usize) != token, "the margin is too wide");
        }
    }
}

#[test]
fn margins_of_a_small_draw_are_those_on_paper() {
    // Weights 4, 2, 1, 1: the second token's interval is from 1/2 to 3/4, log-odds 0 and ln 3.
    let logits = [4f32.ln(), 2f32.ln(), 0.0, -1e-3];
    let logits = [logits[0], logits[1], logits[2], 0.0];
    let draw = |params: SamplingParams, uniform| {
        let mut sampler = Sampler::new(params, 4).expect("in range");
        sampler.sample_at(&logits, uniform).expect("a token").margin
    };
    let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-6, "{got}, not {want}");
    let margin = draw(SamplingParams::default(), 0.6);
    near(margin.rank, 2f64.ln());
    near(margin.draw, 1.5f64.ln());
    assert_eq!((margin.filter, margin.gain), (f64::INFINITY, 1.0));
    near(margin.noise_max(), 1.5f64.ln() / 2.0);
    // A tie between what stays and what goes, and between two that stay.
    assert_eq!(draw(SamplingParams { top_k: 3, ..SamplingParams::default() }, 0.6).filter, 0.0);
    assert_eq!(draw(SamplingParams::default(), 0.8).rank, 0.0);
    // Top-p 0.6 keeps 4 and 2 of 8: before them 1/2, with them 3/4, log-odds of 0.6 between; the gap is ln 2.
    let odds = |p: f64| (p / (1.0 - p)).ln();
    near(draw(SamplingParams { top_p: 0.6, ..SamplingParams::default() }, 0.1).filter, odds(0.6));
    near(draw(SamplingParams { top_p: 0.7, ..SamplingParams::default() }, 0.1).filter, odds(0.75) - odds(0.7));
    // Min-p 0.3 keeps 4 and 2: thresholds ln 1.2, between ln 2 and 0.
    near(draw(SamplingParams { min_p: 0.3, ..SamplingParams::default() }, 0.1).filter, 1.2f64.ln());
    let greedy = SamplingParams { temperature: 0.0, repetition_penalty: 0.5, ..SamplingParams::default() };
    let margin = draw(greedy, 0.0);
    near(margin.rank, 2f64.ln());
    near(margin.noise_max(), 2f64.ln() / 4.0);
}

#[test]
fn a_margin_does_not_grow_by_the_digits_that_a_difference_loses() {
    // Weights 1 and twice e^−40, of which 1 − e^−40 keeps no digit: their odds are 40 − ln 2, those of the draw ln 4.
    let params = SamplingParams { temperature: 0.2, top_p: 0.8, ..SamplingParams::default() };
    for params in [SamplingParams { top_p: 1.0, ..params.clone() }, params] {
        let mut sampler = Sampler::new(params, 3).expect("in range");
        let margin = sampler.sample_at(&[8.0, 0.0, 0.0], 0.8).expect("a token").margin;
        let want = 0.2 * (40.0 - 2f64.ln() - 4f64.ln());
        let got = margin.draw.min(margin.filter);
        assert!((got - want).abs() < 1e-9, "{got}, not {want}");
    }
}

#[test]
fn a_draw_that_rounding_could_decide_promises_nothing() {
    let mut sampler = Sampler::new(SamplingParams::default(), 2).expect("in range");
    // Odds of 36.04 and 37 in exact numbers, but the masses they come from differ by less than their last bit.
    let margin = sampler.sample_at(&[0.0, -37.0], 1.0 - f64::EPSILON).expect("a token").margin;
    assert!(margin.noise_max() <= 0.0 && !margin.is_safe_under(0.0), "{margin:?}");
}
