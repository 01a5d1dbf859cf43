//! What a quantised row must be, given the values that it was made of: one rule a type, exact but for f32 arithmetic.
//!
//! | type        | the scale of a block                                            | each code                                  |
//! |-------------|-----------------------------------------------------------------|--------------------------------------------|
//! | F16         |                                                                 | the half nearest to the value, ties to even |
//! | Q8_0        | amax / 127, rounded to F16                                      | the nearest, by the scale before rounding  |
//! | Q4_0, Q5_0  | max / −8, max / −16, rounded; max: first of largest magnitude   | likewise, from −8 to 7, from −16 to 15     |
//! | Q5_1        | (max − min) / 31, and the minimum, both rounded                 | likewise, from 0 to 31                     |
//! | IQ4_NL      | a search's                                                      | the nearest under one scale that rounds to the stored one |
//! | Q4_K, Q5_K, Q6_K | a search's                                                 | the nearest, by the stored scales          |
//!
//! Source: `quantize_*` of ggml-quants.c, which llama-quantize calls and which write files: whatever they search, they choose
//! the codes anew under the final scales (IQ4_NL: before the last rounding).  Nearest is within the range of codes: values
//! beyond it have the outermost one.  A scale of 0 has one level, whatever the codes.
//!
//! **What f32 adds.**  Let v be the exact place of a value, (x − offset) / step.  An encoder takes a difference, perhaps a
//! reciprocal, and a product or quotient: three roundings, each of at most 2^−24 of its result, so it sees v to within
//! 3 · 2^−24 · |v|.  Those that cut after adding a half (8.5, 16.5) round a sum below 64 once more: 2^−19.
//! llama.cpp computes no more than that; `scripts/witness/ggml_nearest.py` holds a million of its values to it.
//!
//! **Honest files that are red.**  One made of other values: of a conversion to F16 first, which changes BF16 values below
//! 2^−17, or of another model's.  One by a program that keeps the codes of its search: ggml's own Q4_0, Q5_0 and Q5_1 do so
//! under an importance matrix, which a file tells (`quantize.imatrix.file`), so that these types are then measured, not judged;
//! `quantize_row_iq4_nl_ref` does, which writes caches and no files; forks may.

use super::super::oracle::ggml::{IQ4_NL, Level, f16, levels, nearest_f16, rounded_to};
use crate::gguf::{Encoding, GgmlType};

/// What is nearest is within half a step.
const HALF: f64 = 0.5;
/// What a rounding to f32 adds, of its result.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;
/// What rounding a sum below 64 to f32 adds.
const SUM_ROUNDING: f64 = 1.0 / (1 << 19) as f64;

/// How the scales of a file were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// From the values alone.
    Plain,
    /// By a search under an importance matrix.
    Weighted,
}

/// The largest error of a row in steps, by its type's rule; `None` where the type has none.
///
/// # Errors
/// What no encoder of the type gives, in words.
pub fn judge_row(encoding: Encoding, scales: Scales, values: &[f64], stored: &[u8]) -> Option<Result<f64, String>> {
    use GgmlType as Type;
    let Encoding::Ggml(ty) = encoding else { return None };
    if ty == Type::F16 {
        return Some(f16_row(values, stored));
    }
    let rule: fn(&[f64], &[Level]) -> Result<f64, String> = match (ty, scales) {
        (Type::Q8_0, _) => |x, y| known(x, y, &Known { scale: |x| (amax(x) / 127.0, 0.0), codes: (-127.0, 127.0) }),
        (Type::Q4_0, Scales::Plain) => {
            |x, y| known(x, y, &Known { scale: |x| (max(x) / -8.0, 0.0), codes: (-8.0, 7.0) })
        }
        (Type::Q5_0, Scales::Plain) => {
            |x, y| known(x, y, &Known { scale: |x| (max(x) / -16.0, 0.0), codes: (-16.0, 15.0) })
        }
        (Type::Q5_1, Scales::Plain) => |x, y| known(x, y, &Known { scale: span, codes: (0.0, 31.0) }),
        (Type::IQ4_NL, _) => iq4_nl,
        (Type::Q4_K, _) => |x, y| searched(x, y, (0.0, 15.0)),
        (Type::Q5_K, _) => |x, y| searched(x, y, (0.0, 31.0)),
        (Type::Q6_K, _) => |x, y| searched(x, y, (-32.0, 31.0)),
        _ => return None,
    };
    let levels = levels(encoding, stored)?;
    let size = match ty {
        Type::Q4_K | Type::Q5_K | Type::Q6_K => 256,
        _ => 32,
    };
    let blocks = values.chunks_exact(size).zip(levels.chunks_exact(size)).enumerate();
    let mut judged = blocks.map(|(index, (values, levels))| {
        let is_finite = |level: &Level| level.step.is_finite() && level.offset.is_finite();
        match levels.iter().all(is_finite) {
            true => rule(values, levels).map_err(|why| format!("block {index}{why}")),
            false => Err(format!("block {index}: a scale is not finite")),
        }
    });
    Some(judged.try_fold(0.0, |worst, found| Ok(f64::max(worst, found?))))
}

/// Each value is the half nearest to its source.
fn f16_row(values: &[f64], stored: &[u8]) -> Result<f64, String> {
    for (column, (&value, pair)) in values.iter().zip(stored.as_chunks::<2>().0).enumerate() {
        let (want, found) = (nearest_f16(value), u16::from_le_bytes(*pair));
        if want != found {
            return Err(format!("column {column}: {value:e} is {want:#06x}, found {found:#06x}"));
        }
    }
    Ok(HALF)
}

/// A type whose scale follows from a block's values.
struct Known {
    /// Step and offset in f32, as the encoder has them before it rounds them to F16.
    scale: fn(&[f64]) -> (f32, f32),
    /// The least and the largest code.
    codes: (f64, f64),
}

fn known(values: &[f64], levels: &[Level], known: &Known) -> Result<f64, String> {
    let (step, offset) = (known.scale)(values);
    for (what, want, found) in [("scale", step, levels[0].step), ("minimum", offset, levels[0].offset)] {
        if f16(&nearest_f16(want.into()).to_le_bytes()) != found {
            return Err(format!(": its values give a {what} of {want:e}, found {found:e}"));
        }
    }
    let exact = levels.iter().map(|level| match level.step {
        0.0 => *level,
        _ => Level { step: step.into(), offset: offset.into(), ..*level },
    });
    each_nearest(values, exact, known.codes, SUM_ROUNDING)
}

fn amax(values: &[f64]) -> f32 {
    max(values).abs()
}

/// The first of the values whose magnitude is largest.
fn max(values: &[f64]) -> f32 {
    values.iter().fold(0.0, |max: f64, &value| if value.abs() > max.abs() { value } else { max }) as f32
}

fn span(values: &[f64]) -> (f32, f32) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min) as f32;
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max) as f32;
    ((high - low) / 31.0, low)
}

/// A type whose codes are chosen under the stored scales.
fn searched(values: &[f64], levels: &[Level], codes: (f64, f64)) -> Result<f64, String> {
    each_nearest(values, levels.iter().copied(), codes, 0.0)
}

/// Every code is the one nearest to its value's place, and errors up to how many steps there are.
fn each_nearest(
    values: &[f64],
    levels: impl Iterator<Item = Level>,
    (least, largest): (f64, f64),
    slack: f64,
) -> Result<f64, String> {
    let mut worst = 0f64;
    for (at, (&value, level)) in values.iter().zip(levels).enumerate() {
        if level.step == 0.0 {
            continue;
        }
        let place = ((value - level.offset) / level.step).clamp(least, largest);
        let error = (place - level.code).abs();
        if error.is_nan() || error > HALF + 3.0 * ROUNDING * place.abs() + slack {
            return Err(format!(", value {at}: {value:e} is {place:.3} steps, found {}", level.code));
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

/// There is a scale that rounds to the stored one, under whose reciprocal all codes are the nearest: each code leaves an
/// interval of reciprocals, and what all of them leave is not empty.
fn iq4_nl(values: &[f64], levels: &[Level]) -> Result<f64, String> {
    // A reciprocal, a product, and the two differences that are compared, of numbers up to 127.
    const SLACK: f64 = 4.0 * 127.0 * ROUNDING;
    let step = levels[0].step;
    if step == 0.0 {
        return Ok(0.0);
    }
    let (least, largest) = rounded_to(step.abs());
    let (mut low, mut high) = (1.0 / largest, 1.0 / least);
    for (at, (&value, level)) in values.iter().zip(levels).enumerate() {
        let code = IQ4_NL.iter().position(|&code| code == level.code).expect("the level is one of the table");
        let middle = |below: usize| (IQ4_NL[below] + IQ4_NL[below + 1]) / 2.0;
        let below = if code == 0 { f64::NEG_INFINITY } else { middle(code - 1) - SLACK };
        let above = if code == 15 { f64::INFINITY } else { middle(code) + SLACK };
        let x = value * step.signum();
        let fits = match x {
            0.0 => below <= 0.0 && 0.0 <= above,
            _ => {
                let ends = (below / x, above / x);
                low = low.max(ends.0.min(ends.1));
                high = high.min(ends.0.max(ends.1));
                low <= high
            }
        };
        if !fits {
            let place = value / step;
            return Err(format!(", value {at}: {value:e} is {place:.3} scales, found {}", level.code));
        }
    }
    Ok(HALF)
}
