//! What clients may take of the server: time, bytes, connections; and how it ends.

use std::io::{BufReader, Read, Write};
use std::time::Duration;

use gptoss::generate::engine::EngineOptions;
use gptoss::serve::{Ended, Limits, ServeOptions};
use serde_json::{Value, json};

use crate::client::{
    Server, ask, connect, connect_narrow, head, metric, reply, reply_head, send, send_on, until, until_idle,
};

const BODY_BYTES_MAX: usize = 10_000;
const COMPLETIONS: &str = "/v1/completions";
/// Longer than any answer here takes.
const LONG: Duration = Duration::from_secs(120);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(400);

fn patient() -> Limits {
    Limits { head_bytes_max: 8192, read_time_max: LONG, write_time_max: LONG, grace: LONG, ..Limits::default() }
}

fn server(lanes: usize, queue: usize, limits: Limits) -> Server {
    let options = ServeOptions {
        model_id: "tiny".into(),
        body_bytes_max: BODY_BYTES_MAX,
        request_time_max: LONG,
        max_tokens: 512,
        token: Some("secret".into()),
        limits,
    };
    Server::start(EngineOptions { lanes, queue, context: 512, chunk: 64 }, options)
}

fn completion(max_tokens: usize, stream: bool) -> String {
    let prompt: Vec<u32> = (1..20).collect();
    let body = json!({"model": "tiny", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": stream});
    body.to_string()
}

/// Everything that a connection still says.
fn rest(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn who_sends_too_slowly_is_closed() {
    let server = server(1, 1, Limits { read_time_max: SHORT, ..patient() });
    let at = server.address;
    let mut half_a_head = connect(at);
    half_a_head.write_all(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n").expect("sent");
    let mut half_a_body = connect(at);
    half_a_body
        .write_all((head("POST", COMPLETIONS, "content-length: 100\r\n") + "{\"model\"").as_bytes())
        .expect("sent");
    let mut idle = BufReader::new(connect(at));
    idle.get_mut().write_all(head("GET", "/health", "").as_bytes()).expect("sent");
    assert_eq!(reply_head(&mut idle).status, 200);
    // Each of these would wait for ever if nobody closed it.
    let said = rest(half_a_head);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    let late = reply(BufReader::new(half_a_body));
    assert_eq!((late.status, &late.json()["error"]["code"]), (408, &json!("body_timeout")));
    assert!(rest(idle).ends_with('}'));
    assert_eq!(ask(at, "POST", COMPLETIONS, &completion(2, false)).status, 200);
}

#[test]
fn what_is_too_large_or_cut_off_is_told() {
    let server = server(1, 1, patient());
    let at = server.address;
    let too_large = |what: &str, reply: crate::client::Reply| {
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (413, &json!("request_too_large")), "{what}");
    };
    too_large("sent whole", ask(at, "POST", COMPLETIONS, &"x".repeat(5 * BODY_BYTES_MAX)));
    let mut announced = connect(at);
    announced.write_all(head("POST", COMPLETIONS, "content-length: 900000000\r\n").as_bytes()).expect("sent");
    too_large("announced", reply(BufReader::new(announced)));
    let mut waits = connect(at);
    let headers = "content-length: 20000\r\nexpect: 100-continue\r\n";
    waits.write_all(head("POST", COMPLETIONS, headers).as_bytes()).expect("sent");
    too_large("before it is sent", reply(BufReader::new(waits)));
    let mut endless = connect(at);
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    let chunks = chunk.repeat(5) + "0\r\n\r\n";
    let sent = head("POST", COMPLETIONS, "connection: close\r\ntransfer-encoding: chunked\r\n") + &chunks;
    endless.write_all(sent.as_bytes()).expect("sent");
    too_large("in chunks", reply(BufReader::new(endless)));
    let mut long_head = connect(at);
    let _ = long_head.write_all(head("GET", "/health", &format!("x: {}\r\n", "y".repeat(100_000))).as_bytes());
    assert_eq!(reply_head(&mut BufReader::new(long_head)).status, 431);
    let mut no_http = connect(at);
    no_http.write_all(b"\x16\x03\x01 no HTTP at all\r\n\r\n").expect("sent");
    assert_eq!(reply_head(&mut BufReader::new(no_http)).status, 400);
    let mut cut_off = connect(at);
    cut_off.write_all((head("POST", COMPLETIONS, "content-length: 100\r\n") + "{").as_bytes()).expect("sent");
    drop(cut_off);
    let refused = ask(at, "POST", COMPLETIONS, "{\"model\": ");
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    assert_eq!(ask(at, "POST", COMPLETIONS, &completion(2, false)).status, 200);
    until_idle(at);
}

#[test]
fn who_comes_too_many_is_told_when_to_come_again() {
    let server = server(1, 1, Limits { connections_max: 2, ..patient() });
    let at = server.address;
    let open = || {
        let mut stream = BufReader::new(connect(at));
        stream.get_mut().write_all(head("GET", "/health", "").as_bytes()).expect("sent");
        (reply_head(&mut stream), stream)
    };
    let (kept, left) = (open(), open());
    assert_eq!((kept.0.status, left.0.status), (200, 200));
    let (refused, _) = open();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.head);
    drop(left);
    until("a place is free", || open().0.status == 200);
    drop(kept);
    until("both are", || open().0.status == 200);
    // A full queue is another matter: one runs, one waits, of the rest at least one is refused.
    let body = completion(400, true);
    let full = self::server(1, 1, patient());
    let streams: Vec<_> = (0..8).map(|_| send(full.address, "POST", COMPLETIONS, &body)).collect();
    let replies: Vec<_> = streams.into_iter().map(|mut stream| reply_head(&mut stream)).collect();
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 429).collect();
    let seconds = |reply: &crate::client::Reply| reply.header("retry-after").and_then(|s| s.parse::<u64>().ok());
    assert!(!refused.is_empty(), "nothing was refused");
    assert!(refused.iter().all(|reply| seconds(reply).is_some_and(|s| (1..=60).contains(&s))));
    until_idle(full.address);
    assert_eq!(metric(full.address, "gptoss_refused_total"), refused.len() as u64);
    let counted = "gptoss_requests_total{path=\"/v1/completions\",status=\"429\"}";
    assert_eq!(metric(full.address, counted), refused.len() as u64);
}

#[test]
fn who_never_reads_stalls_nobody_and_is_given_up() {
    let server = server(4, 8, Limits { write_time_max: SHORT, ..patient() });
    let at = server.address;
    let alone = ask(at, "POST", COMPLETIONS, &completion(40, true));
    let mut deaf: Vec<_> =
        (0..3).map(|_| send_on(connect_narrow(at), "POST", COMPLETIONS, &completion(480, true))).collect();
    deaf.iter_mut().for_each(|stream| assert_eq!(reply_head(stream).status, 200));
    let said = |reply: &crate::client::Reply| -> Vec<Value> {
        let chunks = reply.data().filter(|data| *data != "[DONE]");
        chunks.map(|data| serde_json::from_str::<Value>(data).expect("JSON")["choices"].clone()).collect()
    };
    for _ in 0..3 {
        assert_eq!(said(&ask(at, "POST", COMPLETIONS, &completion(40, true))), said(&alone));
    }
    until("they are given up", || metric(at, "gptoss_connections_given_up_total") == 3);
    until_idle(at);
    drop(deaf);
    until("only this one is open", || metric(at, "gptoss_connections") == 1);
    let steps = metric(at, "gptoss_steps_total");
    assert_eq!(metric(at, "gptoss_step_seconds_count"), steps);
    // The first, its repetitions, and those that nobody read: all of them had a first token.
    assert_eq!(metric(at, "gptoss_first_token_seconds_bucket{le=\"+Inf\"}"), 7);
}

#[test]
fn a_silent_stream_sends_comments() {
    let server = server(1, 4, Limits { silence_max: Duration::from_millis(1), ..patient() });
    let first = send(server.address, "POST", COMPLETIONS, &completion(100, true));
    let waiting = ask(server.address, "POST", COMPLETIONS, &completion(2, true));
    drop(first);
    assert!(waiting.body.contains(": waiting\n\n"), "{}", waiting.body);
    assert_eq!(waiting.data().last(), Some("[DONE]"));
}

#[test]
fn told_to_end_it_finishes_what_it_began() {
    let server = server(2, 4, patient());
    let at = server.address;
    let whole = ask(at, "POST", COMPLETIONS, &completion(60, false)).json();
    let mut idle = BufReader::new(connect(at));
    idle.get_mut().write_all(head("GET", "/health", "").as_bytes()).expect("sent");
    assert_eq!(reply_head(&mut idle).status, 200);
    let mut streams: Vec<_> = (0..4).map(|_| send(at, "POST", COMPLETIONS, &completion(60, true))).collect();
    // Their heads are here: they are under way, two of them in the queue.
    let heads: Vec<u16> = streams.iter_mut().map(|stream| reply_head(stream).status).collect();
    assert_eq!(heads, [200; 4]);
    let ended = server.end();
    for stream in streams {
        let said = rest(stream);
        let data = said.lines().filter_map(|line| line.strip_prefix("data: "));
        let text = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let text: String = text.filter_map(|chunk| Some(chunk["choices"][0]["text"].as_str()?.to_string())).collect();
        assert_eq!(text, whole["choices"][0]["text"]);
        assert!(said.contains("data: [DONE]"));
    }
    // It waits for no idle connection, and takes no new one.
    assert!(rest(idle).ends_with('}'));
    assert_eq!(ended.join().expect("it ended"), Ended::Whole);
    assert!(std::net::TcpStream::connect(at).is_err());
}

#[test]
fn what_the_grace_period_cuts_off_is_told_so() {
    let server = server(1, 4, Limits { grace: Duration::ZERO, ..patient() });
    let mut streams: Vec<_> =
        (0..3).map(|_| send(server.address, "POST", COMPLETIONS, &completion(490, true))).collect();
    streams.iter_mut().for_each(|stream| assert_eq!(reply_head(stream).status, 200));
    assert_eq!(server.end().join().expect("it ended"), Ended::Cut);
    for stream in streams {
        let said = rest(stream);
        let last = said.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().expect("an event");
        let error: Value = serde_json::from_str(last).expect("JSON");
        let message = error["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("shutting down"), "{last}");
    }
}
