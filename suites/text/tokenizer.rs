//! Ids of texts, texts of ids.

use gptoss::generate::tokenizer::{TEXT_TOKENS, Tokenizer, TokenizerError, VOCABULARY, is_special};

use crate::goldens::{cases, ids, list, load, text};

fn tokenizer() -> Tokenizer {
    Tokenizer::o200k_harmony()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn every_text_has_the_witness_s_ids() {
    let golden = load("text/tokenizer");
    for case in list(&golden["encode"]) {
        let found = tokenizer().encode(text(&case["text"])).expect("ids");
        assert_eq!(found, ids(&case["ids"]), "{}: {:?}", case["group"], case["text"]);
        assert_eq!(tokenizer().decode(&found).expect("text"), text(&case["text"]));
    }
    for run in list(&golden["runs"]) {
        let times = run["times"].as_u64().expect("a number") as usize;
        let found = tokenizer().encode(&text(&run["text"]).repeat(times)).expect("ids");
        assert_eq!(found, ids(&run["ids"]), "{times} × {:?}", run["text"]);
    }
}

#[test]
fn special_tokens_count_where_they_are_allowed() {
    for case in list(&load("text/tokenizer")["allowing"]) {
        let found = match case["allowed"].as_array() {
            None => tokenizer().encode_with_all_specials(text(&case["text"])),
            Some(allowed) => {
                let allowed: Vec<&str> = allowed.iter().map(text).collect();
                tokenizer().encode_with_specials(text(&case["text"]), &allowed)
            }
        };
        assert_eq!(found.expect("ids"), ids(&case["ids"]), "{case}");
    }
    let error = tokenizer().encode_with_specials("x", &["<|end|>", "<|fin|>"]).expect_err("no such token");
    assert_eq!(error, TokenizerError::UnknownSpecial { name: "<|fin|>".into() });
}

#[test]
fn text_never_becomes_a_special_token() {
    for id in TEXT_TOKENS..VOCABULARY {
        let name = tokenizer().decode(&[id]).expect("a name");
        let found = tokenizer().encode(&format!("a{name}{name} {name}\n")).expect("ids");
        assert!(found.iter().all(|id| !is_special(*id)), "{name}");
    }
}

#[test]
fn special_tokens_have_the_witness_s_names() {
    let golden = load("text/tokenizer");
    let named = cases(&golden["specials"]);
    for id in TEXT_TOKENS..VOCABULARY {
        let want = named.get(id.to_string().as_str()).map_or(format!("<|reserved_{id}|>"), |name| text(name).into());
        assert_eq!(tokenizer().decode(&[id]).expect("a name"), want);
        assert_eq!(tokenizer().encode_with_all_specials(&want).expect("ids"), [id]);
    }
}

#[test]
fn decoding_gives_the_witness_s_bytes_and_streams_add_up_to_them() {
    for case in list(&load("text/tokenizer")["decode"]) {
        let (want, ids) = (text(&case["text"]), ids(&case["ids"]));
        assert_eq!(tokenizer().decode_bytes(&ids).expect("bytes"), unhex(text(&case["bytes"])));
        assert_eq!(tokenizer().decode(&ids).expect("text"), want);
        let mut stream = tokenizer().stream();
        let mut shown = String::new();
        for (at, id) in ids.iter().enumerate() {
            shown += &stream.push(*id).expect("a known id");
            assert!(want.starts_with(&shown), "after {at} tokens");
            let bytes = tokenizer().decode_bytes(&ids[..=at]).expect("bytes");
            let whole = String::from_utf8_lossy(&bytes);
            let held_back = &whole[shown.len()..];
            assert!(held_back.chars().all(|c| c == '\u{fffd}') && held_back.len() <= 3, "{held_back:?} after {at}");
        }
        assert_eq!(shown + &stream.finish(), want);
        assert_eq!(stream.finish(), "", "a finished decoder holds nothing");
    }
}

#[test]
fn every_prefix_of_a_stream_decodes() {
    let golden = load("text/tokenizer");
    let ids: Vec<u32> = list(&golden["decode"]).iter().flat_map(|case| ids(&case["ids"])).collect();
    for end in 0..ids.len().min(200) {
        let mut stream = tokenizer().stream();
        let mut shown: String = ids[..end].iter().map(|id| stream.push(*id).expect("a known id")).collect();
        shown += &stream.finish();
        assert_eq!(shown, tokenizer().decode(&ids[..end]).expect("text"));
    }
}

#[test]
fn unknown_ids_are_named_with_their_place() {
    for id in [VOCABULARY, VOCABULARY + 1, u32::MAX] {
        let unknown = TokenizerError::UnknownId { id, position: 2 };
        assert_eq!(tokenizer().decode(&[1, 200_006, id, id]), Err(unknown.clone()));
        let mut stream = tokenizer().stream();
        stream.push(1).and(stream.push(2)).expect("known ids");
        assert_eq!(stream.push(id), Err(unknown));
        assert_eq!(stream.push(64), Ok("a".into()), "and the stream goes on");
    }
    assert!(tokenizer().decode(&[VOCABULARY - 1]).is_ok());
}

#[test]
fn endless_blanks_are_refused_and_nothing_panics() {
    let text = " ".repeat(1_200_000) + "x";
    assert_eq!(tokenizer().encode(&text).expect_err("too long a run").name(), "split");
}
