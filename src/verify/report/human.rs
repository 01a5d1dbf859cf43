//! For a person: failures in full, passes as counts, the next command at the end.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::super::outcome::{Check, Outcome};
use super::Report;

/// Passing checks listed one by one; more are summed up by group.
const LISTED_MAX: usize = 24;

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (bad, good): (Vec<&Check>, Vec<&Check>) = report.checks.iter().partition(|c| c.outcome > Outcome::Skip);
    let (skipped, passed): (Vec<&Check>, Vec<&Check>) = good.into_iter().partition(|c| c.outcome == Outcome::Skip);
    match passed.len() <= LISTED_MAX {
        true => passed.iter().try_for_each(|check| line(check, out))?,
        false => groups(&passed, out)?,
    }
    for check in skipped.iter().chain(&bad) {
        line(check, out)?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    let counts = report.counts();
    let counts: Vec<String> =
        counts.iter().filter(|&(o, n)| n > 0 || o <= Outcome::Pass).map(|(o, n)| format!("{n} {o}")).collect();
    let verdict = report.outcome();
    let style = style_of(verdict);
    write!(out, "{style}{verdict}{style:#}: {}", counts.join(", "))?;
    if let Some(resources) = &report.resources {
        write!(out, " in {:.1} s", resources.wall_seconds)?;
        if let Some(bytes) = resources.peak_resident_bytes {
            write!(out, ", peak {} MiB resident", bytes >> 20)?;
        }
    }
    writeln!(out)?;
    if report.checks.is_empty() {
        writeln!(out, "nothing was checked")?;
    }
    if let Some(check) = bad.first() {
        writeln!(out, "next: gptoss-verify explain {}", check.name)?;
    }
    Ok(())
}

fn line(check: &Check, out: &mut dyn Write) -> io::Result<()> {
    let style = style_of(check.outcome);
    writeln!(out, "{style}{:>5}{style:#}  {}  {}", check.outcome, check.name, check.detail)?;
    if let Some(cause) = &check.looks_like {
        writeln!(out, "       looks like: {cause}")?;
    }
    Ok(())
}

/// Sums up by the first two parts of the name.
fn groups(passed: &[&Check], out: &mut dyn Write) -> io::Result<()> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for check in passed {
        let group: Vec<&str> = check.name.split('/').take(2).collect();
        let group = match group.as_slice() {
            // A tensor's name is a leaf, not a group.
            [level, tensor] if tensor.contains('.') => format!("{level}/*"),
            parts => parts.join("/"),
        };
        *counts.entry(group).or_default() += 1;
    }
    let style = style_of(Outcome::Pass);
    counts.iter().try_for_each(|(group, count)| writeln!(out, "{style} pass{style:#}  {group}  {count} check(s)"))
}

fn style_of(outcome: Outcome) -> Style {
    let colour = match outcome {
        Outcome::Pass => AnsiColor::Green,
        Outcome::Skip => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    };
    Style::new().fg_color(Some(colour.into())).bold()
}
