//! Faults of a server: what it sends is not what its file holds, or not of the version that it says.
//!
//! Headers give most of them away.  Where they are honest and the bytes are not, only digests can tell: each such fault names the
//! check of `gptoss-verify range` that must.

use std::sync::Arc;
use std::time::Duration;

use crate::manifest::Manifest;
use crate::range::{HttpOptions, http};
use crate::remote::Access;
use crate::telemetry::Silent;
use crate::verify::liar::{Answer, Content, Framing, Heard, Liar, Then};
use crate::verify::outcome::Check;
use crate::verify::remote::range::{Wanted, run};

/// The tensor that is read.
const TENSOR: &str = "model.layers.1.mlp.router.weight";
/// Requests before its first read: one opens, one tells the format, one reads the header.
const BEFORE: usize = 3;

/// One lying server.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// The checks that must catch it, all and only these.
    pub caught_by: &'static [&'static str],
    /// The typed error, where the client refuses an answer.
    pub error: Option<&'static str>,
    /// What it answers.
    pub answer: fn(&Content, &Heard) -> Answer,
}

/// Every lying server.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "served/range-ignored",
        about: "a server sends the whole file for a range",
        caught_by: &["range/open"],
        error: Some("range-ignored"),
        answer: |file, _| Answer { body: file.bytes.clone(), ..Answer::status(200).with("etag", &file.etag) },
    },
    Fault {
        name: "served/content-range-off-by-one",
        about: "a server sends, and says that it sends, the bytes one further on",
        caught_by: &["range/read"],
        error: Some("content-range"),
        answer: |file, heard| match read(heard) {
            None => file.honest(heard),
            Some(_) => {
                let mut late = heard.clone();
                let range = heard.range().map_or(0..1, |range| range.start + 1..range.end + 1);
                late.headers.insert("range".into(), format!("bytes={}-{}", range.start, range.end - 1));
                file.honest(&late)
            }
        },
    },
    Fault {
        name: "served/range-off-by-one",
        about: "a server sends the bytes one further on and says that they are those asked for",
        caught_by: &["range/manifest"],
        error: None,
        answer: |file, heard| match read(heard) {
            None => file.honest(heard),
            Some(_) => shifted(file, heard),
        },
    },
    Fault {
        name: "served/resumed-off-by-one",
        about: "a body breaks, and the rest is sent from one byte too far",
        caught_by: &["range/manifest"],
        error: None,
        answer: |file, heard| match read(heard) {
            None => file.honest(heard),
            // Every read is broken once: the first request of each two.
            Some(nth) if nth % 2 == 0 => {
                let honest = file.honest(heard);
                let whole = honest.body.len();
                let body = honest.body[..whole / 2].to_vec();
                Answer { body, framing: Framing::Claimed(whole), then: Then::Close, ..honest }
            }
            Some(_) => shifted(file, heard),
        },
    },
    Fault {
        name: "served/body-cut",
        about: "a body ends early and is said to be whole",
        caught_by: &["range/read"],
        error: Some("body-short"),
        answer: |file, heard| match read(heard) {
            None => file.honest(heard),
            Some(_) => Answer { body: Vec::new(), framing: Framing::Chunked, ..file.honest(heard) },
        },
    },
    Fault {
        name: "served/changed",
        about: "the file is replaced between two reads, and If-Range is not kept",
        caught_by: &["range/read"],
        error: Some("changed"),
        answer: |file, heard| match read(heard) {
            Some(nth) if nth > 0 => file.honest(heard).with("etag", "\"another\""),
            _ => file.honest(heard),
        },
    },
    Fault {
        name: "served/changed-under-its-etag",
        about: "the file is replaced between two reads and keeps its ETag",
        caught_by: &["range/repeat"],
        error: None,
        answer: |file, heard| match read(heard) {
            Some(nth) if nth > 0 => shifted(file, heard),
            _ => file.honest(heard),
        },
    },
    Fault {
        name: "served/compressed",
        about: "a server compresses what it sends",
        caught_by: &["range/open"],
        error: Some("encoded"),
        answer: |file, heard| file.honest(heard).with("content-encoding", "gzip"),
    },
];

/// How many requests for the tensor came before this one; `None` while the header is read.
fn read(heard: &Heard) -> Option<usize> {
    heard.nth.checked_sub(BEFORE)
}

/// The honest answer's head, and the body that begins one byte later.
fn shifted(file: &Content, heard: &Heard) -> Answer {
    let range = heard.range().unwrap_or(0..0);
    Answer { body: file.bytes[range.start + 1..range.end + 1].to_vec(), ..file.honest(heard) }
}

/// What `gptoss-verify range` says of a server that answers so.
///
/// # Errors
/// Where loopback cannot be listened on.
pub fn judge(
    file: &Arc<Content>,
    manifest: &Manifest,
    answer: fn(&Content, &Heard) -> Answer,
) -> std::io::Result<Vec<Check>> {
    let content = file.clone();
    let server = Liar::start(move |heard| answer(&content, heard))?;
    let wait = Duration::from_millis(1);
    let http = HttpOptions { backoff: wait, backoff_max: wait, ..HttpOptions::default() };
    let access = Access { http, cache: None };
    let wanted = Wanted { tensor: TENSOR.into(), repeat: 2, ..Wanted::default() };
    let url = server.url("/model.safetensors");
    let read = || http::wait(run(&url, &wanted, Some(manifest), &access, &Silent));
    // Each attempt that a liar breaks off is a warning to a user, and here what was asked for.
    let report = tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), read)?;
    // The port is another one each time; what is recorded is not.
    let unnamed = |check: Check| Check { detail: check.detail.replace(&server.url(""), "http://server"), ..check };
    Ok(report.checks.into_iter().map(unnamed).collect())
}
