//! Wrong tokenizers.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::{Fault, Wrong};
use crate::generate::tokenizer::{TEXT_TOKENS, Tokenizer};
use crate::verify::cases::text::tokens::encode;

/// Every one.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "tokenizer/greedy-prefix",
        about: "the longest token that fits, instead of merges in their order",
        wrong: Wrong::Encode(greedy),
    },
    Fault {
        name: "tokenizer/specials-in-text",
        about: "`<|start|>` in a text becomes the control token",
        wrong: Wrong::Encode(|text| Tokenizer::o200k_harmony().encode_with_all_specials(text).unwrap_or_default()),
    },
    Fault {
        name: "tokenizer/line-ends-unified",
        about: "CR LF read as LF",
        wrong: Wrong::Encode(|text| encode(&text.replace("\r\n", "\n"))),
    },
    Fault {
        name: "tokenizer/blanks-unified",
        about: "a no-break space read as a blank",
        wrong: Wrong::Encode(|text| encode(&text.replace('\u{a0}', " "))),
    },
    Fault {
        name: "tokenizer/text-normalised",
        about: "e and a combining acute composed to one character",
        wrong: Wrong::Encode(|text| encode(&text.replace("e\u{301}", "\u{e9}"))),
    },
    Fault {
        name: "tokenizer/contraction-split",
        about: "a text cut before every apostrophe",
        wrong: Wrong::Encode(|text| {
            let mut pieces = text.split('\'');
            let first = encode(pieces.next().unwrap_or_default());
            pieces.fold(first, |ids, piece| [ids, encode(&format!("'{piece}"))].concat())
        }),
    },
    Fault {
        name: "tokenizer/digits-from-the-right",
        about: "digits in groups of three from the right",
        wrong: Wrong::Encode(|text| {
            let is_digit = |c: &char| c.is_ascii_digit();
            let chars: Vec<char> = text.chars().collect();
            let runs = chars.chunk_by(|a, b| is_digit(a) == is_digit(b));
            let of = |chars: &[char]| encode(&chars.iter().collect::<String>());
            runs.flat_map(|run| match is_digit(&run[0]) {
                true => run.rchunks(3).rev().flat_map(of).collect(),
                false => of(run),
            })
            .collect()
        }),
    },
    Fault {
        name: "tokenizer/half-a-character",
        about: "each token's bytes shown at once, though a character may go on in the next",
        wrong: Wrong::Show(|ids| {
            ids.iter().map(|id| Tokenizer::o200k_harmony().decode(&[*id]).unwrap_or_default()).collect()
        }),
    },
    Fault {
        name: "tokenizer/end-of-stream-lost",
        about: "what is held back at the end is never shown",
        wrong: Wrong::Show(|ids| {
            let mut stream = Tokenizer::o200k_harmony().stream();
            ids.iter().map(|id| stream.push(*id).unwrap_or_default()).collect()
        }),
    },
];

fn greedy(text: &str) -> Vec<u32> {
    static IDS: OnceLock<HashMap<Vec<u8>, u32>> = OnceLock::new();
    let ids = IDS.get_or_init(|| {
        let bytes = |id: u32| Tokenizer::o200k_harmony().decode_bytes(&[id]).unwrap_or_default();
        (0..TEXT_TOKENS).map(|id| (bytes(id), id)).collect()
    });
    let (mut rest, mut found) = (text.as_bytes(), Vec::new());
    while !rest.is_empty() {
        let longest = (1..=rest.len().min(128)).rev().find_map(|end| Some((end, *ids.get(&rest[..end])?)));
        // Every byte is a token.
        let Some((end, id)) = longest else { break };
        found.push(id);
        rest = &rest[end..];
    }
    found
}
