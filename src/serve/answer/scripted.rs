//! Answers to scripted tokens: what a model may write, well or badly, and how it is told.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::unbounded_channel;

use super::{Answer, End, Piece};
use crate::generate::engine::EngineEvent;
use crate::generate::harmony::{Mode, Role, StreamParser};
use crate::generate::stop::{FinishReason, TextStop};
use crate::generate::tokenizer::Tokenizer;

/// Everything told of one answer.
#[derive(Debug, Default)]
struct Told {
    text: String,
    thought: String,
    /// Name and arguments.
    calls: Vec<(String, String)>,
    end: Option<End>,
}

impl Told {
    fn codes(&self) -> Vec<String> {
        let warnings = self.end.iter().flat_map(|end| &end.warnings);
        warnings.map(|warning| warning["code"].as_str().expect("a code").into()).collect()
    }

    fn reason(&self) -> &str {
        self.end.as_ref().expect("an end").reason
    }
}

fn ids(script: &str) -> Vec<u32> {
    Tokenizer::o200k_harmony().encode_with_all_specials(script).expect("ids")
}

fn told(ids: &[u32], reason: FinishReason, stop: &[String], calls_max: usize) -> Told {
    let (sender, events) = unbounded_channel();
    let token = |id: &u32| EngineEvent::Token { id: *id, logprob: None, top: Vec::new() };
    let end = EngineEvent::Done { reason, cached_prompt_tokens: 3 };
    ids.iter().map(token).chain([end]).for_each(|event| sender.send(event).expect("it is read"));
    let (deadline, tokenizer) = (Instant::now() + Duration::from_secs(60), Tokenizer::o200k_harmony());
    let stop = TextStop::new(stop).expect("stop strings");
    let mut answer = Answer::of_messages(events, deadline, tokenizer, stop, 5, calls_max);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut told = Told::default();
        loop {
            match answer.next().await.expect("a piece") {
                Piece::Text(text, _) => told.text += &text,
                Piece::Thought(text) => told.thought += &text,
                Piece::Call { index, name, arguments } if arguments.is_empty() => {
                    assert_eq!(index, told.calls.len(), "calls begin in order");
                    told.calls.push((name, arguments));
                }
                Piece::Call { index, arguments, .. } => told.calls[index].1 += &arguments,
                Piece::End(end) => {
                    told.end = Some(end);
                    return told;
                }
            }
        }
    })
}

/// As many calls as there are.
const FREE: usize = usize::MAX;

fn stopped(script: &str, calls_max: usize) -> Told {
    told(&ids(script), FinishReason::Stop, &[], calls_max)
}

const WELL: &str =
    "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>final<|message|>Hi 🎈<|return|>";
const TWO_CALLS: &str = "<|channel|>commentary to=functions.a <|constrain|>json<|message|>{\"x\":1}<|end|><|start|>assistant\
    <|channel|>commentary to=functions.b <|constrain|>json<|message|>{}<|call|>";
const NO_HEADER: &str = "Just words, and no header<|return|>";
const LEFTOVER: &str = "<|channel|>analysis some more words<|message|>inside<|return|>";
const MESSY: &str = "<|channel|>final<|message|>one<|channel|>analysis<|message|>two<|start|>three<|end|><|end|>four";

#[test]
fn what_is_well_formed_is_told_without_warnings() {
    let told = stopped(WELL, FREE);
    assert_eq!((told.text.as_str(), told.thought.as_str(), told.reason()), ("Hi 🎈", "Think.", "stop"));
    assert!(told.codes().is_empty(), "{told:?}");
    let usage = told.end.expect("an end").usage;
    assert_eq!((usage.prompt, usage.cached, usage.completion, usage.reasoning), (5, 3, ids(WELL).len(), 2));
}

#[test]
fn text_in_a_header_is_told_with_what_was_wrong() {
    let bare = stopped(NO_HEADER, FREE);
    assert_eq!(bare.text, "Just words, and no header");
    assert_eq!(bare.codes(), ["message-missing"]);
    let leftover = stopped(LEFTOVER, FREE);
    assert!(leftover.thought.contains("some more words") && leftover.thought.ends_with("inside"), "{leftover:?}");
    assert_eq!(leftover.codes(), ["header-leftover"]);
    let nothing = stopped("<|return|>", FREE);
    assert_eq!((nothing.text.as_str(), nothing.codes().len()), ("", 1), "{nothing:?}");
    // Cut off inside a header: the reason says it, and nothing else is wrong.
    let cut = told(&ids("<|channel|>final and so"), FinishReason::Length, &[], FREE);
    assert_eq!((cut.text.as_str(), cut.reason(), cut.codes().len()), ("and so", "length", 0));
}

/// At every place where a stream may end, what is told is what the lenient parser has.
#[test]
fn no_text_is_lost_wherever_the_stream_ends() {
    for script in [WELL, TWO_CALLS, NO_HEADER, LEFTOVER, MESSY] {
        let ids = ids(script);
        for end in 0..=ids.len() {
            let mut parser = StreamParser::new(Tokenizer::o200k_harmony(), Mode::Lenient, Some(Role::Assistant));
            parser.process_all(ids[..end].iter().copied()).and_then(|()| parser.finish()).expect("lenient");
            let mut kept: Vec<String> = parser.messages().iter().map(|message| message.text()).collect();
            let told = told(&ids[..end], FinishReason::Length, &[], FREE);
            let mut found = vec![told.text.clone(), told.thought.clone()];
            found.extend(told.calls.iter().map(|(_, arguments)| arguments.clone()));
            kept.retain(|text| !text.is_empty());
            let (kept_bytes, found_bytes) = (kept.concat().len(), found.concat().len());
            assert_eq!(found_bytes, kept_bytes, "{script} up to {end}: {told:?}");
            assert!(kept.iter().all(|text| found.iter().any(|told| told.contains(text))), "{script}, {end}: {told:?}");
        }
    }
}

#[test]
fn calls_are_told_as_far_as_they_are_allowed() {
    let pair = |name: &str, arguments: &str| (name.to_string(), arguments.to_string());
    let both = stopped(TWO_CALLS, FREE);
    assert_eq!(both.calls, [pair("a", "{\"x\":1}"), pair("b", "{}")]);
    assert_eq!(both.reason(), "tool_calls");
    let one = stopped(TWO_CALLS, 1);
    assert_eq!((one.calls.as_slice(), one.reason()), (&[pair("a", "{\"x\":1}")][..], "tool_calls"));
    let none = stopped(TWO_CALLS, 0);
    assert_eq!((none.calls.len(), none.text.as_str(), none.reason()), (0, "{\"x\":1}{}", "stop"));
    assert_eq!(none.codes(), ["call-not-allowed"]);
    // A lone word in a header is a recipient; said to nobody, it is not lost.
    let word = stopped("word<|message|><|return|>", 0);
    assert_eq!(word.codes(), ["call-not-allowed"]);
    assert!(word.end.is_some_and(|end| end.warnings[0]["message"].to_string().contains("word")));
}

#[test]
fn a_call_without_arguments_is_told() {
    let told = stopped("<|channel|>commentary to=functions.a <|constrain|>json<|message|><|call|>", 1);
    assert_eq!((told.calls.as_slice(), told.reason()), (&[("a".to_string(), String::new())][..], "tool_calls"));
    assert!(told.codes().is_empty(), "{told:?}");
}

#[test]
fn a_stop_string_ends_the_answer_before_it() {
    let told = told(&ids(WELL), FinishReason::Stop, &["i 🎈".into()], FREE);
    assert_eq!((told.text.as_str(), told.reason()), ("H", "stop"));
}
