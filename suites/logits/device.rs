//! Every group of device checks, each one test.

use gptoss::verify::cases::GROUPS;
use gptoss::verify::{Level, Outcome};

fn all_pass(name: &str) {
    let group = GROUPS.iter().find(|group| group.name == name).expect("the group exists");
    let checks = (group.run)();
    assert!(!checks.is_empty(), "{name} checked nothing");
    let red = |check: &&gptoss::verify::Check| check.outcome != Outcome::Pass;
    let text = |c: &gptoss::verify::Check| format!("{} {}: {} {:?}", c.outcome, c.name, c.detail, c.looks_like);
    let red: Vec<String> = checks.iter().filter(red).map(text).collect();
    assert!(red.is_empty(), "{}", red.join("\n"));
}

macro_rules! groups {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                all_pass($name);
            }
        )*

        const NAMES: &[&str] = &[$($name),*];
    };
}

groups! {
    oracle_against_witness: "logits/witness",
    device_against_witness: "logits/device-witness",
    stages: "logits/stages",
    formats: "logits/formats",
    gguf: "logits/gguf",
    families: "logits/families",
    kv_f16: "logits/kv-f16",
    rope: "logits/rope",
    sessions: "logits/sessions",
    batches: "logits/batches",
    traces: "logits/traces",
}

#[test]
fn no_group_is_left_out() {
    let of_level = GROUPS.iter().filter(|group| group.level == Level::Logits).map(|group| group.name);
    // The headroom is judged beside the catalogue, in the suite `bytes`.
    let expected: Vec<_> = of_level.filter(|name| *name != "logits/headroom").collect();
    assert_eq!(expected, NAMES);
}
