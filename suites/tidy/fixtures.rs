//! Recipes: compiled in as they lie on disk, named after their files; and a malformed input for every error.

use std::collections::BTreeSet;

use gptoss::checkpoint::CheckpointError;
use gptoss::verify::fixture::BUILT_IN;
use gptoss::verify::reject::{self, Base, Reject};

use crate::rust_text::{code, tokens};
use crate::tree::{self, Violation, demand_none};

const REJECTS: &str = "fixtures/rejects";
/// Malformed inputs that the collection holds at least.
const REJECTS_MIN: usize = 80;

/// The errors that a malformed input may give: file and enum.
const ERRORS: [(&str, &str); 7] = [
    CHECKPOINT,
    MODEL_BIN,
    GGUF,
    DIALECT,
    TOKENIZER,
    ("src/model_bin/error.rs", "ExportError"),
    ("src/open.rs", "OpenError"),
];
/// Each variant of these five needs a malformed input that gives it.  They share names, so the input's format decides.
const CHECKPOINT: (&str, &str) = ("src/checkpoint/error.rs", "CheckpointError");
const MODEL_BIN: (&str, &str) = ("src/model_bin/error.rs", "ModelBinError");
const GGUF: (&str, &str) = ("src/gguf/error.rs", "GgufError");
const DIALECT: (&str, &str) = ("src/gguf/dialect/error.rs", "DialectError");
const TOKENIZER: (&str, &str) = ("src/generate/tokenizer/vocabulary.rs", "GgufTokenizerError");

/// Variants that no malformed input gives, with the reason.
type Unreached = [(&'static str, &'static str)];
const CHECKPOINT_UNREACHED: &Unreached =
    &[("not-a-checkpoint", "rejects are directories; `AnyCheckpoint` asks SafeTensors for no other file")];
const MODEL_BIN_UNREACHED: &Unreached = &[];
const GGUF_UNREACHED: &Unreached =
    &[("no-such-tensor", "no tensor is asked for by name where any GGUF is read; suites/bytes/gguf.rs asks")];

/// Recipes on disk, path and text, against those compiled in, name and text.
fn recipes(folder: &str, on_disk: &[(&str, &str)], compiled: &[(&str, &str)]) -> Vec<Violation> {
    let path = |name: &str| format!("{folder}/{name}.json");
    let stray = on_disk.iter().filter(|(file, _)| !compiled.iter().any(|(name, _)| path(name) == **file));
    let stray = stray.map(|(file, _)| Violation::new(file, 0, "is not compiled in"));
    let differs =
        |(name, text): &(&str, &str)| !on_disk.iter().any(|(file, found)| *file == path(name) && found == text);
    let other = compiled.iter().filter(|&compiled| differs(compiled));
    stray.chain(other.map(|(name, _)| Violation::new(&path(name), 0, "is not what is compiled in"))).collect()
}

/// A recipe's `name` is the stem of its file.
fn recipe_name(path: &str, text: &str) -> Vec<Violation> {
    let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".json");
    let recipe: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    match recipe["name"].as_str() == Some(stem) {
        true => Vec::new(),
        false => vec![Violation::new(path, 0, format!("`name` is {}, the file's stem {stem}", recipe["name"]))],
    }
}

/// Names of an error's variants, as reports show them; those that only pass another error on have none of their own.
pub(crate) fn error_names(text: &str, name: &str) -> Vec<String> {
    let blanked = code(text);
    let tokens = tokens(&blanked);
    let opening = tokens.windows(3).position(|t| [t[0].text, t[1].text, t[2].text] == ["enum", name, "{"]);
    let Some(opening) = opening else { return Vec::new() };
    let mut names = Vec::new();
    let (mut depth, mut is_named, mut passes_on) = (1, false, false);
    for token in &tokens[opening + 3..] {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" if depth == 1 => break,
            "}" | ")" | "]" => depth -= 1,
            "," if depth == 1 => (is_named, passes_on) = (false, false),
            "transparent" if !is_named => passes_on = true,
            variant if depth == 1 && !is_named && variant != "#" => {
                is_named = true;
                names.extend((!passes_on).then(|| kebab(variant)));
            }
            _ => {}
        }
    }
    names
}

pub(crate) fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Errors that no variant gives its name.
fn unknown(given: &BTreeSet<String>, known: &BTreeSet<String>) -> Vec<Violation> {
    let strangers = given.difference(known);
    strangers.map(|error| Violation::new(REJECTS, 0, format!("`{error}` is no variant of an error"))).collect()
}

/// Variants that no malformed input gives, and exceptions that are not needed.
fn silent(given: &BTreeSet<String>, variants: &BTreeSet<String>, unreached: &[(&str, &str)]) -> Vec<Violation> {
    let is_unreached = |error: &str| unreached.iter().any(|(name, _)| *name == error);
    let silent = variants.difference(given).filter(|error| !is_unreached(error));
    let silent = silent.map(|error| format!("no malformed input gives `{error}`"));
    let idle = unreached.iter().filter(|(error, _)| given.contains(*error) || !variants.contains(*error));
    let idle = idle.map(|(error, _)| format!("`{error}` needs no exception"));
    silent.chain(idle).map(|what| Violation::new(REJECTS, 0, what)).collect()
}

fn variants((path, name): (&str, &str)) -> BTreeSet<String> {
    let found: BTreeSet<String> = error_names(&tree::text_of(path), name).into_iter().collect();
    assert!(!found.is_empty(), "{path} holds no variant of {name}");
    found
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| name.to_string()).collect()
}

#[test]
fn recipes_that_differ_are_told() {
    let check = |on_disk, compiled| recipes("fixtures", on_disk, compiled).len();
    assert_eq!(check(&[("fixtures/a.json", "1")], &[("a", "1")]), 0);
    assert_eq!(check(&[("fixtures/a.json", "1")], &[("a", "2")]), 1, "edited");
    assert_eq!(check(&[("fixtures/a.json", "1")], &[]), 1, "stray");
    assert_eq!(check(&[], &[("a", "1")]), 1, "absent");
    tree::tells_apart(
        "fixtures/a.json",
        &[(0, "{\"name\": \"b\"}"), (0, "{}"), (0, "[")],
        &["{\"name\": \"a\"}"],
        recipe_name,
    );
}

#[test]
fn error_names_are_those_of_the_reports() {
    let text = "enum Other { No }\n/// Doc.\nenum E {\n    // a, b\n    #[error(\"{a}, B\")]\n    \
                IsNotUtf8 { a: Vec<(u8, u8)>, b: B },\n    #[error(transparent)]\n    Passed(#[from] Other),\n    \
                #[error(\"c\")]\n    Io\n}\nenum Next { No }\n";
    assert_eq!(error_names(text, "E"), ["is-not-utf8", "io"]);
    assert_eq!(error_names(text, "Absent"), [""; 0]);
    let error = CheckpointError::HeaderNotUtf8 { path: "a".into(), offset: 0 };
    assert_eq!(error.name(), kebab("HeaderNotUtf8"));
}

#[test]
fn errors_without_a_malformed_input_are_told() {
    let all = names(&["a", "b"]);
    assert_eq!(unknown(&names(&["a"]), &all), []);
    assert_eq!(unknown(&names(&["a", "c"]), &all).len(), 1, "c does not exist");
    let check = |given: &[&str], unreached: &[(&str, &str)]| silent(&names(given), &all, unreached).len();
    assert_eq!(check(&["a", "b", "c"], &[]), 0);
    assert_eq!(check(&["a"], &[]), 1, "b is not given");
    assert_eq!(check(&["a"], &[("b", "why")]), 0);
    assert_eq!(check(&["a", "b"], &[("b", "why")]), 1, "the exception is idle");
    assert_eq!(check(&["a", "b"], &[("d", "why")]), 1, "the exception is for nothing");
}

#[test]
fn every_recipe_is_compiled_in_under_its_name() {
    let files = tree::files("fixtures/", ".json");
    let (rejects, fixtures): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.path.starts_with("fixtures/rejects/"));
    tree::apply(&fixtures, recipe_name);
    for (folder, files, compiled) in [("fixtures", &fixtures, &BUILT_IN[..]), (REJECTS, &rejects, &reject::FILES[..])] {
        let texts = tree::texts(files);
        assert!(!texts.is_empty(), "no recipe of {folder} was looked at");
        demand_none(recipes(folder, &texts, compiled));
    }
}

#[test]
fn malformed_inputs_are_many() {
    let count = reject::all().len();
    assert!(count >= REJECTS_MIN, "{count} malformed inputs, at least {REJECTS_MIN}");
}

#[test]
fn every_error_of_a_malformed_input_exists() {
    let given: BTreeSet<String> = reject::all().into_iter().map(|reject| reject.error).collect();
    assert!(!given.is_empty(), "no malformed input was looked at");
    demand_none(unknown(&given, &ERRORS.into_iter().flat_map(variants).collect()));
}

#[test]
fn every_error_has_a_malformed_input() {
    let (gguf, others): (Vec<Reject>, Vec<Reject>) =
        reject::all().into_iter().partition(|reject| reject.base.is_gguf());
    let (models, others): (Vec<Reject>, Vec<Reject>) =
        others.into_iter().partition(|reject| reject.base == Base::GgufModel);
    let (model_bin, checkpoint): (Vec<Reject>, Vec<Reject>) =
        others.into_iter().partition(|reject| reject.base == Base::ModelBin);
    let errors = |rejects: Vec<Reject>| rejects.into_iter().map(|reject| reject.error).collect();
    let mut violations = silent(&errors(checkpoint), &variants(CHECKPOINT), CHECKPOINT_UNREACHED);
    violations.extend(silent(&errors(model_bin), &variants(MODEL_BIN), MODEL_BIN_UNREACHED));
    violations.extend(silent(&errors(gguf), &variants(GGUF), GGUF_UNREACHED));
    violations.extend(silent(&errors(models), &variants(DIALECT).union(&variants(TOKENIZER)).cloned().collect(), &[]));
    demand_none(violations);
}
