//! What no source may hold: unfinished work, silenced tests, panics without a reason, unreasoned exceptions.

use crate::rust_text::{Token, attributes, closing, code, test_lines, tokens};
use crate::tree::{self, Violation};

/// Macros of unfinished work.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];
/// Words of unfinished work; in halves, so that this file does not hold them.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Where `unsafe` may stand, a file or a folder: maps, launches of kernels, and the allocator of a suite that counts.
const UNSAFE: [&str; 3] = ["src/mapped.rs", KERNELS, "suites/bytes/edits/heap.rs"];
/// Kernels need `unsafe` for these two calls only: to launch without bounds checks, and to bind a buffer.
const KERNELS: &str = "src/kernels/";
const LAUNCHES: [&str; 2] = ["launch_unchecked", "BufferArg"];

fn unfinished(path: &str, text: &str) -> Vec<Violation> {
    let blanked = code(text);
    let tokens = tokens(&blanked);
    let calls = tokens.windows(2).filter(|pair| UNFINISHED.contains(&pair[0].text) && pair[1].text == "!");
    calls.map(|pair| Violation::new(path, pair[0].line, format!("`{}!` is unfinished work", pair[0].text))).collect()
}

fn marks(path: &str, text: &str) -> Vec<Violation> {
    let mark =
        |line: &str| line.split(|c: char| !c.is_alphanumeric()).find_map(|word| MARKS.iter().find(|m| **m == word));
    let numbered = text.lines().zip(1..);
    let found =
        numbered.filter_map(|(line, at)| Some(Violation::new(path, at, format!("{}: do it, or file it", mark(line)?))));
    found.collect()
}

fn ignored_tests(path: &str, text: &str) -> Vec<Violation> {
    let blanked = code(text);
    let tokens = tokens(&blanked);
    let is_ignore = |&(hash, end): &(usize, usize)| tokens[hash..end].iter().any(|token| token.text == "ignore");
    let found = attributes(&tokens).into_iter().filter(is_ignore);
    found.map(|(hash, _)| Violation::new(path, tokens[hash].line, "an ignored test is no test")).collect()
}

fn unwraps(path: &str, text: &str) -> Vec<Violation> {
    let blanked = code(text);
    let tokens = tokens(&blanked);
    let in_tests = test_lines(&tokens);
    let is_call = |pair: &&[Token]| [".", "::"].contains(&pair[0].text) && pair[1].text == "unwrap";
    let lines = tokens.windows(2).filter(is_call).map(|pair| pair[1].line);
    let outside = lines.filter(|line| !in_tests.iter().any(|(first, last)| (first..=last).contains(&line)));
    outside.map(|line| Violation::new(path, line, "`unwrap`: `expect` says why it cannot fail")).collect()
}

/// An `unsafe fn` states what it asks for in its documentation; a block or an `impl` says why it may be.
fn unsafes(path: &str, text: &str) -> Vec<Violation> {
    let blanked = code(text);
    let tokens = tokens(&blanked);
    let is_home = UNSAFE.iter().any(|home| path == *home || home.ends_with('/') && path.starts_with(home));
    let is_launch = |at: usize| tokens[at..=closing(&tokens, at)].iter().any(|token| LAUNCHES.contains(&token.text));
    let what = |at: usize| match is_home {
        false => Some(format!("`unsafe` outside {}", UNSAFE.join(", "))),
        true if path.starts_with(KERNELS) && !is_launch(at + 1) => {
            Some(format!("`unsafe` in a kernel for other than {}", LAUNCHES.join(", ")))
        }
        true if tokens[at + 1].text == "fn" || comment_above(text, tokens[at].line).contains("SAFETY: ") => None,
        true => Some("`unsafe` without a SAFETY comment".into()),
    };
    let found = (0..tokens.len().saturating_sub(1)).filter(|&at| tokens[at].text == "unsafe");
    found.filter_map(|at| Some(Violation::new(path, tokens[at].line, what(at)?))).collect()
}

/// Lints are waived with a reason: in the attribute, in a comment behind it, or in one above.
fn waivers(path: &str, text: &str) -> Vec<Violation> {
    let blanked = code(text);
    let tokens = tokens(&blanked);
    let is_bare = |&(hash, end): &(usize, usize)| {
        let has = |word: &str| tokens[hash..end].iter().any(|token| token.text == word);
        let behind = text.lines().nth(tokens[end].line - 1).unwrap_or_default();
        let has_reason = has("reason") || behind.contains("] //") || !comment_above(text, tokens[hash].line).is_empty();
        (has("allow") || has("expect")) && has("clippy") && !has_reason
    };
    let found = attributes(&tokens).into_iter().filter(is_bare);
    found.map(|(hash, _)| Violation::new(path, tokens[hash].line, "a lint is waived without a reason")).collect()
}

/// The comment, not documentation, that ends on the line before `line`.
fn comment_above(text: &str, line: usize) -> String {
    let lines: Vec<&str> = text.lines().take(line - 1).map(str::trim).collect();
    let is_comment = |line: &&&str| line.starts_with("//") && !line.starts_with("///") && !line.starts_with("//!");
    lines.iter().rev().take_while(is_comment).copied().collect()
}

#[test]
fn unfinished_work_is_told_from_talk_of_it() {
    let bad = [(1, "fn a() { todo!() }"), (2, "\nunimplemented![];"), (1, "let a = dbg! (b);")];
    tree::tells_apart("src/a.rs", &bad, &["// todo!()\nlet todo = \"dbg!(a)\";"], unfinished);
    let [first, second, third] = MARKS;
    let bad = [format!("// {first}: later"), format!("# {second}"), format!("a = 1 // {third}")];
    let bad = bad.each_ref().map(|text| (1, text.as_str()));
    let in_a_word = format!("a.{third}{third}.partial");
    tree::tells_apart("src/a.rs", &bad, &[&in_a_word, "// to do"], marks);
}

#[test]
fn silenced_tests_are_told_from_the_word() {
    let bad = [(1, "#[ignore]\n#[test]\nfn a() {}"), (1, "#[cfg_attr(unix, ignore = \"slow\")]")];
    tree::tells_apart("suites/a.rs", &bad, &["// #[ignore]\nlet ignore = [a];"], ignored_tests);
}

#[test]
fn panics_without_a_reason_are_told_from_those_with_one() {
    let bad = [(1, "a.unwrap();"), (2, "a\n    .unwrap();"), (1, "b.map(Option::unwrap)")];
    let good =
        ["a.expect(\"it is there\");", "a.unwrap_or(b)", "/// a.unwrap()", "#[cfg(test)]\nmod tests {\na.unwrap();\n}"];
    tree::tells_apart("src/a.rs", &bad, &good, unwraps);
}

#[test]
fn unsafe_has_a_home_and_a_reason() {
    let reasoned = "// SAFETY: the map outlives the slice,\n// see above.\nunsafe { a() }";
    tree::tells_apart("src/mapped.rs", &[(1, "unsafe { a() }"), (2, "// quick\nunsafe { a() }")], &[reasoned], unsafes);
    tree::tells_apart(
        "suites/bytes/edits/heap.rs",
        &[(1, "unsafe impl A for B {}")],
        &["unsafe fn a() {}", reasoned],
        unsafes,
    );
    let bound = "// SAFETY: shapes were checked.\nunsafe { a_kernel::launch_unchecked(a, arg(b, 4)) }";
    let bad = [(3, reasoned), (1, "unsafe fn a() {}"), (2, "// quick\nunsafe { BufferArg::from_raw_parts(a, 1) }")];
    tree::tells_apart("src/kernels/rope.rs", &bad, &[bound], unsafes);
    let good = ["// unsafe\n#![deny(unsafe_code)]"];
    tree::tells_apart("src/open.rs", &[(3, reasoned), (1, "unsafe fn a() {}")], &good, unsafes);
}

#[test]
fn waivers_need_a_reason() {
    let bad = [
        (1, "#[allow(clippy::all)]\nfn a() {}"),
        (2, "/// Doc.\n#![allow(clippy::a, dead_code)]"),
        (1, "#[expect(clippy::b)]"),
    ];
    let good = [
        "#[allow(clippy::all)] // the twin keeps the shader's shape",
        "// The twin keeps the shader's shape.\n#[allow(clippy::all)]",
        "#[expect(clippy::all, reason = \"the twin keeps the shader's shape\")]",
        "// allow(clippy::all)",
    ];
    tree::tells_apart("src/a.rs", &bad, &good, waivers);
}

#[test]
fn no_source_holds_unfinished_work() {
    tree::apply(&tree::rust_files(), unfinished);
}

#[test]
fn no_committed_text_puts_work_off() {
    tree::apply(&tree::tracked(), marks);
}

#[test]
fn no_test_is_ignored() {
    tree::apply(&tree::rust_files(), ignored_tests);
}

#[test]
fn nothing_in_the_library_panics_without_a_reason() {
    tree::apply(&tree::files("src/", ".rs"), unwraps);
}

#[test]
fn unsafe_code_stays_where_it_is_explained() {
    tree::apply(&tree::rust_files(), unsafes);
}

#[test]
fn no_lint_is_waived_without_a_reason() {
    tree::apply(&tree::rust_files(), waivers);
}
