//! The catalogue's faults, each applied to a golden's ids: it must change the case that is to see it.
//!
//! Comparison is exact, so a fault is caught if it is no identity there.  None of these is made with the renderer.

use gptoss::generate::tokenizer::{Tokenizer, is_special, special};

use crate::goldens::{ids, load};

type Fault = fn(&[u32]) -> Vec<u32>;

fn tokenizer() -> Tokenizer {
    Tokenizer::o200k_harmony()
}

/// Replaces text in the decoded stream, control tokens kept.
fn edited(ids: &[u32], edit: impl Fn(String) -> String) -> Vec<u32> {
    let text = edit(tokenizer().decode(ids).expect("text"));
    tokenizer().encode_with_all_specials(&text).expect("ids")
}

fn replaced(ids: &[u32], from: &str, to: &str) -> Vec<u32> {
    edited(ids, |text| text.replace(from, to))
}

fn swapped(ids: &[u32], from: u32, to: u32) -> Vec<u32> {
    ids.iter().map(|id| if *id == from { to } else { *id }).collect()
}

/// The text between control tokens tokenized in one piece.
fn joined(ids: &[u32]) -> Vec<u32> {
    ids.chunk_by(|a, b| is_special(*a) == is_special(*b))
        .flat_map(|part| match is_special(part[0]) {
            true => part.to_vec(),
            false => tokenizer().encode(&tokenizer().decode(part).expect("text")).expect("ids"),
        })
        .collect()
}

/// Greedy longest prefixes instead of merges.
fn greedy(ids: &[u32]) -> Vec<u32> {
    let bytes = tokenizer().decode_bytes(ids).expect("bytes");
    let longest = |rest: &[u8]| {
        let candidates = (0..199_998).map(|id| (id, tokenizer().decode_bytes(&[id]).expect("bytes")));
        candidates.filter(|(_, token)| rest.starts_with(token)).max_by_key(|(_, token)| token.len()).expect("a byte")
    };
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let (id, token) = longest(&bytes[at..]);
        at += token.len();
        found.push(id);
    }
    found
}

fn without_messages_of(ids: &[u32], head: &str) -> Vec<u32> {
    edited(ids, |text| {
        let messages = text.split_inclusive("<|end|>").filter(|message| !message.starts_with(head));
        messages.collect()
    })
}

/// Fault, golden case, mode, mutation.
const RENDERING: &[(&str, &str, &str, Fault)] = &[
    ("end-for-return", "one-turn", "training", |ids| swapped(ids, special::RETURN, special::END)),
    ("return-in-history", "one-turn", "plain", |ids| [&ids[..ids.len() - 1], &[special::RETURN]].concat()),
    ("end-for-call", "call-pending", "plain", |ids| swapped(ids, special::CALL, special::END)),
    ("analysis-always-dropped", "asked-again", "plain+keep", |ids| {
        without_messages_of(ids, "<|start|>assistant<|channel|>analysis")
    }),
    ("analysis-dropped-before-last-final", "two-turns", "plain", |ids| {
        without_messages_of(ids, "<|start|>assistant<|channel|>analysis")
    }),
    ("specials-from-user-text", "control-in-user-text", "plain", |ids| replaced(ids, "", "")),
    ("specials-from-schema", "schema-comments", "plain", |ids| replaced(ids, "", "")),
    ("parts-tokenized-together", "split-text", "plain", joined),
    ("constrain-as-text", "call-pending", "plain", |ids| {
        let plain = tokenizer().encode("<|constrain|>").expect("ids");
        ids.iter().flat_map(|id| if *id == special::CONSTRAIN { plain.clone() } else { vec![*id] }).collect()
    }),
    ("content-type-dropped", "python-call", "plain", |ids| replaced(ids, " code<|message|>", "<|message|>")),
    ("recipient-dropped", "call-answered", "plain", |ids| replaced(ids, " to=assistant", "")),
    ("recipient-all-written", "recipient-all", "plain", |ids| replaced(ids, "assistant", "assistant to=all")),
    ("channel-before-recipient", "call-pending", "plain", |ids| {
        replaced(
            ids,
            " to=functions.get_weather<|channel|>commentary",
            "<|channel|>commentary to=functions.get_weather",
        )
    }),
    ("tool-role-for-name", "call-answered", "plain", |ids| {
        replaced(ids, "<|start|>functions.get_weather", "<|start|>tool")
    }),
    ("namespace-not-closed", "functions-announced", "plain", |ids| replaced(ids, "\n} // namespace functions", "")),
    ("functions-not-announced", "functions-announced", "plain", |ids| {
        replaced(ids, "\nCalls to these tools must go to the commentary channel: 'functions'.", "")
    }),
    ("properties-sorted", "schema-order", "plain", |ids| {
        replaced(ids, "zeta: string,\nalpha?: number,", "alpha?: number,\nzeta: string,")
    }),
    ("optional-mark-lost", "schema-weather", "plain", |ids| replaced(ids, "format?:", "format:")),
    ("integer-kept", "schema-scalars", "plain", |ids| replaced(ids, "i: number", "i: integer")),
    ("null-lost", "schema-nullable", "plain", |ids| replaced(ids, "string | null,", "string,")),
    ("namespaces-renamed", "browser-and-python", "completion:assistant", |ids| replaced(ids, "## python", "## zython")),
    ("tools-after-channels", "browser", "completion:assistant", |ids| {
        edited(ids, |text| {
            let (head, rest) = text.split_once("# Tools").expect("tools");
            let (tools, channels) = rest.split_once("# Valid").expect("channels");
            let (channels, rest) = channels.split_once("<|end|>").expect("an end");
            format!("{head}# Valid{channels}\n\n# Tools{}<|end|>{rest}", tools.trim_end())
        })
    }),
    ("effort-capital", "effort-high", "completion:assistant", |ids| {
        replaced(ids, "Reasoning: high", "Reasoning: High")
    }),
    ("date-lost", "default-system", "completion:assistant", |ids| replaced(ids, "\nCurrent date: 2025-06-28", "")),
    ("channel-in-prompt", "default-system", "completion:assistant", |ids| [ids, &[special::CHANNEL]].concat()),
    ("names-of-users-dropped", "named-user", "plain", |ids| replaced(ids, ":alice", "")),
    ("float-with-plus", "schema-defaults", "plain", |ids| replaced(ids, "1e21", "1e+21")),
];

#[test]
fn each_fault_of_the_rendering_shows_in_its_case() {
    let golden = load("text/harmony-render");
    for (fault, case, mode, apply) in RENDERING {
        let want = ids(&golden["rendered"][case]["renders"][mode]);
        assert!(!want.is_empty(), "{fault}: {case} has no {mode}");
        assert_ne!(apply(&want), want, "{fault} does not show in {case}, {mode}");
    }
    let renders = &golden["rendered"]["one-turn"]["renders"];
    assert_ne!(renders["plain"], renders["plain+keep"], "analysis-kept");
}

#[test]
fn each_fault_of_the_tokenizer_shows_in_its_text() {
    let golden = load("text/tokenizer");
    let of = |text: &str| {
        let mut cases = golden["encode"].as_array().expect("a list").iter();
        ids(&cases.find(|case| case["text"] == text).unwrap_or_else(|| panic!("no case {text:?}"))["ids"])
    };
    let encode = |text: &str| tokenizer().encode(text).expect("ids");
    assert_ne!(greedy(&of("tokens   with")), of("tokens   with"), "greedy-prefix");
    assert_ne!([encode("don"), encode("'t")].concat(), of("don't"), "contraction-split");
    assert_ne!(encode("a b"), of("a\u{a0}b"), "blanks-unified");
    assert_ne!(encode("\u{e9} vs \u{e9}"), of("e\u{301} vs \u{e9}"), "text-normalised");
    assert_ne!(tokenizer().encode_with_all_specials("<|start|>").expect("ids"), of("<|start|>"), "special-in-text");
    assert_ne!([encode("12"), encode("345")].concat(), of("12345"), "digits-from-the-right");
    assert_ne!(encode("a\nb\n"), of("a\r\nb\r\n").as_slice(), "line-ends-unified");
}
