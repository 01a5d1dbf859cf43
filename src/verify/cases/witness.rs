//! Other people's forward passes as judges: OpenAI's PyTorch model and transformers, run in f64 (`goldens/logits`).

use super::device::{Whole, case, run, whole};
use super::with_golden;
use crate::checkpoint::{Layout, WeightSource};
use crate::models::gpt_oss::stage::Stage;
use crate::verify::bench::Truth;
use crate::verify::compare::calls::MARGIN_FACTOR;
use crate::verify::compare::digest::hex_sha256;
use crate::verify::compare::stages::{Finding, NOISE_FACTOR, finding};
use crate::verify::compare::verdict::verdict;
use crate::verify::fixture::{Recipe, in_memory, shard_bytes, shard_plans};
use crate::verify::golden::GoldenError;
use crate::verify::golden::tensors::Tensors;
use crate::verify::oracle::noise::{Tap, trace};
use crate::verify::oracle::{Oracle, Request, Rows, Vocab};
use crate::verify::outcome::{Check, Level, Outcome};

/// Largest |oracle − witness|, both in f64: sums in another order, over a few thousand terms.
const F64_ERROR_MAX: f64 = 1e-9;

/// Recipes with a PyTorch witness, and its golden.
const TORCH: [(&str, &str); 7] = [
    ("T1", "logits/T1.torch"),
    ("T2", "logits/T2.torch"),
    ("T3", "logits/T3.torch"),
    ("small-vocab", "logits/small-vocab.torch"),
    ("odd-experts", "logits/odd-experts.torch"),
    ("one-layer", "logits/one-layer.torch"),
    ("wide-heads", "logits/wide-heads.torch"),
];
/// The same of transformers.
const TRANSFORMERS: [(&str, &str); 2] = [("T1", "logits/T1.transformers"), ("T3", "logits/T3.transformers")];
/// transformers was run in f32: its own noise is the limit.
const F32_ERROR_MAX: f64 = 2e-4;

/// One witness: the prompt, and what was recorded of its pass.
struct Witness {
    tensors: Tensors,
    tokens: Vec<u32>,
    vocab: Vec<u32>,
    positions: Vec<usize>,
}

impl Witness {
    fn open(name: &str) -> Result<Self, GoldenError> {
        let tensors = Tensors::open(name)?;
        let ids = |tensor: &str| Ok(tensors.values(tensor)?.into_iter().map(|id| id as u32).collect::<Vec<u32>>());
        let (tokens, vocab, positions) = (ids("tokens")?, ids("vocab_ids")?, ids("positions")?);
        Ok(Self { tensors, tokens, vocab, positions: positions.into_iter().map(|p| p as usize).collect() })
    }

    /// Largest difference of what `found` gives for a recorded tensor.
    fn error(&self, tensor: &str, found: &[f64]) -> Result<f64, GoldenError> {
        let want = self.tensors.values(tensor)?;
        let worst = want.iter().zip(found).map(|(w, f)| (w - f).abs());
        let worst = worst.fold(0.0, |max: f64, e| if e.is_nan() { f64::INFINITY } else { max.max(e) });
        Ok(if want.len() == found.len() && !want.is_empty() { worst } else { f64::INFINITY })
    }
}

fn failed(name: String, reason: impl ToString) -> Check {
    Check::fail(name, Level::Logits, reason.to_string())
}

/// The oracle in f64 against each witness: routing exact, everything else to the last digits of f64.
pub(super) fn oracle_cases() -> Vec<Check> {
    let judge = |recipe: &str, program: &str, golden: &str, limit: f64| {
        let name = format!("logits/witness/{recipe}/{program}");
        judge_oracle(recipe, golden, limit).map_or_else(
            |e| missing(&name, e),
            |verdict| {
                verdict.map_or_else(|e| failed(name.clone(), e), |detail| Check::pass(&name, Level::Logits, detail))
            },
        )
    };
    let torch = TORCH.map(|(recipe, golden)| judge(recipe, "torch", golden, F64_ERROR_MAX));
    let transformers = TRANSFORMERS.map(|(recipe, golden)| judge(recipe, "transformers", golden, F32_ERROR_MAX));
    TORCH.into_iter().flat_map(|(recipe, _)| input_check(recipe)).chain(torch).chain(transformers).collect()
}

/// The witnesses read the checkpoint that our recipe gives.
fn input_check(recipe: &str) -> Vec<Check> {
    let name = format!("logits/witness/{recipe}/input");
    with_golden("logits/forward", &name, Level::Logits, |golden| {
        let want = golden["fixtures"][recipe]["model_safetensors_sha256"].as_str().unwrap_or("nothing").to_string();
        let recipe = Recipe::built_in(recipe);
        let plans = shard_plans(&recipe.config(), Layout::Original, 1);
        vec![Check::equal(name.clone(), Level::Logits, want, hex_sha256(&shard_bytes(&recipe, &plans[0])))]
    })
}

fn missing(name: &str, error: GoldenError) -> Check {
    match error {
        GoldenError::Missing(_) => Check::new(name, Level::Logits, Outcome::MissingGolden, error.to_string()),
        error => failed(name.into(), error),
    }
}

fn judge_oracle(recipe: &str, golden: &str, limit: f64) -> Result<Result<String, String>, GoldenError> {
    let witness = Witness::open(golden)?;
    let Ok(source) = in_memory(&Recipe::built_in(recipe), Layout::Original, 1) else {
        return Ok(Err("the recipe is not valid".into()));
    };
    let ask = Request { vocab: Vocab::These(&witness.vocab), ..Request::default() };
    let taps = trace::<f64>(&Oracle::new(&source), &witness.tokens, &ask);
    let of = |stage: Stage| taps.iter().filter(move |tap: &&Tap<f64>| tap.stage == stage);
    let all = |stage| of(stage).flat_map(|tap| tap.rows.values.clone()).collect::<Vec<f64>>();
    let some = |stage| of(stage).flat_map(|tap| tap.rows.select(&witness.positions).values).collect::<Vec<f64>>();
    let routing = witness.error("expert_ids", &all(Stage::Experts))?;
    if routing != 0.0 {
        return Ok(Err("other experts were chosen".into()));
    }
    let errors = [
        ("expert weights", witness.error("expert_weights", &all(Stage::ExpertWeights))?),
        ("attention residual", witness.error("attention_residual", &some(Stage::AttentionResidual))?),
        ("block output", witness.error("block_output", &some(Stage::BlockOutput))?),
        ("logits", witness.error("logits", &all(Stage::Logits))?),
    ];
    let detail = errors.map(|(what, error)| format!("{what} {error:.1e}")).join(", ");
    Ok(if errors.iter().all(|(_, error)| *error <= limit) {
        Ok(detail)
    } else {
        Err(format!("{detail}; limit {limit:.0e}"))
    })
}

/// The device against each PyTorch witness: routing and greedy ids exact but for close calls, every recorded stage within 3 × the
/// noise PyTorch itself has in f32.
pub(super) fn device_cases() -> Vec<Check> {
    let of = |(recipe, golden): (&'static str, &'static str)| {
        case(format!("logits/device-witness/{recipe}"), move |name, compute| {
            let truth = Truth::shared(recipe);
            match whole(recipe, compute) {
                Ok(whole) => judge_device(&name, golden, &truth, &whole).unwrap_or_else(|e| missing(&name, e)),
                Err(reason) => failed(name, reason),
            }
        })
    };
    run(TORCH.into_iter().map(of).collect())
}

/// Stages of a device that a witness recorded: at all positions, or at some.
const RECORDED: [(Stage, &str, bool); 5] = [
    (Stage::AttentionResidual, "attention_residual", false),
    (Stage::Experts, "expert_ids", true),
    (Stage::ExpertWeights, "expert_weights", true),
    (Stage::BlockOutput, "block_output", false),
    (Stage::Logits, "logits", true),
];

fn judge_device(name: &str, golden: &str, truth: &Truth, whole: &Whole) -> Result<Check, GoldenError> {
    let witness = Witness::open(golden)?;
    if (&witness.tokens, &witness.vocab) != (&truth.tokens, &truth.vocab) {
        return Ok(failed(name.into(), "the witness saw another prompt"));
    }
    let mut findings = Vec::new();
    for layer in 0..truth.source.config().layers {
        for (stage, tensor, everywhere) in RECORDED.into_iter().filter(|(stage, ..)| stage.is_of_a_layer()) {
            findings.push(witness.finding((stage, Some(layer)), tensor, everywhere, whole)?);
        }
    }
    let logits = witness.finding((Stage::Logits, None), "logits", true, whole)?;
    let margin = MARGIN_FACTOR * logits.budget;
    findings.push(logits);
    let other_experts = findings.iter().any(|f| f.stage == Stage::Experts && !f.holds());
    if other_experts && truth.judge(&whole.seen).iter().all(Finding::holds) {
        let reason = "a close call of the router fell the other way here; `logits/stages` judges that choice";
        return Ok(Check::new(name, Level::Logits, Outcome::Skip, reason));
    }
    let check = verdict(name, Level::Logits, &findings, truth.tokens.len());
    Ok(match witness.greedy(&whole.top, margin)? {
        Ok(greedy) => Check { detail: format!("{}; {greedy}", check.detail), ..check },
        Err(wrong) => failed(name.into(), format!("{wrong}\n{}", check.detail)),
    })
}

impl Witness {
    /// What the device showed of a place, against what was recorded there.
    fn finding(
        &self,
        (stage, layer): (Stage, Option<usize>),
        tensor: &str,
        everywhere: bool,
        whole: &Whole,
    ) -> Result<Finding, GoldenError> {
        let parts = whole.seen.iter().filter(|s| (s.stage, s.layer) == (stage, layer));
        let values: Vec<f32> = parts.flat_map(|s| s.values.iter().copied()).collect();
        let mut found = Rows { width: (values.len() / self.tokens.len()).max(1), values };
        if !everywhere {
            found = found.select(&self.positions);
        }
        let rows = Rows { width: found.width, values: self.of_layer(tensor, layer, found.values.len())? };
        let budget = match stage {
            Stage::Experts => 0.0,
            _ => {
                let noise = self.of_layer(&format!("f32_noise.{tensor}"), layer, self.tokens.len())?;
                NOISE_FACTOR * noise.into_iter().fold(0.0, f64::max)
            }
        };
        Ok(finding(&Tap { stage, layer, rows }, budget, &found.values))
    }

    /// `count` values of a tensor: those of a layer, or all.
    fn of_layer(&self, tensor: &str, layer: Option<usize>, count: usize) -> Result<Vec<f64>, GoldenError> {
        let values = self.tensors.values(tensor)?;
        Ok(values.into_iter().skip(layer.unwrap_or(0) * count).take(count).collect())
    }

    /// Whether the device's best ids are the recorded ones, where no other is within `margin` of them.
    fn greedy(&self, found: &[usize], margin: f64) -> Result<Result<String, String>, GoldenError> {
        let (ids, values) = (self.tensors.values("top_ids")?, self.tensors.values("top_values")?);
        let width = ids.len() / self.tokens.len();
        let rows = || ids.chunks_exact(width).zip(values.chunks_exact(width));
        let is_right = |((ids, values), &found): ((&[f64], &[f64]), &usize)| {
            ids.iter().zip(values).any(|(&id, value)| id == found as f64 && values[0] - value <= margin)
        };
        let right = |row| if let (recorded, Some(found)) = row { is_right((recorded, found)) } else { false };
        if let Some(position) = rows().enumerate().map(|(p, row)| (row, found.get(p))).position(|row| !right(row)) {
            let found = found.get(position);
            return Ok(Err(format!("position {position}: expected id {}, found {found:?}", ids[position * width])));
        }
        let close: Vec<usize> =
            rows().enumerate().filter(|(_, (_, v))| v[0] - v[1] <= margin).map(|(position, _)| position).collect();
        let exact = self.tokens.len() - close.len();
        Ok(Ok(match close.is_empty() {
            true => format!("all {exact} greedy ids exact"),
            false => format!("{exact} greedy ids exact, close calls at {close:?}"),
        }))
    }
}
