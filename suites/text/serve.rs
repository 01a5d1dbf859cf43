//! The server, over a socket: answers, streams, errors, clients that go away.

mod responses;
mod tools;

use std::io::BufReader;
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use gptoss::checkpoint::Layout;
use gptoss::generate::engine::{Engine, EngineOptions};
use gptoss::open::AnyCheckpoint;
use gptoss::serve::{Limits, ServeOptions, serve};
use gptoss::verify::bench::{device, load};
use gptoss::verify::fixture::{Recipe, in_memory};
use serde_json::{Value, json};

use crate::client::{self, Reply, reply};

/// A server on T1, which has the real vocabulary, for the whole process.
fn address() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let checkpoint = in_memory(&Recipe::built_in("T1"), Layout::Original, 1).expect("a recipe");
        let model = load(AnyCheckpoint::SafeTensors(checkpoint), device().expect("a device"), None).expect("it loads");
        let room = EngineOptions { lanes: 4, queue: 64, context: 1024, chunk: 128 };
        let engine = Engine::start(model, room).expect("an engine");
        let options = ServeOptions {
            model_id: "tiny".into(),
            body_bytes_max: 100_000,
            request_time_max: Duration::from_secs(120),
            max_tokens: 64,
            token: Some("secret".into()),
            limits: Limits::default(),
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                sender.send(listener.local_addr().expect("an address")).expect("it is waited for");
                serve(listener, engine, options, std::future::pending()).await;
            });
        });
        receiver.recv().expect("an address")
    })
}

fn send(method: &str, path: &str, token: &str, body: &str) -> BufReader<TcpStream> {
    client::send_as(token, client::connect(address()), method, path, body)
}

fn post(path: &str, body: &Value) -> Reply {
    reply(send("POST", path, "secret", &body.to_string()))
}

/// A question.  The answer is drawn from few tokens: a synthetic model finds all 200 000 nearly equally likely, so that the
/// last bits of its logits, which differ with what else runs in a pass, would choose among them.
fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "seed": 7, "temperature": 1,
        "top_k": 8,
    });
    let fields = more.as_object().expect("fields").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

/// Everything a streamed or a whole answer says, joined.
fn said(message: &Value) -> String {
    let text = |field: &str| message[field].as_str().unwrap_or_default().to_string();
    text("reasoning_content") + &text("content")
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let whole = post("/v1/chat/completions", &chat(json!({}))).json();
    let message = &whole["choices"][0]["message"];
    assert_eq!((&whole["object"], &message["role"]), (&json!("chat.completion"), &json!("assistant")), "{whole}");
    assert_eq!(whole["usage"]["completion_tokens"], 12);
    let stream =
        post("/v1/chat/completions", &chat(json!({"stream": true, "stream_options": {"include_usage": true}})));
    assert!(stream.head.contains("text/event-stream"), "{}", stream.head);
    let data: Vec<&str> = stream.data().collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = data[..data.len() - 1].iter().map(|d| serde_json::from_str(d).expect("JSON")).collect();
    let deltas = || chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]);
    let of = |field: &str| deltas().filter_map(|d| d[field].as_str()).collect::<String>();
    assert_eq!(of("reasoning_content") + &of("content"), said(message));
    assert_eq!(chunks.last().expect("usage")["usage"]["completion_tokens"], 12);
    let reasons: Vec<&str> = chunks.iter().filter_map(|c| c["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons, [whole["choices"][0]["finish_reason"].as_str().expect("a reason")]);
}

#[test]
fn text_goes_on_and_models_are_listed() {
    let body = json!({"model": "tiny", "prompt": "Once upon", "max_tokens": 5, "temperature": 0, "echo": true});
    let found = post("/v1/completions", &body).json();
    let text = found["choices"][0]["text"].as_str().expect("text");
    assert!(text.starts_with("Once upon") && text.len() > 9, "{found}");
    let get = |path: &str| reply(send("GET", path, "secret", ""));
    assert_eq!(get("/v1/models").json()["data"][0]["id"], "tiny");
    assert_eq!(get("/v1/models/tiny").json()["object"], "model");
    assert!(get("/metrics").body.contains("gptoss_generated_tokens_total"));
    assert_eq!(reply(send("GET", "/health", "", "")).json()["status"], "ok");
}

#[test]
fn many_at_once_are_each_as_if_alone() {
    let ask = |seed: u64| post("/v1/chat/completions", &chat(json!({"seed": seed})));
    let alone: Vec<String> = (0..8).map(|seed| said(&ask(seed).json()["choices"][0]["message"])).collect();
    assert!(alone.iter().all(|text| !text.is_empty()) && alone[1..].iter().any(|text| *text != alone[0]), "{alone:?}");
    let together: Vec<Reply> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|seed| scope.spawn(move || ask(seed))).collect();
        asked.into_iter().map(|thread| thread.join().expect("a reply")).collect()
    });
    for (seed, reply) in together.iter().enumerate() {
        assert_eq!(said(&reply.json()["choices"][0]["message"]), alone[seed], "seed {seed}");
    }
}

#[test]
fn errors_have_openais_shape() {
    let cases = [
        (reply(send("GET", "/v1/models", "wrong", "")), 401, "invalid_api_key", ""),
        (reply(send("GET", "/v1/nothing", "secret", "")), 404, "unknown_url", ""),
        (reply(send("GET", "/v1/chat/completions", "secret", "")), 405, "method_not_allowed", ""),
        (reply(send("POST", "/v1/chat/completions", "secret", "{")), 400, "", ""),
        (post("/v1/chat/completions", &chat(json!({"model": "other"}))), 404, "model_not_found", "model"),
        (post("/v1/chat/completions", &chat(json!({"temperature": 9}))), 400, "", "temperature"),
        (post("/v1/chat/completions", &chat(json!({"n": 2}))), 400, "", "n"),
        (post("/v1/chat/completions", &chat(json!({"messages": []}))), 400, "", "messages"),
        (
            post("/v1/chat/completions", &chat(json!({"messages": [{"role": "tool", "content": "x"}]}))),
            400,
            "",
            "messages[0].tool_call_id",
        ),
        (
            post(
                "/v1/chat/completions",
                &chat(json!({"messages": [{"role": "user", "content": "word ".repeat(3000)}]})),
            ),
            400,
            "context_length_exceeded",
            "messages",
        ),
        (
            post("/v1/completions", &json!({"model": "tiny", "prompt": "x".repeat(200_000)})),
            413,
            "request_too_large",
            "",
        ),
    ];
    for (index, (reply, status, code, param)) in cases.iter().enumerate() {
        let error = &reply.json()["error"];
        assert_eq!(reply.status, *status, "case {index}: {}", reply.body);
        assert!(
            error["message"].as_str().is_some_and(|m| !m.is_empty()) && error["type"].is_string(),
            "{index}: {error}"
        );
        assert_eq!(error["code"].as_str().unwrap_or_default(), *code, "case {index}: {error}");
        assert_eq!(error["param"].as_str().unwrap_or_default(), *param, "case {index}: {error}");
    }
}

#[test]
fn clients_that_go_away_leave_nothing() {
    for round in 0..40 {
        let body = chat(json!({"stream": true, "max_tokens": 64, "seed": round}));
        drop(send("POST", "/v1/chat/completions", "secret", &body.to_string()));
    }
    let end = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let engine = reply(send("GET", "/health", "", "")).json()["engine"].clone();
        if engine["active"] == 0 && engine["queued"] == 0 {
            break;
        }
        assert!(std::time::Instant::now() < end, "{engine}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
