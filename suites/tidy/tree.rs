//! The files that rules look at, and how a rule is applied and is itself tested.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders of the checkout that hold our files; anything else there (build output, an environment) is not ours.
const FOLDERS: [&str; 6] = [".ci", "fixtures", "goldens", "scripts", "src", "suites"];
/// Folders that programs leave behind inside ours.
const LEFT_BEHIND: [&str; 2] = ["__pycache__", "target"];

/// One place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// Line, from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) what: String,
}

impl Violation {
    /// A violation at a line.
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Violation {
        Violation { path: path.into(), line, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A file of the tree.
#[derive(Clone)]
pub(crate) struct File {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// Contents.
    pub(crate) bytes: Vec<u8>,
}

impl File {
    /// The text; `None` for a binary file.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// The checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of one file; an absent one reads as empty, so that the rule that needs it says what it misses.
pub(crate) fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Files whose path begins and ends so.
pub(crate) fn files(start: &str, end: &str) -> Vec<File> {
    read(walk().into_iter().filter(|path| path.starts_with(start) && path.ends_with(end)))
}

/// Every Rust file.
pub(crate) fn rust_files() -> Vec<File> {
    files("", ".rs")
}

/// Files that git tracks; without git, or before the first commit, the files of our folders.
pub(crate) fn tracked() -> Vec<File> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let listed = listed.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    let names: Vec<String> = String::from_utf8_lossy(&listed).split_terminator('\0').map(String::from).collect();
    read(if names.is_empty() { walk() } else { names }.into_iter())
}

/// Reads what is still there: a tracked file may just have been removed.
fn read(paths: impl Iterator<Item = String>) -> Vec<File> {
    paths.filter_map(|path| Some(File { bytes: std::fs::read(root().join(&path)).ok()?, path })).collect()
}

fn walk() -> Vec<String> {
    let mut paths = Vec::new();
    for entry in entries(root()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_file() {
            paths.push(name);
        } else if FOLDERS.contains(&name.as_str()) {
            walk_folder(&entry, &name, &mut paths);
        }
    }
    paths
}

fn walk_folder(folder: &Path, path: &str, paths: &mut Vec<String>) {
    for entry in entries(folder) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = format!("{path}/{name}");
        if entry.is_file() {
            paths.push(path);
        } else if !LEFT_BEHIND.contains(&name.as_str()) {
            walk_folder(&entry, &path, paths);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = std::fs::read_dir(folder).expect("a folder of the checkout can be listed");
    let mut paths: Vec<PathBuf> = listing.map(|entry| entry.expect("an entry can be read").path()).collect();
    paths.sort();
    paths
}

/// Path and text of each file that has a text.
pub(crate) fn texts(files: &[File]) -> Vec<(&str, &str)> {
    files.iter().filter_map(|file| Some((file.path.as_str(), file.text()?))).collect()
}

/// Applies a rule to files; fails on any violation, and if there was nothing to look at.
pub(crate) fn apply(files: &[File], rule: impl Fn(&str, &str) -> Vec<Violation>) {
    let texts = texts(files);
    assert!(!texts.is_empty(), "the rule looked at no file");
    demand_none(texts.iter().flat_map(|(path, text)| rule(path, text)).collect());
}

/// Fails with the whole list.
pub(crate) fn demand_none(violations: Vec<Violation>) {
    let list: String = violations.iter().map(|violation| format!("  {violation}\n")).collect();
    assert!(violations.is_empty(), "{} violation(s):\n{list}", violations.len());
}

/// Demands that a rule reports each bad text of a file at that line, once, and no good text.
pub(crate) fn tells_apart(
    path: &str,
    bad: &[(usize, &str)],
    good: &[&str],
    rule: impl Fn(&str, &str) -> Vec<Violation>,
) {
    for (line, text) in bad {
        let lines: Vec<usize> = rule(path, text).iter().map(|violation| violation.line).collect();
        assert_eq!(lines, [*line], "lines reported in the bad sample {text:?}");
    }
    for text in good {
        assert_eq!(rule(path, text), [], "reported in the good sample {text:?}");
    }
}

#[test]
fn a_walk_finds_this_file_and_no_build_output() {
    let paths = walk();
    assert!(paths.iter().any(|path| path == "suites/tidy/tree.rs"));
    assert!(paths.iter().any(|path| path == "Cargo.toml"));
    assert!(paths.iter().all(|path| !path.starts_with("target/") && !path.starts_with(".git/")));
}

#[test]
fn tracked_files_can_be_read() {
    assert!(tracked().iter().any(|file| file.path == "Cargo.toml"));
}

#[test]
#[should_panic(expected = "looked at no file")]
fn a_rule_without_files_fails() {
    apply(&files("no-such-folder/", ".rs"), |_, _| Vec::new());
}

#[test]
#[should_panic(expected = "a.rs:3: too long")]
fn a_violation_fails_with_its_place() {
    demand_none(vec![Violation::new("a.rs", 3, "too long")]);
}
