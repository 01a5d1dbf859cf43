//! A checkpoint behind HTTP: its structure by its headers, its bytes by their recorded digests.

use sha2::{Digest, Sha256};

use super::{file_name, file_of, hashed, refused, traffic};
use crate::manifest::{FileDigests, Manifest, SectionDigest, hex};
use crate::open::AnyCheckpoint;
use crate::range::{RangeError, RangeSource, pieces};
use crate::remote::{Access, Contents, Remote, open};
use crate::telemetry::Progress;
use crate::verify::check::{o200k_tokenizer, opened};
use crate::verify::outcome::{Check, Level, Outcome};
use crate::verify::report::Report;

/// Checks what is at an address; `level` is structure or digests.
pub async fn run(
    address: &str,
    level: Level,
    manifest: Option<&Manifest>,
    access: &Access,
    progress: &dyn Progress,
) -> Report {
    let mut report = Report::new(format!("check {address}"), Vec::new());
    let remote = match open(address, access).await {
        Ok(remote) => remote,
        Err(error) => {
            report.checks.push(refused("structure/open", &error));
            return report;
        }
    };
    report.checks.extend(structure_checks(&remote));
    if let Contents::Model(model) = &remote.contents {
        report.notes.extend(model.warnings().iter().cloned());
    }
    for source in remote.files.iter().chain(&remote.texts) {
        let name = file_name(source.name());
        let checked = match manifest {
            Some(manifest) => against(source.as_ref(), file_of(manifest, source.name()), progress).await,
            None if level == Level::Digests => taken(source.as_ref(), progress).await.map(|check| vec![check]),
            None => Ok(Vec::new()),
        };
        match checked {
            Ok(checks) => report.checks.extend(checks),
            Err(error) => report.checks.push(refused(&format!("digests/{name}"), &error.into())),
        }
    }
    if let Some(manifest) = manifest {
        report.checks.extend(absent(manifest, &remote));
    }
    report.notes.push(traffic(access));
    report
}

fn structure_checks(remote: &Remote) -> Vec<Check> {
    match &remote.contents {
        Contents::Gguf(index) => {
            let (tensors, metadata) = (index.tensors.len(), index.metadata.len());
            let detail = format!("GGUF v{}, {tensors} tensors, {metadata} metadata entries", index.version);
            vec![Check::pass("structure/open", Level::Structure, detail)]
        }
        Contents::Model(model) => {
            let tokenizer = match model.as_ref() {
                AnyCheckpoint::ModelBin(model) => Some(o200k_tokenizer(model)),
                _ => None,
            };
            [opened("structure/open", model)].into_iter().chain(tokenizer).collect()
        }
    }
}

/// The digest of a whole file, for the record.
async fn taken(source: &dyn RangeSource, progress: &dyn Progress) -> Result<Check, RangeError> {
    let digest = hashed(source, 0..source.total_bytes(), progress).await?;
    let name = format!("digests/{}", file_name(source.name()));
    let bytes = source.total_bytes();
    let detail = format!("{bytes} bytes, SHA-256 {digest}: taken, but nothing to compare it with; give --manifest");
    Ok(Check::new(name, Level::Digests, Outcome::Skip, detail))
}

/// Every section that the manifest records of a file.
async fn against(
    source: &dyn RangeSource,
    want: Option<&FileDigests>,
    progress: &dyn Progress,
) -> Result<Vec<Check>, RangeError> {
    let file = file_name(source.name());
    let Some(want) = want else {
        return Ok(vec![Check::fail(format!("digests/{file}"), Level::Digests, "not in the manifest")]);
    };
    let total = source.total_bytes();
    let mut checks = vec![Check::equal(format!("digests/{file}/bytes"), Level::Digests, want.bytes, total)];
    // Between the recorded sections nothing may be left unread.
    let covered = want.ranges().iter().try_fold(0, |end, (range, _)| (range.start == end).then_some(range.end));
    if covered != Some(want.bytes) {
        let name = format!("digests/{file}/covered");
        checks.push(Check::fail(name, Level::Digests, "the manifest's sections do not cover the file"));
    }
    if checks.iter().all(|check| check.outcome == Outcome::Pass) {
        for section in &want.sections {
            checks.push(section_check(source, section, &format!("digests/{file}/{}", section.name), progress).await?);
        }
    }
    Ok(checks)
}

/// A section, by its own digest or by those of its parts.
async fn section_check(
    source: &dyn RangeSource,
    section: &SectionDigest,
    name: &str,
    progress: &dyn Progress,
) -> Result<Check, RangeError> {
    if section.parts.is_empty() {
        let range = section.offset..section.offset.saturating_add(section.bytes);
        let found = hashed(source, range, progress).await?;
        return Ok(Check::equal(name, Level::Digests, section.sha256.clone(), found));
    }
    let mut joined = Sha256::new();
    for part in &section.parts {
        let range = part.offset..part.offset.saturating_add(part.bytes);
        let found = pieces::sha256(source, range, |_| {}).await?;
        if hex(&found) != part.sha256 {
            let detail = format!("part {}: expected {}, found {}", part.name, part.sha256, hex(&found));
            return Ok(Check::fail(name, Level::Digests, detail));
        }
        joined.update(found);
    }
    Ok(Check::equal(name, Level::Digests, section.sha256.clone(), hex(&joined.finalize())))
}

/// Files that only the manifest knows.
fn absent(manifest: &Manifest, remote: &Remote) -> Vec<Check> {
    let is_there = |file: &FileDigests| {
        remote.files.iter().chain(&remote.texts).any(|source| file_name(source.name()) == file.file)
    };
    // One file needs no name: it may have been renamed.
    let lost = manifest.files.iter().filter(|file| manifest.files.len() > 1 && !is_there(file));
    let fail = |file: &FileDigests| {
        Check::fail(format!("digests/{}", file.file), Level::Digests, "in the manifest, not at the address")
    };
    lost.map(fail).collect()
}
