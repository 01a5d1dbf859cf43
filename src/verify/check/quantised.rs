//! A quantised tensor against the values it was made of: within what its type must lose, and no more.
//!
//! | type | rule, exact                                                                                        |
//! |------|----------------------------------------------------------------------------------------------------|
//! | F16  | each value is the half nearest to its source, ties to even                                         |
//! | Q8_0 | each scale is amax / 127 of its block, rounded to F16; each code is the nearest multiple of amax / 127 |
//!
//! Both are what every quantiser of these types computes, whatever its order of operations, so that a tensor from
//! anywhere can be judged.  Other types have no such rule: encoders search for scales.  Their error is told, not judged.

use std::fmt;

use super::super::oracle::ggml::{f16, nearest_f16, row};
use super::super::outcome::{Check, Level, Outcome};
use super::Unit;
use crate::checkpoint::WeightSource;
use crate::gguf::dialect::names::Slabs;
use crate::gguf::{Encoding, GgmlType, StoredPart};

/// Beyond half a step: what f32 arithmetic of an encoder may add, in steps.
const CODE_SLACK: f64 = 127.0 / (1 << 22) as f64;

/// What holding a quantised tensor against its source found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Quantised {
    /// Everything is as the type's rule says; the largest error in steps.
    Within { encoding: String, steps: f64 },
    /// A value that no encoder of the type gives.
    Beyond { encoding: String, why: String },
    /// A type without a rule: relative error of the tensor, root mean square.
    Measured { encoding: String, relative: f64 },
    /// Nothing to hold it against.
    Unjudged { why: String },
}

impl Quantised {
    /// Whether no encoder gives this.
    pub(super) fn is_wrong(&self) -> bool {
        matches!(self, Quantised::Beyond { .. })
    }

    fn rank(&self) -> (usize, f64) {
        match self {
            Quantised::Within { steps, .. } => (0, *steps),
            Quantised::Measured { relative, .. } => (1, *relative),
            Quantised::Unjudged { .. } => (2, 0.0),
            Quantised::Beyond { .. } => (3, 0.0),
        }
    }

    /// Of two parts of a tensor, the one that says less good of it.
    pub(super) fn worse(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// The check of a tensor of `bytes` source bytes.
    pub(super) fn check(self, name: String, bytes: usize) -> Check {
        match &self {
            Quantised::Within { .. } => Check::pass(name, Level::Tensors, format!("{bytes} bytes: {self}")),
            Quantised::Beyond { .. } => Check::fail(name, Level::Tensors, self.to_string()),
            _ => Check::new(name, Level::Tensors, Outcome::Skip, self.to_string()),
        }
    }
}

impl fmt::Display for Quantised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quantised::Within { encoding, steps } => {
                write!(
                    f,
                    "{encoding} of the source: every scale as its encoder gives it, errors up to {steps:.4} of a step"
                )
            }
            Quantised::Beyond { encoding, why } => write!(f, "no {encoding} of the source: {why}"),
            Quantised::Measured { encoding, relative } => {
                write!(f, "{encoding} has no exact bound: the error is {relative:.2e} of the values, root mean square")
            }
            Quantised::Unjudged { why } => write!(f, "not judged: {why}"),
        }
    }
}

/// Judges one unit; `None` if neither side is quantised.
pub(super) fn judge(unit: &Unit, found: &dyn WeightSource, want: &dyn WeightSource) -> Option<Quantised> {
    let is_quantised = |source: &dyn WeightSource| source.parts(unit.tensor).iter().any(|part| loses(part.encoding));
    let (quantised, exact) = match (is_quantised(found), is_quantised(want)) {
        (false, false) => return None,
        (true, false) => (found, want),
        (false, true) => (want, found),
        (true, true) => return Some(both(unit, found, want)),
    };
    let slabs = Slabs::of(unit.tensor, want.config());
    let source = match exact.read(unit.tensor, unit.range.clone()) {
        Ok(source) => source,
        Err(error) => return Some(Quantised::Unjudged { why: error.to_string() }),
    };
    let parts = quantised.parts(unit.tensor);
    let row_bytes = 2 * slabs.columns;
    let first = unit.range.start / row_bytes;
    let mut sums = Sums::default();
    let mut worst: Option<Quantised> = None;
    for (row, bytes) in (first..).zip(source.chunks_exact(row_bytes)) {
        let values: Vec<f64> =
            bytes.as_chunks::<2>().0.iter().map(|b| f32::from_le_bytes([0, 0, b[0], b[1]]).into()).collect();
        let (encoding, stored) = stored_row(&parts, slabs, row);
        let judged = match encoding {
            Encoding::Ggml(GgmlType::F16) => f16_row(&values, stored),
            Encoding::Ggml(GgmlType::Q8_0) => q8_0_row(&values, stored),
            other => sums.add(other, &values, stored),
        };
        let judged = judged
            .map_err(|why| Quantised::Beyond { encoding: encoding.to_string(), why: format!("row {row}, {why}") });
        let judged = match judged {
            Err(beyond) => return Some(beyond),
            Ok(steps) => Quantised::Within { encoding: encoding.to_string(), steps },
        };
        worst = Some(worst.map_or(judged.clone(), |worst| worst.worse(judged)));
    }
    sums.measured().or(worst)
}

/// Two quantised sides: nothing but their stored bytes can be compared.
fn both(unit: &Unit, found: &dyn WeightSource, want: &dyn WeightSource) -> Quantised {
    let (found, want) = (found.parts(unit.tensor), want.parts(unit.tensor));
    let same = |(a, b): (&StoredPart, &StoredPart)| (a.encoding, a.rows, a.bytes) == (b.encoding, b.rows, b.bytes);
    let encodings =
        |parts: &[StoredPart]| parts.iter().map(|part| part.encoding.to_string()).collect::<Vec<_>>().join(", ");
    match found.len() == want.len() && found.iter().zip(&want).all(same) {
        true => Quantised::Within { encoding: encodings(&found), steps: 0.0 },
        false => Quantised::Unjudged {
            why: format!("both sides are quantised: expected {}, found {}", encodings(&want), encodings(&found)),
        },
    }
}

fn loses(encoding: Encoding) -> bool {
    let is_float = matches!(encoding, Encoding::Ggml(GgmlType::F32 | GgmlType::BF16));
    !is_float && !encoding.is_mxfp4()
}

fn stored_row<'a>(parts: &[StoredPart<'a>], slabs: Slabs, row: usize) -> (Encoding, &'a [u8]) {
    let (slab, within) = (row / slabs.rows, row % slabs.rows);
    let held = parts
        .iter()
        .find_map(|part| Some((part.encoding, part.row(slab, part.rows.stored_row(within)?, slabs.columns))));
    held.unwrap_or_else(|| panic!("no part holds row {row}"))
}

/// The largest error in steps of the half, or what is wrong.
fn f16_row(values: &[f64], stored: &[u8]) -> Result<f64, String> {
    for (column, (&value, pair)) in values.iter().zip(stored.as_chunks::<2>().0).enumerate() {
        let (want, found) = (nearest_f16(value), u16::from_le_bytes(*pair));
        if want != found {
            return Err(format!("column {column}: {value:e} is {want:#06x}, found {found:#06x}"));
        }
    }
    Ok(0.5)
}

/// The largest error in steps, or what is wrong.
fn q8_0_row(values: &[f64], stored: &[u8]) -> Result<f64, String> {
    let mut worst = 0f64;
    for (index, (values, block)) in values.chunks_exact(32).zip(stored.chunks_exact(34)).enumerate() {
        let amax = values.iter().fold(0f64, |amax, value| amax.max(value.abs()));
        // The quotient is an f32 before it is a half.
        let step = f64::from((amax / 127.0) as f32);
        let want = nearest_f16(step);
        if want != u16::from_le_bytes([block[0], block[1]]) {
            return Err(format!(
                "block {index}: largest value {amax:e}, so a scale of {step:e}, found {:e}",
                f16(block)
            ));
        }
        for (column, (&value, &q)) in values.iter().zip(&block[2..]).enumerate() {
            let ideal = if step == 0.0 { 0.0 } else { value / step };
            let error = (ideal - f64::from(q as i8)).abs();
            if error.is_nan() || error > 0.5 + CODE_SLACK {
                return Err(format!("block {index}, value {column}: {value:e} is {ideal:.3} steps, found {}", q as i8));
            }
            worst = worst.max(error);
        }
    }
    Ok(worst)
}

/// Squares of errors and of values, for types without a rule.
#[derive(Default)]
struct Sums {
    encoding: Option<Encoding>,
    errors: f64,
    values: f64,
}

impl Sums {
    fn add(&mut self, encoding: Encoding, values: &[f64], stored: &[u8]) -> Result<f64, String> {
        self.encoding = Some(encoding);
        for (index, (want, found)) in values.iter().zip(row(encoding, stored)).enumerate() {
            if !found.is_finite() {
                return Err(format!("column {index} is {found}"));
            }
            self.errors += (want - found) * (want - found);
            self.values += want * want;
        }
        Ok(0.0)
    }

    fn measured(&self) -> Option<Quantised> {
        let encoding = self.encoding?.to_string();
        let relative = if self.values == 0.0 { self.errors.sqrt() } else { (self.errors / self.values).sqrt() };
        Some(Quantised::Measured { encoding, relative })
    }
}
