//! The exporter: any SafeTensors checkpoint, or a GGUF that lost nothing → model.bin, byte for byte what OpenAI's Metal
//! converter writes.
//!
//! The plan says where every array goes, so arrays are written by offset, from the map, on all cores; nothing is
//! held but one scratch buffer a thread.  Every byte is checked on its way ([`values`]): a NaN or a scale that would
//! overflow ends the export, and with it the pending file.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::ExportError;
use super::header::{Header, ModelHeader};
use super::layout::{ACTIVE_EXPERTS, HEAD_DIM, Part, Plan, SCALE_OFFSET, Section};
use super::qkv;
use super::tokenizer::TokenizerSection;
use crate::checkpoint::{Layout, ModelConfig, Role, TensorId, WeightSource, values};
use crate::output::{OutputError, PendingFile, check_space, write_all_at};
use crate::telemetry::Progress;

/// Bytes of a job: large enough for sequential I/O, small enough to share out and to stop between.
const JOB_BYTES: usize = 8 << 20;

/// What an export wrote.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Length of the file.
    pub bytes: u64,
    /// Its sections.
    pub plan: Plan,
}

/// Writes the checkpoint `source` as a model.bin at `path`.
///
/// # Errors
/// [`ExportError`]; the file at `path`, if there was one, is then untouched.
pub fn export(
    source: &dyn WeightSource,
    tokenizer: &TokenizerSection,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Exported, ExportError> {
    if source.layout() == Layout::ModelBin {
        return Err(ExportError::AlreadyModelBin { path: source.path().into() });
    }
    if path.canonicalize().is_ok_and(|to| source.path().canonicalize().is_ok_and(|from| from == to)) {
        return Err(ExportError::OverSource { path: path.into() });
    }
    let config = source.config();
    check_representable(source, tokenizer)?;
    let header = Header { model: ModelHeader::new(config), tokenizer: tokenizer.header() };
    let plan = Plan::new(config, tokenizer.vocab_rows(), header.tokenizer.part_bytes());
    check_space(path, plan.file_bytes())?;
    for section in plan.sections() {
        tracing::debug!(offset = section.offset, bytes = section.bytes, "{}", section.part);
    }
    let output = OutputError::of(path);
    let pending = PendingFile::create(path).map_err(&output)?;
    progress.begin("export", plan.file_bytes());
    // Padding is what is never written: a hole in the file reads as zeros.
    pending.file().set_len(plan.file_bytes()).map_err(&output)?;
    write_all_at(pending.file(), &header.to_bytes(), 0).map_err(&output)?;
    write_all_at(pending.file(), &tokenizer.to_bytes(), super::layout::HEADER_BYTES).map_err(&output)?;
    let export = Export { source, config, file: pending.file(), path, progress };
    let jobs: Vec<Job> = plan.sections().iter().flat_map(|section| export.jobs(section)).collect();
    jobs.par_iter().try_for_each_init(Vec::new, |scratch, job| export.run(job, scratch))?;
    pending.commit().map_err(output)?;
    progress.finish();
    Ok(Exported { bytes: plan.file_bytes(), plan })
}

/// What the format fixes must be what the checkpoint says; the upstream converter would write its own numbers.
fn check_representable(source: &dyn WeightSource, tokenizer: &TokenizerSection) -> Result<(), ExportError> {
    let config = source.config();
    let fixed =
        [("experts_per_token", ACTIVE_EXPERTS, config.experts_per_token), ("head_dim", HEAD_DIM, config.head_dim)];
    if let Some(&(field, want, found)) = fixed.iter().find(|(_, want, found)| want != found) {
        let (want, found) = (want.to_string(), found.to_string());
        return Err(ExportError::Unsupported { path: source.path().into(), field, want, found });
    }
    if config.vocab < tokenizer.vocab_rows() {
        let (want, found) = (tokenizer.vocab_rows(), config.vocab);
        return Err(ExportError::VocabTooSmall { path: source.path().into(), name: "embedding.weight", want, found });
    }
    Ok(())
}

/// One piece of a section: these bytes of a tensor go to `offset`.
struct Job {
    tensor: TensorId,
    range: Range<usize>,
    offset: u64,
    action: Action,
}

/// What happens to the bytes on the way.
enum Action {
    Copy,
    /// A Q or K head: interleave and scale.
    StoreHead(f32),
    /// E8M0 scales: add the format's offset.
    OffsetScales,
}

struct Export<'a> {
    source: &'a dyn WeightSource,
    config: &'a ModelConfig,
    file: &'a File,
    path: &'a Path,
    progress: &'a dyn Progress,
}

impl Export<'_> {
    fn jobs(&self, section: &Section) -> Vec<Job> {
        let Some(tensor) = section.part.tensor() else { return Vec::new() };
        let start = match section.part {
            Part::Expert(_, expert) => expert * tensor.row_bytes(self.config),
            _ => 0,
        };
        let job = |at: usize, len: usize, action: Action| Job {
            tensor,
            range: start + at..start + at + len,
            offset: section.offset + at as u64,
            action,
        };
        let pieces = |from: usize, to: usize| (from..to).step_by(JOB_BYTES).map(move |at| (at, JOB_BYTES.min(to - at)));
        let bytes = section.bytes as usize;
        match tensor.role {
            Role::QkvWeight | Role::QkvBias => {
                let row_bytes = tensor.row_bytes(self.config);
                let mut jobs = Vec::new();
                for head in qkv::head_rows(self.config) {
                    let (from, to) = (head.rows.start * row_bytes, head.rows.end * row_bytes);
                    match head.scale {
                        Some(scale) => jobs.push(job(from, to - from, Action::StoreHead(scale))),
                        None => jobs.extend(pieces(from, to).map(|(at, len)| job(at, len, Action::Copy))),
                    }
                }
                jobs
            }
            Role::Mlp1Scales | Role::Mlp2Scales => {
                pieces(0, bytes).map(|(at, len)| job(at, len, Action::OffsetScales)).collect()
            }
            _ => pieces(0, bytes).map(|(at, len)| job(at, len, Action::Copy)).collect(),
        }
    }

    fn run(&self, job: &Job, scratch: &mut Vec<u8>) -> Result<(), ExportError> {
        if self.progress.cancelled() {
            return Err(ExportError::Interrupted { path: self.path.into() });
        }
        let tensor = job.tensor;
        let source = self.source.read(tensor, job.range.clone())?;
        if let Cow::Borrowed(mapped) = &source {
            self.source.will_read(mapped);
        }
        let first = (job.range.start / tensor.role.dtype().bytes()) as u64;
        values::check(self.source.path(), tensor, &source, first)?;
        let stored = match job.action {
            Action::Copy => &source,
            Action::StoreHead(scale) => {
                scratch.resize(source.len(), 0);
                qkv::store_head(&source, scale, self.config.head_dim, scratch);
                scratch.as_slice()
            }
            Action::OffsetScales => {
                scratch.clear();
                // No overflow: the check above refused scales beyond the limit.
                scratch.extend(source.iter().map(|scale| scale + SCALE_OFFSET));
                scratch
            }
        };
        write_all_at(self.file, stored, job.offset).map_err(OutputError::of(self.path))?;
        self.progress.advance(stored.len() as u64);
        Ok(())
    }
}
