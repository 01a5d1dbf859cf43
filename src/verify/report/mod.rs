//! The result of a run, and its four texts.

mod human;
mod json;
mod junit;
mod markdown;

use std::io;

use crate::exit::Exit;

use super::outcome::{Check, Counts, Outcome};
use super::resources::Resources;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person at a terminal.
    Human,
    /// One object, schema 1 (`schemas/report.schema.json`).
    Json,
    /// For CI systems.
    Junit,
    /// For a pull request or an issue.
    Markdown,
}

/// Everything a run found.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was run, as a person would type it.
    pub command: String,
    /// The checks, in order.
    pub checks: Vec<Check>,
    /// Facts beside the verdicts: warnings, coverage.
    pub notes: Vec<String>,
    /// Time and memory.
    pub resources: Option<Resources>,
}

impl Report {
    /// A report of these checks.
    pub fn new(command: impl Into<String>, checks: Vec<Check>) -> Report {
        Report { command: command.into(), checks, notes: Vec::new(), resources: None }
    }

    /// The worst outcome; a run without a single check has failed.
    pub fn outcome(&self) -> Outcome {
        self.checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Fail)
    }

    /// How many checks had each outcome.
    pub fn counts(&self) -> Counts {
        Counts::of(&self.checks)
    }

    /// The exit code: refused input over failure over nothing checked.
    pub fn exit(&self) -> Exit {
        let failed = |check: &&Check| check.outcome > Outcome::NoDevice;
        match self.checks.iter().filter(failed).count() {
            0 if self.checks.iter().any(|c| c.outcome == Outcome::NoDevice) => Exit::NoAdapter,
            0 if self.counts().get(Outcome::Pass) == 0 => Exit::NothingChecked,
            0 => Exit::Ok,
            n if n == self.checks.iter().filter(failed).filter(|c| c.error.is_some()).count() => Exit::Input,
            _ => Exit::Failed,
        }
    }

    /// Writes the report.
    pub fn write(&self, format: Format, out: &mut dyn io::Write) -> io::Result<()> {
        match format {
            Format::Human => human::write(self, out),
            Format::Json => json::write(self, out),
            Format::Junit => junit::write(self, out),
            Format::Markdown => markdown::write(self, out),
        }
    }
}
