//! A plain twin of the sampler with one thing wrong, wrong draws, and wrong stops.

use std::collections::BTreeMap;

use super::{Fault, Wrong};
use crate::generate::sampling::SamplingParams;
use crate::verify::cases::text::sampling as ours;

/// What is wrong with the twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the catalogue says what each is
pub enum Quirk {
    BiasIgnored,
    BiasAfterRepetition,
    RepetitionOfOutput,
    RepetitionDivides,
    AdditiveOfPrompt,
    PresenceEachTime,
    TemperatureAfterFilters,
    PenaltiesAfterTemperature,
    TopKTiesDropped,
    TopPOneShort,
    TopPOneLong,
    MinPOfMass,
    GreedyLastOfEqual,
}

const fn quirk(name: &'static str, about: &'static str, quirk: Quirk) -> Fault {
    Fault { name, about, wrong: Wrong::Distribution(quirk) }
}

/// Every one.
pub(super) const FAULTS: &[Fault] = &[
    quirk("sampling/bias-ignored", "logit_bias changes nothing", Quirk::BiasIgnored),
    quirk(
        "sampling/bias-after-repetition",
        "the bias is added after the repetition penalty",
        Quirk::BiasAfterRepetition,
    ),
    quirk("sampling/repetition-of-output", "the repetition penalty passes over the prompt", Quirk::RepetitionOfOutput),
    quirk(
        "sampling/repetition-divides",
        "the repetition penalty divides negative logits, too",
        Quirk::RepetitionDivides,
    ),
    quirk("sampling/additive-of-prompt", "frequency and presence count the prompt", Quirk::AdditiveOfPrompt),
    quirk("sampling/presence-each-time", "the presence penalty for each occurrence", Quirk::PresenceEachTime),
    quirk("sampling/temperature-last", "top-p and min-p before the temperature", Quirk::TemperatureAfterFilters),
    quirk("sampling/penalties-late", "additive penalties after the temperature", Quirk::PenaltiesAfterTemperature),
    quirk("sampling/top-k-ties-dropped", "tokens equal to the last of the top k are dropped", Quirk::TopKTiesDropped),
    quirk("sampling/top-p-one-short", "the token that crosses top-p is dropped", Quirk::TopPOneShort),
    quirk("sampling/top-p-one-long", "a token after the one that crosses top-p is kept", Quirk::TopPOneLong),
    quirk("sampling/min-p-of-mass", "min-p against the whole mass, not the likeliest token", Quirk::MinPOfMass),
    quirk("sampling/greedy-last-of-equal", "of equal logits the last is taken", Quirk::GreedyLastOfEqual),
    Fault {
        name: "sampling/seed-ignored",
        about: "every seed draws what 0 draws",
        wrong: Wrong::Draws(|_, logits, count| ours::draws(0, logits, count)),
    },
    Fault {
        name: "sampling/one-number-for-all",
        about: "every draw of a sequence uses its first number",
        wrong: Wrong::Draws(|seed, logits, count| ours::draws(seed, logits, 1).repeat(count)),
    },
    Fault {
        name: "sampling/stop-string-split",
        about: "a stop string that is split between tokens is missed",
        wrong: Wrong::Stop(|strings, pieces| {
            let mut out = Vec::new();
            for piece in pieces {
                let shown = ours::shown(strings, &[piece]);
                let is_whole = shown.len() == piece.len();
                out.extend(shown);
                if !is_whole {
                    break;
                }
            }
            out
        }),
    },
    Fault {
        name: "sampling/stop-string-shown",
        about: "the text ends behind the stop string, not before it",
        wrong: Wrong::Stop(|strings, pieces| {
            let (mut out, text) = (ours::shown(strings, pieces), pieces.concat());
            let stop = strings.iter().find(|stop| text[out.len()..].starts_with(stop.as_bytes()));
            out.extend(stop.into_iter().flat_map(|stop| stop.bytes()));
            out
        }),
    },
    Fault {
        name: "sampling/held-text-lost",
        about: "what might have been a stop string and was none is never shown",
        wrong: Wrong::Stop(|strings, pieces| {
            let shown = ours::shown(strings, pieces);
            let is_begun = |stop: &String| (1..stop.len()).any(|end| shown.ends_with(&stop.as_bytes()[..end]));
            let is_cut = pieces.concat().len() > shown.len();
            if !is_cut && strings.iter().any(is_begun) { shown[..shown.len() - 1].to_vec() } else { shown }
        }),
    },
];

/// The distribution in the order of transformers, spelled out; sorts everything.
pub(super) fn plain(
    params: &SamplingParams,
    prompt: &[u32],
    output: &[u32],
    logits: &[f32],
    quirk: Option<Quirk>,
) -> Vec<(u32, f64)> {
    let has = |other: Quirk| quirk == Some(other);
    let mut x: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) + 0.0).collect();
    let late = if has(Quirk::PenaltiesAfterTemperature) && params.temperature > 0.0 { params.temperature } else { 1.0 };
    penalise(&mut x, params, prompt, output, quirk, late);
    let mut ranked: Vec<(u32, f64)> = (0..).zip(x).filter(|(_, x)| *x > f64::NEG_INFINITY).collect();
    let by_id = |a: u32, b: u32| if has(Quirk::GreedyLastOfEqual) { b.cmp(&a) } else { a.cmp(&b) };
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(by_id(a.0, b.0)));
    if params.temperature == 0.0 {
        return vec![(ranked[0].0, 1.0)];
    }
    let k = params.top_k as usize;
    if k > 0 && k < ranked.len() {
        let last = ranked[k - 1].1;
        ranked.retain(|(_, x)| *x >= last);
        if has(Quirk::TopKTiesDropped) {
            ranked.truncate(k);
        }
    }
    let max = ranked[0].1;
    let weight = |x: f64, temperature: f64| libm::exp((x - max) / temperature);
    let early = if has(Quirk::TemperatureAfterFilters) { 1.0 } else { params.temperature };
    let total: f64 = ranked.iter().map(|(_, x)| weight(*x, early)).sum();
    let (mut mass, mut count) = (0.0, 0);
    for (_, x) in &ranked {
        let next = weight(*x, early);
        let reached = if has(Quirk::TopPOneShort) { mass + next } else { mass };
        let is_over = params.top_p < 1.0 && reached >= params.top_p * total;
        let floor = if has(Quirk::MinPOfMass) { params.min_p * total } else { params.min_p };
        if count > 0 && (is_over || next < floor) {
            count += usize::from(is_over && has(Quirk::TopPOneLong));
            break;
        }
        (mass, count) = (mass + next, count + 1);
    }
    ranked.truncate(count);
    let total: f64 = ranked.iter().map(|(_, x)| weight(*x, params.temperature)).sum();
    ranked.into_iter().map(|(token, x)| (token, weight(x, params.temperature) / total)).collect()
}

/// Bias, repetition, then frequency and presence times `late`.
fn penalise(x: &mut [f64], params: &SamplingParams, prompt: &[u32], output: &[u32], quirk: Option<Quirk>, late: f64) {
    let has = |other: Quirk| quirk == Some(other);
    let bias = |x: &mut [f64]| params.logit_bias.iter().for_each(|(&token, bias)| x[token as usize] += bias);
    let counts = |tokens: &[u32]| {
        tokens.iter().fold(BTreeMap::<u32, f64>::new(), |mut counts, &token| {
            *counts.entry(token).or_default() += 1.0;
            counts
        })
    };
    let all = [prompt, output].concat();
    if !has(Quirk::BiasIgnored) && !has(Quirk::BiasAfterRepetition) {
        bias(x);
    }
    for &token in counts(if has(Quirk::RepetitionOfOutput) { output } else { &all }).keys() {
        let x = &mut x[token as usize];
        let is_multiplied = *x < 0.0 && !has(Quirk::RepetitionDivides);
        *x = if is_multiplied { *x * params.repetition_penalty } else { *x / params.repetition_penalty };
    }
    if has(Quirk::BiasAfterRepetition) {
        bias(x);
    }
    for (token, count) in counts(if has(Quirk::AdditiveOfPrompt) { &all } else { output }) {
        let times = if has(Quirk::PresenceEachTime) { count } else { 1.0 };
        x[token as usize] -= late * (count * params.frequency_penalty + times * params.presence_penalty);
    }
}
