//! The four texts of a report: JSON fits its schema, the others hold what they must, colour stays on terminals.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{Bench, run, verify};

fn schema() -> jsonschema::Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/report.schema.json");
    let text = std::fs::read_to_string(path).expect("the schema is there");
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
}

#[test]
fn json_reports_of_every_kind_fit_the_schema() {
    let (bench, schema) = (Bench::new("small-vocab"), schema());
    let (original, absent) = (bench.path("original"), bench.path("absent"));
    let commands: [&[&str]; 6] = [
        &["run", "sabotage", "--format", "json"],
        &["run", "memory", "--format", "json"],
        &["check", &original, "--format", "json"],
        &["check", &original, "--level", "digests", "--format", "json"],
        &["check", &absent, "--format", "json"],
        &["goldens", "check", "--format", "json"],
    ];
    for command in commands {
        let report = verify(command).json();
        let errors: Vec<String> = schema.iter_errors(&report).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{command:?}: {errors:?}");
        let checks = report["checks"].as_array().expect("a list").len() as u64;
        let counted: u64 = report["counts"].as_object().expect("an object").values().filter_map(Value::as_u64).sum();
        assert_eq!(checks, counted, "{command:?}");
    }
}

#[test]
fn the_schema_refuses_what_is_no_report() {
    let schema = schema();
    let counts = json!({"pass": 1, "skip": 0, "no-device": 0, "missing-golden": 0, "unexpected-pass": 0, "fail": 0});
    let check = json!({"name": "a", "level": "bytes", "outcome": "pass", "detail": ""});
    let good = json!({
        "schema": 1, "command": "x", "outcome": "pass", "counts": counts, "checks": [check], "notes": []
    });
    assert!(schema.is_valid(&good));
    for (pointer, value) in [
        ("/schema", json!(2)),
        ("/outcome", json!("green")),
        ("/counts/pass", json!(-1)),
        ("/checks/0/level", json!("vibes")),
        ("/checks/0/name", json!("")),
        ("/notes", json!("none")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("the pointer is right") = value;
        assert!(!schema.is_valid(&bad), "{pointer}");
    }
}

#[test]
fn junit_and_markdown_hold_every_check_and_the_report_file_is_whole() {
    let bench = Bench::new("small-vocab");
    let report = bench.path("report.xml");
    let ran = verify(&["check", &bench.path("original"), "--format", "junit", "--report", &report]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("pass: "), "stdout is for a person: {}", ran.stdout);
    let xml = std::fs::read_to_string(&report).expect("the report was written");
    assert!(xml.contains("<testsuite name=\"tensors\"") && xml.contains("tensors/block.3.mlp.mlp2_bias"), "{xml}");
    let markdown = verify(&["run", "sabotage", "--format", "markdown"]).stdout;
    assert!(markdown.contains("| `sabotage/qkv/q-scale-missing` | pass |"), "{markdown}");
}

#[test]
fn nothing_but_a_terminal_gets_colour() {
    let bench = Bench::new("small-vocab");
    for variable in ["NO_COLOR", "UNRELATED"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gptoss-verify"));
        let ran = run(command.args(["check", &bench.path("original")]).env(variable, "1"));
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{}", ran.stdout);
    }
}

/// The first difference as a person reads it: place, both sides, marks, values.
#[test]
fn diff_shows_bytes_marks_and_values() {
    let bench = Bench::new("small-vocab");
    let changed = bench.fixture("small-vocab", "changed", &[]);
    let file = bench.file("changed/model.safetensors");
    let mut bytes = std::fs::read(&file).expect("read");
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    bytes[start + 37] ^= 0x80; // element 18 of the first tensor, block.0.attn.norm.scale: its sign
    std::fs::write(&file, bytes).expect("written");
    let ran = verify(&["diff", &bench.path("original"), &changed]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(ran.stdout);
}
