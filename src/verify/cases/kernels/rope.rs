//! The angles that the runtime hands to the kernels, against the oracle's: no device takes part.

use crate::kernels::qkv::STEP_ANGLES;
use crate::nn::rope::{Place, Yarn};
use crate::verify::fixture::Recipe;
use crate::verify::oracle::rope::inverse_frequencies;
use crate::verify::oracle::semantics::Rope;
use crate::verify::outcome::{Check, Level};

/// Positions from the first to the last of the model's context.
const POSITIONS: [usize; 6] = [0, 1, 127, 4095, 70_001, 131_071];
/// f64 angles of 131 071 radians are exact to 3e-11; theirs and ours are rounded twice each.
const ANGLE_ERROR: f64 = 1e-10;

pub(super) fn angle_checks() -> Vec<Check> {
    let rule = |recipe| Rope::gpt_oss(&Recipe::built_in(recipe).config());
    let right = ["T3", "wide-heads"].map(|recipe| {
        let name = format!("tensors/rope/angles/{recipe}");
        match difference(recipe, &rule(recipe)) {
            Err(worst) => Check::fail(name, Level::Tensors, worst),
            Ok(words) => Check::pass(name, Level::Tensors, format!("{words} words within one rounding of f32")),
        }
    });
    let name = "tensors/rope/angles/planted:-theta-of-another-model";
    let wrong = match difference("T3", &Rope { theta: 149_999.0, ..rule("T3") }) {
        Ok(_) => Check::fail(name, Level::Tensors, "the planted fault was not seen"),
        Err(worst) => Check::pass(name, Level::Tensors, format!("seen: {worst}")),
    };
    right.into_iter().chain([wrong]).collect()
}

/// The number of words compared, or the first that is wrong.
fn difference(recipe: &str, rule: &Rope) -> Result<usize, String> {
    let config = Recipe::built_in(recipe).config();
    let yarn = Yarn::new(&config.rope, config.head_dim);
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
                let budget = want.abs() * f64::from(f32::EPSILON) / 2.0 + ANGLE_ERROR;
                let is_within = (found - want).abs() <= budget; // never for NaN
                if !is_within {
                    return Err(format!("position {position}, pair {pair}: expected {want:e}, found {found:e}"));
                }
                words += 1;
            }
        }
    }
    Ok(words)
}
