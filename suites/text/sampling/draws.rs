//! Draws by statistics, by seed, and at the ends of the range.

use gptoss::generate::sampling::{Sampler, SamplingParams};

use super::witness::{Want, Witness, list};

const DRAWS: usize = 200_000;

fn sampler(seed: u64, vocab: usize) -> Sampler {
    Sampler::new(SamplingParams { seed, ..SamplingParams::default() }, vocab).expect("in range")
}

/// Draws of a case's parameters against the witness's probabilities, by chi-square.
///
/// Its mean is the degrees of freedom n, its variance 2n; the seed is fixed, so that nothing here is left to chance.
fn check_frequencies(witness: &Witness, name: &str, seed: u64) {
    let case = witness.case(name);
    let Want::Drawn(want) = &case.want else { panic!("{name} draws nothing") };
    let (tokens, probabilities) = (list::<u32>(&want.tokens), list::<f64>(&want.probabilities));
    let logits = witness.logits(&case.set);
    let mut sampler = Sampler::new(SamplingParams { seed, ..case.params.clone() }, logits.len()).expect("in range");
    let mut counts = vec![0u32; logits.len()];
    for _ in 0..DRAWS {
        counts[sampler.sample(&logits).expect("a token").token as usize] += 1;
    }
    let term = |expected: f64, count: f64| (count - expected).powi(2) / expected;
    let expected: Vec<f64> = probabilities.iter().map(|p| p * DRAWS as f64).collect();
    let counted: Vec<f64> = tokens.iter().map(|&token| f64::from(counts[token as usize])).collect();
    let mut chi_square: f64 = expected.iter().zip(&counted).map(|(&expected, &count)| term(expected, count)).sum();
    let mut freedom = tokens.len() as f64 - 1.0;
    let (rest, counted_rest) =
        (DRAWS as f64 - expected.iter().sum::<f64>(), DRAWS as f64 - counted.iter().sum::<f64>());
    if tokens.len() < want.kept {
        // What the witness does not list is one class more.
        (chi_square, freedom) = (chi_square + term(rest, counted_rest), freedom + 1.0);
    } else {
        assert_eq!(counted_rest, 0.0, "{name}: tokens that were filtered");
    }
    let sigmas = (chi_square - freedom) / (2.0 * freedom).sqrt();
    assert!(freedom >= 8.0 && sigmas.abs() < 4.0, "{name}, --seed {seed}: chi-square {chi_square}, {freedom} degrees");
}

#[test]
fn draws_are_as_frequent_as_the_witness_says() {
    let witness = Witness::read();
    for name in ["mixed", "flat", "masked", "temperature 2.0", "top-k at temperature", "all filters"] {
        for seed in [11, 12] {
            check_frequencies(&witness, name, seed);
        }
    }
}

fn tokens_of(sampler: &mut Sampler, logits: &[f32], count: usize) -> Vec<u32> {
    (0..count).map(|_| sampler.sample(logits).expect("a token").token).collect()
}

#[test]
fn a_seed_gives_its_tokens_again_and_another_gives_others() {
    let logits = Witness::read().logits("flat");
    let of = |seed| tokens_of(&mut sampler(seed, 64), &logits, 50);
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    // The first draws of neighbouring seeds are unrelated: over 64 near-equal tokens some 40 differ.
    let mut first: Vec<u32> = (0..64).map(|seed| of(seed)[0]).collect();
    first.sort_unstable();
    first.dedup();
    assert!((30..=52).contains(&first.len()), "{} different first tokens", first.len());
}

#[test]
fn a_copy_goes_on_as_the_original() {
    let logits = Witness::read().logits("flat");
    let mut original = sampler(5, 64);
    tokens_of(&mut original, &logits, 10);
    let mut copy = original.clone();
    assert_eq!(tokens_of(&mut copy, &logits, 50), tokens_of(&mut original, &logits, 50));
}

#[test]
fn an_error_takes_no_draw_and_greedy_takes_none() {
    let logits = Witness::read().logits("flat");
    let (mut plain, mut disturbed) = (sampler(5, 64), sampler(5, 64));
    let mut broken = logits.clone();
    broken[63] = f32::NAN;
    disturbed.sample(&broken).expect_err("NaN");
    disturbed.sample(&[]).expect_err("no logits");
    disturbed.sample_at(&logits, 1.0).expect_err("not below 1");
    assert_eq!(tokens_of(&mut plain, &logits, 20), tokens_of(&mut disturbed, &logits, 20));
}

#[test]
fn chosen_tokens_are_penalised_and_those_of_the_prompt_only_by_repetition() {
    let logits = [3.0, 2.9, 0.0];
    let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let presence = SamplingParams { presence_penalty: 1.0, ..greedy.clone() };
    let repetition = SamplingParams { repetition_penalty: 1.5, ..greedy };
    for (params, prompt, want) in [
        (&presence, &[][..], [0, 1, 0]),
        (&presence, &[0], [0, 1, 0]),
        (&repetition, &[], [0, 1, 0]),
        (&repetition, &[0], [1, 0, 0]),
    ] {
        let mut sampler = Sampler::new(params.clone(), 3).expect("in range");
        sampler.push_prompt(prompt).expect("tokens");
        assert_eq!(tokens_of(&mut sampler, &logits, 3), want, "{params:?} {prompt:?}");
    }
}

#[test]
fn the_ends_of_the_range_give_the_first_and_the_last_token_with_weight() {
    let logits = [0.0, -1.0, -2000.0, f32::NEG_INFINITY, 1.0];
    let below_one = 1.0 - f64::EPSILON / 2.0;
    let at = |uniform| sampler(0, 5).sample_at(&logits, uniform).expect("a token").token;
    assert_eq!((at(0.0), at(below_one)), (4, 1));
    // Many equal weights: the sum by id and the sum by rank agree to a rounding, and no draw falls off the end.
    let equal = vec![0.1; 1001];
    assert_eq!(sampler(0, 1001).sample_at(&equal, below_one).expect("a token").token, 1000);
}

#[test]
fn an_interval_holds_its_beginning_and_not_its_end() {
    // Weights 1 and 1, exactly: 1/2 is the beginning of the second.
    let at = |uniform| sampler(0, 2).sample_at(&[0.0; 2], uniform).expect("a token").token;
    assert_eq!((at(0.5f64.next_down()), at(0.5)), (0, 1));
}

#[test]
fn no_rounding_draws_a_token_without_weight() {
    // Sums by id and by rank differ in their last bit in about every second list; then the largest number passes all.
    let below_one = 1.0 - f64::EPSILON / 2.0;
    for salt in 0..500u32 {
        let noise = |id: u32| ((id * 7919 + salt * 104_729) % 10_007) as f32 / 2500.0;
        let mut logits: Vec<f32> = (0..100).map(noise).collect();
        logits.push(-2000.0);
        assert_ne!(sampler(0, 101).sample_at(&logits, below_one).expect("a token").token, 100, "salt {salt}");
    }
}

#[test]
fn equal_logits_rank_by_id_whatever_their_sign_of_zero() {
    let logits = [-0.0, 0.0, -0.0, 0.0];
    let at = |uniform| sampler(0, 4).sample_at(&logits, uniform).expect("a token").token;
    assert_eq!([0.1, 0.3, 0.6, 0.9].map(at), [0, 1, 2, 3]);
    let mut greedy =
        Sampler::new(SamplingParams { temperature: 0.0, ..SamplingParams::default() }, 4).expect("in range");
    assert_eq!(greedy.sample(&logits).expect("a token").token, 0);
}

#[test]
fn the_smallest_temperatures_are_nearly_greedy() {
    let logits = [1.0, 3.0, 2.999, 3.0];
    for temperature in [1e-9, 1e-300, 5e-324] {
        let params = SamplingParams { temperature, ..SamplingParams::default() };
        let distribution = Sampler::new(params, 4).expect("in range").distribution(&logits).expect("a distribution");
        assert_eq!(distribution[..2], [(1, 0.5), (3, 0.5)], "{temperature:e}");
    }
}
