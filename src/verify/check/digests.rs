//! Digests of sections, against a manifest, against another checkpoint of the same files, or taken for the record.

use super::super::manifest::{FileDigests, Manifest, SectionDigest};
use super::super::outcome::{Check, Level, Outcome};
use crate::checkpoint::{NotExact, TensorId, WeightSource};
use crate::open::AnyCheckpoint;
use crate::telemetry::Progress;
use crate::verify::compare::digest::hex_sha256_of;

/// Takes the digests of `checkpoint` and compares them with what there is to compare them with.
///
/// With neither a manifest nor another checkpoint, nothing can be judged: each file is one skipped check that
/// carries its digest.
pub fn digest_checks(
    checkpoint: &AnyCheckpoint,
    manifest: Option<&Manifest>,
    other: Option<&dyn WeightSource>,
    progress: &dyn Progress,
) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(other) = other {
        checks.extend(tensor_digests(checkpoint.source(), other));
    }
    match manifest {
        Some(want) => {
            let found = Manifest::of(checkpoint, progress);
            checks.extend(against_manifest(want, &found));
        }
        None if other.is_none() => {
            let found = Manifest::of(checkpoint, progress);
            checks.extend(found.files.iter().map(taken));
        }
        None => {}
    }
    checks
}

/// A digest of a file's sections, for the record.
fn taken(file: &FileDigests) -> Check {
    let joined: Vec<&[u8]> = file.sections.iter().map(|section| section.sha256.as_bytes()).collect();
    let detail = format!(
        "{} bytes, {} sections, sections digest {}: taken, but nothing to compare it with; give --manifest or --against",
        file.bytes,
        file.sections.len(),
        hex_sha256_of(joined)
    );
    Check::new(format!("digests/{}", file.file), Level::Digests, Outcome::Skip, detail)
}

/// Every section of the manifest, and every file that it does not know.
fn against_manifest(want: &Manifest, found: &Manifest) -> Vec<Check> {
    let mut checks =
        vec![Check::equal("digests/layout", Level::Digests, want.layout.to_string(), found.layout.to_string())];
    // One file needs no name: a model.bin may have been renamed.
    let single = want.files.len() == 1 && found.files.len() == 1;
    for want_file in &want.files {
        match found.files.iter().find(|file| single || file.file == want_file.file) {
            Some(found_file) => checks.extend(file_checks(want_file, found_file)),
            None => {
                let name = format!("digests/{}", want_file.file);
                checks.push(Check::fail(name, Level::Digests, "in the manifest, not in the checkpoint"));
            }
        }
    }
    for file in found.files.iter().filter(|file| !single && !want.files.iter().any(|w| w.file == file.file)) {
        let name = format!("digests/{}", file.file);
        checks.push(Check::fail(name, Level::Digests, "in the checkpoint, not in the manifest"));
    }
    checks
}

fn file_checks(want: &FileDigests, found: &FileDigests) -> Vec<Check> {
    let file = &want.file;
    let mut checks = vec![Check::equal(format!("digests/{file}/bytes"), Level::Digests, want.bytes, found.bytes)];
    for section in &want.sections {
        let name = format!("digests/{file}/{}", section.name);
        let same_place = |s: &&SectionDigest| s.name == section.name && s.offset == section.offset;
        checks.push(match found.sections.iter().find(same_place) {
            Some(other) if other == section => Check::pass(name, Level::Digests, section.sha256.clone()),
            Some(other) => Check::fail(name, Level::Digests, section_difference(section, other)),
            None => Check::fail(name, Level::Digests, format!("no such section at offset {}", section.offset)),
        });
    }
    checks
}

fn section_difference(want: &SectionDigest, found: &SectionDigest) -> String {
    let wrong: Vec<&str> =
        want.parts.iter().zip(&found.parts).filter(|(w, f)| w != f).map(|(w, _)| w.name.as_str()).collect();
    match wrong.as_slice() {
        [] => format!("expected {}, found {}", want.sha256, found.sha256),
        [first, ..] => format!("{} of {} parts differ, first {first}", wrong.len(), want.parts.len()),
    }
}

/// One digest a tensor on both sides, in the form in which both can be had exactly.
fn tensor_digests(found: &dyn WeightSource, want: &dyn WeightSource) -> Vec<Check> {
    use rayon::prelude::*;
    let vocab_rows = found.vocab_rows().min(want.vocab_rows());
    TensorId::all(want.config())
        .into_par_iter()
        .map(|tensor| {
            let digest = |source: &dyn WeightSource, other: &dyn WeightSource| {
                let units = super::Unit::of(want.config(), tensor, vocab_rows);
                let pieces = units.iter().map(|unit| unit.comparable(source, other)).collect::<Result<Vec<_>, _>>()?;
                Ok::<_, NotExact>(hex_sha256_of(pieces.iter().map(|piece| piece.as_ref())))
            };
            let name = format!("digests/{tensor}");
            match (digest(want, found), digest(found, want)) {
                (Ok(want), Ok(found)) => Check::equal(name, Level::Digests, want, found),
                (Err(error), _) | (_, Err(error)) => {
                    let detail = format!("{error}: --level tensors judges it");
                    Check::new(name, Level::Digests, Outcome::Skip, detail)
                }
            }
        })
        .collect()
}
