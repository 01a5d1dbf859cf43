//! The model on a device against the oracle, at all positions: stages, formats, chunkings, families of kernels.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::future::block_on;

use crate::checkpoint::{Layout, WeightSource};
use crate::device::{Compute, DeviceRequest};
use crate::kernels::codec::KvType;
use crate::kernels::family::Family;
use crate::models::gpt_oss::GptOss;
use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::open::AnyCheckpoint;
use crate::verify::bench::{CHUNK, Truth, all_stages, device, device_request, load, load_kept, show, show_rows};
use crate::verify::cases::fixtures::{exported, small_tokenizer};
use crate::verify::compare::calls::close_calls;
use crate::verify::compare::stages::{budget, finding, first_divergence};
use crate::verify::compare::verdict::verdict;
use crate::verify::fault::forward;
use crate::verify::fixture::{Recipe, in_memory};
use crate::verify::oracle::noise::{Tap, margins};
use crate::verify::oracle::{Oracle, Positions, Request};
use crate::verify::outcome::{Check, Level, Outcome};

/// Recipes whose every stage is compared.
pub(super) const RECIPES: [&str; 7] = ["T1", "T3", "T2", "odd-experts", "one-layer", "wide-heads", "small-vocab"];
/// The recipe of everything that one model shows as well as another.
pub(super) const RECIPE: &str = "T3";
/// Rows of a vocabulary that model.bin's own tokenizer fits.
const O200K_ROWS: usize = 200_014;
/// Close calls that a report lists one by one.
const CALLS_LISTED: usize = 4;

/// Formats and chunks (decode form; decode form and tiles with odd rests; tiles; everything at once) that must agree.
///
/// [`stage_cases`] have the original layout in chunks of 64.
const FORMATS: [(&str, Layout, &[usize]); 15] = [
    ("T1", Layout::Original, &[1, 7, 200]),
    ("T1", Layout::Hf, &[64]),
    ("T1", Layout::ModelBin, &[7, 64]),
    ("T3", Layout::Original, &[1, 7, 200]),
    ("T3", Layout::Hf, &[1, 7, 64, 200]),
    ("T3", Layout::ModelBin, &[1, 7, 64, 200]),
    ("T2", Layout::Original, &[7]),
    ("T2", Layout::Hf, &[64]),
    ("T2", Layout::ModelBin, &[64]),
    ("small-vocab", Layout::Original, &[1, 7, 200]),
    ("small-vocab", Layout::Hf, &[7]),
    ("small-vocab", Layout::ModelBin, &[1, 7, 64, 200]),
    ("odd-experts", Layout::ModelBin, &[7]),
    ("one-layer", Layout::ModelBin, &[7]),
    ("wide-heads", Layout::ModelBin, &[7]),
];

/// A named promise about a device.
pub(super) struct Case<'a> {
    name: String,
    judge: Box<dyn FnOnce(&Compute) -> Check + 'a>,
}

/// A case; `judge` gets its name back, so that there is one place where it is spelt.
pub(super) fn case<'a>(name: String, judge: impl FnOnce(String, &Compute) -> Check + 'a) -> Case<'a> {
    let own = name.clone();
    Case { name, judge: Box::new(move |compute| judge(own, compute)) }
}

/// Judges the cases on the device of this process; without one, each says so.
pub(super) fn run(cases: Vec<Case>) -> Vec<Check> {
    let judge = |case: Case| match device() {
        Ok(compute) => (case.judge)(compute),
        Err(reason) => Check::new(case.name, Level::Logits, Outcome::NoDevice, reason),
    };
    cases.into_iter().map(judge).collect()
}

pub(super) fn failed(name: impl Into<String>, reason: impl ToString) -> Check {
    Check::fail(name, Level::Logits, reason.to_string())
}

/// One run of a truth's prompt as a check; a failure is compared with the catalogue of faults.
pub(super) fn judged(name: String, truth: &Truth, seen: Result<impl AsRef<[Seen]>, String>) -> Check {
    let seen = match &seen {
        Ok(seen) => seen.as_ref(),
        Err(reason) => return failed(name, reason),
    };
    let findings = truth.judge(seen);
    let cause = first_divergence(&findings)
        .and_then(|first| forward::looks_like(&truth.source, &truth.tokens, &truth.vocab, &truth.noise, seen, first));
    verdict(name, Level::Logits, &findings, truth.tokens.len()).with_looks_like(cause)
}

/// The recipe's checkpoint in a layout.
pub(super) fn checkpoint(recipe: &Recipe, layout: Layout) -> Result<AnyCheckpoint, String> {
    let source = |layout| in_memory(recipe, layout, 1).map_err(|e| e.to_string());
    match layout {
        Layout::ModelBin => {
            let source = source(Layout::Original)?;
            let tokenizer = match source.config().vocab >= O200K_ROWS {
                true => crate::model_bin::TokenizerSection::o200k_harmony()?,
                false => small_tokenizer(source.config().vocab),
            };
            exported(&source, &tokenizer).map(AnyCheckpoint::ModelBin).map_err(|e| e.to_string())
        }
        _ => source(layout).map(AnyCheckpoint::SafeTensors),
    }
}

/// A model that several cases run: loaded by the first, gone with the last.
#[derive(Clone)]
pub(super) struct Shared {
    recipe: &'static str,
    layout: Layout,
    kv: KvType,
    model: Rc<OnceCell<Result<Arc<GptOss>, String>>>,
}

impl Shared {
    pub(super) fn new(recipe: &'static str, layout: Layout) -> Self {
        Self { recipe, layout, kv: KvType::F32, model: Rc::default() }
    }

    /// With keys and values kept as f16.
    pub(super) fn f16(recipe: &'static str, layout: Layout) -> Self {
        Self { kv: KvType::F16, ..Self::new(recipe, layout) }
    }

    pub(super) fn on(&self, compute: &Compute) -> Result<Arc<GptOss>, String> {
        let load = || load_kept(checkpoint(&Recipe::built_in(self.recipe), self.layout)?, compute, self.kv);
        self.model.get_or_init(load).clone()
    }
}

/// A run of a recipe in the original layout.
pub(super) struct Whole {
    /// Every stage.
    pub(super) seen: Vec<Seen>,
    /// At each position, the best of the ids that every format keeps.
    pub(super) top: Vec<usize>,
    /// Logits of the last position.
    pub(super) last: Vec<f32>,
}

impl AsRef<[Seen]> for Whole {
    fn as_ref(&self) -> &[Seen] {
        &self.seen
    }
}

/// That run, made once a process.
pub(super) fn whole(recipe: &str, compute: &Compute) -> Result<Arc<Whole>, String> {
    type Made = BTreeMap<String, Result<Arc<Whole>, String>>;
    static MADE: Mutex<Made> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(recipe.into()).or_insert_with(|| run_whole(recipe, compute).map(Arc::new)).clone()
}

fn run_whole(recipe: &str, compute: &Compute) -> Result<Whole, String> {
    let truth = Truth::shared(recipe);
    let model = load(checkpoint(&Recipe::built_in(recipe), Layout::Original)?, compute, None)?;
    let (mut top, mut last) = (Vec::new(), Vec::new());
    let mut keep = |_, row: &[f32]| {
        top.push(highest(&row[..row.len().min(O200K_ROWS)]));
        last = row.to_vec();
    };
    let seen = show_rows(&model, &truth.tokens, &truth.vocab, CHUNK, &all_stages(), &mut keep)?;
    Ok(Whole { seen, top, last })
}

/// The index of the highest value, the lowest of several.
fn highest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// Every stage of small models, the whole vocabulary once, and what the discrete decisions leave room for.
pub fn stage_cases() -> Vec<Check> {
    let of = |recipe: &'static str| {
        let name = format!("logits/stages/{recipe}");
        let mut checks = run(vec![
            case(name.clone(), |name, compute| {
                judged(name, &Truth::shared(recipe), whole(recipe, compute).as_deref().map_err(Clone::clone))
            }),
            case(format!("{name}/whole-vocabulary"), |name, compute| match whole(recipe, compute) {
                Ok(whole) => whole_vocabulary(name, &Truth::shared(recipe), &whole.last),
                Err(reason) => failed(name, reason),
            }),
        ]);
        checks.push(margin_check(format!("{name}/margins"), &Truth::shared(recipe)));
        checks
    };
    RECIPES.into_iter().flat_map(of).collect()
}

/// The logits of every id at the last position.
fn whole_vocabulary(name: String, truth: &Truth, row: &[f32]) -> Check {
    let Some(x) = truth.taps.iter().rfind(|tap| tap.stage == Stage::BlockOutput) else {
        return failed(name, "the truth has no layer");
    };
    let ask = Request { positions: Positions::Last, ..Request::default() };
    let logits = Oracle::new(&truth.source).head(&x.rows, &ask, &mut |_, _, _| {});
    let tap = Tap { stage: Stage::Logits, layer: None, rows: logits };
    verdict(name, Level::Logits, &[finding(&tap, budget(truth.noise_at(Stage::Logits, None)), row)], 1)
}

/// The router's close calls, one by one: there, an honest device may choose other experts.
fn margin_check(name: String, truth: &Truth) -> Check {
    let chosen = truth.source.config().experts_per_token;
    let found = margins(&truth.taps, chosen);
    let calls = close_calls(&truth.taps, &truth.noise, chosen);
    let closest = [("choice", found.choice), ("order", found.order)].map(|(what, gap)| match gap {
        Some(gap) => format!("closest {what} {:.2e} (layer {}, position {})", gap.gap, gap.layer, gap.position),
        None => "every expert is chosen".into(),
    });
    let listed: Vec<String> = calls.iter().take(CALLS_LISTED).map(|call| call.to_string()).collect();
    let more = calls.len().saturating_sub(CALLS_LISTED);
    let decided = truth.tokens.len() * truth.source.config().layers - calls.len();
    let detail = match calls.is_empty() {
        true => format!("all {decided} choices are exact; {}", closest.join(", ")),
        false => format!(
            "{decided} choices are exact, {} may fall either way: {}; {more} more",
            calls.len(),
            listed.join("; ")
        ),
    };
    // A recipe of close calls would check no routing.
    match decided > 9 * calls.len() {
        true => Check::pass(name, Level::Logits, detail),
        false => failed(name, detail),
    }
}

/// Routing and logits across formats and chunkings.
pub fn format_cases() -> Vec<Check> {
    let of = |(recipe, layout, chunks): (&'static str, Layout, &'static [usize])| {
        let model = Shared::new(recipe, layout);
        let stages = [Stage::Experts, Stage::Logits];
        chunks.iter().map(move |&chunk| {
            let model = model.clone();
            case(format!("logits/formats/{recipe}/{}/chunk-{chunk}", short(layout)), move |name, compute| {
                let truth = Truth::shared(recipe);
                let seen = model.on(compute).and_then(|m| show(&m, &truth.tokens, &truth.vocab, chunk, &stages));
                judged(name, &truth, seen)
            })
        })
    };
    run(FORMATS.into_iter().flat_map(of).collect())
}

pub(super) fn short(layout: Layout) -> &'static str {
    match layout {
        Layout::Original => "original",
        Layout::Hf => "hf",
        Layout::ModelBin => "model-bin",
        Layout::Gguf => "gguf",
    }
}

/// Every stage by every family of kernels, in tiles and in the decode form, and under WebGPU's default limits.
pub fn family_cases() -> Vec<Check> {
    let on = |family: Option<Family>| {
        move |compute: &Compute| Ok(family.map_or(compute.clone(), |f| compute.with_family(f)))
    };
    let mut cases = Vec::new();
    cases.extend(setting("lane", on(Some(Family::lane(1)))));
    cases.extend(setting("lane-sharing", |compute: &Compute| Ok(compute.with_family(compute.report().lane_family()))));
    cases.extend(setting("workgroup", on(Some(Family::Workgroup))));
    cases.extend(setting("webgpu-default-limits", |_: &Compute| limited()));
    let mut checks = run(cases);
    checks.extend(plane_cases());
    checks
}

/// Planes of the adapter's size; an adapter without them skips the cases and says why.
fn plane_cases() -> Vec<Check> {
    let sizes = device().map(|compute| compute.report().subgroup_sizes);
    match sizes {
        Ok((small, large)) if small != large || small < 2 => {
            let reason = format!("the adapter's subgroups have from {small} to {large} units; planes need one size");
            vec![Check::new("logits/families/plane", Level::Logits, Outcome::Skip, reason)]
        }
        sizes => {
            let size = sizes.map_or(0, |(size, _)| size);
            run(setting("plane", move |compute| Ok(compute.with_family(Family::Plane { size }))))
        }
    }
}

/// All stages of T3 as model.bin on the device that `choose` makes of the process's.
fn setting(name: &str, choose: impl Fn(&Compute) -> Result<Compute, String> + Clone + 'static) -> Vec<Case<'static>> {
    let model = Shared::new(RECIPE, Layout::ModelBin);
    let of = |chunk: usize| {
        let (model, choose) = (model.clone(), choose.clone());
        case(format!("logits/families/{name}/chunk-{chunk}"), move |name, compute| {
            let truth = Truth::shared(RECIPE);
            let model = choose(compute).and_then(|compute| model.on(&compute));
            judged(name, &truth, model.and_then(|m| show(&m, &truth.tokens, &truth.vocab, chunk, &all_stages())))
        })
    };
    [3, CHUNK].into_iter().map(of).collect()
}

/// The process's device, held to WebGPU's default limits.
fn limited() -> Result<Compute, String> {
    let request = DeviceRequest { default_limits: true, ..device_request().clone() };
    block_on(Compute::open(&request)).map_err(|e| e.to_string())
}
