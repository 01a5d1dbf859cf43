//! What device checks are judged with: one device for the process, the truth of a recipe, and what the device shows of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cubecl::future::block_on;
use strum::IntoEnumIterator;

use super::compare::calls::{chosen_of, is_right, margin};
use super::compare::rounded::{cache_of, miss};
use super::compare::stages::{Error, Finding, compare_by, distance};
use super::fixture::{Recipe, in_memory};
use super::golden::tensors::Tensors;
use super::oracle::noise::{Noise, Tap, noise_floor, trace};
use super::oracle::{Oracle, Request, Semantics, Vocab};
use crate::checkpoint::{Checkpoint, Layout, WeightSource};
use crate::device::{Compute, DeviceRequest};
use crate::generate::session::{Session, SessionOptions, Want};
use crate::kernels::codec::KvType;
use crate::models::gpt_oss::GptOss;
use crate::models::gpt_oss::load::LoadOptions;
use crate::models::gpt_oss::probe::{Probe, Seen};
use crate::models::gpt_oss::stage::Stage;
use crate::nn::rope::RopeVariant;
use crate::open::AnyCheckpoint;
use crate::telemetry::{Progress, Silent};

/// Positions of a recipe's prompt: past the window, so that its edge is inside.
pub const POSITIONS: usize = 200;
/// Tokens of a chunk where nothing else is said: three whole ones and a rest.
pub const CHUNK: usize = 64;
/// Vocabulary ids whose logits are compared at all positions, where no witness names them.
const VOCAB_SAMPLE: usize = 64;
/// Longest sequence of a check.
const CONTEXT: usize = 512;

static REQUEST: OnceLock<DeviceRequest> = OnceLock::new();
static DEVICE: OnceLock<Result<Compute, String>> = OnceLock::new();

/// Says which device the checks of this process run on; without effect once one has been opened.
pub fn choose_device(request: DeviceRequest) {
    let _ = REQUEST.set(request);
}

/// Which device the checks of this process run on.
pub fn device_request() -> &'static DeviceRequest {
    REQUEST.get_or_init(DeviceRequest::default)
}

/// The device of this process, or why there is none.
pub fn device() -> Result<&'static Compute, &'static str> {
    let open = || block_on(Compute::open(device_request())).map_err(|e| e.to_string());
    DEVICE.get_or_init(open).as_ref().map_err(String::as_str)
}

/// The prompt of the witnesses: token i is `(7919 i + 13) mod 199 998`, for small vocabularies mod their size.
pub fn prompt(count: usize, vocab: usize) -> Vec<u32> {
    let modulus = vocab.min(199_998) as u64;
    (0..count as u64).map(|i| ((7919 * i + 13) % modulus) as u32).collect()
}

/// Every stage.
pub fn all_stages() -> Vec<Stage> {
    Stage::iter().collect()
}

/// A recipe's prompt as the oracle runs it, and what f32 alone does to it.
pub struct Truth {
    /// The recipe's name.
    pub recipe: String,
    /// Its checkpoint, in memory, original layout.
    pub source: Checkpoint,
    /// The decisions by which it is run.
    pub semantics: Semantics,
    /// The prompt.
    pub tokens: Vec<u32>,
    /// The vocabulary ids compared.
    pub vocab: Vec<u32>,
    /// Every stage in f64.
    pub taps: Vec<Tap<f64>>,
    /// What f32 does to each.
    pub noise: Vec<Noise>,
}

impl Truth {
    /// Runs the oracle on the prompt of `recipe`.
    ///
    /// # Panics
    /// If the recipe is not valid.
    pub fn of(recipe: &Recipe) -> Truth {
        Truth::by(recipe, Semantics::gpt_oss(&recipe.config()))
    }

    /// The same by other decisions.
    ///
    /// # Panics
    /// If the recipe is not valid.
    pub fn by(recipe: &Recipe, semantics: Semantics) -> Truth {
        let source = in_memory(recipe, Layout::Original, 1).expect("the recipe is valid");
        let rows = source.vocab_rows();
        let tokens = prompt(POSITIONS, rows);
        let vocab = witnessed_ids(&recipe.name)
            .unwrap_or_else(|| (0..VOCAB_SAMPLE).map(|i| (i * (rows - 1) / (VOCAB_SAMPLE - 1)) as u32).collect());
        let ask = Request { vocab: Vocab::These(&vocab), ..Request::default() };
        let (taps, noise) = expected_by(&Oracle::with(&source, semantics.clone()), &tokens, &ask);
        Truth { recipe: recipe.name.clone(), source, semantics, tokens, vocab, taps, noise }
    }

    /// The truth of a built-in recipe, made once a process.
    pub fn shared(name: &str) -> Arc<Truth> {
        static MADE: Mutex<BTreeMap<String, Arc<Truth>>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(name.into()).or_insert_with(|| Arc::new(Truth::of(&Recipe::built_in(name)))).clone()
    }

    /// The stages of `seen` against the truth, in the order of the pass.
    pub fn judge(&self, seen: &[Seen]) -> Vec<Finding> {
        judge_by(&self.oracle(), &self.tokens, &self.ask(), (&self.taps, &self.noise), seen)
    }

    /// As [`Truth::judge`], for a device that keeps keys and values as f16.
    ///
    /// The truth is that of the cache which the device shows, and each value in it must be what a value within budget of the
    /// truth's is rounded to.  So rounding leaves no noise behind, and every budget is that of f32.
    pub fn judge_f16(&self, seen: &[Seen]) -> Result<Vec<Finding>, String> {
        let c = self.source.config();
        let cache =
            cache_of(seen, c.layers, self.tokens.len(), c.kv_rows()).ok_or("the cache is not whole and finite")?;
        let ask = Request { cache: Some(&cache), ..self.ask() };
        let oracle = self.oracle();
        let (taps, noise) = expected_by(&oracle, &self.tokens, &ask);
        // The plain pass is another throw of the same dice: one alone was lucky at an outlier of the last layer.
        let noise: Vec<Noise> = noise.into_iter().zip(&self.noise).map(|(own, plain)| own.or(*plain)).collect();
        Ok(judge_by(&oracle, &self.tokens, &ask, (&taps, &noise), seen))
    }

    /// The oracle it is by.
    pub fn oracle(&self) -> Oracle<'_> {
        Oracle::with(&self.source, self.semantics.clone())
    }

    /// What was asked of the oracle.
    pub fn ask(&self) -> Request<'_> {
        Request { vocab: Vocab::These(&self.vocab), ..Request::default() }
    }

    /// What f32 does to a stage.
    ///
    /// # Panics
    /// If the pass has no such stage.
    pub fn noise_at(&self, stage: Stage, layer: Option<usize>) -> &Noise {
        self.noise.iter().find(|n| (n.stage, n.layer) == (stage, layer)).expect("a stage of the pass")
    }
}

/// The vocabulary ids that a recipe's witness was asked for.
fn witnessed_ids(recipe: &str) -> Option<Vec<u32>> {
    let ids = Tensors::open(&format!("logits/{recipe}.torch")).ok()?.values("vocab_ids").ok()?;
    Some(ids.into_iter().map(|id| id as u32).collect())
}

/// Every stage of a prompt in f64, and what f32 does to each.
pub fn expected(source: &dyn WeightSource, tokens: &[u32], ask: &Request) -> (Vec<Tap<f64>>, Vec<Noise>) {
    expected_by(&Oracle::new(source), tokens, ask)
}

/// As [`expected`], by the oracle's own decisions.
fn expected_by(oracle: &Oracle, tokens: &[u32], ask: &Request) -> (Vec<Tap<f64>>, Vec<Noise>) {
    let taps = trace::<f64>(oracle, tokens, ask);
    let noise = noise_floor(oracle, tokens, ask, &taps);
    (taps, noise)
}

/// The stages of `seen` against a truth as [`expected`] gives it, in the order of the pass.
///
/// Where the device chose other experts, but in close calls only, the truth is that of its choice.  Where a cache was asked
/// for, its keys and values are those that the device rounded to f16.
pub fn judge(
    source: &dyn WeightSource,
    tokens: &[u32],
    ask: &Request,
    truth: (&[Tap<f64>], &[Noise]),
    seen: &[Seen],
) -> Vec<Finding> {
    judge_by(&Oracle::new(source), tokens, ask, truth, seen)
}

/// As [`judge`], by the oracle's own decisions.
fn judge_by(
    oracle: &Oracle,
    tokens: &[u32],
    ask: &Request,
    (taps, noise): (&[Tap<f64>], &[Noise]),
    seen: &[Seen],
) -> Vec<Finding> {
    let findings = shown(taps, noise, ask, seen);
    if findings.iter().all(|f| f.stage != Stage::Experts || f.holds()) {
        return findings;
    }
    match forced(oracle, tokens, ask, seen) {
        Some((taps, noise)) => shown(&taps, &noise, ask, seen),
        None => findings,
    }
}

/// Compares the stages that were shown.
fn shown(taps: &[Tap<f64>], noise: &[Noise], ask: &Request, seen: &[Seen]) -> Vec<Finding> {
    let error_at = |stage| match stage {
        Stage::Key | Stage::Value if ask.cache.is_some() => miss as Error,
        _ => distance,
    };
    let is_shown = |tap: &Tap<f64>| seen.iter().any(|s| (s.stage, s.layer) == (tap.stage, tap.layer));
    let one = |(tap, noise): (&Tap<f64>, &Noise)| compare_by(error_at, std::slice::from_ref(tap), &[*noise], seen);
    taps.iter().zip(noise).filter(|(tap, _)| is_shown(tap)).flat_map(one).collect()
}

/// The truth with the device's experts, if each choice is right or a close call.
fn forced(oracle: &Oracle, tokens: &[u32], ask: &Request, seen: &[Seen]) -> Option<(Vec<Tap<f64>>, Vec<Noise>)> {
    let config = oracle.config();
    let routing = (0..config.layers).map(|layer| chosen_of(seen, layer, config)).collect::<Option<Vec<_>>>()?;
    if routing.iter().any(|chosen| chosen.len() != tokens.len()) {
        return None;
    }
    let (taps, noise) = expected_by(oracle, tokens, &Request { routing: Some(&routing), ..*ask });
    let routers = taps.iter().zip(&noise).filter(|(tap, _)| tap.stage == Stage::RouterLogits);
    let fair = routers.zip(&routing).all(|((tap, noise), chosen)| is_right(tap, chosen, margin(noise)));
    fair.then_some((taps, noise))
}

/// Puts a checkpoint on a device.
pub fn load(
    checkpoint: impl Into<Arc<AnyCheckpoint>>,
    compute: &Compute,
    budget: Option<u64>,
) -> Result<Arc<GptOss>, String> {
    load_with(checkpoint.into(), compute, budget, &Silent)
}

/// As [`load`], with keys and values kept as `kv`.
pub fn load_kept(
    checkpoint: impl Into<Arc<AnyCheckpoint>>,
    compute: &Compute,
    kv: KvType,
) -> Result<Arc<GptOss>, String> {
    load_by(checkpoint, compute, &LoadOptions { kv, ..load_options(None) })
}

/// As [`load`], rotary embedding as `rope` has it.
pub fn load_turned(
    checkpoint: impl Into<Arc<AnyCheckpoint>>,
    compute: &Compute,
    rope: RopeVariant,
) -> Result<Arc<GptOss>, String> {
    load_by(checkpoint, compute, &LoadOptions { rope, ..load_options(None) })
}

fn load_by(
    checkpoint: impl Into<Arc<AnyCheckpoint>>,
    compute: &Compute,
    options: &LoadOptions,
) -> Result<Arc<GptOss>, String> {
    GptOss::load(checkpoint.into(), compute, options, &Silent).map(Arc::new).map_err(|e| e.to_string())
}

/// As [`load`], for someone who waits.
pub fn load_with(
    checkpoint: Arc<AnyCheckpoint>,
    compute: &Compute,
    budget: Option<u64>,
    progress: &dyn Progress,
) -> Result<Arc<GptOss>, String> {
    GptOss::load(checkpoint, compute, &load_options(budget), progress).map(Arc::new).map_err(|e| e.to_string())
}

fn load_options(device_memory: Option<u64>) -> LoadOptions {
    let (kv, rope) = (KvType::F32, RopeVariant::Reference);
    LoadOptions { device_memory, context: CONTEXT, lanes: 1, chunk: 256, kv, rope }
}

/// An empty session.
pub fn session(model: &Arc<GptOss>, chunk: usize) -> Result<Session, String> {
    Session::new(model.clone(), SessionOptions { chunk, context: CONTEXT }).map_err(|e| e.to_string())
}

/// Runs `tokens` in chunks and shows `stages` at every position; logits at the ids of `vocab` only.
pub fn show(
    model: &Arc<GptOss>,
    tokens: &[u32],
    vocab: &[u32],
    chunk: usize,
    stages: &[Stage],
) -> Result<Vec<Seen>, String> {
    show_rows(model, tokens, vocab, chunk, stages, &mut |_, _| {})
}

/// As [`show`]; `sink` also sees the logits of the whole vocabulary at every position.
pub fn show_rows(
    model: &Arc<GptOss>,
    tokens: &[u32],
    vocab: &[u32],
    chunk: usize,
    stages: &[Stage],
    sink: &mut dyn FnMut(usize, &[f32]),
) -> Result<Vec<Seen>, String> {
    let mut session = session(model, chunk)?;
    let mut probe = Probe::of(stages.iter().copied().filter(|stage| *stage != Stage::Logits));
    let mut logits = Vec::with_capacity(tokens.len() * vocab.len());
    let mut keep = |position: usize, row: &[f32]| {
        logits.extend(vocab.iter().map(|&id| row[id as usize]));
        sink(position, row);
    };
    let want = if stages.contains(&Stage::Logits) { Want::All } else { Want::Nothing };
    block_on(session.run(tokens, want, Some(&mut probe), &mut keep)).map_err(|e| e.to_string())?;
    let mut seen = block_on(probe.read(model.compute(), model.config())).map_err(|e| e.to_string())?;
    if want == Want::All {
        seen.push(Seen { stage: Stage::Logits, layer: None, values: logits });
    }
    Ok(seen)
}

/// Device bytes that [`load`] needs besides experts under a budget, and those of one expert.
pub fn footprint(checkpoint: &AnyCheckpoint) -> (u64, u64) {
    crate::models::gpt_oss::footprint::footprint(checkpoint.source(), &load_options(Some(0)))
}
