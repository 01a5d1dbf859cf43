//! Malformed inputs through the program itself: refused by name, at once, in little memory.

use gptoss::verify::reject::{self, Base, When};

use crate::program::{gptoss, verify};

/// A refusal needs less CPU time (the clock also counts what the machine does besides); a reader that loops or swallows the
/// input needs more.
const SECONDS_MAX: f64 = 1.0;
const RESIDENT_BYTES_MAX: u64 = 100 << 20;

#[test]
fn every_malformed_input_is_refused_by_name_within_a_second_and_100_mib() {
    let rejects = reject::all();
    assert!(rejects.len() >= 80);
    for reject in rejects.iter().filter(|reject| reject.when != When::Export && !reject.base.is_gguf()) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = reject.build(directory.path()).expect("the recipe applies");
        let ran = verify(&["check", path.to_str().expect("UTF-8"), "--format", "json"]);
        // A model.bin with a small vocabulary also fails the tokenizer check, which is no refusal of the input.
        let code = if (reject.base, reject.when) == (Base::ModelBin, When::Values) { 1 } else { 3 };
        assert_eq!(ran.code, code, "{}: {}", reject.name, ran.stdout);
        let report = ran.json();
        let checks = report["checks"].as_array().expect("a list");
        assert!(checks.iter().any(|check| check["error"] == reject.error.as_str()), "{}: {checks:?}", reject.name);
        let resources = &report["resources"];
        if let Some(seconds) = resources["cpu_seconds"].as_f64() {
            assert!(seconds < SECONDS_MAX, "{}: {seconds} s", reject.name);
        }
        if let Some(bytes) = resources["peak_resident_bytes"].as_u64() {
            assert!(bytes < RESIDENT_BYTES_MAX, "{}: {bytes} bytes", reject.name);
        }
    }
}

#[test]
fn a_refused_export_writes_nothing_and_keeps_what_was_there() {
    for reject in reject::all().iter().filter(|reject| reject.when == When::Export) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = reject.build(directory.path()).expect("the recipe applies");
        let outputs = tempfile::tempdir().expect("a temporary directory");
        let to = outputs.path().join("model.bin");
        std::fs::write(&to, "the previous export").expect("written");
        let from = path.to_str().expect("UTF-8");
        let ran = gptoss(&["export", "--from", from, "--to", to.to_str().expect("UTF-8")]);
        assert!([2, 3].contains(&ran.code) && ran.stderr.contains("next: "), "{}: {}", reject.name, ran.stderr);
        assert_eq!(std::fs::read(&to).expect("still there"), b"the previous export", "{}", reject.name);
        assert_eq!(crate::program::names(outputs.path()), ["model.bin"], "{}", reject.name);
    }
}

/// A GGUF that is no model is inspected.  That readers take little heap for it is shown in the suite of bytes.
#[test]
fn every_malformed_gguf_is_refused_by_name() {
    let rejects: Vec<_> = reject::all().into_iter().filter(|reject| reject.base.is_gguf()).collect();
    assert!(rejects.len() >= 60, "{} malformed GGUFs", rejects.len());
    for reject in rejects.iter().filter(|reject| reject.when == When::Open) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = reject.build(directory.path()).expect("the recipe applies");
        let ran = verify(&["inspect", path.to_str().expect("UTF-8")]);
        let next = format!("next: gptoss-verify explain {}\n", reject.error);
        assert!(ran.code == 3 && ran.stderr.ends_with(&next), "{}: {} {}", reject.name, ran.code, ran.stderr);
        assert!(reject.mentions.iter().all(|text| ran.stderr.contains(text)), "{}: {}", reject.name, ran.stderr);
        assert_eq!(ran.stdout, "", "{}", reject.name);
    }
}
