//! `gptoss-verify range`: one tensor through ranges, hashed again and again, compared with what is known of it.
//!
//! | check             | says                                                                        |
//! |-------------------|-----------------------------------------------------------------------------|
//! | `range/open`      | the source answers as it must, and its header is that of a checkpoint       |
//! | `range/tensor`    | the tensor is there, and the length asked for lies in it                    |
//! | `range/repeat`    | every further read gives the SHA-256 of the first                           |
//! | `range/manifest`  | the whole tensor has the SHA-256 that the manifest records                  |
//! | `range/against`   | another source's tensor of that name has the same bytes                     |

use std::ops::Range;

use super::{file_of, hashed, refused, traffic};
use crate::manifest::{FileDigests, Manifest};
use crate::range::{RangeError, RangeSource};
use crate::remote::{Access, Placed, RemoteError, Skeleton, text};
use crate::telemetry::Progress;
use crate::verify::outcome::{Check, Level, Outcome};
use crate::verify::report::Report;

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The tensor's name.
    pub tensor: String,
    /// First byte, counted from the tensor's.
    pub offset: u64,
    /// Bytes; `None` reads to the tensor's end.
    pub len: Option<u64>,
    /// How often; at least once.
    pub repeat: u32,
    /// A source whose tensor of the same name must have the same bytes.
    pub against: Option<String>,
}

/// A tensor found in some file of a source.
struct Found<'a> {
    source: Box<dyn RangeSource + 'a>,
    format: &'static str,
    tensors: usize,
    placed: Option<Placed>,
}

/// Reads, hashes and compares.
pub async fn run(
    place: &str,
    wanted: &Wanted,
    manifest: Option<&Manifest>,
    access: &Access,
    progress: &dyn Progress,
) -> Report {
    let mut report = Report::new(format!("range {place} --tensor {}", wanted.tensor), Vec::new());
    let found = match find(place, &wanted.tensor, access).await {
        Ok(found) => found,
        Err(error) => {
            report.checks.push(refused("range/open", &error));
            return report;
        }
    };
    report.checks.push(opened(&found));
    let (range, placed) = match located(&found, wanted) {
        Ok(located) => located,
        Err(check) => {
            report.checks.push(*check);
            return report;
        }
    };
    let detail = format!("{} {:?}, bytes {}..{}", placed.dtype, placed.shape, range.start, range.end);
    report.checks.push(Check::pass("range/tensor", Level::Structure, detail));
    match compared(&found, &range, &placed, wanted, manifest, access, progress).await {
        Ok(checks) => report.checks.extend(checks),
        Err(error) => report.checks.push(refused("range/read", &error)),
    }
    report.notes.push(traffic(access));
    report
}

fn opened(found: &Found) -> Check {
    let version = found.source.version().map_or(String::new(), |version| format!(", version {version}"));
    let (format, bytes, tensors) = (found.format, found.source.total_bytes(), found.tensors);
    Check::pass(
        "range/open",
        Level::Structure,
        format!("{}: {format}, {bytes} bytes, {tensors} tensors{version}", found.source.name()),
    )
}

/// The range that is asked for, in the file.
fn located(found: &Found, wanted: &Wanted) -> Result<(Range<u64>, Placed), Box<Check>> {
    let name = &wanted.tensor;
    let fail =
        |detail: String, error: &str| Box::new(Check::fail("range/tensor", Level::Structure, detail).with_error(error));
    let Some(placed) = &found.placed else {
        return Err(fail(format!("{}: there is no tensor `{name}`", found.source.name()), "tensor-missing"));
    };
    let Some(whole) = &placed.range else {
        return Err(fail(
            format!("tensor `{name}`: the size of type {} is not known", placed.dtype),
            "type-unsupported",
        ));
    };
    let bytes = whole.end - whole.start;
    let len = wanted.len.unwrap_or(bytes.saturating_sub(wanted.offset));
    match wanted.offset.checked_add(len) {
        Some(end) if end <= bytes && len > 0 => Ok((whole.start + wanted.offset..whole.start + end, placed.clone())),
        _ => {
            let detail = format!("tensor `{name}` has {bytes} bytes; {len} from {} were asked for", wanted.offset);
            Err(fail(detail, "out-of-range"))
        }
    }
}

async fn compared(
    found: &Found<'_>,
    range: &Range<u64>,
    placed: &Placed,
    wanted: &Wanted,
    manifest: Option<&Manifest>,
    access: &Access,
    progress: &dyn Progress,
) -> Result<Vec<Check>, RemoteError> {
    let mut checks = Vec::new();
    let first = hashed(found.source.as_ref(), range.clone(), progress).await?;
    checks.push(
        repeated(&first, wanted.repeat, async || hashed(found.source.as_ref(), range.clone(), progress).await).await?,
    );
    if let Some(manifest) = manifest {
        let file = file_of(manifest, found.source.name());
        checks.push(recorded(file, placed, range, &first));
    }
    if let Some(other) = &wanted.against {
        let other = find(other, &wanted.tensor, access).await?;
        checks.push(match located(&other, wanted) {
            Err(check) => Check { name: "range/against".into(), ..*check },
            Ok((range, _)) => {
                let second = hashed(other.source.as_ref(), range, progress).await?;
                Check::equal("range/against", Level::Digests, second, first.clone())
            }
        });
    }
    Ok(checks)
}

/// Reads again, and says how often the digest was that of the first read.
async fn repeated(
    first: &str,
    repeat: u32,
    again: impl AsyncFn() -> Result<String, RangeError>,
) -> Result<Check, RangeError> {
    let name = "range/repeat";
    for time in 1..repeat.max(1) {
        let found = again().await?;
        if found != first {
            let detail = format!("read {}: expected {first}, found {found}", time + 1);
            return Ok(Check::fail(name, Level::Digests, detail));
        }
    }
    Ok(match repeat {
        0 | 1 => Check::new(name, Level::Digests, Outcome::Skip, format!("{first}: read once; give --repeat")),
        _ => Check::pass(name, Level::Digests, format!("{first}, {repeat} times")),
    })
}

fn recorded(file: Option<&FileDigests>, placed: &Placed, range: &Range<u64>, found: &str) -> Check {
    let name = "range/manifest";
    let want = file.and_then(|file| file.ranges().into_iter().find(|(recorded, _)| recorded == range));
    match want {
        Some((_, want)) => Check::equal(name, Level::Digests, want, found.to_string()),
        None if placed.range.as_ref() != Some(range) => Check::new(
            name,
            Level::Digests,
            Outcome::Skip,
            "a manifest has digests of whole tensors only: leave --len out",
        ),
        None => {
            Check::fail(name, Level::Digests, format!("it records nothing for bytes {}..{}", range.start, range.end))
        }
    }
}

/// The file of `place` that holds a tensor: `place` itself, or, where it ends in a slash, a file of that directory.
async fn find<'a>(place: &str, tensor: &str, access: &'a Access) -> Result<Found<'a>, RemoteError> {
    let is_directory = place.ends_with('/') || std::path::Path::new(place).is_dir();
    let place = match is_directory {
        true => file_in(place.trim_end_matches('/'), tensor, access).await?,
        false => place.to_string(),
    };
    let source = access.open(&place).await?;
    let skeleton = Skeleton::read(source.as_ref()).await?;
    let tensors = skeleton.tensors();
    let count = tensors.len();
    let placed = tensors.into_iter().find(|placed| placed.name == tensor);
    Ok(Found { format: skeleton.format(), tensors: count, placed, source })
}

/// Which SafeTensors file of a directory holds a tensor, as its index says; without an index there is one file.
async fn file_in(directory: &str, tensor: &str, access: &Access) -> Result<String, RemoteError> {
    let index = match access.open(&format!("{directory}/model.safetensors.index.json")).await {
        Ok(source) => text(source.as_ref()).await?,
        Err(RangeError::Status { status: 404, .. } | RangeError::Io { .. }) => {
            return Ok(format!("{directory}/model.safetensors"));
        }
        Err(error) => return Err(error.into()),
    };
    let index: serde_json::Value = serde_json::from_slice(&index)
        .map_err(|source| crate::checkpoint::CheckpointError::IndexJson { path: directory.into(), source })?;
    let file = index["weight_map"][tensor].as_str().filter(|file| !file.contains(['/', '\\']));
    Ok(format!("{directory}/{}", file.unwrap_or("model.safetensors")))
}
