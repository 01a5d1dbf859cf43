//! The whole model with keys and values kept as f16, against the oracle at all positions.
//!
//! Twice, because rounding turns f32 noise into whole steps of f16 where a value lies in the middle of two:
//!
//! * stage by stage, the oracle reading what the device kept.  Each value kept must be what a value within budget of the oracle's
//!   is rounded to; then nothing of rounding is left, and every budget is f32's.
//! * `rule`: the oracle rounds by itself.  What the two may differ by is f32's budget and [`SHARE`] of what rounding does.
//!
//! Plants show that both can fail: an f32 cache, and caches that round in other ways.

use std::cell::OnceCell;
use std::rc::Rc;

use super::device::{Case, RECIPE, Shared, case, failed, judged, run, short, whole};
use crate::checkpoint::{Layout, WeightSource};
use crate::device::Compute;
use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::verify::bench::{CHUNK, Truth, all_stages, expected, show};
use crate::verify::compare::calls::{chosen_of, is_right, margin};
use crate::verify::compare::rounded::miss;
use crate::verify::compare::stages::{Finding, NOISE_FACTOR, budget, compare, first_divergence};
use crate::verify::compare::verdict::verdict;
use crate::verify::fault::forward::{self, EXCESS_MIN};
use crate::verify::oracle::cache::{f16_step, nearest_f16};
use crate::verify::oracle::noise::{Noise, Tap, trace};
use crate::verify::oracle::router::Chosen;
use crate::verify::oracle::semantics::Cache;
use crate::verify::oracle::{Oracle, Request, Semantics};
use crate::verify::outcome::{Check, Level, Outcome};

/// Share of what rounding keys and values does to a stage that device and oracle may differ by, each rounding by itself.
///
/// An honest run takes 2 to 4 %; with another rounding, or none, it is the whole effect and more.
const SHARE: f64 = 0.125;
/// How many budgets an f32 cache must be off where [`SHARE`] is the larger part of the budget.
const RULE_EXCESS_MIN: f64 = 4.0;
/// Stages that are judged by the oracle's own rounding: the residual stream and the logits.
const RULED: [Stage; 3] = [Stage::AttentionResidual, Stage::BlockOutput, Stage::Logits];

/// What a cache makes of a value.
type Keep = fn(f64) -> f64;

/// Wrong caches, and the stage of layer 0 that shows them first: what becomes of the keys and values of an f32 cache.
const PLANTS: [(&str, Keep, Stage); 5] = [
    ("not-rounded", |x| x, Stage::Key),
    ("truncated", |x| (x / f16_step(x)).trunc() * f16_step(x), Stage::Key),
    ("rounded-to-8-bits", |x| (x / f16_step(x) / 8.0).round_ties_even() * f16_step(x) * 8.0, Stage::Key),
    ("not-finite", |_| f64::NAN, Stage::Key),
    ("rounded-but-not-read", nearest_f16, Stage::Attention),
];

/// A device's run with an f16 cache, made by the first case that needs it.
#[derive(Clone)]
struct Run {
    model: Shared,
    chunk: usize,
    seen: Rc<OnceCell<Result<Vec<Seen>, String>>>,
}

impl Run {
    fn new(model: &Shared, chunk: usize) -> Self {
        Self { model: model.clone(), chunk, seen: Rc::default() }
    }

    fn on(&self, compute: &Compute) -> Result<&[Seen], String> {
        let run = || {
            let truth = Truth::shared(RECIPE);
            show(&self.model.on(compute)?, &truth.tokens, &truth.vocab, self.chunk, &all_stages())
        };
        self.seen.get_or_init(run).as_deref().map_err(Clone::clone)
    }

    fn case(&self, name: String, judge: fn(String, &Truth, &[Seen]) -> Result<Check, String>) -> Case<'static> {
        let own = self.clone();
        case(name, move |name, compute| {
            let check = own.on(compute).and_then(|seen| judge(name.clone(), &Truth::shared(RECIPE), seen));
            check.unwrap_or_else(|reason| failed(name, reason))
        })
    }
}

/// Both layouts of the rows, in tiles and in the decode form with odd rests; then the plants.
pub(super) fn cache_cases() -> Vec<Check> {
    let group = format!("logits/kv-f16/{RECIPE}");
    let mut cases = Vec::new();
    for layout in [Layout::Original, Layout::ModelBin] {
        let model = Shared::f16(RECIPE, layout);
        for chunk in [7, CHUNK] {
            let (run, name) = (Run::new(&model, chunk), format!("{group}/{}/chunk-{chunk}", short(layout)));
            cases.push(run.case(name.clone(), staged));
            cases.push(run.case(format!("{name}/rule"), ruled));
            if (layout, chunk) == (Layout::Original, CHUNK) {
                cases.push(run.case(format!("{group}/planted/judged-as-f32"), named));
                cases.push(run.case(format!("{group}/planted/a-step-off"), a_step_off));
            }
        }
    }
    cases.extend(PLANTS.map(|(name, keep, stage)| {
        case(format!("{group}/planted/{name}"), move |name, compute| {
            planted(&name, compute, keep, stage).unwrap_or_else(|reason| failed(name, reason))
        })
    }));
    cases.push(case(format!("{group}/planted/not-rounded/rule"), |name, compute| {
        f32_by_rule(&name, compute).unwrap_or_else(|reason| failed(name, reason))
    }));
    run(cases)
}

fn staged(name: String, truth: &Truth, seen: &[Seen]) -> Result<Check, String> {
    let findings = truth.judge_f16(seen)?;
    let cause = first_divergence(&findings)
        .and_then(|first| forward::looks_like(&truth.source, &truth.tokens, &truth.vocab, &truth.noise, seen, first));
    Ok(verdict(name, Level::Logits, &findings, truth.tokens.len()).with_looks_like(cause))
}

fn ruled(name: String, truth: &Truth, seen: &[Seen]) -> Result<Check, String> {
    let findings = by_rule(truth, seen)?;
    Ok(verdict(name, Level::Logits, &findings, truth.tokens.len()))
}

/// The residual stream and the logits against the oracle that rounds by itself, the device's experts forced on it where each choice
/// is right or a close call.
pub(super) fn by_rule(truth: &Truth, seen: &[Seen]) -> Result<Vec<Finding>, String> {
    let config = truth.source.config();
    let routing: Option<Vec<Chosen>> = (0..config.layers).map(|layer| chosen_of(seen, layer, config)).collect();
    let routing = routing.filter(|layers| layers.iter().all(|chosen| chosen.len() == truth.tokens.len()));
    let ask = Request { routing: Some(&routing.clone().ok_or("the experts are not whole")?), ..truth.ask() };
    let (exact, noise) = expected(&truth.source, &truth.tokens, &ask);
    let semantics = Semantics { cache: Cache::F16, ..Semantics::gpt_oss(config) };
    let rounded = trace::<f64>(&Oracle::with(&truth.source, semantics), &truth.tokens, &ask);
    let noise: Vec<Noise> = exact.iter().zip(&rounded).zip(noise).map(allowed).collect();
    let routers = rounded.iter().zip(&noise).filter(|(tap, _)| tap.stage == Stage::RouterLogits);
    let unfair =
        routers.zip(routing.iter().flatten()).find(|((tap, noise), chosen)| !is_right(tap, chosen, margin(noise)));
    if let Some(((tap, _), _)) = unfair {
        return Err(format!("layer {:?}: other experts were chosen, and in no close call", tap.layer));
    }
    let findings = compare(&rounded, &noise, seen);
    Ok(findings.into_iter().filter(|f| RULED.contains(&f.stage)).collect())
}

/// f32's noise, and as much more as makes [`SHARE`] of the effect of rounding a part of the budget.
fn allowed(((exact, rounded), noise): ((&Tap<f64>, &Tap<f64>), Noise)) -> Noise {
    let effects = exact.rows.values.iter().zip(&rounded.rows.values).map(|(exact, rounded)| (rounded - exact).abs());
    Noise { max_error: noise.max_error + SHARE / NOISE_FACTOR * effects.fold(0.0, f64::max), ..noise }
}

/// The stages of an f32 run with another cache shown: red, and first where that cache differs.
fn planted(name: &str, compute: &Compute, keep: Keep, stage: Stage) -> Result<Check, String> {
    let mut seen = whole(RECIPE, compute)?.seen.clone();
    for seen in seen.iter_mut().filter(|s| matches!(s.stage, Stage::Key | Stage::Value)) {
        seen.values.iter_mut().for_each(|x| *x = keep(f64::from(*x)) as f32);
    }
    match Truth::shared(RECIPE).judge_f16(&seen) {
        Err(reason) if seen.iter().any(|s| s.values.iter().any(|x| x.is_nan())) => {
            Ok(Check::pass(name, Level::Logits, format!("refused: {reason}")))
        }
        findings => Ok(caught(name, &findings?, stage, EXCESS_MIN)),
    }
}

/// An f32 cache where the oracle rounds by itself.
fn f32_by_rule(name: &str, compute: &Compute) -> Result<Check, String> {
    let findings = by_rule(&Truth::shared(RECIPE), &whole(RECIPE, compute)?.seen)?;
    Ok(caught(name, &findings, Stage::AttentionResidual, RULE_EXCESS_MIN))
}

/// A plant passes if the first stage over budget is the one of layer 0 that it strikes, by so many budgets.
fn caught(name: &str, findings: &[Finding], stage: Stage, excess_min: f64) -> Check {
    match first_divergence(findings) {
        Some(first) if (first.stage, first.layer) == (stage, Some(0)) && first.excess() >= excess_min => {
            Check::pass(name, Level::Logits, format!("caught by {:.1} budgets: {first}", first.excess()))
        }
        Some(first) => failed(name, format!("expected layer 0 {stage} by {excess_min} budgets, found {first}")),
        None => failed(name, "stayed green"),
    }
}

/// An f16 run judged as if its cache were f32: red, and the cause has a name.
fn named(name: String, truth: &Truth, seen: &[Seen]) -> Result<Check, String> {
    let check = judged(name.clone(), truth, Ok::<_, String>(seen));
    let cause = check.looks_like.unwrap_or_default();
    Ok(match (check.outcome, cause.contains("rounded to f16")) {
        (Outcome::Fail, true) => Check::pass(name, Level::Logits, format!("red, and looks like: {cause}")),
        (outcome, _) => failed(name, format!("expected a failure that looks like f16, found {outcome}, {cause:?}")),
    })
}

/// Every key of layer 0 moved by one step of f16, in turn: red, but where the key it was rounded from is a close call
/// or its step is smaller than the budget: one in twenty at most.
fn a_step_off(name: String, truth: &Truth, seen: &[Seen]) -> Result<Check, String> {
    let is_ours = |stage, layer| (stage, layer) == (Stage::Key, Some(0));
    let tap = truth.taps.iter().find(|t| is_ours(t.stage, t.layer)).ok_or("the truth has no keys")?;
    let kept: Vec<f64> =
        seen.iter().filter(|s| is_ours(s.stage, s.layer)).flat_map(|s| &s.values).map(|&x| f64::from(x)).collect();
    let budget = budget(truth.noise_at(Stage::Key, Some(0)));
    let holds = |&(&exact, &kept): &(&f64, &f64)| miss(exact, kept + f16_step(kept)) <= budget;
    let close = tap.rows.values.iter().zip(&kept).filter(holds).count();
    let differ = tap.rows.values.iter().zip(&kept).filter(|(exact, kept)| nearest_f16(**exact) != **kept).count();
    let detail = format!(
        "{} keys moved by a step, {close} close calls; {differ} of the device's fell the other way",
        kept.len()
    );
    Ok(match kept.len() == tap.rows.values.len() && close * 20 < kept.len() {
        true => Check::pass(name, Level::Logits, detail),
        false => failed(name, detail),
    })
}
