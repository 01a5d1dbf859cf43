//! Sampling against transformers' processors, draws against a reading of RFC 8439, stop strings against a plain search.

use super::witness::{Case, Want, Witness, list};
use super::{LEVEL, of_cases, same_ids};
use crate::generate::sampling::{Sampler, SamplingParams};
use crate::generate::stop::TextStop;
use crate::verify::cases::with_golden;
use crate::verify::outcome::Check;

/// Parameters, prompt, output so far and logits to tokens with their probabilities, likeliest first.
pub type Distribution<'a> = &'a dyn Fn(&SamplingParams, &[u32], &[u32], &[f32]) -> Vec<(u32, f64)>;
/// A seed and logits to so many draws.
pub type Draws<'a> = &'a dyn Fn(u64, &[f32], usize) -> Vec<u32>;
/// Stop strings and a text in pieces to what is shown of it.
pub type Shown<'a> = &'a dyn Fn(&[String], &[&[u8]]) -> Vec<u8>;

/// Twelve printed digits.
const RELATIVE: f64 = 1e-11;

/// Texts, and strings at which they end.
const STOPS: [(&str, &[&str]); 7] = [
    ("one STOP two", &["STOP"]),
    ("one SSTOP two STOP", &["STOP"]),
    ("one ST two S", &["STOP"]),
    ("aabaabaac", &["aabaac"]),
    ("no end, é is two bytes\u{2028}and this is three", &["\u{2028}"]),
    ("a\n\nb\n\nc", &["\n\n", "c"]),
    ("abcde", &["bc", "abcd", "e"]),
];

/// Checks of ours.
pub fn run() -> Vec<Check> {
    [distribution_checks(&distribution), draw_checks(&draws), stop_checks(&shown)].concat()
}

/// Ours.
pub fn distribution(params: &SamplingParams, prompt: &[u32], output: &[u32], logits: &[f32]) -> Vec<(u32, f64)> {
    let Ok(mut sampler) = Sampler::new(params.clone(), logits.len()) else { return Vec::new() };
    let known = sampler.push_prompt(prompt).and(sampler.push_generated(output));
    known.and_then(|()| sampler.distribution(logits)).unwrap_or_default()
}

/// Ours.
pub fn draws(seed: u64, logits: &[f32], count: usize) -> Vec<u32> {
    let params = SamplingParams { seed, ..SamplingParams::default() };
    let Ok(mut sampler) = Sampler::new(params, logits.len()) else { return Vec::new() };
    (0..count).map_while(|_| sampler.sample(logits).ok().map(|sampled| sampled.token)).collect()
}

/// Ours.
pub fn shown(strings: &[String], pieces: &[&[u8]]) -> Vec<u8> {
    let (mut out, Ok(mut stop)) = (Vec::new(), TextStop::new(strings)) else { return Vec::new() };
    for piece in pieces {
        stop.push(piece, &mut out);
    }
    stop.finish(&mut out);
    out
}

/// Every case keeps the witness's tokens, with its probabilities.
pub fn distribution_checks(distribution: Distribution<'_>) -> Vec<Check> {
    let name = "text/sampling/distributions";
    with_witness(name, |witness| of_cases(name, witness.cases.iter().map(|case| judge(witness, case, distribution))))
}

fn judge(witness: &Witness, case: &Case, distribution: Distribution<'_>) -> Result<(), String> {
    let (prompt, output): (Vec<u32>, Vec<u32>) = (list(&case.prompt), list(&case.output));
    let found = distribution(&case.params, &prompt, &output, &witness.logits(&case.set));
    let name = &case.name;
    let want = match &case.want {
        Want::Greedy { greedy } => {
            let token = found.first().map(|(token, _)| *token);
            return if token == Some(*greedy) { Ok(()) } else { Err(format!("{name}: another token")) };
        }
        Want::Drawn(want) => want,
    };
    if found.len() != want.kept {
        return Err(format!("{name}: expected {} tokens to stay, found {}", want.kept, found.len()));
    }
    let squares: u64 = found.iter().map(|(token, _)| (u64::from(*token) + 1).pow(2)).sum();
    if squares != want.kept_squares {
        return Err(format!("{name}: other tokens stay"));
    }
    let (tokens, probabilities): (Vec<u32>, Vec<f64>) = (list(&want.tokens), list(&want.probabilities));
    if tokens.is_empty() || tokens.len() != probabilities.len() || tokens.len() > found.len() {
        return Err(format!(
            "{name}: the witness names {} tokens and {} probabilities",
            tokens.len(),
            probabilities.len()
        ));
    }
    for ((token, probability), (want_token, want)) in found.iter().zip(tokens.iter().zip(&probabilities)) {
        // No number is near NaN.
        let is_near = (probability - want).abs() <= RELATIVE * want.abs();
        if token != want_token || !is_near {
            return Err(format!(
                "{name}: expected token {want_token} with {want:.6}, found {token} with {probability:.6}"
            ));
        }
    }
    Ok(())
}

/// Every seed draws what the witness draws.
pub fn draw_checks(draws: Draws<'_>) -> Vec<Check> {
    let name = "text/sampling/draws";
    with_witness(name, |witness| {
        let logits = witness.logits("mixed");
        let judge = |want: &super::witness::Draws| {
            let seed = want.seed.parse().map_err(|e| format!("{e}"))?;
            let tokens: Vec<u32> = list(&want.tokens);
            same_ids(&format!("seed {seed}"), &tokens, &draws(seed, &logits, tokens.len()))
        };
        of_cases(name, witness.draws.iter().map(judge))
    })
}

fn with_witness(name: &str, judge: impl FnOnce(&Witness) -> Check) -> Vec<Check> {
    with_golden("text/sampling", name, LEVEL, |golden| match serde_json::from_value(golden.clone()) {
        Ok(witness) => vec![judge(&witness)],
        Err(error) => vec![Check::fail(name, LEVEL, error.to_string())],
    })
}

/// Texts cut in every way into two pieces, and into single bytes, show what comes before the first stop string.
pub fn stop_checks(shown: Shown<'_>) -> Vec<Check> {
    let name = "text/sampling/stop-strings";
    let judge = |(text, stops): &(&str, &[&str])| {
        let strings: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let want = &text.as_bytes()[..first_stop(text, stops)];
        let bytes = text.as_bytes();
        let halves = (0..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
        halves.chain([bytes.chunks(1).collect()]).try_for_each(|pieces: Vec<&[u8]>| {
            let found = shown(&strings, &pieces);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let cut = pieces[0].len();
            match found == want {
                true => Ok(()),
                false => Err(format!("{:?} after a cut at {cut}, not {:?}", text(&found), text(want))),
            }
        })
    };
    vec![of_cases(name, STOPS.iter().map(judge))]
}

/// Where the first stop string begins: the one that is complete first, of several the longest; else the text's end.
fn first_stop(text: &str, stops: &[&str]) -> usize {
    let ends = (1..=text.len()).find_map(|end| {
        let complete = stops.iter().filter(|stop| text.as_bytes()[..end].ends_with(stop.as_bytes()));
        complete.map(|stop| end - stop.len()).min()
    });
    ends.unwrap_or(text.len())
}
