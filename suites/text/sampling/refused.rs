//! Every error of sampling and stopping, by name and by message.

use gptoss::generate::sampling::{ParamError, SampleError, Sampler, SamplingParams};
use gptoss::generate::stop::{STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX, StopError, TextStop};

fn with(edit: impl Fn(&mut SamplingParams)) -> SamplingParams {
    let mut params = SamplingParams::default();
    edit(&mut params);
    params
}

type Edit = fn(&mut SamplingParams, f64);

/// Field, how to set it, least and greatest value.
const FIELDS: [(&str, Edit, f64, f64); 6] = [
    ("temperature", |params, value| params.temperature = value, 0.0, 2.0),
    ("top_p", |params, value| params.top_p = value, 0.0, 1.0),
    ("min_p", |params, value| params.min_p = value, 0.0, 1.0),
    ("repetition_penalty", |params, value| params.repetition_penalty = value, 0.01, 100.0),
    ("frequency_penalty", |params, value| params.frequency_penalty = value, -2.0, 2.0),
    ("presence_penalty", |params, value| params.presence_penalty = value, -2.0, 2.0),
];

#[test]
fn values_out_of_range_are_refused_by_field() {
    for (name, edit, least, greatest) in FIELDS {
        for value in [least, greatest] {
            assert_eq!(with(|params| edit(params, value)).validate(), Ok(()), "{name} {value}");
        }
        for outside in [least.next_down(), greatest.next_up(), f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let error = with(|params| edit(params, outside)).validate().expect_err(name);
            let ParamError::OutOfRange { field, value, min, max } = error else { panic!("{error}") };
            assert_eq!((field, value.to_bits(), min, max), (name, outside.to_bits(), least, greatest));
        }
    }
    assert_eq!(with(|params| params.logprobs = Some(20)).validate(), Ok(()));
    let error = with(|params| params.logprobs = Some(21)).validate().expect_err("too many");
    assert_eq!(error.to_string(), "`logprobs` is 21; it must be from 0 to 20");
}

#[test]
fn biases_out_of_range_are_refused_by_token() {
    let biased = |token, value| with(|params| params.logit_bias = [(token, value)].into());
    for value in [-100.0, 100.0] {
        assert_eq!(biased(7, value).validate_for(8), Ok(()));
    }
    for outside in [(-100f64).next_down(), 100f64.next_up(), f64::NAN] {
        let error = biased(7, outside).validate().expect_err("out of range");
        assert!(matches!(error, ParamError::BiasOutOfRange { token: 7, min: -100.0, max: 100.0, .. }), "{error}");
    }
    let error = Sampler::new(biased(8, 1.0), 8).expect_err("no such token");
    assert_eq!(error, ParamError::BiasToken { token: 8, vocab: 8 });
    assert_eq!(error.to_string(), "`logit_bias` names token 8, outside the vocabulary of 8");
}

#[test]
fn unknown_parameters_are_refused_and_absent_ones_are_the_default() {
    let read = |text: &str| serde_json::from_str::<SamplingParams>(text);
    assert_eq!(read("{}").expect("all absent"), SamplingParams::default());
    let given = read(r#"{"logit_bias": {"50256": -100}, "seed": 18446744073709551615}"#).expect("two given");
    assert_eq!((given.logit_bias[&50256], given.seed), (-100.0, u64::MAX));
    read(r#"{"temprature": 1}"#).expect_err("misspelt");
}

#[test]
fn logits_that_give_no_token_are_refused() {
    let (nan, inf, none) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    for temperature in [0.0, 1.0] {
        let mut sampler = Sampler::new(with(|params| params.temperature = temperature), 3).expect("in range");
        let mut refuse = |logits: &[f32]| sampler.sample(logits).expect_err("refused");
        assert_eq!(refuse(&[0.0; 2]), SampleError::Length { found: 2, vocab: 3 });
        assert_eq!(refuse(&[0.0, nan, nan]), SampleError::NotANumber { token: 1 });
        assert_eq!(refuse(&[0.0, -nan, 1.0]), SampleError::NotANumber { token: 1 });
        assert_eq!(refuse(&[0.0, 1.0, inf]), SampleError::Infinite { token: 2 });
        assert_eq!(refuse(&[none; 3]), SampleError::AllMasked);
        assert_eq!(sampler.distribution(&[none; 3]), Err(SampleError::AllMasked));
        assert_eq!(sampler.sample(&[none, 0.0, none]).expect("one is left").token, 1);
        assert_eq!(sampler.sample(&[f32::MAX, f32::MIN, none]).expect("finite").token, 0);
    }
}

#[test]
fn uniform_numbers_and_tokens_out_of_range_are_refused() {
    let mut sampler = Sampler::new(SamplingParams::default(), 3).expect("in range");
    for value in [1.0, -f64::MIN_POSITIVE, f64::NAN] {
        let error = sampler.sample_at(&[0.0; 3], value).expect_err("out of range");
        assert!(matches!(error, SampleError::Uniform { .. }), "{error}");
    }
    let error = SampleError::TokenOutOfRange { token: 3, vocab: 3 };
    assert_eq!(sampler.push_prompt(&[0, 3]), Err(error.clone()));
    assert_eq!(sampler.push_generated(&[3]), Err(error));
}

#[test]
fn stop_strings_out_of_bounds_are_refused() {
    let refuse = |strings: &[String]| TextStop::new(strings).expect_err("refused");
    assert_eq!(refuse(&["a".into(), String::new()]), StopError::Empty { index: 1 });
    let bytes = STOP_STRING_BYTES_MAX + 1;
    assert_eq!(refuse(&["a".repeat(bytes)]), StopError::TooLong { index: 0, bytes });
    let found = STOP_STRINGS_MAX + 1;
    assert_eq!(refuse(&vec!["a".to_string(); found]), StopError::TooMany { found });
    let most = vec!["a".repeat(STOP_STRING_BYTES_MAX); STOP_STRINGS_MAX];
    TextStop::new(&most).expect("just within bounds");
}
