//! A Markdown table, for a pull request, an issue or the README.

use std::io::{self, Write};

use super::super::outcome::Outcome;
use super::Report;

pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let counts: Vec<String> = report.counts().iter().filter(|&(_, n)| n > 0).map(|(o, n)| format!("{n} {o}")).collect();
    writeln!(out, "### `{}`: {} ({})\n", report.command, report.outcome(), counts.join(", "))?;
    if !report.checks.is_empty() {
        writeln!(out, "| check | outcome | detail |\n|---|---|---|")?;
    }
    for check in &report.checks {
        let outcome = match check.outcome {
            Outcome::Pass => "pass".to_string(),
            bad => format!("**{bad}**"),
        };
        let cause = check.looks_like.as_ref().map(|c| format!(" (looks like: {c})")).unwrap_or_default();
        writeln!(out, "| `{}` | {outcome} | {} |", check.name, cell(&format!("{}{cause}", check.detail)))?;
    }
    for note in &report.notes {
        writeln!(out, "\n> {note}")?;
    }
    Ok(())
}

/// Text that stays inside one cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', "<br>")
}
