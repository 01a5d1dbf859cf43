//! Streams that nobody wrote: nothing panics, and lenient reading keeps every word.

use gptoss::generate::harmony::{Content, Conversation, Message, Mode, Role, StreamParser};
use gptoss::generate::tokenizer::{Tokenizer, VOCABULARY, special};
use proptest::collection::vec;
use proptest::prelude::*;

const CONTROLS: [u32; 8] = [
    special::START,
    special::END,
    special::MESSAGE,
    special::CHANNEL,
    special::CALL,
    special::RETURN,
    special::CONSTRAIN,
    special::END_OF_TEXT,
];

/// Texts of headers; the words of content are numbered, so that each can be looked for.
const HEADER_TEXTS: [&str; 10] =
    ["assistant", "user", "tool", "analysis", "final", " to=functions.f", " json", " ", "\n", "robot"];

#[derive(Debug, Clone)]
enum Part {
    Control(usize),
    Header(usize),
    Word(u16),
    Any(u32),
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => (0..CONTROLS.len()).prop_map(Part::Control),
        3 => (0..HEADER_TEXTS.len()).prop_map(Part::Header),
        3 => any::<u16>().prop_map(Part::Word),
    ]
}

fn word(number: u16) -> String {
    format!(" w{number:05}w")
}

fn ids(parts: &[Part]) -> Vec<u32> {
    let tokenizer = Tokenizer::o200k_harmony();
    let one = |part: &Part| match part {
        Part::Control(index) => vec![CONTROLS[*index]],
        Part::Header(index) => tokenizer.encode(HEADER_TEXTS[*index]).expect("ids"),
        Part::Word(number) => tokenizer.encode(&word(*number)).expect("ids"),
        Part::Any(id) => vec![*id],
    };
    parts.iter().flat_map(one).collect()
}

fn parsed(mode: Mode, role: Option<Role>, ids: &[u32]) -> (bool, StreamParser) {
    let mut parser = StreamParser::new(Tokenizer::o200k_harmony(), mode, role);
    let result = parser.process_all(ids.iter().copied()).and_then(|()| parser.finish());
    (result.is_ok(), parser)
}

fn role() -> impl Strategy<Value = Option<Role>> {
    prop_oneof![Just(None), Just(Some(Role::Assistant)), Just(Some(Role::Tool))]
}

/// All that messages say, in order.
fn said(messages: &[Message]) -> String {
    let one = |m: &Message| {
        let parts = [&m.author.name, &m.recipient, &m.channel, &m.content_type, &Some(m.text())];
        parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("\n")
    };
    messages.iter().map(one).collect::<Vec<_>>().join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn lenient_keeps_every_word(parts in vec(part(), 0..40), role in role()) {
        let (is_ok, parser) = parsed(Mode::Lenient, role, &ids(&parts));
        prop_assert!(is_ok);
        let said = said(parser.messages());
        for part in &parts {
            if let Part::Word(number) = part {
                let word = word(*number);
                prop_assert!(said.contains(word.trim()), "{word} is lost: {said}");
            }
        }
    }

    #[test]
    fn lenient_is_strict_where_it_sees_no_problem(parts in vec(part(), 0..40), role in role()) {
        let (ids, at_end) = (ids(&parts), |parser: &StreamParser| parser.problems().iter().all(|p| p.kind.name() == "unfinished"));
        let (_, lenient) = parsed(Mode::Lenient, role, &ids);
        let (is_ok, strict) = parsed(Mode::Strict, role, &ids);
        if lenient.problems().is_empty() {
            prop_assert!(is_ok, "strict refuses");
        }
        if is_ok && at_end(&lenient) {
            prop_assert_eq!(lenient.messages(), strict.messages());
        }
    }

    #[test]
    fn no_stream_panics(ids in vec(prop_oneof![0..VOCABULARY, 199_998..200_020_u32, 0..256_u32, any::<u32>()], 0..60), role in role()) {
        let parts: Vec<Part> = ids.iter().map(|id| Part::Any(*id)).collect();
        for mode in [Mode::Strict, Mode::Lenient] {
            let (_, parser) = parsed(mode, role, &self::ids(&parts));
            let json = serde_json::to_string(parser.messages()).expect("JSON");
            prop_assert!(serde_json::from_str::<Vec<Message>>(&json).is_ok());
        }
    }

    #[test]
    fn deltas_add_up_to_the_content(ids in vec(prop_oneof![0..199_998_u32, 0..256_u32], 0..60)) {
        for mode in [Mode::Strict, Mode::Lenient] {
            let tokenizer = Tokenizer::o200k_harmony();
            let mut parser = StreamParser::new(tokenizer, mode, Some(Role::Assistant));
            parser.process_all([special::CHANNEL, 17196, special::MESSAGE]).expect("a header");
            let mut shown = String::new();
            for id in &ids {
                parser.process(*id).expect("content");
                shown += parser.last_delta().unwrap_or_default();
                prop_assert_eq!(parser.current_content(), &shown);
            }
            parser.process(special::END).expect("an end");
            let want = tokenizer.decode(&ids).expect("text");
            prop_assert!(want.starts_with(&shown));
            prop_assert_eq!(parser.messages()[0].text(), want);
        }
    }

    #[test]
    fn streamed_text_is_the_whole_text(ids in vec(prop_oneof![0..VOCABULARY, 0..256_u32], 0..60)) {
        let tokenizer = Tokenizer::o200k_harmony();
        let mut stream = tokenizer.stream();
        let shown: String = ids.iter().map(|id| stream.push(*id).expect("a known id")).collect();
        prop_assert_eq!(shown + &stream.finish(), tokenizer.decode(&ids).expect("text"));
    }

    #[test]
    fn text_round_trips_without_specials(text in ".*") {
        let tokenizer = Tokenizer::o200k_harmony();
        let ids = tokenizer.encode(&text).expect("ids");
        prop_assert!(ids.iter().all(|id| !gptoss::generate::tokenizer::is_special(*id)));
        prop_assert_eq!(tokenizer.decode(&ids).expect("text"), text);
    }

    #[test]
    fn no_json_panics(text in r#"\{"messages": ?\[(\{"role": ?"(user|tool|x)",? ?"content": ?("a"|\[\{"type": ?"(text|system_content)"\}\]|3)\}?,?){0,3}\]?\}?"#) {
        if let Ok(Conversation { messages }) = Conversation::from_json(&text) {
            prop_assert!(messages.iter().all(|m| m.content.iter().all(|c| !matches!(c, Content::DeveloperContent(_)))));
        }
    }
}
