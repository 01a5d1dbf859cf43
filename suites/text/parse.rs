//! Streams to messages.

use gptoss::generate::harmony::{Conversation, Message, Mode, ParseError, Role, StreamParser};
use gptoss::generate::tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::goldens::{cases, ids, list, load, text};

fn parser(mode: Mode, case: &Value) -> StreamParser {
    let role = case["role"].as_str().map(|role| role.parse::<Role>().expect("a role"));
    StreamParser::new(Tokenizer::o200k_harmony(), mode, role)
}

fn messages(value: &Value) -> Vec<Message> {
    Conversation::from_json(text(value)).expect("a conversation").messages
}

fn state(parser: &StreamParser) -> Value {
    json!([
        parser.state_name(),
        parser.current_role().map(Role::as_str),
        parser.current_channel(),
        parser.current_recipient(),
        parser.current_content_type(),
        parser.last_delta(),
        parser.current_content(),
        parser.messages().len(),
    ])
}

#[test]
fn every_stream_gives_the_witness_s_messages_or_its_refusal() {
    for (name, case) in cases(&load("text/harmony-parse")) {
        let mut parser = parser(Mode::Strict, case);
        let result = parser.process_all(ids(&case["ids"])).and_then(|()| parser.finish());
        assert_eq!(result.as_ref().err().map(ParseError::name), case["strict"]["error"].as_str(), "{name}");
        let position = match &result {
            Ok(()) => None,
            Err(ParseError::EndInHeader { position } | ParseError::Header { position, .. }) => Some(*position as u64),
            Err(ParseError::UnexpectedToken { position, .. }) => Some(*position as u64),
        };
        assert_eq!(position, case["strict"]["position"].as_u64(), "{name}");
        assert_eq!(parser.messages(), messages(&case["strict"]["messages"]), "{name}");
    }
}

#[test]
fn every_step_shows_what_the_witness_shows() {
    let golden = load("text/harmony-parse");
    let stepwise: Vec<_> = cases(&golden).into_iter().filter(|(_, case)| !case["strict"]["states"].is_null()).collect();
    assert!(stepwise.len() >= 15);
    for (name, case) in stepwise {
        let mut parser = parser(Mode::Strict, case);
        let states = list(&case["strict"]["states"]);
        let ids = ids(&case["ids"]);
        assert_eq!(states.len(), ids.len() + 1);
        for (at, want) in states.iter().enumerate() {
            let want: Value = serde_json::from_str(text(want)).expect("a state");
            assert_eq!(state(&parser), want, "{name}, after {at} tokens");
            if let Some(id) = ids.get(at) {
                parser.process(*id).expect("a well-formed stream");
            }
        }
    }
}

#[test]
fn lenient_gives_what_the_witness_gives_where_that_loses_nothing() {
    let (mut equal, mut better) = (0, 0);
    for (name, case) in cases(&load("text/harmony-parse")) {
        let mut parser = parser(Mode::Lenient, case);
        parser.process_all(ids(&case["ids"])).and_then(|()| parser.finish()).expect("never refused");
        let found = serde_json::to_string(parser.messages()).expect("JSON");
        if case["lenient"]["whole"] == true {
            assert_eq!(parser.messages(), messages(&case["lenient"]["messages"]), "{name}: {:?}", parser.problems());
            equal += 1;
        } else {
            for word in case["words"].as_array().expect("words").iter().map(text) {
                let quoted = serde_json::to_string(word).expect("JSON");
                let is_role_alone = word.parse::<Role>().is_ok();
                assert!(found.contains(quoted.trim_matches('"')) || is_role_alone, "{name}: {word} is lost: {found}");
            }
            better += 1;
        }
        if parser.problems().is_empty() {
            assert!(case["strict"]["error"].is_null(), "{name}: strict refuses, lenient sees no problem");
        }
    }
    assert!(equal > 30 && better > 20, "{equal} {better}");
}

type Lenient = (&'static str, Option<Role>, &'static [&'static str], &'static [&'static str]);

/// Stream in Harmony's text form, role, and what lenient reading makes of it: messages as `role/channel/recipient:
/// text`, then problems.
const LENIENT: &[Lenient] = &[
    (
        "<|start|>assistant<|channel|>final<|message|>x<|end|><|return|>",
        None,
        &["assistant/final/-: x"],
        &["stray-stop@7"],
    ),
    (
        "<|channel|>analysis<|message|>x<|end|><|channel|>final<|message|>y<|return|>",
        Some(Role::Assistant),
        &["assistant/analysis/-: x", "assistant/final/-: y"],
        &["start-missing@5"],
    ),
    (
        "<|channel|>analysis<|message|>x<|channel|>final<|message|>y<|return|>",
        Some(Role::Assistant),
        &["assistant/analysis/-: x", "assistant/final/-: y"],
        &["end-missing@4"],
    ),
    (
        "<|channel|>analysis<|message|>x<|start|>assistant<|channel|>final<|message|>y",
        Some(Role::Assistant),
        &["assistant/analysis/-: x", "assistant/final/-: y"],
        &["end-missing@4", "unfinished@10"],
    ),
    (
        "<|channel|>commentary to=functions.f <|constrain|>json extra words<|message|>{}<|call|>",
        Some(Role::Assistant),
        &["assistant/commentary/-: extra words", "assistant/commentary/functions.f: {}"],
        &["header-leftover@12"],
    ),
    (
        "<|channel|>final <|constrain|>json<|message|>{}<|return|>",
        Some(Role::Assistant),
        &["assistant/final/-/<|constrain|>json: {}"],
        &["control-misplaced@5"],
    ),
    (
        "<|start|>user:alice<|message|>x<|end|><|start|>robot<|channel|>final<|message|>y<|end|>",
        None,
        &["user=alice/-/-: x", "tool=robot/final/-: y"],
        &["role-unknown@4", "role-unknown@11"],
    ),
    (
        "<|start|><|message|>x<|end|><|start|><|end|><|start|>",
        None,
        &["assistant/-/-: x"],
        &["role-missing@1", "message-missing@5", "unfinished@7"],
    ),
    (
        "Hello, world<|start|>user<|message|>x<|end|>",
        None,
        &["assistant/-/-: Hello, world", "user/-/-: x"],
        &["start-missing@0", "message-missing@3"],
    ),
    (
        "<|channel|>final Dear all,\n\n  indented  text\n<|return|>",
        Some(Role::Assistant),
        &["assistant/final/-: Dear all,\n\n  indented  text"],
        &["message-missing@11"],
    ),
    (
        "<|channel|>final<|message|>a<|constrain|>b<|endoftext|>",
        Some(Role::Assistant),
        &["assistant/final/-: a<|constrain|>b"],
        &["control-in-content@4", "end-missing@6"],
    ),
    ("<|channel|>analysis Thinking", Some(Role::Assistant), &["assistant/analysis/-: Thinking"], &["unfinished@3"]),
    (
        "<|channel|>a<|channel|>b<|message|>x<|end|>",
        Some(Role::Assistant),
        &["assistant/b/-: a", "assistant/b/-: x"],
        &["control-misplaced@4"],
    ),
    ("", Some(Role::Assistant), &[], &["unfinished@0"]),
    ("", None, &[], &[]),
];

#[test]
fn lenient_tells_what_was_wrong_and_where() {
    let tokenizer = Tokenizer::o200k_harmony();
    for (stream, role, want, problems) in LENIENT {
        let mut parser = StreamParser::new(tokenizer, Mode::Lenient, *role);
        let ids = tokenizer.encode_with_all_specials(stream).expect("ids");
        parser.process_all(ids).and_then(|()| parser.finish()).expect("never refused");
        let or_dash = |part: &Option<String>| part.clone().unwrap_or("-".into());
        let line = |message: &Message| {
            let name = message.author.name.as_ref().map(|name| format!("={name}")).unwrap_or_default();
            let content_type = message.content_type.as_ref().filter(|_| message.recipient.is_none());
            let content_type = content_type.map(|text| format!("/{text}")).unwrap_or_default();
            let (channel, recipient) = (or_dash(&message.channel), or_dash(&message.recipient));
            format!("{}{name}/{channel}/{recipient}{content_type}: {}", message.author.role.as_str(), message.text())
        };
        let found: Vec<String> = parser.messages().iter().map(line).collect();
        assert_eq!(found, *want, "{stream}");
        let found: Vec<String> =
            parser.problems().iter().map(|p| format!("{}@{}", p.kind.name(), p.position)).collect();
        assert_eq!(found, *problems, "{stream}");
    }
}
