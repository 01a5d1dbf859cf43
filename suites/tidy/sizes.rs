//! How files are named and opened, and how large files and functions grow.

use crate::rust_text::{Function, code, functions, tokens};
use crate::tree::{self, Violation, demand_none, texts};

/// Lines of a file.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;

/// Files that are longer, with their present length: they may shrink (say so here), never grow.
const LONG_FILES: &[(&str, usize)] = &[];
/// Functions that are longer, as `path:name`, with their present length.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Names that say nothing: name the noun inside.
const EMPTY_NAMES: [&str; 4] = ["utils.rs", "helpers.rs", "common.rs", "misc.rs"];

/// Something with a length.
struct Length {
    name: String,
    path: String,
    line: usize,
    lines: usize,
}

fn opening(path: &str, text: &str) -> Vec<Violation> {
    match text.starts_with("//!") {
        true => Vec::new(),
        false => vec![Violation::new(path, 1, "a file opens with `//!` and says what it is for")],
    }
}

fn naming(path: &str) -> Vec<Violation> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match EMPTY_NAMES.contains(&name) {
        true => vec![Violation::new(path, 0, "the name says nothing: name the noun inside")],
        false => Vec::new(),
    }
}

fn file_length(path: &str, text: &str) -> Length {
    Length { name: path.into(), path: path.into(), line: 0, lines: text.lines().count() }
}

fn function_lengths(path: &str, text: &str) -> Vec<Length> {
    let length = |function: Function| Length {
        name: format!("{path}:{}", function.name),
        path: path.into(),
        line: function.line,
        lines: function.lines,
    };
    functions(text).into_iter().map(length).collect()
}

/// What is longer than allowed, and exceptions that are no longer what they say.
fn ratchet(lengths: &[Length], max: usize, exceptions: &[(&str, usize)]) -> Vec<Violation> {
    let allowed =
        |length: &Length| exceptions.iter().find(|(name, _)| *name == length.name).map_or(max, |(_, now)| *now);
    let too_long = lengths.iter().filter(|length| length.lines > allowed(length)).map(|length| {
        let what = format!("{} has {} lines, at most {}", length.name, length.lines, allowed(length));
        Violation::new(&length.path, length.line, what)
    });
    let idle = exceptions.iter().filter_map(|&(name, now)| {
        let longest = lengths.iter().filter(|length| length.name == name).map(|length| length.lines).max().unwrap_or(0);
        let what = format!("the exception for {name} says {now}, its length is {longest}: set or remove it");
        (longest < now || now <= max).then(|| Violation::new(file!(), 0, what))
    });
    too_long.chain(idle).collect()
}

/// Files that no `mod` declares: they are not compiled, so their tests never run.
///
/// `roots` are the crates' own files, as Cargo.toml names them.
fn orphans(files: &[(&str, &str)], roots: &[String]) -> Vec<Violation> {
    let is_declared = |path: &str| {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let Some((folder, name)) = module.rsplit_once('/') else { return false };
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| format!("{folder}/{parent}"));
        let is_parent = |path: &str| parents.iter().any(|parent| parent == path) || path == format!("{folder}.rs");
        files.iter().filter(|(path, _)| is_parent(path)).any(|(_, text)| declares(text, name))
    };
    let lost = files.iter().filter(|(path, _)| !roots.iter().any(|root| root == path) && !is_declared(path));
    lost.map(|(path, _)| Violation::new(path, 0, "no `mod` declares this file: it is not compiled")).collect()
}

fn declares(text: &str, name: &str) -> bool {
    let blanked = code(text);
    tokens(&blanked).windows(3).any(|t| [t[0].text, t[1].text, t[2].text] == ["mod", name, ";"])
}

/// The values of `path = "…"`.
fn crate_roots(manifest: &str) -> Vec<String> {
    let value = |line: &str| Some(line.strip_prefix("path = \"")?.strip_suffix('"')?.to_string());
    manifest.lines().filter_map(value).collect()
}

#[test]
fn an_opening_is_a_module_doc() {
    tree::tells_apart("src/a.rs", &[(1, "use std::mem;\n"), (1, "// a\n"), (1, "")], &["//! A.\n"], opening);
}

#[test]
fn an_empty_name_is_told_from_a_noun() {
    assert_eq!(naming("src/a/utils.rs").len(), 1);
    assert_eq!(naming("src/a/outils.rs"), []);
}

#[test]
fn long_files_and_functions_are_measured() {
    let body = "    0;\n".repeat(FUNCTION_LINES_MAX);
    let text = format!("//! A.\nfn long() {{\n{body}}}\nfn short() {{}}\n");
    assert_eq!(file_length("a.rs", &text).lines, FUNCTION_LINES_MAX + 4);
    let found = ratchet(&function_lengths("a.rs", &text), FUNCTION_LINES_MAX, &[]);
    assert_eq!(found.iter().map(|v| v.line).collect::<Vec<_>>(), [2]);
}

#[test]
fn an_exception_may_neither_grow_nor_outlive_its_need() {
    let of = |lines: usize| [Length { name: "a".into(), path: "a".into(), line: 0, lines }];
    assert_eq!(ratchet(&of(11), 10, &[]).len(), 1, "no exception");
    assert_eq!(ratchet(&of(10), 10, &[]), []);
    assert_eq!(ratchet(&of(12), 10, &[("a", 12)]), []);
    assert_eq!(ratchet(&of(13), 10, &[("a", 12)]).len(), 1, "grew");
    assert_eq!(ratchet(&of(11), 10, &[("a", 12)]).len(), 1, "shrank, unsaid");
    assert_eq!(ratchet(&of(9), 10, &[("a", 9)]).len(), 1, "needs no exception");
    assert_eq!(ratchet(&of(9), 10, &[("b", 12)]).len(), 1, "is gone");
}

#[test]
fn a_file_without_a_parent_is_an_orphan() {
    let roots = crate_roots("[lib]\npath = \"src/lib.rs\"\n");
    let files = [("src/lib.rs", "mod a;\n// mod c;"), ("src/a/mod.rs", "mod b;"), ("src/a/b.rs", ""), ("src/c.rs", "")];
    let found: Vec<_> = orphans(&files, &roots).into_iter().map(|violation| violation.path).collect();
    assert_eq!(found, ["src/c.rs"]);
}

#[test]
fn every_file_opens_with_its_purpose_and_has_a_name() {
    let files = tree::rust_files();
    tree::apply(&files, opening);
    tree::apply(&files, |path, _| naming(path));
}

#[test]
fn no_file_is_too_long() {
    let files = tree::rust_files();
    let lengths: Vec<_> = texts(&files).iter().map(|(path, text)| file_length(path, text)).collect();
    assert!(!lengths.is_empty(), "no file was measured");
    demand_none(ratchet(&lengths, FILE_LINES_MAX, LONG_FILES));
}

#[test]
fn no_function_is_too_long() {
    let files = tree::rust_files();
    let lengths: Vec<_> = texts(&files).iter().flat_map(|(path, text)| function_lengths(path, text)).collect();
    assert!(!lengths.is_empty(), "no function was measured");
    demand_none(ratchet(&lengths, FUNCTION_LINES_MAX, LONG_FUNCTIONS));
}

#[test]
fn every_file_is_compiled() {
    let (files, roots) = (tree::rust_files(), crate_roots(&tree::text_of("Cargo.toml")));
    assert!(!files.is_empty() && !roots.is_empty(), "no file, or no crate, was looked at");
    demand_none(orphans(&texts(&files), &roots));
}
