//! The cases of `gptoss-verify run text`, each group one test.

use gptoss::verify::Outcome;
use gptoss::verify::cases::GROUPS;

fn all_pass(name: &str) {
    let group = GROUPS.iter().find(|group| group.name == name).expect("the group exists");
    let checks = (group.run)();
    assert!(!checks.is_empty(), "{name} checked nothing");
    for check in &checks {
        assert_eq!(check.outcome, Outcome::Pass, "{}: {}", check.name, check.detail);
    }
}

#[test]
fn tokenizer() {
    all_pass("text/tokenizer");
}

#[test]
fn harmony() {
    all_pass("text/harmony");
}

#[test]
fn sampling() {
    all_pass("text/sampling");
}

#[test]
fn constraint() {
    all_pass("text/constraint");
}

#[test]
fn engine() {
    all_pass("text/engine");
}
