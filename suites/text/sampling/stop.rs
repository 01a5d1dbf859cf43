//! Where a text stops, by an oracle of a few lines and any way of cutting it into pieces.

use gptoss::generate::stop::{FinishReason, Stop, StopRules, TextStop};
use proptest::prelude::*;

/// The text before the first stop string to be complete, of several the longest.
fn stopped<'a>(text: &'a [u8], strings: &[String]) -> (&'a [u8], bool) {
    for end in 1..=text.len() {
        let complete = strings.iter().filter(|string| text[..end].ends_with(string.as_bytes()));
        if let Some(longest) = complete.map(String::len).max() {
            return (&text[..end - longest], true);
        }
    }
    (text, false)
}

/// Bytes at the end of `text` that may be the beginning of a stop string.
fn suspect(text: &[u8], strings: &[String]) -> usize {
    let is_beginning = |&n: &usize| strings.iter().any(|string| string.as_bytes().starts_with(&text[text.len() - n..]));
    (0..=text.len()).rev().find(is_beginning).unwrap_or(0)
}

/// Pushes `text` in pieces that end at `cuts`, and checks what is out after each.
fn check_pieces(text: &[u8], strings: &[String], cuts: &[usize]) {
    let (want, is_stopped) = stopped(text, strings);
    let mut stop = TextStop::new(strings).expect("within bounds");
    let (mut out, mut from) = (Vec::new(), 0);
    for &to in cuts.iter().chain([&text.len()]) {
        let to = to.clamp(from, text.len());
        let found = stop.push(&text[from..to], &mut out);
        let (before, is_found) = stopped(&text[..to], strings);
        assert_eq!(found.is_some(), is_found, "{text:?} to {to}, {strings:?}");
        if let Some(index) = found {
            assert!(text[before.len()..to].starts_with(strings[index].as_bytes()), "{text:?} {strings:?}");
        }
        let shown = if is_found { before.len() } else { to - suspect(&text[..to], strings) };
        assert_eq!(out, text[..shown], "{text:?} to {to}, {strings:?}");
        from = to;
    }
    stop.finish(&mut out);
    assert_eq!(out, want, "{text:?} {strings:?}");
    assert_eq!(stop.push(b"more", &mut out).is_some(), is_stopped, "what was found stays found");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_give_the_text_before_the_first_stop_string(
        text in "[abé]{0,40}",
        strings in prop::collection::vec("[abè]{1,6}", 0..5),
        mut cuts in prop::collection::vec(0usize..60, 0..12),
    ) {
        cuts.sort_unstable();
        check_pieces(text.as_bytes(), &strings, &cuts);
        let every_byte: Vec<usize> = (0..text.len()).collect();
        check_pieces(text.as_bytes(), &strings, &every_byte);
    }

    #[test]
    fn pieces_of_whole_characters_come_out_as_whole_characters(
        pieces in prop::collection::vec("[aéè€😀]{0,4}", 0..12),
        strings in prop::collection::vec("[aéè€😁]{1,4}", 0..4),
    ) {
        let mut stop = TextStop::new(&strings).expect("within bounds");
        let mut out = Vec::new();
        for piece in &pieces {
            stop.push(piece.as_bytes(), &mut out);
            prop_assert!(std::str::from_utf8(&out).is_ok(), "{:?}", out);
        }
    }
}

#[test]
fn first_complete_wins_and_then_the_longest() {
    for (text, strings, want) in [
        ("abcd", &["bc", "abcd"][..], "a"),
        ("abcd", &["bc", "abc"], ""),
        ("aab", &["ab"], "a"),
        ("aaab", &["aab"], "a"),
        ("ababac", &["abac"], "ab"),
        ("end.\n\nUser:", &["\n\nUser:", "\nUser"], "end.\n"),
        ("no", &["now"], "no"),
    ] {
        let strings: Vec<String> = strings.iter().map(|string| string.to_string()).collect();
        assert_eq!(stopped(text.as_bytes(), &strings).0, want.as_bytes(), "{text}: the oracle");
        check_pieces(text.as_bytes(), &strings, &(0..text.len()).collect::<Vec<_>>());
    }
}

fn stop(tokens: &[u32], strings: &[&str], max_tokens: usize) -> Stop {
    let rules = StopRules {
        tokens: tokens.iter().copied().collect(),
        strings: strings.iter().map(|string| string.to_string()).collect(),
        max_tokens: max_tokens.try_into().ok(),
    };
    Stop::new(rules).expect("within bounds")
}

/// Reasons after each step, and all that came out.
fn steps(stop: &mut Stop, tokens: &[(u32, &str)]) -> (Vec<Option<FinishReason>>, String) {
    let mut out = Vec::new();
    let reasons = tokens.iter().map(|(token, text)| stop.step(*token, text.as_bytes(), &mut out)).collect();
    (reasons, String::from_utf8(out).expect("whole characters"))
}

#[test]
fn a_sequence_ends_for_one_reason() {
    use FinishReason::{Length, Stop as Stopped};
    let text = [(1, "ab"), (2, "c<"), (3, "/s"), (4, ">d")];
    for (tokens, strings, most, reasons, shown) in [
        (&[][..], &[][..], 0, [None; 4], "abc</s>d"),
        (&[3], &["</s>"], 0, [None, None, Some(Stopped), Some(Stopped)], "abc<"),
        (&[], &["</s>"], 0, [None, None, None, Some(Stopped)], "abc"),
        (&[], &["</s>"], 2, [None, Some(Length), Some(Length), Some(Length)], "abc<"),
        (&[], &["c"], 2, [None, Some(Stopped), Some(Stopped), Some(Stopped)], "ab"),
        (&[2], &[], 2, [None, Some(Stopped), Some(Stopped), Some(Stopped)], "ab"),
        (&[], &[], 1, [Some(Length); 4], "ab"),
    ] {
        let mut stop = stop(tokens, strings, most);
        assert_eq!(steps(&mut stop, &text), (reasons.to_vec(), shown.to_string()), "{tokens:?} {strings:?} {most}");
        assert_eq!(stop.finished(), reasons[3]);
    }
}

#[test]
fn cancelling_shows_what_was_held_back_once() {
    let mut cancelled = stop(&[], &["</s>"], 0);
    let mut out = Vec::new();
    assert_eq!(cancelled.step(1, b"a</s", &mut out), None);
    assert_eq!(out, b"a");
    assert_eq!(cancelled.cancel(&mut out), FinishReason::Cancelled);
    assert_eq!(cancelled.cancel(&mut out), FinishReason::Cancelled);
    assert_eq!(cancelled.step(2, b">", &mut out), Some(FinishReason::Cancelled));
    assert_eq!(out, b"a</s");
    let mut ended = stop(&[1], &[], 0);
    ended.step(1, b"", &mut out);
    assert_eq!(ended.cancel(&mut out), FinishReason::Stop);
    assert_eq!(serde_json::to_string(&FinishReason::Cancelled).expect("a word"), "\"cancelled\"");
}
