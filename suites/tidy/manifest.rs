//! Cargo.toml: nothing is depended on, and no profile set, without saying why; every suite is a target; one build of
//! the dependencies serves programs and suites.

use std::collections::BTreeMap;
use std::process::Command;

use crate::tree::{self, Violation, demand_none};

fn dependencies(path: &str, text: &str) -> Vec<Violation> {
    let mut section = "";
    let mut found = Vec::new();
    for (line, at) in text.lines().zip(1..) {
        let is_header = line.starts_with('[');
        if is_header {
            section = line;
        }
        // `[dependencies]` lists them line by line; `[dependencies.a]` is one.
        let is_list = section.contains("dependencies]");
        let is_one = section.contains("dependencies.");
        let names_one = if is_header { is_one } else { is_list && line.starts_with(|c: char| c.is_alphanumeric()) };
        if names_one && !line.contains(" # ") {
            found.push(Violation::new(path, at, "a dependency without a comment that says why"));
        }
    }
    found
}

fn profiles(path: &str, text: &str) -> Vec<Violation> {
    let lines: Vec<&str> = text.lines().collect();
    let is_bare = |&at: &usize| {
        let above = at.checked_sub(1).map_or("", |above| lines[above]);
        let body = lines[at + 1..].iter().take_while(|line| !line.is_empty() && !line.starts_with('['));
        !above.starts_with('#') && !lines[at].contains('#') && !body.into_iter().any(|line| line.contains('#'))
    };
    let bare = (0..lines.len()).filter(|&at| lines[at].starts_with("[profile.")).filter(is_bare);
    bare.map(|at| Violation::new(path, at + 1, "a profile without a comment that says why")).collect()
}

/// Names of the `[[test]]` targets, with the folder under `suites/` that each takes its files from.
pub(crate) fn test_targets(manifest: &str) -> Vec<(String, String)> {
    let value = |body: &str, key: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_string()
    };
    let bodies = manifest.split("[[test]]\n").skip(1);
    bodies.map(|body| (value(body, "name"), value(body, "path"))).collect()
}

/// Suites that are no target are never run: `autotests` is off.
fn unlisted(mains: &[String], manifest: &str) -> Vec<Violation> {
    let targets = test_targets(manifest);
    let is_listed = |main: &str| targets.iter().any(|(_, path)| path == main);
    let lost = mains.iter().filter(|main| !is_listed(main));
    lost.map(|main| Violation::new(main, 0, "no [[test]] of Cargo.toml runs this suite")).collect()
}

/// Packages with their features, one line each, as `cargo tree` resolves them for these kinds of dependencies.
fn resolved(edges: &str) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p}|{f}", "--edges", edges];
    let output = Command::new(cargo).args(args).current_dir(tree::root()).output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// Packages that a suite wants with other features than a program does: they, and all that use them, are built twice.
fn built_twice(programs: &str, suites: &str) -> Vec<Violation> {
    let of = |tree: &str| -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::<String, Vec<String>>::new();
        for line in tree.lines().map(|line| line.trim_end_matches(" (*)")) {
            let (package, features) = line.split_once('|').unwrap_or((line, ""));
            let known = found.entry(package.into()).or_default();
            if !known.iter().any(|other| other == features) {
                known.push(features.into());
            }
        }
        found.values_mut().for_each(|features| features.sort());
        found
    };
    let (programs, suites) = (of(programs), of(suites));
    let other = programs.iter().filter(|&(package, features)| suites.get(package) != Some(features));
    let what = |(package, features): (&String, &Vec<String>)| {
        let (here, there) = (features.join("; "), suites.get(package).map_or(String::new(), |all| all.join("; ")));
        format!("{package}: `cargo build` wants [{here}], `cargo test` [{there}]: ask for the same in [dependencies]")
    };
    other.map(|found| Violation::new("Cargo.toml", 0, what(found))).collect()
}

#[test]
fn a_package_that_is_built_twice_is_told() {
    let programs = "a v1|std\nb v1|\nb v1| (*)\n";
    assert_eq!(built_twice(programs, "a v1|std\nb v1|\nc v1|std\n"), []);
    assert_eq!(built_twice(programs, "a v1|serde,std\nb v1|\n").len(), 1, "another feature");
    assert_eq!(built_twice("a v1|\na v1|std\n", "a v1|std\na v1| (*)\n"), [], "two builds on both sides");
}

#[test]
fn one_build_serves_programs_and_suites() {
    let (programs, suites) = (resolved("normal,build"), resolved("normal,build,dev"));
    assert!(programs.lines().count() > 10, "no package was looked at");
    demand_none(built_twice(&programs, &suites));
}

#[test]
fn a_dependency_without_a_reason_is_told() {
    let bad = [
        (2, "[dependencies]\na = \"1\"\n"),
        (3, "[dev-dependencies]\na = \"1\" # why\nb = { version = \"1\" }\n"),
        (1, "[dependencies.a]\nversion = \"1\"\n"),
        (2, "[target.'cfg(unix)'.dependencies]\na = \"1\"\n"),
    ];
    let good = [
        "[package]\na = \"1\"\n[dependencies]\nb = \"1\"  # why\n[lints.rust]\nc = \"d\"\n",
        "[dependencies.a] # why\nb = 1\n",
    ];
    tree::tells_apart("Cargo.toml", &bad, &good, dependencies);
}

#[test]
fn a_profile_without_a_reason_is_told() {
    let bad =
        [(2, "[lib]\n[profile.a]\nb = 1\n[profile.c] # why\n"), (3, "# why\n\n[profile.a]\nb = 1\n\n# next\n[lib]\n")];
    let good = ["# why\n[profile.a]\nb = 1\n", "[profile.a]\nb = 1 # why\n", "[profile.a]\n# why\nb = 1\n"];
    tree::tells_apart("Cargo.toml", &bad, &good, profiles);
}

#[test]
fn a_suite_that_is_no_target_is_told() {
    let manifest =
        "[[test]]\nname = \"a\"\npath = \"suites/a/main.rs\"\n\n[[test]]\nname = \"b\"\npath = \"suites/b/main.rs\"\n";
    assert_eq!(test_targets(manifest)[1], ("b".to_string(), "suites/b/main.rs".to_string()));
    assert_eq!(unlisted(&["suites/a/main.rs".into()], manifest), []);
    assert_eq!(unlisted(&["suites/c/main.rs".into()], manifest).len(), 1);
}

#[test]
fn every_dependency_and_profile_says_why() {
    let manifest = tree::files("Cargo.toml", "");
    tree::apply(&manifest, dependencies);
    tree::apply(&manifest, profiles);
}

#[test]
fn every_suite_is_run() {
    let mains: Vec<String> = tree::files("suites/", "/main.rs").into_iter().map(|file| file.path).collect();
    assert!(!mains.is_empty(), "no suite was looked at");
    demand_none(unlisted(&mains, &tree::text_of("Cargo.toml")));
}
