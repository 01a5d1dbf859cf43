//! `gptoss-verify check`: what can be said of one checkpoint, alone or against another of any layout.
//!
//! | level       | reads                 | says                                                                     |
//! |-------------|-----------------------|--------------------------------------------------------------------------|
//! | `structure` | headers, padding      | opens; config, header and tokenizer are what they must be                |
//! | `digests`   | everything, once      | SHA-256 of each section, against a manifest or another checkpoint        |
//! | `tensors`   | everything            | no NaN, no scale out of range; equal, element by element, to another     |
//! | `kernels`   | some layers, experts  | every kernel on slices of the weights agrees with the oracle             |
//! | `logits`    | everything            | a short prompt on a device agrees with the oracle, layer by layer        |
//!
//! Levels up to `tensors` are cumulative, but that digests are only taken where there is something to compare them with or the
//! level is asked for by name.  The last two run the model on a device; they look at its structure, but not at all its bytes.

mod compare;
mod digests;
mod excerpt;
mod kernels;
mod layers;
mod logits;
pub mod nearest;
mod quantised;
mod structure;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use compare::{Unit, against, describe_first, differs};
pub use digests::digest_checks;
pub use kernels::kernel_checks;
pub use logits::logit_checks;
pub use structure::{against_source, gguf_tokenizer, model_bin_tokenizer, o200k_tokenizer};
pub use values::value_checks;

use super::Report;
use super::manifest::Manifest;
use super::outcome::{Check, Level};
use super::sample::Sample;
use crate::checkpoint::Layout;
use crate::open::{AnyCheckpoint, OpenError};
use crate::telemetry::Progress;

/// What to check, and against what.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How deep; by default `tensors`.
    pub level: Option<Level>,
    /// Another checkpoint that must hold the same model.
    pub against: Option<PathBuf>,
    /// A manifest that the files must match.
    pub manifest: Option<PathBuf>,
    /// The part of the tensors to read.
    pub sample: Sample,
}

/// Why a check could not even begin.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CheckError {
    #[error(transparent)]
    Manifest(#[from] super::manifest::ManifestError),
    #[error("level {0} is not available for checkpoints: use structure, digests, tensors, kernels or logits")]
    Level(&'static str),
    #[error("interrupted; nothing was judged")]
    Interrupted,
}

/// Checks the checkpoint at `path`.
pub fn run(path: &Path, options: &Options, progress: &dyn Progress) -> Result<Report, CheckError> {
    let level = options.level.unwrap_or(Level::Tensors);
    if !matches!(level, Level::Structure | Level::Digests | Level::Tensors | Level::Kernels | Level::Logits) {
        return Err(CheckError::Level(level.name()));
    }
    let manifest = options.manifest.as_deref().map(Manifest::read).transpose()?;
    let mut report = Report::new(format!("check {}", path.display()), Vec::new());
    let Some(checkpoint) = open(path, "structure/open", &mut report).map(Arc::new) else { return Ok(report) };
    let other = match &options.against {
        Some(other) => match open(other, "structure/open-against", &mut report) {
            Some(other) => Some(other),
            None => return Ok(report),
        },
        None => None,
    };
    if let AnyCheckpoint::ModelBin(model) = checkpoint.as_ref() {
        report.checks.push(structure::o200k_tokenizer(model));
    }
    if let AnyCheckpoint::Gguf(model) = checkpoint.as_ref() {
        report.checks.push(structure::gguf_tokenizer(model));
    }
    if let Some(other) = &other {
        report.checks.extend(structure::against_source(checkpoint.source(), other.source()));
    }
    let comparable =
        !report.checks.iter().any(|check| check.name == "structure/config" && check.outcome > super::Outcome::Pass);
    if level == Level::Digests || manifest.is_some() {
        let other = other.as_ref().map(AnyCheckpoint::source).filter(|_| comparable);
        report.checks.extend(digest_checks(&checkpoint, manifest.as_ref(), other, progress));
    }
    if level == Level::Tensors {
        match &other {
            Some(other) if comparable => {
                let found = against(checkpoint.source(), other.source(), &options.sample, progress);
                report.checks.extend(found.checks);
                report.notes.extend(found.notes);
            }
            Some(_) => report.notes.push("tensors were not compared: the two models differ in structure/config".into()),
            None => {
                let found = value_checks(checkpoint.source(), &options.sample, progress);
                report.checks.extend(found.checks);
                report.notes.extend(found.notes);
            }
        }
    }
    let on_device = match level {
        Level::Kernels => kernel_checks(&checkpoint, progress),
        Level::Logits => logit_checks(&checkpoint, progress),
        _ => Found::default(),
    };
    report.checks.extend(on_device.checks);
    report.notes.extend(on_device.notes);
    if progress.cancelled() {
        return Err(CheckError::Interrupted);
    }
    Ok(report)
}

/// Checks and the facts beside them.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Verdicts.
    pub checks: Vec<Check>,
    /// Facts.
    pub notes: Vec<String>,
}

/// Opens a checkpoint as the first check of a report.
fn open(path: &Path, name: &str, report: &mut Report) -> Option<AnyCheckpoint> {
    match AnyCheckpoint::open(path) {
        Ok(checkpoint) => {
            report.checks.push(opened(name, &checkpoint));
            report.notes.extend(checkpoint.warnings().iter().cloned());
            Some(checkpoint)
        }
        Err(error) => {
            report.checks.push(refused(name, &error));
            None
        }
    }
}

/// The check that an input was refused.
pub fn refused(name: &str, error: &OpenError) -> Check {
    Check::fail(name, Level::Structure, error.to_string()).with_error(error.name())
}

/// The check that a checkpoint was opened, with what it is.
pub fn opened(name: &str, checkpoint: &AnyCheckpoint) -> Check {
    let source = checkpoint.source();
    let c = source.config();
    let files = match checkpoint {
        AnyCheckpoint::SafeTensors(checkpoint) => checkpoint.shards().len(),
        AnyCheckpoint::ModelBin(_) => 1,
        AnyCheckpoint::Gguf(model) => model.gguf().parts().len(),
    };
    let rows = match source.layout() {
        Layout::ModelBin => "vocabulary (file)",
        _ => "vocabulary",
    };
    let detail = format!(
        "{}, {files} file(s), {} layers, {} experts, hidden {}, {rows} {}",
        source.layout(),
        c.layers,
        c.experts,
        c.hidden,
        source.vocab_rows()
    );
    Check::pass(name, Level::Structure, detail)
}
