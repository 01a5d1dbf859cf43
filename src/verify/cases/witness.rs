//! Other people's forward passes as judges: OpenAI's PyTorch model and transformers, run in f64 (`goldens/logits`).

use super::with_golden;
use crate::checkpoint::Layout;
use crate::models::gpt_oss::stage::Stage;
use crate::open::AnyCheckpoint;
use crate::verify::bench::{device, load, show};
use crate::verify::compare::digest::hex_sha256;
use crate::verify::compare::stages::NOISE_FACTOR;
use crate::verify::fixture::{Recipe, in_memory, shard_bytes, shard_plans};
use crate::verify::golden::GoldenError;
use crate::verify::golden::tensors::Tensors;
use crate::verify::oracle::noise::{Tap, trace};
use crate::verify::oracle::{Oracle, Request, Vocab};
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

/// The device against each PyTorch witness: routing exact, logits within 3 × the noise PyTorch itself has in f32.
pub(super) fn device_cases() -> Vec<Check> {
    let judge = |(recipe, golden): (&str, &str)| {
        let name = format!("logits/device-witness/{recipe}");
        match device() {
            Err(reason) => Check::new(name, Level::Logits, Outcome::NoDevice, reason),
            Ok(compute) => match judge_device(recipe, golden, compute) {
                Ok(detail) => Check::pass(name, Level::Logits, detail),
                Err(detail) => failed(name, detail),
            },
        }
    };
    TORCH.into_iter().map(judge).collect()
}

fn judge_device(recipe: &str, golden: &str, compute: &crate::device::Compute) -> Result<String, String> {
    let witness = Witness::open(golden).map_err(|e| e.to_string())?;
    let source = in_memory(&Recipe::built_in(recipe), Layout::Original, 1).map_err(|e| e.to_string())?;
    let model = load(AnyCheckpoint::SafeTensors(source), compute, None)?;
    let seen = show(&model, &witness.tokens, &witness.vocab, 64, &[Stage::Experts, Stage::Logits])?;
    let layers = model.config().layers;
    let all = |stage, layer: Option<usize>| -> Vec<f64> {
        let parts = seen.iter().filter(|s| s.stage == stage && s.layer == layer);
        parts.flat_map(|s| s.values.iter().map(|&x| f64::from(x))).collect()
    };
    let ids: Vec<f64> = (0..layers).flat_map(|layer| all(Stage::Experts, Some(layer))).collect();
    let text = |e: GoldenError| e.to_string();
    if witness.error("expert_ids", &ids).map_err(text)? != 0.0 {
        return Err("other experts were chosen".into());
    }
    let noise = witness.tensors.values("f32_noise.logits").map_err(text)?.into_iter().fold(0.0, f64::max);
    let error = witness.error("logits", &all(Stage::Logits, None)).map_err(text)?;
    let detail = format!("logits {error:.1e}, PyTorch's own f32 noise {noise:.1e}; routing exact");
    if error <= NOISE_FACTOR * noise { Ok(detail) } else { Err(detail) }
}
