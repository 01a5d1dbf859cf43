//! The whole model with YaRN's range rounded as ggml does it, against the oracle that does the same, at all positions.
//!
//! Plants show that the two variants are told apart: each one's run, judged as the other.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use super::device::{Case, RECIPE, case, checkpoint, failed, judged, run, short, whole};
use crate::checkpoint::Layout;
use crate::device::Compute;
use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::nn::rope::RopeVariant;
use crate::verify::bench::{CHUNK, Truth, all_stages, load_turned, show};
use crate::verify::compare::stages::first_divergence;
use crate::verify::compare::verdict::verdict;
use crate::verify::fault::forward::EXCESS_MIN;
use crate::verify::fixture::Recipe;
use crate::verify::oracle::Semantics;
use crate::verify::outcome::{Check, Level, Outcome};

/// Layouts of the rows and chunks that are run: tiles, and the decode form with odd rests.
const RUNS: [(Layout, usize); 2] = [(Layout::Original, CHUNK), (Layout::ModelBin, 7)];

/// Both variants on one recipe: what the oracle says of ggml's, and what a device shows of it.
#[derive(Clone, Default)]
struct Scene {
    truth: Rc<OnceCell<Arc<Truth>>>,
    seen: [Shown; RUNS.len()],
}

/// What a device showed, or why it did not: made by the first case that needs it.
type Shown = Rc<OnceCell<Result<Vec<Seen>, String>>>;

impl Scene {
    /// The oracle by ggml's range.
    fn truth(&self) -> &Truth {
        let recipe = Recipe::built_in(RECIPE);
        self.truth.get_or_init(|| Arc::new(Truth::by(&recipe, Semantics::ggml_compat(&recipe.config()))))
    }

    /// A device's run with `--rope ggml-compat`.
    fn seen(&self, index: usize, compute: &Compute) -> Result<&[Seen], String> {
        let (layout, chunk) = RUNS[index];
        let run = || {
            let model = load_turned(checkpoint(&Recipe::built_in(RECIPE), layout)?, compute, RopeVariant::GgmlCompat)?;
            show(&model, &self.truth().tokens, &self.truth().vocab, chunk, &all_stages())
        };
        self.seen[index].get_or_init(run).as_deref().map_err(Clone::clone)
    }
}

/// Every stage in the variant, then the plants.
pub(super) fn rope_cases() -> Vec<Check> {
    let (group, scene) = (format!("logits/rope/{RECIPE}"), Scene::default());
    let staged = |(index, (layout, chunk)): (usize, (Layout, usize))| {
        let scene = scene.clone();
        case(format!("{group}/ggml-compat/{}/chunk-{chunk}", short(layout)), move |name, compute| {
            match scene.seen(index, compute) {
                Ok(seen) => {
                    let findings = scene.truth().judge(seen);
                    verdict(name, Level::Logits, &findings, scene.truth().tokens.len())
                }
                Err(reason) => failed(name, reason),
            }
        })
    };
    let mut cases: Vec<Case> = RUNS.into_iter().enumerate().map(staged).collect();
    let own = scene.clone();
    cases.push(case(format!("{group}/planted/reference-for-ggml-compat"), move |name, compute| {
        match whole(RECIPE, compute) {
            Ok(whole) => told_apart(name, own.truth(), &whole.seen),
            Err(reason) => failed(name, reason),
        }
    }));
    cases.push(case(format!("{group}/planted/ggml-compat-for-reference"), move |name, compute| {
        match scene.seen(0, compute) {
            Ok(seen) => diagnosed(name, seen),
            Err(reason) => failed(name, reason),
        }
    }));
    run(cases)
}

/// The run of a device that did not do what `truth` says: red first at the queries of layer 0.
fn told_apart(name: String, truth: &Truth, seen: &[Seen]) -> Check {
    match first_divergence(&truth.judge(seen)) {
        Some(first) if (first.stage, first.layer) == (Stage::Query, Some(0)) && first.excess() >= EXCESS_MIN => {
            Check::pass(name, Level::Logits, format!("caught by {:.0} budgets: {first}", first.excess()))
        }
        Some(first) => failed(name, format!("expected layer 0 queries by {EXCESS_MIN} budgets, found {first}")),
        None => failed(name, "stayed green"),
    }
}

/// The same for the reference, whose catalogue of faults must name the cause.
fn diagnosed(name: String, seen: &[Seen]) -> Check {
    let truth = Truth::shared(RECIPE);
    let apart = told_apart(name.clone(), &truth, seen);
    let cause = judged(name.clone(), &truth, Ok::<_, String>(seen)).looks_like.unwrap_or_default();
    match (apart.outcome, cause.contains("range rounded")) {
        (Outcome::Pass, true) => Check { detail: format!("{}; looks like: {cause}", apart.detail), ..apart },
        (Outcome::Pass, false) => failed(name, format!("red, but it looks like {cause:?}")),
        _ => apart,
    }
}
