//! Every group of device checks, each one test.

use gptoss::verify::Outcome;
use gptoss::verify::cases::GROUPS;

fn all_pass(name: &str) {
    let group = GROUPS.iter().find(|group| group.name == name).expect("the group exists");
    let checks = (group.run)();
    assert!(!checks.is_empty(), "{name} checked nothing");
    let red = |check: &&gptoss::verify::Check| check.outcome != Outcome::Pass;
    let text = |c: &gptoss::verify::Check| format!("{} {}: {} {:?}", c.outcome, c.name, c.detail, c.looks_like);
    let red: Vec<String> = checks.iter().filter(red).map(text).collect();
    assert!(red.is_empty(), "{}", red.join("\n"));
}

#[test]
fn device_against_witness() {
    all_pass("logits/device-witness");
}

#[test]
fn oracle_against_witness() {
    all_pass("logits/witness");
}

#[test]
fn stages() {
    all_pass("logits/stages");
}

#[test]
fn formats() {
    all_pass("logits/formats");
}

#[test]
fn families() {
    all_pass("logits/families");
}

#[test]
fn batches() {
    all_pass("logits/batches");
}

#[test]
fn traces() {
    all_pass("logits/traces");
}

#[test]
fn rope() {
    all_pass("logits/rope");
}

#[test]
fn sessions() {
    all_pass("logits/sessions");
}

#[test]
fn kv_f16() {
    all_pass("logits/kv-f16");
}
