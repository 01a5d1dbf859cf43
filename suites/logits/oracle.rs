//! The f64 oracle against OpenAI's PyTorch model and transformers, on every fixture they were run on.
//!
//! `<fixture>.torch` is that model in f64 throughout: what is left is f64 rounding, so that a stage may differ by
//! [`ROUNDINGS_MAX`] times what f32 rounding did to that model there, scaled from f32 to f64.  Ids are exact.

use gptoss::checkpoint::{Checkpoint, Layout};
use gptoss::models::gpt_oss::stage::Stage;
use gptoss::verify::bench::prompt;
use gptoss::verify::compare::stages::NOISE_FACTOR;
use gptoss::verify::fixture::{Recipe, in_memory};
use gptoss::verify::golden;
use gptoss::verify::oracle::noise::{Noise, Tap, margins, noise_floor, trace};
use gptoss::verify::oracle::{Oracle, Request};
use safetensors::SafeTensors;

/// Sums have no fixed order: twice the noise of another order, and twice for the tails of a maximum.
const ROUNDINGS_MAX: f64 = 4.0;
/// One f64 rounding for one f32 rounding.
const F64_OVER_F32: f64 = f64::EPSILON / (f32::EPSILON as f64);
/// How far the noise floor may be from that of another honest f32 pass, as a factor: the budgets' own.
const NOISE_RATIO_MAX: f64 = NOISE_FACTOR;
/// Vocabulary rows that every format keeps, over which the witnesses' best ids are.
const KEPT_ROWS: usize = 200_014;

/// A golden of `goldens/logits/`, whose README says what it holds.
struct Witness(SafeTensors<'static>);

impl Witness {
    fn load(name: &str) -> Witness {
        let bytes = golden::binary(&format!("logits/{name}")).expect("the golden is intact");
        Witness(SafeTensors::deserialize(bytes).expect("the golden is SafeTensors"))
    }

    /// Every value of a tensor, widened; all its element types fit.
    fn values(&self, name: &str) -> Vec<f64> {
        use safetensors::Dtype;
        let tensor = self.0.tensor(name).expect("the witness holds the tensor");
        let bytes = tensor.data();
        match tensor.dtype() {
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&x| f64::from_le_bytes(x)).collect(),
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&x| f64::from(f32::from_le_bytes(x))).collect(),
            Dtype::I32 => bytes.as_chunks().0.iter().map(|&x| f64::from(i32::from_le_bytes(x))).collect(),
            Dtype::U8 => bytes.iter().map(|&x| f64::from(x)).collect(),
            other => panic!("a witness holds no {other}"),
        }
    }

    fn ids(&self, name: &str) -> Vec<usize> {
        self.values(name).iter().map(|&id| id as usize).collect()
    }

    /// Layer `layer` of a tensor whose first dimension counts layers.
    fn of_layer(&self, name: &str, layer: usize) -> Vec<f64> {
        let layers = self.0.tensor(name).expect("the witness holds the tensor").shape()[0];
        let values = self.values(name);
        values.chunks_exact(values.len() / layers).nth(layer).expect("the witness has the layer").to_vec()
    }

    /// Largest f32 noise of the witness at a stage: over all positions, of one layer if the stage is of a layer.
    fn noise(&self, stage: Stage, layer: Option<usize>) -> f64 {
        let name = format!("f32_noise.{}", tensor_of(stage));
        let values = layer.map_or_else(|| self.values(&name), |layer| self.of_layer(&name, layer));
        values.into_iter().fold(0.0, f64::max)
    }
}

/// The witnesses' name of a stage.
fn tensor_of(stage: Stage) -> String {
    stage.to_string().replace('-', "_")
}

/// Stage and layer, and what was found and wanted there.
type Pair = (Stage, Option<usize>, Vec<f64>, Vec<f64>);

/// A fixture's run in f64.
struct Run {
    name: &'static str,
    checkpoint: Checkpoint,
    taps: Vec<Tap<f64>>,
}

impl Run {
    /// The fixture's prompt, whole vocabulary at every position, checked to be the witness's.
    fn of(name: &'static str, witness: &Witness) -> Run {
        let checkpoint = in_memory(&Recipe::built_in(name), Layout::Original, 1).expect("the recipe is valid");
        let tokens = Run::tokens(name);
        assert!(tokens.iter().map(|&token| token as usize).eq(witness.ids("tokens")), "{name}: another prompt");
        let taps = trace(&Oracle::new(&checkpoint), &tokens, &Request::default());
        Run { name, checkpoint, taps }
    }

    fn tokens(name: &str) -> Vec<u32> {
        prompt(200, Recipe::built_in(name).config().vocab)
    }

    fn noise(&self) -> Vec<Noise> {
        let oracle = Oracle::new(&self.checkpoint);
        noise_floor(&oracle, &Run::tokens(self.name), &Request::default(), &self.taps)
    }

    fn tap(&self, stage: Stage, layer: Option<usize>) -> &Tap<f64> {
        let is_it = |tap: &&Tap<f64>| (tap.stage, tap.layer) == (stage, layer);
        self.taps.iter().find(is_it).expect("the run has every stage")
    }

    fn layers(&self) -> usize {
        Recipe::built_in(self.name).config().layers
    }

    /// Every value of the witness that has a twin here.
    fn pairs(&self, witness: &Witness) -> Vec<Pair> {
        let positions = witness.ids("positions");
        let ids = witness.ids("vocab_ids");
        let mut pairs = Vec::new();
        for layer in 0..self.layers() {
            for stage in [Stage::AttentionResidual, Stage::BlockOutput] {
                let found = self.tap(stage, Some(layer)).rows.select(&positions).values;
                pairs.push((stage, Some(layer), found, witness.of_layer(&tensor_of(stage), layer)));
            }
            let weights = self.tap(Stage::ExpertWeights, Some(layer)).rows.values.clone();
            pairs.push((Stage::ExpertWeights, Some(layer), weights, witness.of_layer("expert_weights", layer)));
        }
        let logits = &self.tap(Stage::Logits, None).rows;
        let sampled = logits.iter().flat_map(|row| ids.iter().map(|&id| row[id])).collect();
        pairs.push((Stage::Logits, None, sampled, witness.values("logits")));
        let best = witness.ids("top_ids");
        let best = best.chunks_exact(5).zip(logits.iter()).flat_map(|(ids, row)| ids.iter().map(|&id| row[id]));
        pairs.push((Stage::Logits, None, best.collect(), witness.values("top_values")));
        pairs
    }

    /// Experts and best tokens are those of the witness, at every position.
    fn demand_equal_ids(&self, witness: &Witness) {
        for layer in 0..self.layers() {
            let found = &self.tap(Stage::Experts, Some(layer)).rows.values;
            assert!(*found == witness.of_layer("expert_ids", layer), "{}: experts of layer {layer}", self.name);
        }
        let best = |row: &[f64]| {
            let mut ids: Vec<usize> = (0..row.len().min(KEPT_ROWS)).collect();
            ids.select_nth_unstable_by(4, |&a, &b| row[b].total_cmp(&row[a]));
            ids.truncate(5);
            ids.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            ids
        };
        let found: Vec<usize> = self.tap(Stage::Logits, None).rows.iter().flat_map(best).collect();
        assert!(found == witness.ids("top_ids"), "{}: best tokens", self.name);
    }
}

/// Largest difference of two lists of one length; NaN if any is.
fn distance(found: &[f64], want: &[f64]) -> f64 {
    assert!(!want.is_empty() && found.len() == want.len(), "{} values, {} wanted", found.len(), want.len());
    found
        .iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |max, d| if d <= max || max.is_nan() { max } else { d })
}

/// The oracle agrees with the model that OpenAI published, in f64, as far as f64 goes.
fn is_openais(name: &'static str) {
    let witness = Witness::load(&format!("{name}.torch"));
    let run = Run::of(name, &witness);
    run.demand_equal_ids(&witness);
    for (stage, layer, found, want) in run.pairs(&witness) {
        let budget = ROUNDINGS_MAX * F64_OVER_F32 * witness.noise(stage, layer);
        let error = distance(&found, &want);
        assert!(error <= budget, "{name} {stage} {layer:?}: {error:e}, budget {budget:e}");
    }
    demand_margins(&run, &witness);
    demand_noise(&run, &witness);
}

/// The margin audit sees the gaps that the witness printed, the smallest at the same place.
fn demand_margins(run: &Run, witness: &Witness) {
    let name = run.name;
    let margins = margins(&run.taps, 4);
    assert_eq!(margins.choice.is_some(), witness.0.tensor("router_margin").is_ok(), "{name}");
    if let Some(choice) = margins.choice {
        let printed = witness.values("router_margin");
        let smallest = printed.iter().copied().fold(f64::INFINITY, f64::min);
        let there = printed[choice.layer * 200 + choice.position];
        // Printed in f32.
        assert!(there == smallest && (choice.gap - there).abs() <= 1e-7 * there, "{name}: {choice:?}, {smallest}");
    }
    let best = witness.values("top_values");
    let gaps = best.chunks_exact(5).map(|best| best[0] - best[1]);
    // Rows that model.bin drops are not among the witness's best.
    let keeps_all = Recipe::built_in(name).config().vocab <= KEPT_ROWS;
    let budget = 2.0 * ROUNDINGS_MAX * F64_OVER_F32 * witness.noise(Stage::Logits, None);
    let is_close = |(found, want): (&f64, f64)| (found - want).abs() <= budget || !keeps_all;
    assert_eq!(margins.top.len(), 200, "{name}");
    assert!(margins.top.iter().zip(gaps).all(is_close), "{name}: margins of the best token");
}

/// Budgets are multiples of the oracle's noise floor: it must be neither above nor far below what f32 does to others.
fn demand_noise(run: &Run, witness: &Witness) {
    let is_witnessed = |noise: &Noise| witness.0.tensor(&format!("f32_noise.{}", tensor_of(noise.stage))).is_ok();
    let noises: Vec<Noise> = run.noise().into_iter().filter(is_witnessed).collect();
    assert_eq!(noises.len(), 4 * run.layers() + 2, "{}", run.name);
    for noise in noises {
        let ratio = noise.max_error / witness.noise(noise.stage, noise.layer);
        let is_alike = (1.0 / NOISE_RATIO_MAX..=NOISE_RATIO_MAX).contains(&ratio);
        assert!(is_alike, "{} {} {:?}: {ratio} times the witness's", run.name, noise.stage, noise.layer);
    }
}

/// Transformers wrote the model again, and ran it in f32: within its noise, doubled for another order of sums.
fn is_transformers(name: &'static str) {
    let witness = Witness::load(&format!("{name}.transformers"));
    let torch = Witness::load(&format!("{name}.torch"));
    let run = Run::of(name, &witness);
    run.demand_equal_ids(&witness);
    for (stage, layer, found, want) in run.pairs(&witness) {
        let (error, budget) = (distance(&found, &want), 2.0 * torch.noise(stage, layer));
        assert!(error <= budget, "{name} {stage} {layer:?}: {error:e}, budget {budget:e}");
    }
}

macro_rules! witnessed {
    ($($test:ident: $judge:ident($name:literal)),* $(,)?) => {
        $(#[test]
        fn $test() {
            $judge($name);
        })*
    };
}

witnessed! {
    t1_is_openais: is_openais("T1"),
    t2_is_openais: is_openais("T2"),
    t3_is_openais: is_openais("T3"),
    odd_experts_is_openais: is_openais("odd-experts"),
    one_layer_is_openais: is_openais("one-layer"),
    small_vocab_is_openais: is_openais("small-vocab"),
    wide_heads_is_openais: is_openais("wide-heads"),
    t1_is_transformers: is_transformers("T1"),
    t3_is_transformers: is_transformers("T3"),
}

#[test]
fn a_wrong_value_or_a_nan_is_a_distance() {
    assert_eq!(distance(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
    assert_eq!(distance(&[1.0, 2.0, 3.0], &[1.0, 2.5, 3.0]), 0.5);
    assert!(distance(&[1.0, f64::NAN, 3.0], &[1.0, 2.5, 3.0]).is_nan());
}
