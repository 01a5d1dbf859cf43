//! What a check can say, and how many say what.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// The verdict of one check.  Ordered: the worst of a run is the run's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The promise held.
    Pass,
    /// Not checked, for a stated reason that is no defect.
    Skip,
    /// Not checked: no adapter could run it.
    NoDevice,
    /// Not checked: what it should be compared with is not there.
    MissingGolden,
    /// What was recorded as failing passed.
    UnexpectedPass,
    /// The promise did not hold.
    Fail,
}

impl Outcome {
    /// Every outcome, best first.
    pub const ALL: [Outcome; 6] = [
        Outcome::Pass,
        Outcome::Skip,
        Outcome::NoDevice,
        Outcome::MissingGolden,
        Outcome::UnexpectedPass,
        Outcome::Fail,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Skip => "skip",
            Outcome::NoDevice => "no-device",
            Outcome::MissingGolden => "missing-golden",
            Outcome::UnexpectedPass => "unexpected-pass",
            Outcome::Fail => "fail",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Headers, names, shapes, sizes.
    Structure,
    /// SHA-256 of sections and tensors.
    Digests,
    /// Files byte for byte.
    Bytes,
    /// Values of tensors and codecs.
    Tensors,
    /// Kernels on slices of the weights.
    Kernels,
    /// Logits of the whole model.
    Logits,
    /// Ids, messages, draws, sequences among others.
    Text,
    /// Ceilings and floors of memory.
    Memory,
    /// Faults that a named check must catch.
    Sabotage,
}

impl Level {
    /// The name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Structure => "structure",
            Level::Digests => "digests",
            Level::Bytes => "bytes",
            Level::Tensors => "tensors",
            Level::Kernels => "kernels",
            Level::Logits => "logits",
            Level::Text => "text",
            Level::Memory => "memory",
            Level::Sabotage => "sabotage",
        }
    }
}

/// One promise and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Path-like name, stable: `tensors/block.0.attn.sinks`.
    pub name: String,
    /// What it is about.
    pub level: Level,
    /// The verdict.
    pub outcome: Outcome,
    /// What was compared, or where it first differs.
    pub detail: String,
    /// The typed error's name, where an input was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The known fault that gives exactly this difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks_like: Option<String>,
}

impl Check {
    /// A check with a verdict.
    pub fn new(name: impl Into<String>, level: Level, outcome: Outcome, detail: impl Into<String>) -> Check {
        Check { name: name.into(), level, outcome, detail: detail.into(), error: None, looks_like: None }
    }

    /// A check that passed.
    pub fn pass(name: impl Into<String>, level: Level, detail: impl Into<String>) -> Check {
        Check::new(name, level, Outcome::Pass, detail)
    }

    /// A check that failed.
    pub fn fail(name: impl Into<String>, level: Level, detail: impl Into<String>) -> Check {
        Check::new(name, level, Outcome::Fail, detail)
    }

    /// A check of whether two descriptions agree.
    pub fn equal<T: PartialEq + fmt::Display>(name: impl Into<String>, level: Level, want: T, found: T) -> Check {
        match want == found {
            true => Check::pass(name, level, found.to_string()),
            false => Check::fail(name, level, format!("expected {want}, found {found}")),
        }
    }

    /// The same check with the typed error's name.
    pub fn with_error(mut self, error: &str) -> Check {
        self.error = Some(error.into());
        self
    }

    /// The same check with its likely cause.
    pub fn with_looks_like(mut self, cause: Option<String>) -> Check {
        self.looks_like = cause;
        self
    }
}

/// How many checks had each outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<Outcome, usize>);

impl Counts {
    /// Counts checks; every outcome is listed, also at zero.
    pub fn of(checks: &[Check]) -> Counts {
        let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
        Counts(Outcome::ALL.into_iter().map(|outcome| (outcome, count(outcome))).collect())
    }

    /// Checks with that outcome.
    pub fn get(&self, outcome: Outcome) -> usize {
        self.0.get(&outcome).copied().unwrap_or(0)
    }

    /// Outcomes and their counts, best first.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, usize)> + '_ {
        self.0.iter().map(|(&outcome, &count)| (outcome, count))
    }
}
