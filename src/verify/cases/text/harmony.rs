//! Harmony against openai-harmony: renderings, messages read back, and where a turn ends.

use serde_json::Value;

use super::{LEVEL, ids, of_cases, same_ids, text};
use crate::generate::harmony::{
    Analysis, Conversation, Message, Mode, Renderer, Role, STOP_TOKENS_OF_ACTIONS, StreamParser,
};
use crate::generate::stop::{Stop, StopRules};
use crate::generate::tokenizer::Tokenizer;
use crate::verify::cases::with_golden;
use crate::verify::outcome::Check;

/// A conversation, and a mode of the golden, to ids or a refusal.
pub type Render<'a> = &'a dyn Fn(&Conversation, &str) -> Result<Vec<u32>, String>;
/// A stream, and who is known to speak, to messages and the name of what is wrong.
pub type Parse<'a> = &'a dyn Fn(Option<Role>, &[u32]) -> (Vec<Message>, Option<&'static str>);
/// A stream to how many of its ids are the turn.
pub type Turn<'a> = &'a dyn Fn(&[u32]) -> usize;

/// `<|return|>` and `<|call|>`: openai-harmony's `stop_tokens_for_assistant_actions`, by number.
const ENDS_OF_TURNS: [u32; 2] = [200_002, 200_012];
/// What a model that was not stopped might go on with: `<|start|>user<|message|>Hello<|end|>`.
const GOING_ON: [u32; 5] = [200_006, 1428, 200_008, 13225, 200_007];

/// Checks of ours.
pub fn run() -> Vec<Check> {
    [render_checks(&render), parse_checks(&parse), turn_checks(&turn)].concat()
}

/// Ours.
pub fn render(conversation: &Conversation, mode: &str) -> Result<Vec<u32>, String> {
    let (mode, keep) = mode.split_once('+').unwrap_or((mode, ""));
    let analysis = if keep == "keep" { Analysis::Keep } else { Analysis::DropAnswered };
    let renderer = Renderer::new(Tokenizer::o200k_harmony());
    let ids = match mode.split_once(':') {
        Some((_, role)) => renderer.for_completion(conversation, role.parse().unwrap_or(Role::Assistant), analysis),
        None if mode == "training" => renderer.for_training(conversation, analysis),
        None => renderer.conversation(conversation, analysis),
    };
    ids.map_err(|error| error.to_string())
}

/// Ours, strict as the witness.
pub fn parse(role: Option<Role>, ids: &[u32]) -> (Vec<Message>, Option<&'static str>) {
    let mut parser = StreamParser::new(Tokenizer::o200k_harmony(), Mode::Strict, role);
    let result = parser.process_all(ids.iter().copied()).and_then(|()| parser.finish());
    (parser.messages().to_vec(), result.err().map(|error| error.name()))
}

/// Ours.
pub fn turn(ids: &[u32]) -> usize {
    turn_with(&STOP_TOKENS_OF_ACTIONS, ids)
}

/// Up to the first of these tokens.
pub fn turn_with(tokens: &[u32], ids: &[u32]) -> usize {
    let rules = StopRules { tokens: tokens.iter().copied().collect(), ..StopRules::default() };
    let mut stop = Stop::new(rules).expect("there is no string");
    ids.iter().position(|id| stop.step(*id, &[], &mut Vec::new()).is_some()).map_or(ids.len(), |at| at + 1)
}

/// Every conversation has the witness's ids, in every mode.
pub fn render_checks(render: Render<'_>) -> Vec<Check> {
    let name = "text/harmony/render";
    with_golden("text/harmony-render", name, LEVEL, |golden| {
        let cases = golden["rendered"].as_object().into_iter().flatten();
        let judge = |(case, value): (&String, &Value)| {
            let conversation = Conversation::from_json(text(&value["conversation"])).map_err(|e| e.to_string())?;
            let modes = value["renders"].as_object().into_iter().flatten();
            modes.into_iter().try_for_each(|(mode, want)| {
                let found = render(&conversation, mode).map_err(|error| format!("{case}, {mode}: {error}"))?;
                same_ids(&format!("{case}, {mode}"), &ids(want), &found)
            })
        };
        vec![of_cases(name, cases.map(judge))]
    })
}

/// Every stream gives the witness's messages, or its refusal.
pub fn parse_checks(parse: Parse<'_>) -> Vec<Check> {
    let name = "text/harmony/parse";
    with_golden("text/harmony-parse", name, LEVEL, |golden| {
        let judge = |(case, value): (&String, &Value)| {
            let want = Conversation::from_json(text(&value["strict"]["messages"])).map_err(|e| e.to_string())?;
            let role = value["role"].as_str().and_then(|role| role.parse().ok());
            let (found, error) = parse(role, &ids(&value["ids"]));
            if error != value["strict"]["error"].as_str() {
                return Err(format!("{case}: expected {}, found {error:?}", value["strict"]["error"]));
            }
            if found != want.messages {
                return Err(format!("{case}: other messages"));
            }
            Ok(())
        };
        vec![of_cases(name, golden.as_object().into_iter().flatten().map(judge))]
    })
}

/// A turn goes to where the witness's stream ends, whatever a model might add.
pub fn turn_checks(turn: Turn<'_>) -> Vec<Check> {
    let name = "text/harmony/turn";
    with_golden("text/harmony-parse", name, LEVEL, |golden| {
        let judge = |(case, value): (&String, &Value)| {
            let ids = ids(&value["ids"]);
            let end = ids.iter().position(|id| ENDS_OF_TURNS.contains(id));
            let is_turn = value["role"] == "assistant"
                && value["strict"]["error"].is_null()
                && end.is_some_and(|end| end + 1 == ids.len());
            is_turn.then(|| match turn(&[&ids[..], &GOING_ON].concat()) {
                found if found == ids.len() => Ok(()),
                found => Err(format!("{case}: a turn of {} ids, not {}", found, ids.len())),
            })
        };
        vec![of_cases(name, golden.as_object().into_iter().flatten().filter_map(judge))]
    })
}
