//! Several sequences in one pass: each gets the logits of its own truth, whatever runs beside it.

use cubecl::future::block_on;

use super::device::{RECIPE, Shared, case, failed, run};
use crate::checkpoint::Layout;
use crate::models::gpt_oss::stage::Stage;
use crate::models::gpt_oss::{GptOss, Segment};
use crate::verify::bench::{Truth, prompt};
use crate::verify::compare::stages::{Finding, budget, finding};
use crate::verify::compare::verdict::verdict;
use crate::verify::outcome::{Check, Level};

/// Lanes that run the truth's prompt: tokens of a step, and the step at which they begin.  Tiles, rests of tiles, single
/// tokens beside prompts, and single tokens among themselves at the end.
const LANES: [(usize, usize); 4] = [(64, 0), (7, 1), (1, 2), (33, 5)];
/// Tokens of a step of one more lane, which runs another prompt.
const STRANGER: usize = 5;

/// Every promise of a batch.
pub(super) fn batch_cases() -> Vec<Check> {
    let of = |(name, planted): (&str, bool)| {
        let model = Shared::new(RECIPE, Layout::ModelBin);
        case(format!("logits/batches/{name}"), move |name, compute| {
            let findings = model.on(compute).and_then(|model| findings(&model, planted));
            match findings {
                Err(reason) => failed(name, reason),
                Ok(findings) if !planted => verdict(name, Level::Logits, &findings, Truth::shared(RECIPE).tokens.len()),
                // Planted: in one step a sequence gets another's tokens.
                Ok(findings) => match findings.iter().map(Finding::excess).fold(0.0, f64::max) {
                    excess if excess > 10.0 => Check::pass(
                        name,
                        Level::Logits,
                        format!("another's tokens in one step: seen, {excess:.0} budgets"),
                    ),
                    excess => failed(name, format!("another's tokens in one step: {excess:.1} budgets, not seen")),
                },
            }
        })
    };
    run([("mixed", false), ("mixed-up", true)].map(of).into())
}

/// The logits of every lane at every position against the truth.
fn findings(model: &GptOss, planted: bool) -> Result<Vec<Finding>, String> {
    let truth = Truth::shared(RECIPE);
    let tokens = &truth.tokens;
    let other = prompt(tokens.len() + 31, model.vocab_rows());
    let stranger = LANES.len();
    let mut cache = model.new_cache(LANES.len() + 1, 64, 512);
    let mut found: Vec<Vec<f32>> = vec![Vec::new(); LANES.len()];
    for step in 0.. {
        let mut segments: Vec<Segment> = LANES
            .iter()
            .enumerate()
            .filter(|(_, (_, start))| *start <= step)
            .map(|(lane, (count, _))| {
                let at = cache.end(lane);
                Segment { lane, tokens: &tokens[at..tokens.len().min(at + count)] }
            })
            .filter(|segment| !segment.tokens.is_empty())
            .collect();
        if segments.is_empty() && step > 10 {
            break;
        }
        let at = cache.end(stranger);
        if at + STRANGER < other.len() {
            segments.push(Segment { lane: stranger, tokens: &other[at..at + STRANGER] });
        }
        let owners: Vec<usize> = segments.iter().flat_map(|s| vec![s.lane; s.tokens.len()]).collect();
        if planted && step == 3 {
            // What a scheduler would do that mixes up its sequences.
            for segment in segments.iter_mut().filter(|segment| segment.lane == 1) {
                segment.tokens = &other[..segment.tokens.len()];
            }
        }
        let x = block_on(model.hidden(&segments, &mut cache, None)).map_err(|e| e.to_string())?;
        let logits = block_on(model.compute().read_floats(model.logits(&x, None))).map_err(|e| e.to_string())?;
        for (owner, row) in owners.into_iter().zip(logits.chunks_exact(model.vocab_rows())) {
            if owner != stranger {
                found[owner].extend(truth.vocab.iter().map(|&id| row[id as usize]));
            }
        }
    }
    let tap = truth.taps.iter().find(|tap| tap.stage == Stage::Logits).ok_or("the truth has no logits")?;
    let allowed = budget(truth.noise_at(Stage::Logits, None));
    Ok(found.iter().map(|found| finding(tap, allowed, found)).collect())
}
