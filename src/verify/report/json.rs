//! One object, schema 1.

use std::io::{self, Write};

use serde::Serialize;

use super::super::outcome::{Check, Counts, Outcome};
use super::super::resources::Resources;
use super::Report;

/// Version of the object's shape; changes only with a field that old readers would misread.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    command: &'a str,
    outcome: Outcome,
    counts: Counts,
    checks: &'a [Check],
    notes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<&'a Resources>,
}

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let json = Json {
        schema: SCHEMA,
        command: &report.command,
        outcome: report.outcome(),
        counts: report.counts(),
        checks: &report.checks,
        notes: &report.notes,
        resources: report.resources.as_ref(),
    };
    serde_json::to_writer_pretty(&mut *out, &json)?;
    writeln!(out)
}
