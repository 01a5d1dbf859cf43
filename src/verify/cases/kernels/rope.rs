//! The angles that the runtime hands to the kernels, against the oracle's and against ggml's: no device takes part.

use serde_json::Value;

use crate::checkpoint::{ModelConfig, RopeConfig};
use crate::kernels::qkv::STEP_ANGLES;
use crate::nn::rope::{Place, RopeVariant, Yarn};
use crate::verify::cases::with_golden;
use crate::verify::fixture::Recipe;
use crate::verify::oracle::Semantics;
use crate::verify::oracle::rope::{correction_range, inverse_frequencies};
use crate::verify::oracle::semantics::{CorrectionRange, Rope};
use crate::verify::outcome::{Check, Level};

/// Makes a head's frequencies of a model's constants and the head's size.
pub type Angles = fn(&RopeConfig, usize) -> Yarn;

/// The oracle's decisions for a model.
type Rule = fn(&ModelConfig) -> Semantics;

/// The runtime's, as gpt-oss was trained.
pub const REFERENCE: Angles = |rope, head_dim| Yarn::new(rope, head_dim, RopeVariant::Reference);
/// The runtime's, as ggml has them.
pub const GGML_COMPAT: Angles = |rope, head_dim| Yarn::new(rope, head_dim, RopeVariant::GgmlCompat);

/// Recipes whose constants are tried.
const RECIPES: [&str; 2] = ["T3", "wide-heads"];
/// Positions from the first to the last of the model's context.
const POSITIONS: [usize; 6] = [0, 1, 127, 4095, 70_001, 131_071];
/// f64 angles of 131 071 radians are exact to 3e-11; theirs and ours are rounded twice each.
const ANGLE_ERROR: f64 = 1e-10;
/// Half a unit in the last place of an f32 at 1.
const HALF_ULP: f64 = f32::EPSILON as f64 / 2.0;

const GOLDEN: &str = "tensors/rope-ggml";
const LEVEL: Level = Level::Tensors;

/// Both variants against the oracle, and ggml's against ggml.
pub fn angle_checks(reference: Angles, compat: Angles) -> Vec<Check> {
    let against_oracle = |(name, angles, rule): (&str, Angles, Rule)| {
        RECIPES.map(|recipe| {
            let found = difference(recipe, angles, &rule(&Recipe::built_in(recipe).config()).rope);
            judged(format!("tensors/rope/{name}/{recipe}"), found)
        })
    };
    let variants: [(&str, Angles, Rule); 2] =
        [("angles", reference, Semantics::gpt_oss), ("ggml-compat", compat, Semantics::ggml_compat)];
    let mut checks: Vec<Check> = variants.into_iter().flat_map(against_oracle).collect();
    let right = Rope::gpt_oss(&Recipe::built_in("T3").config());
    let other = difference("T3", REFERENCE, &Rope { theta: 149_999.0, ..right });
    checks.push(planted("tensors/rope/angles/planted:-theta-of-another-model", other));
    checks.extend(each_geometry("tensors/rope/ggml", |geometry| {
        let yarn = compat(&geometry.config.rope, geometry.config.head_dim);
        geometry.difference(|position| cosines_and_sines(&yarn, position))
    }));
    checks
}

/// The oracle, as ggml has it, against ggml; and the reference in its place, which must be red.
pub(super) fn oracle_checks() -> Vec<Check> {
    let by = |geometry: &Geometry, rule: &Rope| {
        let inverse = inverse_frequencies::<f64>(rule, geometry.config.head_dim / 2);
        geometry.difference(|position| {
            let turned = |inverse: &f64| (position as f64 * inverse).sin_cos();
            let pair = |(sin, cos)| [cos * rule.query_concentration, sin * rule.query_concentration];
            inverse.iter().map(turned).flat_map(pair).collect()
        })
    };
    let mut checks = each_geometry("tensors/rope/ggml-oracle", |geometry| {
        let rule = Semantics::ggml_compat(&geometry.config).rope;
        let range = correction_range(&rule);
        match (range.0, range.1) == geometry.range {
            true => by(geometry, &rule),
            false => Err(format!("range: expected {:?}, found {range:?}", geometry.range)),
        }
    });
    let exact = |geometry: &Geometry| {
        let rule = Semantics::ggml_compat(&geometry.config).rope;
        by(geometry, &Rope { range: CorrectionRange::Exact, ..rule })
    };
    checks.extend(with_golden(GOLDEN, "tensors/rope/ggml-oracle", LEVEL, |golden| {
        let planted_in = |(name, geometry): (String, Geometry)| {
            planted(&format!("tensors/rope/ggml-oracle/planted:-range-not-rounded/{name}"), exact(&geometry))
        };
        geometries(golden).into_iter().map(planted_in).collect()
    }));
    checks
}

fn judged(name: String, found: Result<String, String>) -> Check {
    match found {
        Err(worst) => Check::fail(name, LEVEL, worst),
        Ok(detail) => Check::pass(name, LEVEL, detail),
    }
}

fn planted(name: &str, found: Result<String, String>) -> Check {
    match found {
        Ok(_) => Check::fail(name, LEVEL, "the planted fault was not seen"),
        Err(worst) => Check::pass(name, LEVEL, format!("seen: {worst}")),
    }
}

// ---- the oracle's angles ----

/// The number of words compared, or the first that is wrong.
fn difference(recipe: &str, angles: Angles, rule: &Rope) -> Result<String, String> {
    let config = Recipe::built_in(recipe).config();
    let yarn = angles(&config.rope, config.head_dim);
    let inverse = inverse_frequencies::<f64>(rule, config.head_dim / 2);
    let mut words = 0;
    for first in POSITIONS {
        // Two tokens, so that the second's angles are looked at in their place.
        let places = [Place { first: 3, slots: 5 }, Place { first: 7, slots: 11 }];
        let mut step = Vec::new();
        yarn.step(first, 2, places, &mut step);
        let rows: Vec<&[u32]> = step.chunks_exact(yarn.step_words()).collect();
        let heads = |p: usize| [p as u32, 3, 5, 7, 11];
        if rows.len() != 2 || rows[0][..5] != heads(first) || rows[1][..5] != heads(first + 1) {
            return Err(format!("position {first}: {} words, {:?}", step.len(), &step[..STEP_ANGLES]));
        }
        let angles: Vec<u32> = rows.iter().flat_map(|row| &row[STEP_ANGLES..]).copied().collect();
        let pairs = angles.chunks_exact(2).enumerate();
        for (index, found) in pairs {
            let (position, pair) = (first + index / inverse.len(), index % inverse.len());
            let (sin, cos) = (position as f64 * inverse[pair]).sin_cos();
            for (bits, want) in found.iter().zip([cos * rule.query_concentration, sin * rule.query_concentration]) {
                let found = f64::from(f32::from_bits(*bits));
                let budget = want.abs() * HALF_ULP + ANGLE_ERROR;
                let is_within = (found - want).abs() <= budget; // never for NaN
                if !is_within {
                    return Err(format!("position {position}, pair {pair}: expected {want:e}, found {found:e}"));
                }
                words += 1;
            }
        }
    }
    Ok(format!("{words} words within one rounding of f32"))
}

// ---- ggml's angles ----

/// A model's constants, and what ggml makes of them.
struct Geometry {
    config: ModelConfig,
    range: (f64, f64),
    /// Positions, and of each pair the cosine and the sine.
    rows: Vec<(usize, Vec<f64>)>,
}

fn geometries(golden: &Value) -> Vec<(String, Geometry)> {
    let all = golden.as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), Geometry::parse(value).expect("a golden whose digest is right"))).collect()
}

fn each_geometry(name: &str, judge: impl Fn(&Geometry) -> Result<String, String>) -> Vec<Check> {
    with_golden(GOLDEN, name, LEVEL, |golden| {
        let one = |(geometry, value): (String, Geometry)| judged(format!("{name}/{geometry}"), judge(&value));
        geometries(golden).into_iter().map(one).collect()
    })
}

impl Geometry {
    fn parse(value: &Value) -> Option<Self> {
        let number = |key: &str| value[key].as_f64();
        let mut config = Recipe::built_in("T3").config();
        config.head_dim = number("head_dim")? as usize;
        config.rope = RopeConfig {
            theta: number("theta")?,
            initial_context_length: number("context")? as usize,
            scaling_factor: number("factor")?,
            ntk_alpha: number("beta_slow")?,
            ntk_beta: number("beta_fast")?,
        };
        let range = (value["range"][0].as_f64()?, value["range"][1].as_f64()?);
        let mut rows = Vec::new();
        for (position, words) in value["rows"].as_object()? {
            let words: Option<Vec<f64>> = words.as_str()?.split(' ').map(float).collect();
            // All cosines, then all sines.
            let words = words.filter(|words| words.len() == config.head_dim)?;
            let (cos, sin) = words.split_at(words.len() / 2);
            rows.push((position.parse().ok()?, cos.iter().zip(sin).flat_map(|(c, s)| [*c, *s]).collect()));
        }
        Some(Self { config, range, rows })
    }

    /// What ggml's f32 may be off at a pair's cosine or sine: it multiplies its angle up from pair to pair.
    fn budget(&self, position: usize, pair: usize) -> f64 {
        let rope = &self.config.rope;
        let unscaled = position as f64 / rope.theta.powf(2.0 * pair as f64 / self.config.head_dim as f64);
        let angle = unscaled * (2 * pair + 8) as f64 * HALF_ULP;
        (1.0 + 0.1 * rope.scaling_factor.ln()) * (angle + 4.0 * HALF_ULP)
    }

    /// The number of values compared, or the first that is wrong; `found` gives each pair's cosine and sine.
    fn difference(&self, found: impl Fn(usize) -> Vec<f64>) -> Result<String, String> {
        let (mut count, mut worst) = (0, 0.0f64);
        for (position, want) in &self.rows {
            let found = found(*position);
            if found.len() != want.len() {
                return Err(format!("position {position}: expected {} values, found {}", want.len(), found.len()));
            }
            for (index, (want, found)) in want.iter().zip(&found).enumerate() {
                let (pair, error) = (index / 2, (found - want).abs());
                let budget = self.budget(*position, pair);
                let is_within = error <= budget; // never for NaN
                if !is_within {
                    let excess = error / budget;
                    return Err(format!(
                        "position {position}, pair {pair}: expected {want:e}, found {found:e}: {excess:.0} budgets"
                    ));
                }
                worst = worst.max(error / budget);
                count += 1;
            }
        }
        Ok(format!("{count} values within the rounding of ggml's f32 angles, headroom {:.2}", 1.0 / worst))
    }
}

/// The runtime's own words at a position.
fn cosines_and_sines(yarn: &Yarn, position: usize) -> Vec<f64> {
    let mut step = Vec::new();
    yarn.step(position, 1, [Place { first: 0, slots: 1 }; 2], &mut step);
    step[STEP_ANGLES..].iter().map(|&bits| f64::from(f32::from_bits(bits))).collect()
}

/// The f32 whose bits are written in hex.
fn float(word: &str) -> Option<f64> {
    u32::from_str_radix(word, 16).ok().map(|bits| f64::from(f32::from_bits(bits)))
}
