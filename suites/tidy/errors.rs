//! Errors of the device layers: no file gives them, so a test must, by name.

use std::collections::BTreeSet;

use crate::fixtures::{error_names, kebab};
use crate::rust_text::{code, test_lines, tokens};
use crate::tree::{self, Violation, demand_none};

/// Where an error is declared, and its variants that no test can ask a machine for, with what is tested in their place.
struct Declared {
    path: &'static str,
    name: &'static str,
    unreached: &'static [(&'static str, &'static str)],
}

const ERRORS: [Declared; 3] = [
    Declared {
        path: "src/device.rs",
        name: "DeviceError",
        unreached: &[
            ("unsuitable", "needs a weak adapter; `shortfall`, which decides it, is tested on limits"),
            ("refused", "needs a driver that fails to give a device it has announced"),
        ],
    },
    Declared { path: "src/models/gpt_oss/load.rs", name: "LoadError", unreached: &[] },
    Declared { path: "src/generate/session.rs", name: "SessionError", unreached: &[] },
];

/// The variants of `name` that a test's own code names.
fn named(path: &str, text: &str, name: &str) -> BTreeSet<String> {
    let blanked = code(text);
    let tokens = tokens(&blanked);
    let in_tests = test_lines(&tokens);
    let is_test = |line: usize| {
        path.starts_with("suites/") || in_tests.iter().any(|(first, last)| (*first..=*last).contains(&line))
    };
    let found = tokens.windows(3).filter(|t| [t[0].text, t[1].text] == [name, "::"] && is_test(t[2].line));
    found.map(|t| kebab(t[2].text)).collect()
}

/// Variants that no test names, and exceptions that are not needed.
fn untested(error: &Declared, variants: &[String], tested: &BTreeSet<String>) -> Vec<Violation> {
    let is_excused = |variant: &String| error.unreached.iter().any(|(excused, _)| excused == variant);
    let bare = variants.iter().filter(|variant| !tested.contains(*variant) && !is_excused(variant));
    let bare = bare.map(|variant| format!("no test names `{variant}` of {}", error.name));
    let is_idle = |excused: &str| tested.contains(excused) || !variants.iter().any(|variant| variant == excused);
    let idle = error.unreached.iter().filter(|(excused, _)| is_idle(excused));
    let idle = idle.map(|(excused, _)| format!("`{excused}` of {} needs no exception", error.name));
    bare.chain(idle).map(|what| Violation::new(error.path, 0, what)).collect()
}

#[test]
fn only_tests_count() {
    let text = "fn a() -> E { E::NoAdapter }\n#[cfg(test)]\nmod tests { fn b() { matches!(a(), E::Lost { .. }) } }\n";
    assert!(named("src/a.rs", text, "E").into_iter().eq(["lost"]));
    assert!(named("suites/a.rs", text, "E").into_iter().eq(["lost", "no-adapter"]));
    assert!(named("suites/a.rs", "// E::Lost\nF::Lost", "E").is_empty());
}

#[test]
fn a_variant_without_a_test_is_told() {
    let error = |unreached| Declared { path: "src/a.rs", name: "E", unreached };
    let variants = ["a".to_string(), "b".to_string()];
    let tested = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(untested(&error(&[]), &variants, &tested(&["a", "b"])), []);
    assert_eq!(untested(&error(&[]), &variants, &tested(&["a"])).len(), 1, "b is not tested");
    assert_eq!(untested(&error(&[("b", "why")]), &variants, &tested(&["a"])), []);
    assert_eq!(untested(&error(&[("b", "why")]), &variants, &tested(&["a", "b"])).len(), 1, "idle");
    assert_eq!(untested(&error(&[("c", "why")]), &variants, &tested(&["a", "b"])).len(), 1, "for nothing");
}

#[test]
fn every_error_of_the_device_layers_has_a_test() {
    let files = tree::rust_files();
    let texts = tree::texts(&files);
    assert!(!texts.is_empty(), "no file was looked at");
    let judge = |error: &Declared| {
        let variants = error_names(&tree::text_of(error.path), error.name);
        assert!(!variants.is_empty(), "{} holds no variant of {}", error.path, error.name);
        let tested = texts.iter().flat_map(|(path, text)| named(path, text, error.name)).collect();
        untested(error, &variants, &tested)
    };
    demand_none(ERRORS.iter().flat_map(judge).collect());
}

/// The suite of ranges, which tells errors by their names.
const RANGES: &str = "suites/bytes/ranges/";
/// Variants that no test can name: what is given up has its last cause's name.
const UNNAMED: [&str; 1] = ["gave-up"];

/// Variants whose name no test of the suite has in quotes.
fn unquoted(variants: &[String], texts: &[&str]) -> Vec<Violation> {
    let is_named = |variant: &str| texts.iter().any(|text| text.contains(&format!("\"{variant}\"")));
    let bare = variants.iter().filter(|variant| is_named(variant) == UNNAMED.contains(&variant.as_str()));
    bare.map(|variant| Violation::new(RANGES, 0, format!("`{variant}` of RangeError: tested, or excused, not both")))
        .collect()
}

#[test]
fn a_range_error_that_is_not_named_is_told() {
    let variants = ["busy".to_string(), "gave-up".to_string()];
    assert_eq!(unquoted(&variants, &["Refused(\"busy\")"]), []);
    assert_eq!(unquoted(&variants, &["// busy"]).len(), 1);
    assert_eq!(unquoted(&variants, &["\"busy\", \"gave-up\""]).len(), 1, "an idle excuse");
}

#[test]
fn every_error_of_ranges_is_told_by_name_in_their_suite() {
    let variants = error_names(&tree::text_of("src/range/error.rs"), "RangeError");
    assert!(variants.len() > 20, "variants were looked at");
    let files = tree::files(RANGES, ".rs");
    let texts: Vec<&str> = tree::texts(&files).iter().map(|(_, text)| *text).collect();
    demand_none(unquoted(&variants, &texts));
}
