//! Findings as a check: green with its smallest headroom, red with the table of stages up to the first that diverges.

use super::stages::{Finding, first_divergence};
use crate::verify::outcome::{Check, Level};

/// Budget over error above which a budget says little.
pub const LOOSE_HEADROOM: f64 = 50.0;

/// The verdict on a run over `positions` positions.
pub fn verdict(name: impl Into<String>, level: Level, findings: &[Finding], positions: usize) -> Check {
    if findings.is_empty() || positions == 0 {
        return Check::fail(name, level, "nothing was compared");
    }
    match first_divergence(findings) {
        Some(first) => Check::fail(name, level, table_until(findings, first)),
        None => {
            Check::pass(name, level, format!("{} stages at {positions} positions{}", findings.len(), room(findings)))
        }
    }
}

/// The smallest headroom, and where.
fn room(findings: &[Finding]) -> String {
    let inexact = findings.iter().filter(|f| f.budget > 0.0);
    let Some(least) = inexact.min_by(|a, b| a.headroom().total_cmp(&b.headroom())) else { return String::new() };
    match least.error == 0.0 {
        true => ", all exact".into(),
        false if least.headroom() > LOOSE_HEADROOM => {
            format!(", least headroom {:.0} at {} (loose)", least.headroom(), least.place())
        }
        false => format!(", least headroom {:.2} at {}", least.headroom(), least.place()),
    }
}

/// The stages up to the first over budget, one a line, the last in full.
fn table_until(findings: &[Finding], first: &Finding) -> String {
    let upto = findings.iter().take_while(|f| !std::ptr::eq(*f, first));
    let row = |f: &Finding| format!("{}: error {:.2e} of {:.2e}", f.place(), f.error, f.budget);
    let mut lines = vec!["first divergence:".to_string()];
    lines.extend(upto.map(row));
    lines.push(first.to_string());
    lines.join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::gpt_oss::stage::Stage;
    use crate::verify::outcome::Outcome;

    fn finding(stage: Stage, error: f64) -> Finding {
        Finding { stage, layer: Some(3), error, budget: 1e-5, at: (7, 9), expected: 1.0, found: 1.0 + error }
    }

    #[test]
    fn a_pass_says_how_close_it_was() {
        let check = verdict("x", Level::Logits, &[finding(Stage::Query, 2e-6), finding(Stage::Key, 4e-6)], 16);
        assert_eq!(
            (check.outcome, &*check.detail),
            (Outcome::Pass, "2 stages at 16 positions, least headroom 2.50 at layer 3 key")
        );
    }

    #[test]
    fn a_failure_shows_the_stages_up_to_the_first_and_no_further() {
        let findings = [finding(Stage::Query, 2e-6), finding(Stage::Key, 4e-3), finding(Stage::Value, 9.0)];
        let check = verdict("x", Level::Logits, &findings, 16);
        assert_eq!(check.outcome, Outcome::Fail);
        let lines: Vec<&str> = check.detail.lines().collect();
        assert_eq!(lines.len(), 3, "{}", check.detail);
        assert!(lines[2].contains("layer 3 key") && lines[2].contains("position 7, value 9"), "{}", check.detail);
    }

    #[test]
    fn nothing_compared_is_a_failure_and_nan_too() {
        assert_eq!(verdict("x", Level::Logits, &[], 16).outcome, Outcome::Fail);
        assert_eq!(verdict("x", Level::Logits, &[finding(Stage::Query, f64::NAN)], 1).outcome, Outcome::Fail);
    }
}
