//! Wrong forward passes: decisions of the oracle changed one at a time, judged against an honest device.
//!
//! The device computes the right thing; the oracle is asked for the wrong one.  What the harness sees is the same as if a
//! device were wrong: the first stage over budget must be the one the fault strikes, by at least [`EXCESS_MIN`] budgets.
//!
//! Turned round, a fault is a hypothesis: where a device differs, the wrong pass that it agrees with is the likely cause
//! ([`looks_like`]).

use rayon::prelude::*;

use super::run::Catalogued;
use crate::checkpoint::WeightSource;
use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::verify::bench::{self, Truth};
use crate::verify::compare::rounded::beyond_a_step;
use crate::verify::compare::stages::{Error, Finding, compare, distance, finding, finding_by, first_divergence};
use crate::verify::fixture::Recipe;
use crate::verify::oracle::noise::{Noise, Tap, trace};
use crate::verify::oracle::semantics::*;
use crate::verify::oracle::{Oracle, Request, Semantics, Vocab};
use crate::verify::outcome::{Check, Level};

/// How many budgets a fault must be off at the stage it strikes.
pub const EXCESS_MIN: f64 = 10.0;

/// The recipe that is judged: eight experts of which four are chosen, two windowed and two full layers.
const RECIPE: &str = "T3";

/// Weights above it are not run again for a diagnosis: each hypothesis is a whole pass.
const DIAGNOSED_BYTES_MAX: usize = 1 << 30;

/// A wrong decision, and where it shows first.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong, as a diagnosis says it.
    pub about: &'static str,
    /// The first stage that differs.
    pub stage: Stage,
    /// Its layer, for a stage that has one.
    pub layer: Option<usize>,
    /// Makes the decision wrong.
    pub change: fn(&mut Semantics),
}

impl Fault {
    /// The wrong decisions.
    fn semantics(&self, source: &dyn WeightSource) -> Semantics {
        let mut semantics = Semantics::gpt_oss(source.config());
        (self.change)(&mut semantics);
        semantics
    }
}

const fn fault(
    name: &'static str,
    stage: Stage,
    layer: Option<usize>,
    about: &'static str,
    change: fn(&mut Semantics),
) -> Fault {
    Fault { name, about, stage, layer, change }
}

const OPEN: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

/// Every wrong forward pass, in the order of the pass.
///
/// Left out, because this model shows them by fewer than [`EXCESS_MIN`] budgets: ε = 1e-6 in the norm before the experts
/// (8 budgets), a lower limit on the gate (4), ties to the highest id (no tie occurs).
#[rustfmt::skip] // one row a fault
pub const FAULTS: &[Fault] = &[
    fault("forward/embedding-next-row", Stage::Embedding, None, "embedding: next row", |s| s.embedding.row_shift = 1),
    fault("forward/embedding-times-root-hidden", Stage::Embedding, None, "embedding: times √hidden", |s| s.embedding.factor = 8.0),
    fault("forward/attention-norm-epsilon-1e-6", Stage::AttentionNorm, Some(0), "attention norm: epsilon 1e-6", |s| s.attention_norm.epsilon = 1e-6),
    fault("forward/attention-norm-epsilon-0", Stage::AttentionNorm, Some(0), "attention norm: epsilon 0", |s| s.attention_norm.epsilon = 0.0),
    fault("forward/attention-norm-sum-for-mean", Stage::AttentionNorm, Some(0), "attention norm: sum for mean", |s| s.attention_norm.kind = NormKind::RootSumSquare),
    fault("forward/attention-norm-mean-subtracted", Stage::AttentionNorm, Some(0), "attention norm: mean subtracted", |s| s.attention_norm.kind = NormKind::Centered),
    fault("forward/attention-norm-absent", Stage::AttentionNorm, Some(0), "attention norm: absent", |s| s.attention_norm.kind = NormKind::Absent),
    fault("forward/attention-norm-gain-first", Stage::AttentionNorm, Some(0), "attention norm: gain first", |s| s.attention_norm.gain = Gain::Before),
    fault("forward/attention-norm-one-plus-gain", Stage::AttentionNorm, Some(0), "attention norm: one plus gain", |s| s.attention_norm.gain = Gain::PlusOne),
    fault("forward/attention-norm-no-gain", Stage::AttentionNorm, Some(0), "attention norm: no gain", |s| s.attention_norm.gain = Gain::Absent),
    fault("forward/no-query-bias", Stage::Query, Some(0), "no query bias", |s| s.projection.query_bias = false),
    fault("forward/no-key-bias", Stage::Key, Some(0), "no key bias", |s| s.projection.key_bias = false),
    fault("forward/no-value-bias", Stage::Value, Some(0), "no value bias", |s| s.projection.value_bias = false),
    fault("forward/keys-and-values-swapped", Stage::Key, Some(0), "keys and values swapped", |s| s.projection.key_value_swapped = true),
    fault("forward/rope-interleaved-pairs", Stage::Query, Some(0), "rope: interleaved pairs", |s| s.rope.pairs = Pairs::Interleaved),
    fault("forward/rope-backward", Stage::Query, Some(0), "rope: backward", |s| s.rope.direction = Direction::Backward),
    fault("forward/rope-theta-10-000", Stage::Query, Some(0), "rope: theta 10 000", |s| s.rope.theta = 10_000.0),
    fault("forward/rope-size-of-a-head-doubled", Stage::Query, Some(0), "rope: size of a head 2 × 64", |s| s.rope.frequency_dim = 128),
    fault("forward/rope-no-yarn", Stage::Query, Some(0), "rope: no YaRN", |s| s.rope.scaling = Scaling::Absent),
    fault("forward/rope-linear-scaling", Stage::Query, Some(0), "rope: linear scaling", |s| s.rope.scaling = Scaling::Linear),
    fault("forward/rope-ramp-inverted", Stage::Query, Some(0), "rope: ramp inverted", |s| s.rope.scaling = Scaling::YarnInverted),
    fault("forward/rope-factor-8", Stage::Query, Some(0), "rope: factor 8", |s| s.rope.factor = 8.0),
    fault("forward/rope-first-context-131-072", Stage::Query, Some(0), "rope: first context 131 072", |s| s.rope.initial_context_length = 131_072.0),
    fault("forward/rope-beta-fast-16", Stage::Query, Some(0), "rope: beta_fast 16", |s| s.rope.beta_fast = 16.0),
    fault("forward/rope-range-rounded", Stage::Query, Some(0), "rope: range rounded", |s| s.rope.range = CorrectionRange::Rounded),
    fault("forward/rope-no-concentration", Stage::Query, Some(0), "rope: no concentration", |s| (s.rope.query_concentration, s.rope.key_concentration) = (1.0, 1.0)),
    fault("forward/rope-concentration-on-queries-only", Stage::Key, Some(0), "rope: concentration on queries only", |s| s.rope.key_concentration = 1.0),
    fault("forward/rope-concentration-on-keys-only", Stage::Query, Some(0), "rope: concentration on keys only", |s| s.rope.query_concentration = 1.0),
    fault("forward/rope-concentration-twice", Stage::Query, Some(0), "rope: concentration twice", |s| {
        s.rope.query_concentration *= s.rope.query_concentration;
        s.rope.key_concentration *= s.rope.key_concentration;
    }),
    fault("forward/rope-queries-one-position-on", Stage::Query, Some(0), "rope: queries one position on", |s| s.rope.query_shift = 1.0),
    fault("forward/rope-keys-one-position-on", Stage::Key, Some(0), "rope: keys one position on", |s| s.rope.key_shift = 1.0),
    fault("forward/rope-positions-restart", Stage::Query, Some(0), "rope: positions restart", |s| s.rope.restarts_after = Some(64)),
    fault("forward/cache-rounded-to-f16", Stage::Key, Some(0), "keys and values were rounded to f16", |s| s.cache = Cache::F16),
    fault("forward/attention-no-scale", Stage::Attention, Some(0), "attention: no scale", |s| s.attention.scale = 1.0),
    fault("forward/attention-scale-over-d", Stage::Attention, Some(0), "attention: scale 1/d", |s| s.attention.scale = 1.0 / 64.0),
    fault("forward/attention-base-2", Stage::Attention, Some(0), "attention: base 2", |s| {
        s.attention.scale *= std::f64::consts::LN_2;
        s.attention.sink.factor = std::f64::consts::LN_2;
    }),
    fault("forward/attention-window-off", Stage::Attention, Some(0), "attention: window off", |s| s.attention.windowed = Layers::None),
    fault("forward/attention-window-127", Stage::Attention, Some(0), "attention: window 127", |s| s.attention.window = 127),
    fault("forward/attention-window-129", Stage::Attention, Some(0), "attention: window 129", |s| s.attention.window = 129),
    fault("forward/attention-window-on-odd-layers", Stage::Attention, Some(0), "attention: window on odd layers", |s| s.attention.windowed = Layers::Odd),
    fault("forward/attention-window-on-all-layers", Stage::Attention, Some(1), "attention: window on all layers", |s| s.attention.windowed = Layers::All),
    fault("forward/attention-sees-the-next-token", Stage::Attention, Some(0), "attention: sees the next token", |s| s.attention.lookahead = 1),
    fault("forward/attention-does-not-see-itself", Stage::Attention, Some(0), "attention: does not see itself", |s| s.attention.lookahead = -1),
    fault("forward/attention-forgets-earlier-chunks", Stage::Attention, Some(0), "attention: forgets earlier chunks", |s| s.attention.forgets_after = Some(64)),
    fault("forward/attention-head-modulo-kv-heads", Stage::Attention, Some(0), "attention: head modulo kv heads", |s| s.attention.kv_head = KvHead::Modulo),
    fault("forward/sinks-none", Stage::Attention, Some(0), "sinks: none", |s| s.attention.sink.count = 0),
    fault("forward/sinks-twice", Stage::Attention, Some(0), "sinks: twice", |s| s.attention.sink.count = 2),
    fault("forward/sinks-scaled-by-over-root-d", Stage::Attention, Some(0), "sinks: scaled by 1/√d", |s| s.attention.sink.factor = 0.125),
    fault("forward/sinks-negated", Stage::Attention, Some(0), "sinks: negated", |s| s.attention.sink.factor = -1.0),
    fault("forward/sinks-of-the-next-head", Stage::Attention, Some(0), "sinks: of the next head", |s| s.attention.sink.of = SinkOf::NextHead),
    fault("forward/sinks-of-the-kv-head", Stage::Attention, Some(0), "sinks: of the kv head", |s| s.attention.sink.of = SinkOf::KvHead),
    fault("forward/sinks-weigh-the-first-value", Stage::Attention, Some(0), "sinks: weigh the first value", |s| s.attention.sink.weighs = SinkWeighs::FirstValue),
    fault("forward/sinks-windowed-layers-only", Stage::Attention, Some(1), "sinks: windowed layers only", |s| s.attention.sink.layers = Layers::Even),
    fault("forward/sinks-full-layers-only", Stage::Attention, Some(0), "sinks: full layers only", |s| s.attention.sink.layers = Layers::Odd),
    fault("forward/no-output-bias", Stage::AttentionResidual, Some(0), "no output bias", |s| s.attention.output_bias = false),
    fault("forward/attention-residual-dropped", Stage::AttentionResidual, Some(0), "attention residual dropped", |s| s.residual.attention = 0.0),
    fault("forward/attention-residual-doubled", Stage::AttentionResidual, Some(0), "attention residual doubled", |s| s.residual.attention = 2.0),
    fault("forward/mlp-norm-mean-subtracted", Stage::MlpNorm, Some(0), "mlp norm: mean subtracted", |s| s.mlp_norm.kind = NormKind::Centered),
    fault("forward/mlp-norm-no-gain", Stage::MlpNorm, Some(0), "mlp norm: no gain", |s| s.mlp_norm.gain = Gain::Absent),
    fault("forward/router-no-bias", Stage::RouterLogits, Some(0), "router: no bias", |s| s.router.bias = false),
    fault("forward/router-reads-the-residual", Stage::RouterLogits, Some(0), "router: reads the residual", |s| s.router.input = MlpInput::Residual),
    fault("forward/router-top-3", Stage::Experts, Some(0), "router: top 3", |s| s.router.experts_per_token = 3),
    fault("forward/router-softmax-before-top-k", Stage::ExpertWeights, Some(0), "router: softmax before top-k", |s| s.router.weights = RouterWeights::SoftmaxOfAll),
    fault("forward/router-sigmoid", Stage::ExpertWeights, Some(0), "router: sigmoid", |s| s.router.weights = RouterWeights::Sigmoid),
    fault("forward/router-uniform", Stage::ExpertWeights, Some(0), "router: uniform", |s| s.router.weights = RouterWeights::Uniform),
    fault("forward/router-weights-reversed", Stage::ExpertWeights, Some(0), "router: weights reversed", |s| s.router.weights_reversed = true),
    fault("forward/experts-read-the-residual", Stage::Swiglu, Some(0), "experts: read the residual", |s| s.experts.input = MlpInput::Residual),
    fault("forward/experts-the-next-one", Stage::Swiglu, Some(0), "experts: the next one", |s| s.experts.id_shift = 1),
    fault("forward/experts-no-b1", Stage::Swiglu, Some(0), "experts: no b1", |s| s.experts.mlp1_bias = false),
    fault("forward/experts-gate-and-up-swapped", Stage::Swiglu, Some(0), "experts: gate and up swapped", |s| s.experts.gate_up = GateUp::Swapped),
    fault("forward/experts-gate-and-up-in-halves", Stage::Swiglu, Some(0), "experts: gate and up in halves", |s| s.experts.gate_up = GateUp::Halves),
    fault("forward/experts-no-limits", Stage::Swiglu, Some(0), "experts: no limits", |s| (s.experts.gate_limits, s.experts.up_limits) = (OPEN, OPEN)),
    fault("forward/experts-gate-not-limited", Stage::Swiglu, Some(0), "experts: gate not limited", |s| s.experts.gate_limits = OPEN),
    fault("forward/experts-up-not-limited-from-below", Stage::Swiglu, Some(0), "experts: up not limited from below", |s| s.experts.up_limits.0 = f64::NEG_INFINITY),
    fault("forward/experts-up-not-limited-from-above", Stage::Swiglu, Some(0), "experts: up not limited from above", |s| s.experts.up_limits.1 = f64::INFINITY),
    fault("forward/experts-limit-6", Stage::Swiglu, Some(0), "experts: limit 6", |s| (s.experts.gate_limits.1, s.experts.up_limits) = (6.0, (-6.0, 6.0))),
    fault("forward/experts-limits-before-b1", Stage::Swiglu, Some(0), "experts: limits before b1", |s| s.experts.limits_before_bias = true),
    fault("forward/experts-alpha-1", Stage::Swiglu, Some(0), "experts: alpha 1", |s| s.experts.alpha = 1.0),
    fault("forward/experts-alpha-1-7", Stage::Swiglu, Some(0), "experts: alpha 1.7", |s| s.experts.alpha = 1.7),
    fault("forward/experts-up-without-plus-one", Stage::Swiglu, Some(0), "experts: up without + 1", |s| s.experts.up_offset = 0.0),
    fault("forward/experts-weight-on-the-input", Stage::Swiglu, Some(0), "experts: weight on the input", |s| s.experts.weighted = Weighted::Input),
    fault("forward/experts-no-b2", Stage::BlockOutput, Some(0), "experts: no b2", |s| s.experts.mlp2_bias = Mlp2Bias::Absent),
    fault("forward/experts-b2-not-weighted", Stage::BlockOutput, Some(0), "experts: b2 not weighted", |s| s.experts.mlp2_bias = Mlp2Bias::Unweighted),
    fault("forward/mlp-residual-dropped", Stage::BlockOutput, Some(0), "mlp residual dropped", |s| s.residual.mlp = 0.0),
    fault("forward/mlp-residual-doubled", Stage::BlockOutput, Some(0), "mlp residual doubled", |s| s.residual.mlp = 2.0),
    fault("forward/mxfp4-high-nibble-first", Stage::Swiglu, Some(0), "mxfp4: high nibble first", |s| s.mxfp4.nibbles = Nibbles::HighFirst),
    fault("forward/mxfp4-nibbles-in-halves", Stage::Swiglu, Some(0), "mxfp4: nibbles in halves", |s| s.mxfp4.nibbles = Nibbles::Halves),
    fault("forward/mxfp4-exponent-plus-one", Stage::Swiglu, Some(0), "mxfp4: exponent + 1", |s| s.mxfp4.exponent_shift = 1),
    fault("forward/mxfp4-exponent-minus-one", Stage::Swiglu, Some(0), "mxfp4: exponent - 1", |s| s.mxfp4.exponent_shift = -1),
    fault("forward/mxfp4-scale-of-the-next-block", Stage::Swiglu, Some(0), "mxfp4: scale of the next block", |s| s.mxfp4.scale_shift = 1),
    fault("forward/final-norm-absent", Stage::FinalNorm, None, "final norm: absent", |s| s.final_norm.kind = NormKind::Absent),
    fault("forward/final-norm-no-gain", Stage::FinalNorm, None, "final norm: no gain", |s| s.final_norm.gain = Gain::Absent),
    fault("forward/final-norm-one-plus-gain", Stage::FinalNorm, None, "final norm: one plus gain", |s| s.final_norm.gain = Gain::PlusOne),
    fault("forward/unembedding-the-embedding", Stage::Logits, None, "unembedding: the embedding", |s| s.unembedding.tied = true),
    fault("forward/unembedding-softcap-30", Stage::Logits, None, "unembedding: softcap 30", |s| s.unembedding.softcap = Some(30.0)),
];

/// The honest device's run and its truth, or why there is none.
struct Bench {
    truth: Truth,
    seen: Result<Vec<Seen>, String>,
}

/// Judges every fault on the device of this process.
pub fn planted() -> Vec<Catalogued> {
    let bench = Bench::new();
    FAULTS.par_iter().map(|fault| bench.plant(fault)).collect()
}

impl Bench {
    fn new() -> Bench {
        let recipe = Recipe::built_in(RECIPE);
        let truth = Truth::of(&recipe);
        let run = || -> Result<Vec<Seen>, String> {
            let source = crate::verify::fixture::in_memory(&recipe, crate::checkpoint::Layout::Original, 1);
            let checkpoint = crate::open::AnyCheckpoint::SafeTensors(source.map_err(|e| e.to_string())?);
            let model = bench::load(checkpoint, bench::device()?, None)?;
            use strum::IntoEnumIterator;
            let stages: Vec<Stage> = Stage::iter().collect();
            bench::show(&model, &truth.tokens, &truth.vocab, 64, &stages)
        };
        let seen = run();
        Bench { truth, seen }
    }

    fn plant(&self, fault: &'static Fault) -> Catalogued {
        let place = place(fault.stage, fault.layer);
        let named = vec![format!("logits/{RECIPE}/{place}")];
        let wrong = wrong_taps(&self.truth.source, &self.truth.tokens, &self.truth.vocab, fault);
        // By the oracle alone, so that the catalogue is the same on every adapter.
        let own = wrong
            .iter()
            .zip(&self.truth.taps)
            .zip(&self.truth.noise)
            .find(|((w, _), _)| (w.stage, w.layer) == (fault.stage, fault.layer));
        let exact = own.map_or_else(String::new, |((wrong, right), noise)| {
            let budget = crate::verify::compare::stages::budget(noise);
            let values: Vec<f32> = wrong.rows.values.iter().map(|&x| x as f32).collect();
            magnitude(finding(right, budget, &values).excess())
        });
        let (red, objection, no_device) = match &self.seen {
            Err(reason) => (Vec::new(), None, Some(reason.clone())),
            Ok(seen) => {
                let findings = compare(&wrong, &self.truth.noise, seen);
                let honest = self.truth.judge(seen);
                let (red, objection) = verdict(fault, &findings, &honest);
                (red, objection, None)
            }
        };
        Catalogued { name: fault.name, about: fault.about, named, red, objection, exact, no_device }
    }
}

/// The first stage over budget as a check, and what speaks against the fault having been caught.
fn verdict(fault: &Fault, wrong: &[Finding], honest: &[Finding]) -> (Vec<Check>, Option<String>) {
    if let Some(red) = first_divergence(honest) {
        return (Vec::new(), Some(format!("the honest run is red: {red}")));
    }
    let Some(first) = first_divergence(wrong) else { return (Vec::new(), None) };
    let name = format!("logits/{RECIPE}/{}", place(first.stage, first.layer));
    let objection = (first.excess() < EXCESS_MIN)
        .then(|| format!("{:.1} budgets at {}, at least {EXCESS_MIN} are wanted", first.excess(), fault.stage));
    (vec![Check::fail(name, Level::Logits, first.to_string())], objection)
}

fn place(stage: Stage, layer: Option<usize>) -> String {
    layer.map_or_else(|| stage.to_string(), |layer| format!("layer-{layer}/{stage}"))
}

/// `at least 10^k budgets`.
fn magnitude(excess: f64) -> String {
    match excess.is_finite() {
        true => format!("at least 10^{} × budget", excess.log10().floor()),
        false => "another shape or other ids".to_string(),
    }
}

fn wrong_taps(source: &dyn WeightSource, tokens: &[u32], vocab: &[u32], fault: &Fault) -> Vec<Tap<f64>> {
    let ask = Request { vocab: Vocab::These(vocab), ..Request::default() };
    trace(&Oracle::with(source, fault.semantics(source)), tokens, &ask)
}

/// What is rounded has noise: a pass that rounds may have rounded to the next f16.
fn error_of(semantics: &Semantics, stage: Stage) -> Error {
    let is_rounded = semantics.cache == Cache::F16 && matches!(stage, Stage::Key | Stage::Value);
    if is_rounded { beyond_a_step } else { distance }
}

/// The fault of the catalogue that explains what a device showed: with it, the stage `first` that diverges is within budget.
///
/// `noise` is that of the honest pass; `vocab` the ids whose logits were compared.  Large models are not run again.
pub fn looks_like(
    source: &dyn WeightSource,
    tokens: &[u32],
    vocab: &[u32],
    noise: &[Noise],
    seen: &[Seen],
    first: &Finding,
) -> Option<String> {
    let bytes: usize = crate::checkpoint::TensorId::each(source.config()).map(|t| t.bytes(source.config())).sum();
    if bytes > DIAGNOSED_BYTES_MAX {
        return None;
    }
    let explains = |fault: &&Fault| {
        let error = error_of(&fault.semantics(source), first.stage);
        let wrong = wrong_taps(source, tokens, vocab, fault);
        let shown: Vec<f32> = seen
            .iter()
            .filter(|s| (s.stage, s.layer) == (first.stage, first.layer))
            .flat_map(|s| s.values.iter().copied())
            .collect();
        let tap = wrong.iter().zip(noise).find(|(tap, _)| (tap.stage, tap.layer) == (first.stage, first.layer));
        tap.is_some_and(|(tap, _)| finding_by(error, tap, first.budget, &shown).holds())
    };
    let fitting: Vec<&Fault> = FAULTS.par_iter().filter(explains).collect();
    fitting.first().map(|fault| fault.about.to_string())
}
