//! o200k_harmony as a GGUF lists it: what llama.cpp's converter writes for gpt-oss.
//!
//! | key          | o200k_harmony                                                                            |
//! |--------------|------------------------------------------------------------------------------------------|
//! | `tokens`     | text in GPT-2's byte alphabet, special tokens by name, `[PAD…]` behind the last           |
//! | `token_type` | 1 text, 3 control, 5 unused                                                              |
//! | `merges`     | of every token all pairs of tokens that make it, in the order of ids, a pair by its halves |
//!
//! tiktoken's ranks are ids, and joining the pair of least rank is what merges in that order mean: 446 189 of them.
//! The chat template is not written: it is not part of this project, and llama.cpp takes one by `--chat-template-file`.

use std::collections::HashMap;

use super::super::limits;

/// Text tokens of o200k_harmony.
const TEXT_TOKENS: usize = 199_998;
/// The first id without a token.
const UNUSED_FROM: usize = 200_019;
/// What o200k_base and the published files call a token that o200k_harmony reserves.
const END_OF_PROMPT: (usize, &str) = (200_018, "<|endofprompt|>");

/// llama.cpp's numbers for kinds of tokens.
mod kind {
    pub(super) const TEXT: i32 = 1;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const UNUSED: i32 = 5;
}

/// The vocabulary of a file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenList {
    /// Text of each token, by id.
    pub tokens: Vec<String>,
    /// Kind of each token.
    pub kinds: Vec<i32>,
    /// Pairs, `left right`.
    pub merges: Vec<String>,
    /// Ids of special tokens by the name of their key; a vocabulary cut short has none of its own.
    pub special_ids: Vec<(&'static str, u32)>,
}

impl TokenList {
    /// The first `rows` tokens of o200k_harmony: all of them for a published model, a start for a synthetic one.
    ///
    /// # Errors
    /// A description, if the bundled vocabulary lacks a token.
    pub fn o200k_harmony(rows: usize) -> Result<TokenList, String> {
        assert!(rows as u64 <= limits::ARRAY_MAX, "a vocabulary of {rows} tokens");
        let bpe = tiktoken_rs::o200k_harmony_singleton();
        let bytes = |id: usize| bpe.decode_bytes(&[id as u32]).map_err(|error| format!("id {id}: {error}"));
        let text: Vec<Vec<u8>> = (0..rows.min(TEXT_TOKENS)).map(bytes).collect::<Result<_, _>>()?;
        let alphabet = alphabet();
        let spelt = |bytes: &[u8]| bytes.iter().map(|&byte| alphabet[usize::from(byte)]).collect::<String>();
        let mut tokens: Vec<String> = text.iter().map(|bytes| spelt(bytes)).collect();
        for id in TEXT_TOKENS..rows {
            tokens.push(match id {
                id if id == END_OF_PROMPT.0 => END_OF_PROMPT.1.into(),
                UNUSED_FROM.. => format!("[PAD{id}]"),
                _ => String::from_utf8_lossy(&bytes(id)?).into_owned(),
            });
        }
        let kind = |id| match id {
            ..TEXT_TOKENS => kind::TEXT,
            UNUSED_FROM.. => kind::UNUSED,
            _ => kind::CONTROL,
        };
        // With `<|call|>` (200 012) all that Harmony needs are there.
        let special_ids = match rows {
            200_013.. => vec![("bos", 199_998), ("eos", 200_002), ("padding", 199_999)],
            _ => vec![("bos", rows as u32 - 1), ("eos", rows as u32 - 1)],
        };
        let merges = merges(&text).map(|(left, right)| format!("{} {}", spelt(left), spelt(right))).collect();
        Ok(TokenList { tokens, kinds: (0..rows).map(kind).collect(), merges, special_ids })
    }
}

/// Every pair of tokens that makes a token.
fn merges(text: &[Vec<u8>]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let ranks: HashMap<&[u8], usize> = text.iter().enumerate().map(|(id, bytes)| (bytes.as_slice(), id)).collect();
    text.iter().flat_map(move |bytes| {
        let halves = (1..bytes.len()).map(|at| bytes.split_at(at));
        let mut pairs: Vec<(usize, usize, &[u8], &[u8])> =
            halves.filter_map(|(left, right)| Some((*ranks.get(left)?, *ranks.get(right)?, left, right))).collect();
        pairs.sort_unstable();
        pairs.into_iter().map(|(_, _, left, right)| (left, right))
    })
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes, in order, for U+0100 and up.
fn alphabet() -> [char; 256] {
    let mut others = (0x100..).filter_map(char::from_u32);
    std::array::from_fn(|byte| match byte as u8 {
        byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(byte),
        _ => others.next().expect("there are more characters than bytes"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_files_have_as_many_tokens_and_merges() {
        let list = TokenList::o200k_harmony(201_088).expect("the vocabulary is bundled");
        // The lengths of the arrays in ggml-org's gpt-oss-20b-mxfp4.gguf.
        assert_eq!((list.tokens.len(), list.kinds.len(), list.merges.len()), (201_088, 201_088, 446_189));
        assert_eq!(list.tokens[220], "Ġ");
        assert_eq!(list.tokens[200_002], "<|return|>");
        assert_eq!((list.tokens[201_087].as_str(), list.kinds[201_087]), ("[PAD201087]", kind::UNUSED));
        let unique: std::collections::HashSet<&String> = list.tokens.iter().collect();
        assert_eq!(unique.len(), list.tokens.len(), "llama.cpp wants no text twice");
    }

    /// The pairs, joined by rank as llama.cpp joins them, give the ids that tiktoken gives.
    #[test]
    fn joining_by_merges_is_tiktokens_encoding() {
        let list = TokenList::o200k_harmony(TEXT_TOKENS).expect("the vocabulary is bundled");
        let ranks: HashMap<&str, usize> =
            list.merges.iter().enumerate().map(|(rank, pair)| (pair.as_str(), rank)).collect();
        let ids: HashMap<&str, u32> = list.tokens.iter().zip(0..).map(|(token, id)| (token.as_str(), id)).collect();
        let alphabet = alphabet();
        let bpe = tiktoken_rs::o200k_harmony_singleton();
        for word in
            [" internationalization", "supercalifragilistic", " Größenordnung", " 東京都", "ingenious", "\t\t\t\t\n"]
        {
            let mut pieces: Vec<String> = word.bytes().map(|byte| alphabet[usize::from(byte)].to_string()).collect();
            loop {
                let rank = |i: usize| ranks.get(format!("{} {}", pieces[i], pieces[i + 1]).as_str()).copied();
                let best = (0..pieces.len().saturating_sub(1)).filter_map(|i| Some((rank(i)?, i))).min();
                let Some((_, at)) = best else { break };
                let right = pieces.remove(at + 1);
                pieces[at].push_str(&right);
            }
            let found: Vec<u32> = pieces.iter().map(|piece| ids[piece.as_str()]).collect();
            assert_eq!(found, bpe.encode_ordinary(word), "{word:?}");
        }
    }

    #[test]
    fn a_start_of_the_vocabulary_has_only_its_own_merges() {
        let list = TokenList::o200k_harmony(300).expect("the vocabulary is bundled");
        assert_eq!((list.tokens.len(), list.special_ids.len()), (300, 2));
        assert!(list.merges.len() >= 44, "each token beyond the bytes is made of two");
    }
}
