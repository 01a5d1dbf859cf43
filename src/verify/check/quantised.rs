//! A quantised tensor against the values it was made of: as its type's rule says ([`nearest`]), and how much was lost.

use std::collections::BTreeSet;
use std::fmt;

use super::super::oracle::ggml::row;
use super::super::outcome::{Check, Level, Outcome};
use super::Unit;
use super::nearest::{self, Scales};
use crate::checkpoint::WeightSource;
use crate::gguf::dialect::names::Slabs;
use crate::gguf::{Encoding, GgmlType, StoredPart};

/// What holding a quantised tensor against its source found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Quantised {
    /// Both sides hold the same bytes.
    Same { encodings: String },
    /// Everything is as its type's rule says.
    Within(Loss),
    /// Some rows are of a type that has no rule in such a file.
    Measured(Loss),
    /// Nothing to hold it against.
    Unjudged { why: String },
    /// A value that no encoder of the type gives.
    Beyond { encoding: String, why: String },
}

/// What was lost: errors, and what they are errors of.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Loss {
    encodings: BTreeSet<String>,
    /// The largest error of the rows that have a rule, in steps.
    steps: f64,
    /// Sums of squares.
    errors: f64,
    values: f64,
}

impl Loss {
    /// Adds a row: its values and what is stored of them.
    ///
    /// # Errors
    /// A stored value that is not finite, in words.
    fn add(&mut self, encoding: Encoding, values: &[f64], stored: &[u8]) -> Result<(), String> {
        let name = encoding.to_string();
        if !self.encodings.contains(&name) {
            self.encodings.insert(name);
        }
        for (column, (want, found)) in values.iter().zip(row(encoding, stored)).enumerate() {
            if !found.is_finite() {
                return Err(format!("column {column} is {found}"));
            }
            self.errors += (want - found) * (want - found);
            self.values += want * want;
        }
        Ok(())
    }

    fn and(mut self, other: Loss) -> Loss {
        self.encodings.extend(other.encodings);
        let (errors, values) = (self.errors + other.errors, self.values + other.values);
        Loss { steps: self.steps.max(other.steps), errors, values, ..self }
    }

    fn encodings(&self) -> String {
        Vec::from_iter(self.encodings.iter().map(String::as_str)).join(", ")
    }

    /// Root mean square of the errors, of that of the values; of values that are all zero, by itself.
    fn relative(&self) -> f64 {
        if self.values == 0.0 { self.errors.sqrt() } else { (self.errors / self.values).sqrt() }
    }
}

impl Quantised {
    /// Whether no encoder gives this.
    pub(super) fn is_wrong(&self) -> bool {
        matches!(self, Quantised::Beyond { .. })
    }

    /// Whether nothing is left to be said against it.
    pub(super) fn is_right(&self) -> bool {
        matches!(self, Quantised::Same { .. } | Quantised::Within(_))
    }

    /// From what says most good of a tensor to what says least.
    fn rank(&self) -> usize {
        match self {
            Quantised::Same { .. } => 0,
            Quantised::Within(_) => 1,
            Quantised::Measured(_) => 2,
            Quantised::Unjudged { .. } => 3,
            Quantised::Beyond { .. } => 4,
        }
    }

    /// Of two parts of a tensor: what was lost in both, or the one that says less good of it.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Quantised::Within(a), Quantised::Within(b)) => Quantised::Within(a.and(b)),
            (Quantised::Within(a) | Quantised::Measured(a), Quantised::Within(b) | Quantised::Measured(b)) => {
                Quantised::Measured(a.and(b))
            }
            (a, b) => {
                if b.rank() > a.rank() {
                    b
                } else {
                    a
                }
            }
        }
    }

    /// The check of a tensor of `bytes` source bytes.
    pub(super) fn check(self, name: String, bytes: usize) -> Check {
        match &self {
            _ if self.is_right() => Check::pass(name, Level::Tensors, format!("{bytes} bytes: {self}")),
            Quantised::Beyond { .. } => Check::fail(name, Level::Tensors, self.to_string()),
            _ => Check::new(name, Level::Tensors, Outcome::Skip, self.to_string()),
        }
    }
}

impl fmt::Display for Quantised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quantised::Same { encodings } => write!(f, "the same {encodings} on both sides"),
            Quantised::Within(loss) => {
                let (encodings, steps, relative) = (loss.encodings(), loss.steps, loss.relative());
                write!(
                    f,
                    "{encodings} of the source: each value has the nearest code, errors up to {steps:.4} of a step, \
                     {relative:.2e} of the values, root mean square"
                )
            }
            Quantised::Measured(loss) => {
                let (encodings, relative) = (loss.encodings(), loss.relative());
                write!(
                    f,
                    "{encodings} under an importance matrix has no exact bound: the error is {relative:.2e} of the values, \
                     root mean square"
                )
            }
            Quantised::Unjudged { why } => write!(f, "not judged: {why}"),
            Quantised::Beyond { encoding, why } => write!(f, "no {encoding} of the source: {why}"),
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
    let scales = if quantised.rounds_by_importance() { Scales::Weighted } else { Scales::Plain };
    let parts = quantised.parts(unit.tensor);
    let row_bytes = 2 * slabs.columns;
    let first = unit.range.start / row_bytes;
    let (mut loss, mut is_judged) = (Loss::default(), true);
    for (row, bytes) in (first..).zip(source.chunks_exact(row_bytes)) {
        let values: Vec<f64> =
            bytes.as_chunks::<2>().0.iter().map(|b| f32::from_le_bytes([0, 0, b[0], b[1]]).into()).collect();
        let (encoding, stored) = stored_row(&parts, slabs, row);
        let judged = loss.add(encoding, &values, stored).and_then(|()| {
            // What holds values as they are has no rule and needs none: it must hold them.
            if !loses(encoding) {
                return exactly(&values, encoding, stored).map(Some);
            }
            nearest::judge_row(encoding, scales, &values, stored).transpose()
        });
        match judged {
            Ok(steps) => {
                is_judged &= steps.is_some();
                loss.steps = loss.steps.max(steps.unwrap_or(0.0));
            }
            Err(why) => {
                return Some(Quantised::Beyond { encoding: encoding.to_string(), why: format!("row {row}, {why}") });
            }
        }
    }
    Some(if is_judged { Quantised::Within(loss) } else { Quantised::Measured(loss) })
}

/// Two quantised sides: nothing but their stored bytes can be compared.
fn both(unit: &Unit, found: &dyn WeightSource, want: &dyn WeightSource) -> Quantised {
    let (found, want) = (found.parts(unit.tensor), want.parts(unit.tensor));
    let same = |(a, b): (&StoredPart, &StoredPart)| (a.encoding, a.rows, a.bytes) == (b.encoding, b.rows, b.bytes);
    let encodings =
        |parts: &[StoredPart]| parts.iter().map(|part| part.encoding.to_string()).collect::<Vec<_>>().join(", ");
    match found.len() == want.len() && found.iter().zip(&want).all(same) {
        true => Quantised::Same { encodings: encodings(&found) },
        false => Quantised::Unjudged {
            why: format!("both sides are quantised: expected {}, found {}", encodings(&want), encodings(&found)),
        },
    }
}

/// Whether a type may hold other values than those it was made of.
pub(super) fn loses(encoding: Encoding) -> bool {
    let is_float = matches!(encoding, Encoding::Ggml(GgmlType::F32 | GgmlType::BF16));
    !is_float && !encoding.is_mxfp4()
}

/// A row of a type that holds every BF16 value holds these.
fn exactly(values: &[f64], encoding: Encoding, stored: &[u8]) -> Result<f64, String> {
    match values.iter().zip(row(encoding, stored)).enumerate().find(|(_, (want, found))| *want != found) {
        None => Ok(0.0),
        Some((column, (want, found))) => Err(format!("column {column}: expected {want:e}, found {found:e}")),
    }
}

fn stored_row<'a>(parts: &[StoredPart<'a>], slabs: Slabs, row: usize) -> (Encoding, &'a [u8]) {
    let (slab, within) = (row / slabs.rows, row % slabs.rows);
    let held = parts
        .iter()
        .find_map(|part| Some((part.encoding, part.row(slab, part.rows.stored_row(within)?, slabs.columns))));
    held.unwrap_or_else(|| panic!("no part holds row {row}"))
}
