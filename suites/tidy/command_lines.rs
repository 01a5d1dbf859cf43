//! What a person and a CI are told to run: the documents name what there is.

use crate::manifest::test_targets;
use crate::tree::{self, Violation, demand_none};

/// The scripts that README.md must name and that must exist.
const SCRIPTS: [&str; 2] = ["scripts/verify", "scripts/test"];

/// Words that a document lacks.
fn missing(path: &str, text: &str, wanted: &[String]) -> Vec<Violation> {
    let absent = wanted.iter().filter(|wanted| !text.contains(wanted.as_str()));
    absent.map(|wanted| Violation::new(path, 0, format!("does not mention {wanted}"))).collect()
}

/// CI.md names a suite as code: a bare word such as "bytes" would be found anywhere.
fn suites_told(path: &str, text: &str, manifest: &str) -> Vec<Violation> {
    let names: Vec<String> = test_targets(manifest).into_iter().map(|(name, _)| format!("`{name}`")).collect();
    missing(path, text, &names)
}

/// A line that runs the script, not one that talks about it.
fn calls(path: &str, text: &str, script: &str) -> Vec<Violation> {
    let is_call = |line: &str| !line.trim_start().starts_with('#') && line.contains(script);
    match text.lines().any(is_call) {
        true => Vec::new(),
        false => vec![Violation::new(path, 0, format!("does not call {script}"))],
    }
}

#[test]
fn a_document_that_leaves_out_a_name_is_told() {
    let wanted = SCRIPTS.map(String::from);
    let rule = |path: &str, text: &str| missing(path, text, &wanted);
    tree::tells_apart("README.md", &[(0, "run scripts/test")], &["scripts/verify, then scripts/test"], rule);
    let manifest = "[[test]]\nname = \"bytes\"\npath = \"suites/bytes/main.rs\"\n";
    let rule = |path: &str, text: &str| suites_told(path, text, manifest);
    tree::tells_apart("CI.md", &[(0, "40 bytes")], &["`bytes`: files byte for byte"], rule);
}

#[test]
fn a_call_is_told_from_a_comment() {
    let rule = |path: &str, text: &str| calls(path, text, "scripts/test");
    tree::tells_apart(".ci/run", &[(0, "# scripts/test\n"), (0, "")], &["exec scripts/test \"$@\"\n"], rule);
}

#[test]
fn the_documents_name_the_scripts_and_the_suites() {
    let manifest = tree::text_of("Cargo.toml");
    assert!(!test_targets(&manifest).is_empty(), "no suite was looked at");
    let mut violations = missing("README.md", &tree::text_of("README.md"), &SCRIPTS.map(String::from));
    violations.extend(suites_told("CI.md", &tree::text_of("CI.md"), &manifest));
    violations.extend(calls(".ci/run", &tree::text_of(".ci/run"), "scripts/test"));
    let absent = SCRIPTS.iter().filter(|script| !tree::root().join(script).is_file());
    violations.extend(absent.map(|script| Violation::new(script, 0, "does not exist")));
    demand_none(violations);
}
