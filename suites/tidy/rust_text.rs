//! Rust text as rules need it: without comments and literals, as tokens, as functions.
//!
//! Not a parser: it knows comments, literals and brackets, which is all that a layout rule asks.

/// A word, `::`, or any other single character that is not blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// Line, from 1.
    pub(crate) line: usize,
    /// The text.
    pub(crate) text: &'a str,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// Line of `fn`.
    pub(crate) line: usize,
    /// Lines from `fn` to the closing brace.
    pub(crate) lines: usize,
}

/// The text with comments and literals blanked; lines stay where they are.
pub(crate) fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = out.ends_with(is_word);
        match comment_bytes(rest).or_else(|| literal_bytes(rest, after_word)) {
            Some(bytes) => {
                out.extend(rest[..bytes].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[bytes..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// Whether a character belongs to a word: a name, a keyword, a number.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of the comment that `text` begins with.
fn comment_bytes(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*").then(|| {
        let mut depth = 0;
        for (at, _) in text.match_indices(['/', '*']) {
            match &text.as_bytes()[at..text.len().min(at + 2)] {
                b"/*" => depth += 1,
                b"*/" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at + 2;
            }
        }
        text.len()
    })
}

/// Length of the string or character that `text` begins with; a lifetime is neither.
fn literal_bytes(text: &str, after_word: bool) -> Option<usize> {
    let raw = ["r", "br", "cr"].iter().find_map(|prefix| text.strip_prefix(prefix)).filter(|_| !after_word);
    if let Some(opened) = raw.and_then(|rest| rest.trim_start_matches('#').strip_prefix('"')) {
        let start = text.len() - opened.len();
        let hashes = text[..start].matches('#').count();
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(opened.find(&close).map_or(text.len(), |at| start + at + close.len()));
    }
    if text.starts_with('"') {
        return Some(closed_bytes(text, '"'));
    }
    let mut chars = text.strip_prefix('\'')?.chars();
    let is_character = chars.next() == Some('\\') || chars.next() == Some('\'');
    is_character.then(|| closed_bytes(text, '\''))
}

/// Length up to the second `quote` that no backslash protects.
fn closed_bytes(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The tokens of a text that [`code`] blanked.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (index, mut rest) in code.lines().enumerate() {
        while let Some(first) = rest.chars().next() {
            let bytes = match first {
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                _ if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            if !first.is_whitespace() {
                tokens.push(Token { line: index + 1, text: &rest[..bytes] });
            }
            rest = &rest[bytes..];
        }
    }
    tokens
}

/// Index of the bracket that closes the one at `open`; the last token if none does.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len() - 1
}

/// The end of the item that goes on at `start`: its closing brace, or its semicolon.
fn item_end(tokens: &[Token], start: usize) -> (usize, bool) {
    let mut index = start;
    while index < tokens.len() {
        match tokens[index].text {
            "{" => return (closing(tokens, index), true),
            ";" => return (index, false),
            "(" | "[" => index = closing(tokens, index) + 1,
            _ => index += 1,
        }
    }
    (tokens.len() - 1, false)
}

/// Every function with a body, the inner ones too.
pub(crate) fn functions(text: &str) -> Vec<Function> {
    let code = code(text);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    for (index, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || !pair[1].text.starts_with(is_word) {
            continue;
        }
        let (end, has_body) = item_end(&tokens, index + 2);
        if has_body {
            let lines = tokens[end].line - pair[0].line + 1;
            found.push(Function { name: pair[1].text.into(), line: pair[0].line, lines });
        }
    }
    found
}

/// The attributes: index of `#` and of the closing bracket.
pub(crate) fn attributes(tokens: &[Token]) -> Vec<(usize, usize)> {
    let opens = |index: usize| tokens.get(index).is_some_and(|token| token.text == "[");
    let hashes = (0..tokens.len()).filter(|&index| tokens[index].text == "#");
    hashes
        .filter_map(|hash| {
            let inner = usize::from(tokens.get(hash + 1).is_some_and(|token| token.text == "!"));
            let open = hash + 1 + inner;
            opens(open).then(|| (hash, closing(tokens, open)))
        })
        .collect()
}

/// Lines, first and last, of the items that exist only in tests.
pub(crate) fn test_lines(tokens: &[Token]) -> Vec<(usize, usize)> {
    let is_test = |&(hash, end): &(usize, usize)| {
        let has = |word: &str| tokens[hash..end].iter().any(|token| token.text == word);
        has("cfg") && has("test") && !has("not")
    };
    let found = attributes(tokens).into_iter().filter(is_test);
    found.map(|(hash, end)| (tokens[hash].line, tokens[item_end(tokens, end + 1).0].line)).collect()
}

#[test]
fn comments_and_literals_are_blanked_and_lines_kept() {
    let kept = |text: &str| code(text).split_whitespace().collect::<String>();
    assert_eq!(kept("a // b\nc"), "ac");
    assert_eq!(kept("a /* b /* c */ d\n */ e"), "ae");
    assert_eq!(kept(r#"a("b \" c", 'd', '\'', b'"', '{') e"#), "a(,,,b,)e");
    assert_eq!(kept("a(r#\"b\" c\"#, br\"d\\\", r#fn) e"), "a(,,r#fn)e");
    assert_eq!(kept("fn a<'b>(c: &'b str) {}"), "fna<'b>(c:&'bstr){}");
    assert_eq!(code("a\n/*\n*/\nb").lines().count(), 4);
}

#[test]
fn functions_are_measured_from_their_first_line_to_their_last() {
    let bodies = "fn a(b: [u8; 2], c: fn(u8) -> u8)\nwhere\n    u8: Copy,\n{\n    fn inner() {}\n    \"}\";\n}\n";
    let text = format!("{bodies}trait T {{\n    fn bodyless();\n}}\n");
    let found: Vec<_> = functions(&text).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(found, [("a".to_string(), 1, 7), ("inner".to_string(), 5, 1)]);
}

#[test]
fn test_items_are_found_whatever_the_condition() {
    let lines = |text: &str| test_lines(&tokens(&code(text)));
    assert_eq!(lines("fn a() {}\n#[cfg(test)]\nmod tests {\n}\n"), [(2, 4)]);
    assert_eq!(lines("#[cfg(all(unix, test))]\nmod tests;\nfn a() {}\n"), [(1, 2)]);
    assert_eq!(lines("#[cfg(not(test))]\nmod honest {}\n"), []);
}
