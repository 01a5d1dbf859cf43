//! What the committed texts say to another machine, and how they end.

use crate::tree::{self, File, Violation, demand_none};

/// Bytes of a committed file.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Folders of one machine; in halves, so that this file does not hold them.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Where packages come from is a machine's setting, not the project's.
const REGISTRY_HOSTS: [&str; 7] = [
    concat!("crates.io", "-index"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("registry.", "npmjs.org"),
    concat!("proxy.", "golang.org"),
];

fn places(path: &str, text: &str) -> Vec<Violation> {
    let is_allowed = |place: &str| path == "Cargo.lock" && place == REGISTRY_HOSTS[0];
    let refused: Vec<&str> =
        MACHINE_PATHS.into_iter().chain(REGISTRY_HOSTS).filter(|place| !is_allowed(place)).collect();
    let found = |line: &str| refused.iter().find(|place| line.contains(**place)).copied();
    let numbered = text.lines().zip(1..);
    let found = numbered.filter_map(|(line, at)| Some((at, found(line)?)));
    found.map(|(at, place)| Violation::new(path, at, format!("`{place}` is a place of one machine"))).collect()
}

fn blanks(path: &str, text: &str) -> Vec<Violation> {
    let numbered = text.split('\n').zip(1..);
    let trailing = numbered.filter(|(line, _)| line.trim_end() != *line);
    trailing.map(|(_, at)| Violation::new(path, at, "blanks at the end of the line")).collect()
}

/// A text ends with one newline; an empty file has none.
fn ending(path: &str, text: &str) -> Vec<Violation> {
    let lines = text.lines().count();
    match text.strip_suffix('\n') {
        None if !text.is_empty() => vec![Violation::new(path, lines, "the last line does not end")],
        Some(body) if body.is_empty() || body.ends_with('\n') => {
            vec![Violation::new(path, lines, "ends with empty lines")]
        }
        _ => Vec::new(),
    }
}

fn size(file: &File) -> Option<Violation> {
    let bytes = file.bytes.len();
    (bytes > FILE_BYTES_MAX).then(|| {
        Violation::new(&file.path, 0, format!("{bytes} bytes, at most {FILE_BYTES_MAX}: commit a recipe instead"))
    })
}

#[test]
fn a_place_of_one_machine_is_told_from_a_relative_one() {
    for place in MACHINE_PATHS.into_iter().chain(REGISTRY_HOSTS) {
        let text = format!("a\nsee {place}b\n");
        tree::tells_apart("README.md", &[(2, &text)], &["see scripts/test, crates.io\n"], places);
    }
    let locked = format!("source = \"{}\"\n", REGISTRY_HOSTS[0]);
    tree::tells_apart("Cargo.lock", &[(1, MACHINE_PATHS[0]), (1, REGISTRY_HOSTS[1])], &[&locked], places);
}

#[test]
fn blanks_at_the_end_are_seen() {
    tree::tells_apart("a.md", &[(1, "a \nb\n"), (2, "a\n\t\n"), (1, "a\r\n")], &["a b\n\n  c\n"], blanks);
}

#[test]
fn a_text_ends_with_one_newline() {
    tree::tells_apart("a.md", &[(2, "a\nb"), (2, "a\n\n"), (1, "\n")], &["a\n", ""], ending);
}

#[test]
fn a_large_file_is_told_from_a_small_one() {
    let of = |bytes: usize| File { path: "a".into(), bytes: vec![0; bytes] };
    assert!(size(&of(FILE_BYTES_MAX + 1)).is_some());
    assert!(size(&of(FILE_BYTES_MAX)).is_none());
}

#[test]
fn no_committed_text_names_a_place_of_one_machine() {
    tree::apply(&tree::tracked(), places);
}

#[test]
fn committed_texts_end_their_lines_and_themselves() {
    tree::apply(&tree::tracked(), |path, text| [blanks(path, text), ending(path, text)].concat());
}

#[test]
fn no_committed_file_is_large() {
    let files = tree::tracked();
    assert!(!files.is_empty(), "no file was looked at");
    demand_none(files.iter().filter_map(size).collect());
}
