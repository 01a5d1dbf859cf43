//! Every group of cases, each one test.

use gptoss::verify::cases::GROUPS;
use gptoss::verify::{Level, Outcome};

/// Runs the groups of a level and demands that every check passed, and that there was one.
fn all_pass(level: Level) {
    for group in GROUPS.iter().filter(|group| group.level == level) {
        let checks = (group.run)();
        assert!(!checks.is_empty(), "{} checked nothing", group.name);
        for check in &checks {
            assert_eq!(check.outcome, Outcome::Pass, "{}: {}", check.name, check.detail);
        }
    }
}

#[test]
fn bytes() {
    all_pass(Level::Bytes);
}

#[test]
fn sabotage() {
    all_pass(Level::Sabotage);
}
