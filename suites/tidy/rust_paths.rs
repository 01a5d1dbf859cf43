//! The paths that Rust text names, spelt out from the crate's root.

use crate::rust_text::{Token, closing, code, is_word, tokens};

/// Every path that a file of the crate names, from the crate's root (`crate::…`) or an outer crate, with its line.
///
/// `use` trees are spelt out, `super`, `self` and the crate's own name resolved.
pub(crate) fn paths(file: &str, text: &str) -> Vec<(usize, String)> {
    let code = code(text);
    let tokens = tokens(&code);
    let module = module_of(file);
    let mut found = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        match tokens[index].text.starts_with(is_word) {
            true => index = path_tree(&tokens, index, &mut Vec::new(), &mut found),
            false => index += 1,
        }
    }
    found.into_iter().map(|(line, parts)| (line, resolved(&module, &parts))).collect()
}

/// Reads one path, or one `use` tree, behind `start`; the index of the first token after it.
fn path_tree<'a>(
    tokens: &[Token<'a>],
    mut index: usize,
    start: &mut Vec<&'a str>,
    found: &mut Vec<(usize, Vec<&'a str>)>,
) -> usize {
    let (depth, line) = (start.len(), tokens[index].line);
    loop {
        match tokens.get(index).map(|token| token.text) {
            Some("{") => {
                let end = closing(tokens, index);
                index += 1;
                while index < end {
                    let is_path = tokens[index].text.starts_with(is_word) || ["{", "*"].contains(&tokens[index].text);
                    index = if is_path { path_tree(tokens, index, start, found) } else { index + 1 };
                }
                start.truncate(depth);
                return end + 1;
            }
            Some(part) if part == "*" || part.starts_with(is_word) => start.push(part),
            _ => break, // the generics of `path::<…>`
        }
        index += 1;
        if tokens.get(index).is_none_or(|token| token.text != "::") {
            break;
        }
        index += 1;
    }
    found.push((line, start.clone()));
    start.truncate(depth);
    behind_alias(tokens, index)
}

/// Steps over `as name`: an alias is no path (`as a::b`, a cast, holds one).
fn behind_alias(tokens: &[Token], index: usize) -> usize {
    let text = |ahead: usize| tokens.get(index + ahead).map_or("", |token| token.text);
    if text(0) == "as" && text(1).starts_with(is_word) && text(2) != "::" { index + 2 } else { index }
}

/// The module that a file is: `src/a/b.rs` and `src/a/b/mod.rs` are `crate::a::b`.
fn module_of(file: &str) -> Vec<&str> {
    let inside = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs");
    let parts = inside.split('/').filter(|part| !["mod", "lib", "main"].contains(part));
    std::iter::once("crate").chain(parts).collect()
}

fn resolved(module: &[&str], parts: &[&str]) -> String {
    let mut from: Vec<&str> = match parts[0] {
        "super" | "self" => module.to_vec(),
        _ => Vec::new(),
    };
    for &part in parts {
        match part {
            "super" => drop(from.pop()),
            "self" => {}
            "gptoss" if from.is_empty() => from.push("crate"),
            _ => from.push(part),
        }
    }
    from.join("::")
}

#[test]
fn paths_are_spelt_out_from_the_root() {
    let found = |file: &str, text: &str| paths(file, text).into_iter().map(|(_, path)| path).collect::<Vec<_>>();
    assert_eq!(found("src/a.rs", "use crate::{b::c, d::{self, e as f}, g::*};"), {
        ["use", "crate::b::c", "crate::d", "crate::d::e", "crate::g::*"]
    });
    assert_eq!(found("src/a/b.rs", "super::c::<T>::d"), ["crate::a::c", "T", "d"]);
    assert_eq!(found("src/a/mod.rs", "super::c"), ["crate::c"]);
    assert_eq!(found("src/a/b.rs", "super::super::{c}"), ["crate::c"]);
    assert_eq!(found("src/a.rs", "gptoss::b as c"), ["crate::b"]);
    assert_eq!(found("src/a.rs", "a as b::c"), ["a", "as", "b::c"]);
}
