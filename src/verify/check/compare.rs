//! Two checkpoints, tensor by tensor: equal bits modulo the documented transforms, or the first difference and its
//! likely cause.
//!
//! Where one side is a model.bin, the other side's tensors are put into its form by the oracle
//! ([`crate::verify::oracle::model_bin`]) and compared there, because only that direction is exact for every value.
//! A GGUF is read in the original form; where it cannot be, its blocks are held against the other side's values
//! ([`quantised`]).

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::super::compare::bits::{Difference, difference};
use super::super::fault::diagnose;
use super::super::oracle;
use super::super::outcome::{Check, Level};
use super::super::sample::Sample;
use super::Found;
use super::quantised::{self, Quantised};
use crate::checkpoint::source::gather;
use crate::checkpoint::{Layout, ModelConfig, NotExact, TensorId, WeightSource};
use crate::telemetry::Progress;

/// Bytes of a piece of a tensor that is compared as it lies.
const PIECE_BYTES: usize = 8 << 20;

/// A part of a tensor that is compared at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The tensor.
    pub tensor: TensorId,
    /// The expert, where the tensor has them.
    pub expert: Option<usize>,
    /// Its bytes within the tensor.
    pub range: Range<usize>,
}

impl Unit {
    /// The units of every tensor of a model whose embedding is compared for `vocab_rows` rows.
    pub fn all(config: &ModelConfig, vocab_rows: usize) -> Vec<Unit> {
        TensorId::all(config).into_iter().flat_map(|tensor| Unit::of(config, tensor, vocab_rows)).collect()
    }

    /// One unit an expert, the whole QKV, pieces of the rest in whole rows.
    pub fn of(config: &ModelConfig, tensor: TensorId, vocab_rows: usize) -> Vec<Unit> {
        use crate::checkpoint::Role::{Embedding, Unembedding};
        let row_bytes = tensor.row_bytes(config);
        let bytes = match tensor.role {
            Embedding | Unembedding => vocab_rows * row_bytes,
            _ => tensor.bytes(config),
        };
        let (step, experts) = match tensor.role {
            role if role.is_of_an_expert() => (row_bytes, true),
            role if role.is_qkv() => (bytes, false),
            _ => ((PIECE_BYTES / row_bytes).max(1) * row_bytes, false),
        };
        (0..bytes)
            .step_by(step)
            .enumerate()
            .map(|(index, start)| Unit {
                tensor,
                expert: experts.then_some(index),
                range: start..(start + step).min(bytes),
            })
            .collect()
    }

    /// The unit's bytes as `source` stores them; those of a GGUF in the original form.
    pub fn stored<'a>(&self, source: &'a dyn WeightSource) -> Result<Cow<'a, [u8]>, NotExact> {
        match source.layout() {
            Layout::Gguf => source.read(self.tensor, self.range.clone()),
            _ => Ok(gather(&source.segments(self.tensor), self.range.clone())),
        }
    }

    /// The unit's bytes of `source` in the form in which it can be compared with `other` exactly: model.bin's, by the
    /// oracle, if `other` alone is one; else as they are stored.
    pub fn comparable<'a>(
        &self,
        source: &'a dyn WeightSource,
        other: &dyn WeightSource,
    ) -> Result<Cow<'a, [u8]>, NotExact> {
        let bytes = self.stored(source)?;
        let role = self.tensor.role;
        let into_model_bin = source.layout() != Layout::ModelBin && other.layout() == Layout::ModelBin;
        Ok(match into_model_bin && (role.is_qkv() || role.is_scales()) {
            true => oracle::model_bin::stored(source.config(), self.tensor, &bytes).into(),
            false => bytes,
        })
    }

    /// The known fault that explains `found_bytes`; a model.bin in the place of the truth says too little to tell.
    pub fn likely_cause(
        &self,
        want: &dyn WeightSource,
        found: &dyn WeightSource,
        found_bytes: &[u8],
    ) -> Option<String> {
        let canonical = want.layout().stores_canonical_bytes().then(|| self.stored(want))?.ok()?;
        diagnose(want, found.layout(), self, &canonical, found_bytes)
    }
}

/// What one unit's comparison found.
struct Verdict {
    judged: Judged,
    looks_like: Option<String>,
}

/// How the two sides stand to each other.
enum Judged {
    /// Bit for bit.
    Equal,
    /// Not, where they should be.
    Different(Difference),
    /// One side is quantised.
    Quantised(Quantised),
}

impl Verdict {
    fn is_wrong(&self) -> bool {
        match &self.judged {
            Judged::Equal => false,
            Judged::Different(_) => true,
            Judged::Quantised(quantised) => quantised.is_wrong(),
        }
    }
}

/// Compares every tensor (or a sample) of two checkpoints of the same model.
pub fn against(found: &dyn WeightSource, want: &dyn WeightSource, sample: &Sample, progress: &dyn Progress) -> Found {
    let config = want.config();
    let vocab_rows = found.vocab_rows().min(want.vocab_rows());
    let units = Unit::all(config, vocab_rows);
    let sizes: Vec<u64> = units.iter().map(|unit| unit.range.len() as u64).collect();
    let selected = sample.select(&sizes);
    let taken: u64 = sizes.iter().zip(&selected).filter(|(_, take)| **take).map(|(size, _)| size).sum();
    progress.begin("tensors", taken);
    let verdicts: Vec<Option<Verdict>> = units
        .par_iter()
        .zip(&selected)
        .map(|(unit, take)| (*take && !progress.cancelled()).then(|| compare(unit, found, want, progress)))
        .collect();
    progress.finish();
    let mut notes = Vec::new();
    if found.vocab_rows() != want.vocab_rows() {
        let (few, many) = (vocab_rows, found.vocab_rows().max(want.vocab_rows()));
        notes
            .push(format!("embedding and unembedding: rows {few}..{many} are on one side only (model.bin drops them)"));
    }
    if *sample != Sample::All {
        let total: u64 = sizes.iter().sum();
        notes.push(format!("sampled {taken} of {total} bytes ({:.1} %)", 100.0 * taken as f64 / total as f64));
    }
    let judged: Vec<(&Unit, Verdict)> =
        units.iter().zip(verdicts).filter_map(|(unit, verdict)| Some((unit, verdict?))).collect();
    let checks = judged.chunk_by(|a, b| a.0.tensor == b.0.tensor).map(tensor_check).collect();
    Found { checks, notes }
}

fn compare(unit: &Unit, found: &dyn WeightSource, want: &dyn WeightSource, progress: &dyn Progress) -> Verdict {
    let verdict = judge(unit, found, want);
    progress.advance(unit.range.len() as u64);
    verdict
}

/// How a unit's two sides differ, in words; `None` where they are equal, or one is quantised as it should be.
pub fn differs(unit: &Unit, found: &dyn WeightSource, want: &dyn WeightSource) -> Option<String> {
    match judge(unit, found, want).judged {
        Judged::Equal => None,
        Judged::Quantised(quantised) if quantised.is_right() => None,
        Judged::Different(difference) => Some(describe_first(unit, &difference)),
        Judged::Quantised(quantised) => Some(quantised.to_string()),
    }
}

fn judge(unit: &Unit, found: &dyn WeightSource, want: &dyn WeightSource) -> Verdict {
    let quantised = || quantised::judge(unit, found, want).map(Judged::Quantised);
    let (want_bytes, found_bytes) = match (unit.comparable(want, found), unit.comparable(found, want)) {
        (Ok(want), Ok(found)) => (want, found),
        (want, found) => {
            let why = want.err().or(found.err()).map_or_else(String::new, |error| error.to_string());
            let judged = quantised().unwrap_or(Judged::Quantised(Quantised::Unjudged { why }));
            return Verdict { judged, looks_like: None };
        }
    };
    match difference(&want_bytes, &found_bytes, unit.tensor.role.dtype().bytes()) {
        None => Verdict { judged: Judged::Equal, looks_like: None },
        Some(difference) => {
            let judged = quantised().unwrap_or(Judged::Different(difference));
            let is_explained = matches!(judged, Judged::Quantised(_));
            let cause = if is_explained { None } else { unit.likely_cause(want, found, &found_bytes) };
            Verdict { judged, looks_like: cause.map(|cause| located(unit, &cause)) }
        }
    }
}

fn located(unit: &Unit, cause: &str) -> String {
    match unit.tensor.layer {
        Some(layer) => format!("{cause} (block {layer})"),
        None => cause.to_string(),
    }
}

fn tensor_check(units: &[(&Unit, Verdict)]) -> Check {
    let tensor = units[0].0.tensor;
    let name = format!("tensors/{tensor}");
    let wrong: Vec<&(&Unit, Verdict)> = units.iter().filter(|(_, verdict)| verdict.is_wrong()).collect();
    let Some((unit, verdict)) = wrong.first() else {
        let bytes: usize = units.iter().map(|(unit, _)| unit.range.len()).sum();
        let quantised = units.iter().filter_map(|(_, verdict)| match &verdict.judged {
            Judged::Quantised(quantised) => Some(quantised.clone()),
            _ => None,
        });
        return match quantised.reduce(Quantised::and) {
            Some(whole) => whole.check(name, bytes),
            None => Check::pass(name, Level::Tensors, format!("{bytes} bytes equal")),
        };
    };
    let first = match &verdict.judged {
        Judged::Different(difference) => describe_first(unit, difference),
        Judged::Quantised(quantised) => quantised.to_string(),
        Judged::Equal => unreachable!("filtered for what is wrong"),
    };
    let detail = match (unit.expert, wrong.len()) {
        (Some(_), count) => format!("{first}; {count} of {} experts differ", units.len()),
        (None, _) => first,
    };
    Check::fail(name, Level::Tensors, detail).with_looks_like(verdict.looks_like.clone())
}

/// The first difference of a unit in words: expert, element, both values.
pub fn describe_first(unit: &Unit, difference: &Difference) -> String {
    let dtype = unit.tensor.role.dtype();
    match unit.expert {
        Some(expert) => format!("expert {expert}, {}", difference.describe(dtype, 0)),
        None => difference.describe(dtype, unit.range.start / dtype.bytes()),
    }
}
