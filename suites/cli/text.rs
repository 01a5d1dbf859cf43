//! `tokenize`, `harmony`, `generate`, `chat`: ids, streams, seeds, and what is refused.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::program::{Bench, Ran, gptoss};

/// `gptoss` with these arguments and this on standard input.
fn fed(args: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gptoss"))
        .args(args)
        .env("XDG_STATE_HOME", std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that refuses early reads nothing.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code().expect("not killed"), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[track_caller]
fn refused(ran: &Ran, code: i32, says: &str) {
    assert_eq!(ran.code, code, "stdout `{}`, stderr `{}`", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains(says) && ran.stderr.contains("next: "), "`{}` does not say `{says}`", ran.stderr);
}

#[test]
fn text_becomes_ids_and_ids_the_same_text() {
    assert_eq!(gptoss(&["tokenize", "Hello world"]).stdout, "13225 2375\n");
    let text = "naïve 👩‍🚀\n  tabs\tand <|start|> as it is\u{1b}[0m";
    let ids = fed(&["tokenize"], text).stdout;
    assert!(ids.split_whitespace().all(|id| id.parse::<u32>().expect("an id") < 199_998), "{ids}");
    assert_eq!(fed(&["tokenize", "--decode"], &ids).stdout, text);
    assert_eq!(gptoss(&["tokenize", "--allow-special", "<|start|>a"]).stdout.split(' ').next(), Some("200006"));
    let pieces = gptoss(&["tokenize", "--json", "👩"]).json();
    assert_eq!(pieces["text"], "👩");
    assert!(pieces["tokens"].as_array().expect("a list").iter().all(|t| t["id"].is_u64()));
    refused(&gptoss(&["tokenize", "--decode", "12 x"]), 3, "`x` is no token id");
    refused(&gptoss(&["tokenize", "--decode", "201088"]), 3, "201088");
}

const CONVERSATION: &str = r#"{"messages": [
    {"role": "system", "content": [{"type": "system_content", "reasoning_effort": "Low"}]},
    {"role": "user", "content": "Say <|end|> please."}
]}"#;

#[test]
fn conversations_become_ids_and_ids_messages() {
    let ids = fed(&["harmony", "render", "-", "--next-role", "assistant"], CONVERSATION).stdout;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    // What the user wrote is no control token; the ids end in <|start|>assistant.
    assert_eq!(ids.iter().filter(|id| **id == "200007").count(), 2);
    assert_eq!(ids[ids.len() - 2..], ["200006", "173781"]);
    let whole = fed(&["harmony", "render", "-", "--json"], CONVERSATION).json();
    assert_eq!(whole.as_array().map(Vec::len), Some(ids.len() - 2));
    let parsed = fed(&["harmony", "parse"], &ids[..ids.len() - 2].join(" ")).json();
    assert_eq!(parsed["messages"][1]["content"][0]["text"], "Say <|end|> please.");
    refused(&fed(&["harmony", "render", "-"], "{"), 3, "EOF");
}

#[test]
fn malformed_ids_are_3_with_what_was_complete_and_nothing_is_lost_when_lenient() {
    let whole = fed(&["harmony", "render", "-"], CONVERSATION).stdout;
    let broken = format!("{whole} 13225 2375");
    let strict = fed(&["harmony", "parse"], &broken);
    assert_eq!(strict.code, 3, "{}", strict.stderr);
    assert_eq!(strict.json()["messages"].as_array().map(Vec::len), Some(2), "{}", strict.stdout);
    let lenient = fed(&["harmony", "parse", "--lenient"], &broken);
    assert_eq!(lenient.code, 0);
    assert!(lenient.stdout.contains("Hello world") && lenient.json()["problems"][0]["kind"] == "start-missing");
}

fn events(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn a_seed_gives_the_same_stream_and_another_one_another() {
    let bench = Bench::new("small-vocab");
    let model = bench.path("original");
    let with = |more: &[&str]| {
        let base = ["generate", "--model", &model, "--tokens", "5,6,7", "--max-tokens", "12", "--json"];
        events(&gptoss(&[&base, more].concat()))
    };
    let ids = |events: &[Value]| events.iter().filter_map(|e| e["id"].as_u64()).collect::<Vec<_>>();
    let (a, b, c) = (with(&["--seed", "1"]), with(&["--seed", "1", "--chunk", "2"]), with(&["--seed", "2"]));
    assert_eq!(ids(&a), ids(&b));
    assert_ne!(ids(&a), ids(&c));
    let done = a.last().expect("an end");
    assert_eq!((&done["event"], &done["reason"]), (&Value::from("done"), &Value::from("length")));
    assert_eq!(done["usage"], serde_json::json!({"prompt_tokens": 3, "cached_tokens": 0, "completion_tokens": 12}));
    let short = with(&["--context", "8", "--temperature", "0"]);
    // The last token needs no room: it is told, not run.
    assert_eq!(ids(&short).len(), 6, "{short:?}");
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let bench = Bench::new("small-vocab");
    let model = bench.path("original");
    let with = |more: &[&str]| gptoss(&[&["generate", "--model", &model], more].concat());
    refused(&with(&["--tokens", "5", "--temperature", "9"]), 2, "temperature");
    refused(&with(&["--tokens", "5,1024"]), 3, "1024");
    refused(&with(&["--tokens", "1,2,3,4,5", "--context", "3"]), 3, "context");
    refused(&with(&["--prompt", ""]), 3, "no token");
    assert_eq!(with(&[]).code, 2);
    // A checkpoint that brings another tokenizer.
    let json = r#"{"added_tokens": [], "model": {"vocab": {"!": 0, "x": 1}}}"#;
    std::fs::write(bench.file("original/tokenizer.json"), json).expect("written");
    refused(&with(&["--tokens", "5"]), 3, "tokenizer.json: its tokenizer is not o200k_harmony");
}

#[test]
fn an_answer_is_held_to_a_schema() {
    let bench = Bench::new("T1");
    let (model, talk, schema) = (bench.path("original"), bench.path("talk.json"), bench.path("schema.json"));
    std::fs::write(&talk, CONVERSATION).expect("written");
    let with = |text: &str, more: &[&str]| {
        std::fs::write(&schema, text).expect("written");
        let base = ["generate", "--model", &model, "--harmony", &talk, "--json-schema", &schema, "--json"];
        gptoss(&[&base, more].concat())
    };
    // A random model thinks without end: half of the seeds answer at once.
    let said = (0..16).find_map(|seed| {
        let seed = seed.to_string();
        let told = events(&with(r#"{"enum": ["yes", "no"]}"#, &["--seed", &seed, "--max-tokens", "16"]));
        let done = told.last().expect("an end");
        let text = |event: &Value| (event["place"] == "final").then(|| event["text"].as_str().map(String::from))?;
        (done["reason"] == "stop").then(|| told.iter().filter_map(text).collect::<String>())
    });
    let said = said.expect("a seed that answers");
    assert!(["\"yes\"", "\"no\""].contains(&said.trim()), "{said}");
    refused(&with(r#"{"not": {}}"#, &[]), 3, "schema.json: the schema cannot be enforced");
    refused(&with("{", &[]), 3, "schema.json");
    let bare = ["generate", "--model", &model, "--prompt", "x", "--json-object"];
    assert_eq!(gptoss(&bare).code, 2, "a text has no header that an answer could stand behind");
    let small = Bench::new("small-vocab");
    let small = ["generate", "--model", &small.path("original"), "--harmony", &talk, "--json-object"];
    refused(&gptoss(&small), 3, "1024");
}

#[test]
fn a_chat_keeps_and_saves_what_was_said() {
    let bench = Bench::new("T1");
    let (model, file) = (bench.path("original"), bench.path("talk.json"));
    let lines = format!("/system Be brief.\nHello\n/effort low\nAnd now?\n/nonsense\n/save {file}\n/stats\n/quit\n");
    let said = fed(&["chat", "--model", &model, "--max-tokens", "6", "--seed", "3", "--context", "512"], &lines);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("no such command") && said.stderr.contains("tok/s"), "{}", said.stderr);
    let saved = std::fs::read_to_string(&file).expect("saved");
    let saved: Value = serde_json::from_str(&saved).expect("JSON");
    let messages = saved["messages"].as_array().expect("a list");
    let roles: Vec<&str> = messages.iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles[..3], ["system", "developer", "user"]);
    assert_eq!(roles.iter().filter(|role| **role == "user").count(), 2);
    assert_eq!(messages[0]["content"][0]["reasoning_effort"], "Low");
    let again = format!("/load {file}\n/save {file}.2\n");
    assert_eq!(fed(&["chat", "--model", &model, "--context", "512"], &again).code, 0);
    let read = |path: &str| std::fs::read(path).expect("saved");
    assert_eq!(read(&file), read(&format!("{file}.2")));
}
