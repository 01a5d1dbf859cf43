//! Checks on the values of one checkpoint alone: no NaN, scales within what the formats can hold.

use rayon::prelude::*;

use super::super::outcome::{Check, Level};
use super::super::sample::Sample;
use super::quantised::loses;
use super::{Found, Unit};
use crate::checkpoint::values::{self, SCALE_MAX};
use crate::checkpoint::{CheckpointError, Layout, TensorId, WeightSource};
use crate::gguf::dialect::names::Slabs;
use crate::model_bin::layout::SCALE_OFFSET;
use crate::telemetry::Progress;
use crate::verify::oracle::ggml;

/// What one unit holds: the first forbidden value, and the range of its scales.
type Judged<'a> = (&'a Unit, Result<Option<(u8, u8)>, CheckpointError>);

/// Reads every tensor (or a sample) and judges its values.
pub fn value_checks(source: &dyn WeightSource, sample: &Sample, progress: &dyn Progress) -> Found {
    let units = Unit::all(source.config(), source.vocab_rows());
    let sizes: Vec<u64> = units.iter().map(|unit| unit.range.len() as u64).collect();
    let selected = sample.select(&sizes);
    let taken: u64 = sizes.iter().zip(&selected).filter(|(_, take)| **take).map(|(size, _)| size).sum();
    progress.begin("values", taken);
    let judged: Vec<Judged> = units
        .par_iter()
        .zip(&selected)
        .filter(|(_, take)| **take && !progress.cancelled())
        .map(|(unit, _)| {
            let verdict = judge(source, unit);
            progress.advance(unit.range.len() as u64);
            (unit, verdict)
        })
        .collect();
    progress.finish();
    let scales = judged.iter().filter_map(|(_, verdict)| verdict.as_ref().ok().copied().flatten());
    let range = scales.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let mut notes: Vec<String> =
        range.map(|(low, high)| format!("E8M0 scales range from {low} to {high}")).into_iter().collect();
    if *sample != Sample::All {
        let total: u64 = sizes.iter().sum();
        notes.push(format!("sampled {taken} of {total} bytes ({:.1} %)", 100.0 * taken as f64 / total as f64));
    }
    let checks = judged.chunk_by(|a, b| a.0.tensor == b.0.tensor).map(tensor_check).collect();
    Found { checks, notes }
}

fn judge(source: &dyn WeightSource, unit: &Unit) -> Result<Option<(u8, u8)>, CheckpointError> {
    let tensor = unit.tensor;
    let first = (unit.range.start / tensor.role.dtype().bytes()) as u64;
    // An infinite scale makes values that BF16 has, and that no quantiser gives.
    let is_quantised = source.parts(tensor).iter().any(|part| loses(part.encoding));
    let bytes = match unit.stored(source) {
        Ok(bytes) if !is_quantised => bytes,
        _ => return judge_numbers(source, unit).map(|()| None),
    };
    if !tensor.role.is_scales() {
        return values::check(source.path(), tensor, &bytes, first).map(|()| None);
    }
    let offset = if source.layout() == Layout::ModelBin { SCALE_OFFSET } else { 0 };
    // Below the offset, a stored scale wrapped around: undone, it exceeds the limit like any other.
    let canonical: Vec<u8> = bytes.iter().map(|scale| scale.wrapping_sub(offset)).collect();
    values::check(source.path(), tensor, &canonical, first)?;
    let (low, high) = canonical.iter().fold((SCALE_MAX, 0), |(low, high), &s| (low.min(s), high.max(s)));
    Ok(Some((low, high)))
}

/// A quantised tensor has numbers alone; all of them must be finite.
fn judge_numbers(source: &dyn WeightSource, unit: &Unit) -> Result<(), CheckpointError> {
    let slabs = Slabs::of(unit.tensor, source.config());
    let rows = unit.range.start / (2 * slabs.columns)..unit.range.end / (2 * slabs.columns);
    for part in source.parts(unit.tensor) {
        for (row, stored_row) in rows.clone().filter_map(|row| Some((row, part.rows.stored_row(row % slabs.rows)?))) {
            let values = ggml::row(part.encoding, part.row(row / slabs.rows, stored_row, slabs.columns));
            if let Some(column) = values.iter().position(|value| !value.is_finite()) {
                return Err(CheckpointError::ValueNan {
                    path: source.path().into(),
                    name: part.name.into(),
                    index: (row * slabs.columns + column) as u64,
                    bits: if values[column].is_nan() { 0x7fc0 } else { 0x7f80 },
                });
            }
        }
    }
    Ok(())
}

fn tensor_check(units: &[Judged]) -> Check {
    let tensor: TensorId = units[0].0.tensor;
    let name = format!("tensors/{tensor}");
    match units.iter().find_map(|(_, verdict)| verdict.as_ref().err()) {
        Some(error) => Check::fail(name, Level::Tensors, error.to_string()).with_error(error.name()),
        None => {
            let bytes: usize = units.iter().map(|(unit, _)| unit.range.len()).sum();
            Check::pass(name, Level::Tensors, format!("{bytes} bytes, every value allowed"))
        }
    }
}
