//! A checkpoint's vocabulary against ours.

use gptoss::generate::tokenizer::{Mismatch, TEXT_TOKENS, Tokenizer, VOCABULARY, VocabularyError, hf_vocabulary};
use serde_json::{Map, Value, json};

type Tokens = Vec<(u32, Vec<u8>)>;

fn ours(ids: std::ops::Range<u32>) -> Tokens {
    let tokenizer = Tokenizer::o200k_harmony();
    ids.map(|id| (id, tokenizer.decode_bytes(&[id]).expect("bytes"))).collect()
}

fn compare(tokens: &Tokens) -> Result<(), Mismatch> {
    Tokenizer::o200k_harmony().compare(tokens.iter().map(|(id, bytes)| (*id, bytes.as_slice())))
}

/// GPT-2's alphabet, written independently: the characters of bytes 0 to 255.
fn alphabet() -> Vec<char> {
    let mut next = 0x100;
    let printable = |byte: u32| (33..=126).contains(&byte) || (161..=172).contains(&byte) || byte >= 174;
    let mut stand_in = |byte: u32| {
        if printable(byte) {
            return byte;
        }
        next += 1;
        next - 1
    };
    (0..256).map(|byte| char::from_u32(stand_in(byte)).expect("a character")).collect()
}

fn tokenizer_json(tokens: &Tokens, added: Value) -> Vec<u8> {
    let alphabet = alphabet();
    let spelled = |bytes: &[u8]| bytes.iter().map(|byte| alphabet[usize::from(*byte)]).collect::<String>();
    let vocab: Map<String, Value> = tokens.iter().map(|(id, bytes)| (spelled(bytes), json!(id))).collect();
    json!({"version": "1.0", "added_tokens": added, "model": {"type": "BPE", "vocab": vocab}}).to_string().into_bytes()
}

#[test]
fn our_own_vocabulary_is_ours() {
    assert_eq!(compare(&ours(0..VOCABULARY)), Ok(()));
    let mut backwards = ours(0..TEXT_TOKENS);
    backwards.reverse();
    assert_eq!(compare(&backwards), Ok(()));
}

#[test]
fn each_difference_is_told() {
    let texts = ours(0..TEXT_TOKENS);
    let mut changed = texts.clone();
    changed[1234].1.push(b'!');
    assert!(matches!(compare(&changed), Err(Mismatch::Bytes { id: 1234, .. })));
    let mut missing = texts.clone();
    missing.remove(77);
    assert_eq!(compare(&missing), Err(Mismatch::Missing { id: 77 }));
    let mut twice = texts.clone();
    twice.push(texts[5].clone());
    assert_eq!(compare(&twice), Err(Mismatch::Twice { id: 5 }));
    let mut unknown = texts.clone();
    unknown.push((VOCABULARY, b"x".to_vec()));
    assert_eq!(compare(&unknown), Err(Mismatch::UnknownId { id: VOCABULARY, found: b"x".to_vec() }));
    let mut swapped = texts.clone();
    (swapped[10].0, swapped[20].0) = (20, 10);
    assert!(matches!(compare(&swapped), Err(Mismatch::Bytes { id: 20, .. })));
    assert_eq!(compare(&Vec::new()), Err(Mismatch::Missing { id: 0 }));
}

#[test]
fn the_end_of_the_prompt_has_two_names() {
    let mut tokens = ours(0..VOCABULARY);
    tokens[200_018].1 = b"<|endofprompt|>".to_vec();
    assert_eq!(compare(&tokens), Ok(()));
    tokens[200_019].1 = b"<|endofprompt|>".to_vec();
    assert!(matches!(compare(&tokens), Err(Mismatch::Bytes { id: 200_019, .. })));
}

#[test]
fn a_tokenizer_json_is_read() {
    let added = json!([{"id": 200_006, "content": "<|start|>", "special": true}, {"id": 200_018, "content": "<|endofprompt|>"}]);
    let file = tokenizer_json(&ours(0..TEXT_TOKENS), added.clone());
    let found = hf_vocabulary(&file).expect("a vocabulary");
    assert_eq!(found.len(), TEXT_TOKENS as usize + 2);
    assert_eq!(compare(&found), Ok(()));
    let mut repeated = ours(0..TEXT_TOKENS);
    repeated.push((200_006, b"<|start|>".to_vec()));
    assert_eq!(compare(&hf_vocabulary(&tokenizer_json(&repeated, added)).expect("a vocabulary")), Ok(()));
}

#[test]
fn what_is_no_tokenizer_json_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"model": {}}"#,
        r#"{"model": {"vocab": {"a": "1"}}}"#,
        r#"{"model": {"vocab": {"a": -1}}}"#,
    ] {
        assert!(matches!(hf_vocabulary(text.as_bytes()), Err(VocabularyError::Json { .. })), "{text}");
    }
    let twice = r#"{"model": {"vocab": {"a": 64, "b": 64}}}"#;
    assert_eq!(hf_vocabulary(twice.as_bytes()).expect("pairs"), [(64, b"a".to_vec()), (64, b"b".to_vec())]);
    for (text, wrong) in [("a b", ' '), ("\u{144}", '\u{144}'), ("中", '中'), ("\u{ad}", '\u{ad}')] {
        let file = json!({"model": {"vocab": {text: 3}}}).to_string();
        let found = hf_vocabulary(file.as_bytes());
        assert!(matches!(found, Err(VocabularyError::NotAByte { id: 3, found, .. }) if found == wrong), "{text}");
    }
}
