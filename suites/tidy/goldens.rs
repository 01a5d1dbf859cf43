//! The golden store: nothing stray, nothing without its provenance, nothing unused, nothing large.

use std::collections::BTreeMap;

use gptoss::verify::golden::{ALL, Golden, GoldenError, binary, names};

use crate::tree::{self, Violation, demand_none};

/// Bytes of a payload: a person can still read the difference.
const PAYLOAD_BYTES_MAX: usize = 200 << 10;
/// Bytes of the store: most of it are the forward pass's witnesses, seven models at 200 positions.
const STORE_BYTES_MAX: usize = 2 << 20;

const PROVENANCE: &str = ".provenance.json";

/// Files of the store by path, and goldens by name: each file belongs to a golden, each golden has both files.
fn pairing(files: &BTreeMap<String, usize>, names: &[(&str, &str)]) -> Vec<Violation> {
    let both =
        |(name, ending): &(&str, &str)| [format!("goldens/{name}.{ending}"), format!("goldens/{name}{PROVENANCE}")];
    let wanted: Vec<String> = names.iter().flat_map(both).collect();
    let stray = files.keys().filter(|path| !wanted.contains(path) && !path.ends_with("/README.md"));
    let stray = stray.map(|path| Violation::new(path, 0, "belongs to no golden of golden::ALL"));
    let absent = wanted.iter().filter(|path| !files.contains_key(*path));
    stray.chain(absent.map(|path| Violation::new(path, 0, "is missing"))).collect()
}

fn sizes(files: &BTreeMap<String, usize>) -> Vec<Violation> {
    let is_large = |(path, bytes): &(&String, &usize)| !path.ends_with(PROVENANCE) && **bytes > PAYLOAD_BYTES_MAX;
    let large = files.iter().filter(is_large);
    let mut found: Vec<Violation> = large
        .map(|(path, bytes)| Violation::new(path, 0, format!("{bytes} bytes, at most {PAYLOAD_BYTES_MAX}")))
        .collect();
    let total: usize = files.values().sum();
    if total > STORE_BYTES_MAX {
        found.push(Violation::new("goldens", 0, format!("{total} bytes in all, at most {STORE_BYTES_MAX}")));
    }
    found
}

/// Goldens that no check loads: their name stands in no source, or only as the name of a group of checks.
fn unused(names: &[&str], sources: &[&str]) -> Vec<Violation> {
    let is_used = |name: &str| {
        let quoted = format!("\"{name}\"");
        sources.iter().flat_map(|text| text.lines()).any(|line| line.contains(&quoted) && !line.contains("name: "))
    };
    let idle = names.iter().filter(|name| !is_used(name));
    idle.map(|name| Violation::new(&format!("goldens/{name}.json"), 0, "no check loads it")).collect()
}

fn digest(name: &str, loaded: Result<(), GoldenError>) -> Vec<Violation> {
    let failed = loaded.err().map(|error| Violation::new(&format!("goldens/{name}.json"), 0, error.to_string()));
    failed.into_iter().collect()
}

fn store(files: &[(&str, usize)]) -> BTreeMap<String, usize> {
    files.iter().map(|(path, bytes)| (path.to_string(), *bytes)).collect()
}

#[test]
fn a_stray_file_and_a_missing_one_are_told() {
    let whole = [("goldens/a/b.json", 1), ("goldens/a/b.provenance.json", 1)];
    assert_eq!(pairing(&store(&whole), &[("a/b", "json")]), []);
    assert_eq!(pairing(&store(&whole[..1]), &[("a/b", "json")]).len(), 1, "no provenance");
    assert_eq!(pairing(&store(&whole[1..]), &[("a/b", "json")]).len(), 1, "no payload");
    assert_eq!(pairing(&store(&whole), &[]).len(), 2, "both stray");
}

#[test]
fn a_large_golden_and_a_large_store_are_told() {
    let name = |n: usize| format!("goldens/a/{n}.json");
    let of = |count: usize, bytes: usize| (0..count).map(|n| (name(n), bytes)).collect();
    assert_eq!(sizes(&of(1, PAYLOAD_BYTES_MAX)), []);
    assert_eq!(sizes(&of(1, PAYLOAD_BYTES_MAX + 1)).len(), 1);
    assert_eq!(sizes(&of(11, PAYLOAD_BYTES_MAX)).len(), 1, "eleven of the largest pass the limit of the store");
}

#[test]
fn an_unused_golden_is_told() {
    assert_eq!(unused(&["a/b"], &["with_golden(\"a/b\", check)"]), []);
    assert_eq!(unused(&["a/b"], &["// a/b", "    name: \"a/b\",", "\"a/b-c\""]).len(), 1);
}

#[test]
fn an_edited_payload_is_told() {
    let (name, payload, provenance) = ALL[0];
    assert_eq!(digest(name, Golden::parse(name, payload, provenance).map(drop)), []);
    assert_eq!(digest(name, Golden::parse(name, &format!("{payload} "), provenance).map(drop)).len(), 1);
    assert_eq!(digest("no/such", Golden::load("no/such").map(drop)).len(), 1);
}

#[test]
fn the_store_holds_the_goldens_and_nothing_else() {
    let files: BTreeMap<String, usize> =
        tree::files("goldens/", "").into_iter().map(|file| (file.path, file.bytes.len())).collect();
    let names: Vec<(&str, &str)> = names().collect();
    assert!(!files.is_empty() && !names.is_empty(), "no golden was looked at");
    demand_none([pairing(&files, &names), sizes(&files)].concat());
}

#[test]
fn every_golden_is_whole_and_used() {
    let sources = [tree::files("src/verify/", ".rs"), tree::files("suites/text/", ".rs")].concat();
    let outside = sources.iter().filter(|file| !file.path.starts_with("src/verify/golden/"));
    let sources: Vec<&str> = outside.filter_map(|file| file.text()).collect();
    let all: Vec<(&str, &str)> = names().collect();
    assert!(!sources.is_empty() && !all.is_empty(), "no golden was looked at");
    let damaged = all.iter().flat_map(|&(name, ending)| match ending {
        "json" => digest(name, Golden::load(name).map(drop)),
        _ => digest(name, binary(name).map(drop)),
    });
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    demand_none(damaged.chain(unused(&names, &sources)).collect());
}
