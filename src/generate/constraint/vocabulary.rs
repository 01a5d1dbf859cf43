//! o200k_harmony as llguidance reads it: the bytes of every token of text.
//!
//! Control tokens have no bytes there, so that no text is one; the end of a text stands under [`END`].

use std::sync::{Arc, OnceLock};

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::generate::tokenizer::{TEXT_TOKENS, Tokenizer, special};

/// Ids of the trie: those of text, and those that Harmony needs.
pub(super) const ROWS: u32 = special::CALL + 1;
/// What ends a text there, whatever ends it in the answer.
pub(super) const END: u32 = special::RETURN;

/// What a grammar may cost.  The defaults of llguidance are for grammars of one's own; these come from strangers, and many
/// run at once.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    // Some 20 ms.
    initial_lexer_fuel: 1_000_000,
    // Some 15 ms a token.
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    // 1 to 2 kB each.
    max_lexer_states: 30_000,
    max_grammar_size: 200_000,
    precompute_large_lexemes: true,
    // An error is for a client: without the tokens so far.
    verbose_errors: false,
};

/// Parsers over the vocabulary.
pub(super) fn parsers() -> &'static ParserFactory {
    static PARSERS: OnceLock<ParserFactory> = OnceLock::new();
    PARSERS.get_or_init(|| {
        let environment: TokEnv = Arc::new(Environment::new(Tokenizer::o200k_harmony()));
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let parsers = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices);
        let mut parsers = parsers.expect("the vocabulary and the slices are constants");
        parsers.quiet();
        *parsers.limits_mut() = LIMITS;
        parsers
    })
}

/// Builds the tables of the vocabulary, once per process, so that no answer waits for them: half a second.
pub fn prepare() {
    parsers();
}

struct Environment {
    tokenizer: Tokenizer,
    trie: TokTrie,
}

impl Environment {
    fn new(tokenizer: Tokenizer) -> Self {
        let bytes = |id| if id < TEXT_TOKENS { tokenizer.decode_bytes(&[id]).unwrap_or_default() } else { Vec::new() };
        let words: Vec<Vec<u8>> = (0..ROWS).map(bytes).collect();
        Self { tokenizer, trie: TokTrie::from(&TokRxInfo::new(ROWS, END), &words) }
    }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let greedy = |text: &str| self.trie.greedy_tokenize(text.as_bytes());
        let encode = |text: &str| self.tokenizer.encode(text).unwrap_or_else(|_| greedy(text));
        self.trie.tokenize_with_greedy_fallback(bytes, encode)
    }
}
