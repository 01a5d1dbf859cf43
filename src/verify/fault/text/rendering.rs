//! Wrong renderings, made from right ids without the renderer, and one in the mode of another.

use super::{Fault, Wrong};
use crate::generate::tokenizer::{Tokenizer, is_special, special};
use crate::verify::cases::text::harmony::render;

const fn fault(name: &'static str, about: &'static str, wrong: fn(&[u32]) -> Vec<u32>) -> Fault {
    Fault { name, about, wrong: Wrong::Rendering(wrong) }
}

fn tokenizer() -> Tokenizer {
    Tokenizer::o200k_harmony()
}

fn decode(ids: &[u32]) -> String {
    tokenizer().decode(ids).unwrap_or_default()
}

/// Edits the decoded stream, control tokens kept; ids stay as they are where the text does.
fn edited(ids: &[u32], edit: impl Fn(&str) -> String) -> Vec<u32> {
    let text = decode(ids);
    match edit(&text) {
        same if same == text => ids.to_vec(),
        other => tokenizer().encode_with_all_specials(&other).unwrap_or_default(),
    }
}

fn replaced(ids: &[u32], from: &str, to: &str) -> Vec<u32> {
    edited(ids, |text| text.replace(from, to))
}

fn swapped(ids: &[u32], from: u32, to: u32) -> Vec<u32> {
    ids.iter().map(|id| if *id == from { to } else { *id }).collect()
}

/// With the text between control tokens made again.
fn by_parts(ids: &[u32], part: impl Fn(&[u32]) -> Vec<u32>) -> Vec<u32> {
    let parts = ids.chunk_by(|a, b| is_special(*a) == is_special(*b));
    parts.flat_map(|ids| if is_special(ids[0]) { ids.to_vec() } else { part(ids) }).collect()
}

fn without_messages(ids: &[u32], head: &str, keep_last: bool) -> Vec<u32> {
    edited(ids, |text| {
        let messages: Vec<&str> = text.split_inclusive("<|end|>").collect();
        let last = messages.iter().rposition(|message| message.starts_with(head)).filter(|_| keep_last);
        let kept = messages.iter().enumerate().filter(|(at, m)| Some(*at) == last || !m.starts_with(head));
        kept.map(|(_, message)| *message).collect()
    })
}

/// Of a text whose first message has both.
fn tools_after_channels(text: &str) -> Option<String> {
    let (system, rest) = text.split_once("<|end|>")?;
    let (head, tools) = system.split_once("# Tools")?;
    let (tools, channels) = tools.split_once("# Valid")?;
    Some(format!("{head}# Valid{channels}\n\n# Tools{}<|end|>{rest}", tools.trim_end()))
}

const THOUGHT: &str = "<|start|>assistant<|channel|>analysis";

/// Every one.
pub(super) const FAULTS: &[Fault] = &[
    fault("harmony/end-for-return", "training text ends in `<|end|>`", |ids| {
        swapped(ids, special::RETURN, special::END)
    }),
    fault("harmony/return-in-history", "every message of the assistant ends in `<|return|>`", |ids| {
        let mut ids = ids.to_vec();
        if let Some(last) = ids.last_mut().filter(|id| **id == special::END) {
            *last = special::RETURN;
        }
        ids
    }),
    fault("harmony/end-for-call", "a call ends in `<|end|>`", |ids| swapped(ids, special::CALL, special::END)),
    fault("harmony/thoughts-always-dropped", "thoughts are dropped though they were to be kept", |ids| {
        without_messages(ids, THOUGHT, false)
    }),
    fault("harmony/thoughts-before-last-dropped", "of thoughts that were to be kept, only the last is", |ids| {
        without_messages(ids, THOUGHT, true)
    }),
    Fault {
        name: "harmony/thoughts-kept",
        about: "thoughts stay though they were answered and are to be dropped",
        wrong: Wrong::Render(|said, mode| match mode.contains('+') {
            true => render(said, mode),
            false => render(said, &format!("{mode}+keep")),
        }),
    },
    fault("harmony/specials-from-user-text", "control tokens are read from what users wrote", |ids| {
        tokenizer().encode_with_all_specials(&decode(ids)).unwrap_or_default()
    }),
    fault("harmony/parts-tokenized-together", "the parts of a message are joined before they are tokenized", |ids| {
        by_parts(ids, |part| tokenizer().encode(&decode(part)).unwrap_or_default())
    }),
    fault("harmony/constrain-as-text", "`<|constrain|>` is written out", |ids| {
        let plain = tokenizer().encode("<|constrain|>").unwrap_or_default();
        ids.iter().flat_map(|id| if *id == special::CONSTRAIN { plain.clone() } else { vec![*id] }).collect()
    }),
    fault("harmony/content-type-dropped", "` code` is left out of a call's head", |ids| {
        replaced(ids, " code<|message|>", "<|message|>")
    }),
    fault("harmony/recipient-dropped", "a tool's reply is to nobody", |ids| replaced(ids, " to=assistant", "")),
    fault("harmony/recipient-all-written", "` to=all` is written where nobody is named", |ids| {
        replaced(ids, "<|start|>assistant<|", "<|start|>assistant to=all<|")
    }),
    fault("harmony/channel-before-recipient", "the channel of a call comes before its recipient", |ids| {
        let call = " to=functions.get_weather<|channel|>commentary";
        replaced(ids, call, "<|channel|>commentary to=functions.get_weather")
    }),
    fault("harmony/tool-role-for-name", "a tool speaks as `tool`, not by its name", |ids| {
        replaced(ids, "<|start|>functions.get_weather", "<|start|>tool")
    }),
    fault("harmony/namespace-not-closed", "the end of a namespace is missing", |ids| {
        replaced(ids, "\n} // namespace functions", "")
    }),
    fault("harmony/functions-not-announced", "the system message does not say where calls must go", |ids| {
        replaced(ids, "\nCalls to these tools must go to the commentary channel: 'functions'.", "")
    }),
    fault("harmony/namespaces-renamed", "the tool `python` has another name", |ids| {
        replaced(ids, "## python", "## zython")
    }),
    fault("harmony/tools-after-channels", "the system message names its tools after its channels", |ids| {
        edited(ids, |text| tools_after_channels(text).unwrap_or_else(|| text.to_string()))
    }),
    fault("harmony/properties-sorted", "a schema's properties in the order of the alphabet", |ids| {
        replaced(ids, "zeta: string,\nalpha?: number,", "alpha?: number,\nzeta: string,")
    }),
    fault("harmony/optional-mark-lost", "an optional property has no `?`", |ids| replaced(ids, "format?:", "format:")),
    fault("harmony/integer-kept", "`integer` is written where TypeScript has `number`", |ids| {
        replaced(ids, "i: number", "i: integer")
    }),
    fault("harmony/null-lost", "a nullable type is written without `| null`", |ids| {
        replaced(ids, "string | null,", "string,")
    }),
    fault("harmony/effort-capital", "`Reasoning: High` for `high`", |ids| {
        replaced(ids, "Reasoning: high", "Reasoning: High")
    }),
    fault("harmony/date-lost", "the current date is left out", |ids| replaced(ids, "\nCurrent date: 2025-06-28", "")),
    fault("harmony/names-of-users-dropped", "`user:alice` is written `user`", |ids| replaced(ids, ":alice", "")),
    fault("harmony/float-with-plus", "`1e+21` for `1e21`", |ids| replaced(ids, "1e21", "1e+21")),
    fault("harmony/channel-in-prompt", "a prompt for the assistant goes on with `<|channel|>`", |ids| {
        match ids.last().is_some_and(|id| !is_special(*id)) {
            true => [ids, &[special::CHANNEL]].concat(),
            false => ids.to_vec(),
        }
    }),
];
