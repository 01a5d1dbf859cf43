//! `gptoss-verify diff A B`: the first place where two checkpoints differ, with both sides' bytes and what they mean.

use std::io::{self, Write};

use rayon::prelude::*;

use super::check::{self, Unit};
use super::compare::bits::{Difference, difference};
use crate::checkpoint::WeightSource;
use crate::model_bin::ModelBin;
use crate::open::AnyCheckpoint;
use crate::quant::{bf16, mxfp4};

/// Bytes of a hexdump line.
const LINE_BYTES: usize = 16;
/// Lines shown of each side.
const LINES: usize = 3;

/// The first difference, ready to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstDifference {
    /// Section or tensor.
    pub place: String,
    /// In words.
    pub what: String,
    /// Hexdumps of both sides, annotated.
    pub dump: Vec<String>,
    /// The known fault that gives exactly this.
    pub looks_like: Option<String>,
}

/// Finds where `b` first differs from `a`: by section for two model.bin, else tensor by tensor.
pub fn first_difference(a: &AnyCheckpoint, b: &AnyCheckpoint) -> Option<FirstDifference> {
    if let (AnyCheckpoint::ModelBin(a), AnyCheckpoint::ModelBin(b)) = (a, b)
        && let Some(found) = prefix_difference(a, b)
    {
        return Some(found);
    }
    let configs = check::against_source(b.source(), a.source());
    if let Some(config) = configs.iter().find(|check| check.outcome > super::Outcome::Pass) {
        let (place, what) = ("config".to_string(), config.detail.clone());
        return Some(FirstDifference { place, what, dump: Vec::new(), looks_like: None });
    }
    tensor_difference(a.source(), b.source())
}

/// The sections in front of the weights, byte by byte.
fn prefix_difference(a: &ModelBin, b: &ModelBin) -> Option<FirstDifference> {
    a.plan().sections().iter().take_while(|section| section.part.tensor().is_none()).find_map(|section| {
        let (want, found) = (a.data(section), b.file().get(section.range()).unwrap_or_default());
        let Difference::Elements { first, count, .. } = difference(want, found, 1)? else {
            let (place, what) = (section.part.to_string(), "the other file ends within it".to_string());
            return Some(FirstDifference { place, what, dump: Vec::new(), looks_like: None });
        };
        let offset = section.offset as usize;
        Some(FirstDifference {
            place: section.part.to_string(),
            what: format!("byte {first} (file offset {}), {count} of {} bytes differ", offset + first, want.len()),
            dump: dump(want, found, first, offset, None),
            looks_like: None,
        })
    })
}

fn tensor_difference(a: &dyn WeightSource, b: &dyn WeightSource) -> Option<FirstDifference> {
    let vocab_rows = a.vocab_rows().min(b.vocab_rows());
    let units = Unit::all(a.config(), vocab_rows);
    let differs = |unit: &&Unit| check::differs(unit, b, a).is_some();
    let unit = units.par_iter().find_first(differs)?;
    let (Ok(want), Ok(found)) = (unit.comparable(a, b), unit.comparable(b, a)) else {
        let (place, what) = (unit.tensor.to_string(), check::differs(unit, b, a)?);
        return Some(FirstDifference { place, what, dump: Vec::new(), looks_like: None });
    };
    let difference = difference(&want, &found, unit.tensor.role.dtype().bytes())?;
    let looks_like = unit.likely_cause(a, b, &found);
    let dump = match &difference {
        Difference::Elements { first, .. } => {
            let at = first * unit.tensor.role.dtype().bytes();
            dump(&want, &found, at, unit.range.start, Some(unit))
        }
        Difference::Length { .. } => Vec::new(),
    };
    Some(FirstDifference {
        place: unit.tensor.to_string(),
        what: check::describe_first(unit, &difference),
        dump,
        looks_like,
    })
}

/// Both sides around byte `at`, the differing bytes marked, the line's values below.
fn dump(want: &[u8], found: &[u8], at: usize, base: usize, unit: Option<&Unit>) -> Vec<String> {
    let first_line = (at / LINE_BYTES).saturating_sub(1) * LINE_BYTES;
    let mut lines = Vec::new();
    for start in (first_line..want.len().min(first_line + LINES * LINE_BYTES)).step_by(LINE_BYTES) {
        let end = (start + LINE_BYTES).min(want.len());
        let (w, f) = (&want[start..end], &found[start..end]);
        lines.push(format!("  {:>#12x}  A  {}", base + start, hex_line(w)));
        if w == f {
            lines.push(format!("  {:>12}  B  =", ""));
            continue;
        }
        let marks: String = w.iter().zip(f).map(|(w, f)| if w == f { "   " } else { "^^ " }).collect();
        lines.push(format!("  {:>12}  B  {}", "", hex_line(f)));
        lines.push(format!("  {:>12}     {}", "", marks.trim_end()));
        if let Some(unit) = unit {
            lines.push(format!("  {:>12}  A  {}", "", values_line(unit, w)));
            lines.push(format!("  {:>12}  B  {}", "", values_line(unit, f)));
        }
    }
    lines
}

fn hex_line(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>().trim_end().to_string()
}

/// What a line's bytes mean: BF16 numbers, E2M1 codes as values of scale 1, or scales as powers of two.
fn values_line(unit: &Unit, bytes: &[u8]) -> String {
    let role = unit.tensor.role;
    let values: Vec<String> = if role.is_blocks() {
        let unscaled = |code: u8| mxfp4::decode(code, 127).to_string();
        bytes.iter().flat_map(|byte| [unscaled(byte & 15), unscaled(byte >> 4)]).collect()
    } else if role.is_scales() {
        bytes.iter().map(|scale| format!("2^{}", i32::from(*scale) - mxfp4::SCALE_BIAS)).collect()
    } else {
        bytes.as_chunks::<2>().0.iter().map(|pair| format!("{:e}", bf16::to_f32(u16::from_le_bytes(*pair)))).collect()
    };
    values.join(" ")
}

impl FirstDifference {
    /// Prints it.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "first difference in {}: {}", self.place, self.what)?;
        self.dump.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        match &self.looks_like {
            Some(cause) => writeln!(out, "looks like: {cause}"),
            None => Ok(()),
        }
    }
}
