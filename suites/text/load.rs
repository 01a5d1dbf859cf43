//! `gptoss serve`, a process of its own, under many clients: each gets what it gets alone, memory stays where it was, the
//! queue within its bound, and those who go away, read slowly or talk nonsense leave nothing behind.
//!
//! Here a short form; `scripts/load` runs the long one, with the same assertions.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Reply, ask, connect, head, metric, reply, reply_head, send, until, until_idle};

const LANES: u64 = 8;
const QUEUE: u64 = 16;
const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
/// What the process may grow under load, after it has warmed up.  A sampler of this vocabulary takes 7 MB, eight run at once, and
/// the allocator keeps what some of them took; one that was kept for each answer would be hundreds in the short form already.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// How much of it.
struct Plan {
    clients: usize,
    /// Each client asks at least so often, and until so much time is over.
    rounds: usize,
    time: Duration,
    cancelled: usize,
}

impl Plan {
    /// The short form, or `CLIENTS SECONDS CANCELLED` of `scripts/load`.
    fn new() -> Plan {
        let asked = std::env::var("GPTOSS_LOAD").unwrap_or_else(|_| "12 0 60".into());
        let numbers: Vec<u64> = asked.split(' ').map(|n| n.parse().expect("CLIENTS SECONDS CANCELLED")).collect();
        let [clients, seconds, cancelled] = numbers[..] else { panic!("CLIENTS SECONDS CANCELLED, not {asked}") };
        let time = Duration::from_secs(seconds);
        Plan { clients: clients as usize, rounds: 2, time, cancelled: cancelled as usize }
    }
}

/// The server.
struct Process {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Process {
    fn start() -> Process {
        let directory = tempfile::tempdir().expect("a directory");
        let (model, key) = (directory.path().join("T1"), directory.path().join("key"));
        let mut fixture = Command::new(env!("CARGO_BIN_EXE_gptoss-verify"));
        fixture.args(["fixture", "T1", "--out"]).arg(&model);
        let made = fixture.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts");
        assert!(made.success());
        std::fs::write(&key, "secret\n").expect("a key");
        let mut child = Command::new(env!("CARGO_BIN_EXE_gptoss"))
            .args(["serve", "--port", "0", "--model-id", "tiny", "--context", "512", "--body-bytes", "100000"])
            .args(["--lanes", &LANES.to_string(), "--queue", &QUEUE.to_string(), "--max-tokens", "400"])
            .args(["--read-seconds", "2", "--api-key"])
            .arg(&key)
            .arg("--model")
            .arg(&model)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        let address = line.strip_prefix("http://").and_then(|rest| rest.split_once('/')?.0.parse().ok());
        Process { address: address.unwrap_or_else(|| panic!("{line}")), child, _directory: directory }
    }

    /// Asks it to end; its exit code.
    fn end(mut self) -> Option<i32> {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(kill.success());
        self.child.wait().expect("waited").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident bytes of a process that no file backs.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a field");
        line.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok()).expect("kB") * 1024
    };
    field("RssAnon") + field("RssShmem")
}

/// The meter sees what this process takes and gives back.
fn the_meter_is_alive() {
    const KNOWN: u64 = 256 << 20;
    let before = memory(std::process::id());
    let known = vec![1u8; KNOWN as usize];
    let with = memory(std::process::id());
    assert_eq!(known.iter().map(|&byte| u64::from(byte)).sum::<u64>(), KNOWN);
    drop(known);
    let after = memory(std::process::id());
    assert!(with > before + KNOWN / 2 && after + KNOWN / 2 < with, "{before} {with} {after}");
}

/// What clients ask for: chat and text, greedy and seeded, of several lengths.
fn asks() -> Vec<(&'static str, String)> {
    let ask = |i: usize| {
        let (path, body) = match i % 3 {
            0 => (COMPLETIONS, json!({"prompt": "word ".repeat(5 + 11 * i)})),
            _ => (
                CHAT,
                json!({"messages": [{"role": "user", "content": format!("Question {i} {}", "so ".repeat(4 * i))}]}),
            ),
        };
        let mut body = body;
        body["model"] = "tiny".into();
        body["stream"] = true.into();
        body["max_tokens"] = (6 + 3 * (i % 4)).into();
        match i % 2 {
            0 => body["temperature"] = 0.into(),
            // Of 200 000 tokens that are nearly alike the last bits of their logits would choose: of eight the draw does.
            _ => (body["seed"], body["top_k"]) = (i.into(), 8.into()),
        }
        (path, body.to_string())
    };
    (0..12).map(ask).collect()
}

/// Every text of a stream's choices, in order.
fn said(reply: &Reply) -> String {
    fn texts(value: &Value, out: &mut String) {
        match value {
            Value::String(text) => *out += text,
            Value::Array(items) => items.iter().for_each(|item| texts(item, out)),
            Value::Object(fields) => fields.iter().filter(|(name, _)| *name != "id").for_each(|(_, f)| texts(f, out)),
            _ => {}
        }
    }
    assert_eq!((reply.status, reply.data().last()), (200, Some("[DONE]")), "{}", reply.body);
    let mut out = String::new();
    for data in reply.data().filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(chunk["error"], Value::Null, "{chunk}");
        texts(&chunk["choices"], &mut out);
    }
    out
}

/// Asks until there is room, as often as the server says; how often it was refused.
fn patiently(address: SocketAddr, path: &str, body: &str) -> (Reply, u64) {
    let mut refused = 0;
    loop {
        let reply = ask(address, "POST", path, body);
        if reply.status != 429 {
            return (reply, refused);
        }
        refused += 1;
        let seconds = reply.header("retry-after").and_then(|seconds| seconds.parse().ok()).expect("when to come again");
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

/// What was seen while the clients were there.
#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    refused: AtomicU64,
    queued_most: AtomicU64,
    active_most: AtomicU64,
}

/// All clients at once, each answer compared with the one given alone.
fn crowd(process: &Process, plan: &Plan, alone: &[(&str, String, String)], seen: &Seen) {
    let (address, end, over) = (process.address, Instant::now() + plan.time, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let client = |number: usize| {
            let mut round = 0;
            while round < plan.rounds || Instant::now() < end {
                let (path, body, want) = &alone[(number + 5 * round) % alone.len()];
                let (reply, refused) = patiently(address, path, body);
                assert_eq!(said(&reply), *want, "client {number}, round {round}");
                seen.answers.fetch_add(1, Ordering::Relaxed);
                seen.refused.fetch_add(refused, Ordering::Relaxed);
                round += 1;
            }
        };
        let clients: Vec<_> = (0..plan.clients).map(|number| scope.spawn(move || client(number))).collect();
        let watcher = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let engine = ask(address, "GET", "/health", "").json()["engine"].clone();
                seen.queued_most.fetch_max(engine["queued"].as_u64().expect("a number"), Ordering::Relaxed);
                seen.active_most.fetch_max(engine["active"].as_u64().expect("a number"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let ends: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        over.store(true, Ordering::Relaxed);
        watcher.join().expect("the server was healthy");
        ends.into_iter().for_each(|end| end.expect("every answer was right"));
    });
}

/// Requests whose client goes away, at every stage of an answer.
fn cancelled(address: SocketAddr, count: usize) {
    for number in 0..count {
        let mut body = json!({"model": "tiny", "stream": true, "max_tokens": 300, "seed": number});
        // A chat of a random model may say nothing for hundreds of tokens: who waits for some of an answer asks for text.
        let path = if number % 4 < 2 { CHAT } else { COMPLETIONS };
        match path {
            CHAT => body["messages"] = json!([{"role": "user", "content": "go on"}]),
            _ => body["prompt"] = "go on".into(),
        }
        let mut stream = send(address, "POST", path, &body.to_string());
        if number % 4 > 0 {
            reply_head(&mut stream);
            let mut some = vec![0; 200 * (number % 4 - 1)];
            let _ = stream.read_exact(&mut some);
        }
    }
    until_idle(address);
    until("no connection but this one is open", || metric(address, "gptoss_connections") == 1);
    assert_eq!((metric(address, "gptoss_active"), metric(address, "gptoss_queued")), (0, 0));
}

/// Clients that take a byte now and then, beside one who reads.
fn slow_readers(address: SocketAddr, alone: &(&str, String, String)) {
    let body = json!({"model": "tiny", "stream": true, "max_tokens": 300, "prompt": "slow", "logprobs": null});
    let mut slow: Vec<_> = (0..LANES - 1).map(|_| send(address, "POST", COMPLETIONS, &body.to_string())).collect();
    for _ in 0..3 {
        slow.iter_mut().for_each(|stream| stream.read_exact(&mut [0]).expect("a byte"));
        let (path, body, want) = alone;
        assert_eq!(said(&ask(address, "POST", path, body)), *want);
    }
    drop(slow);
    until_idle(address);
}

/// What is wrong gets its status, and the server stays healthy.
fn nonsense(address: SocketAddr) {
    let raw = |text: String| {
        let mut stream = connect(address);
        let _ = stream.write_all(text.as_bytes());
        let reply = reply(BufReader::new(stream));
        (reply.status, reply)
    };
    let cases = [
        ("malformed JSON", 400, raw(head("POST", CHAT, "connection: close\r\ncontent-length: 3\r\n") + "{]}")),
        ("no JSON", 400, raw(head("POST", CHAT, "connection: close\r\ncontent-length: 3\r\n") + "\0\u{1}\u{2}")),
        ("another method", 405, raw(head("PUT", CHAT, "connection: close\r\n"))),
        ("no such path", 404, raw(head("GET", "/v1/../etc", "connection: close\r\n"))),
        (
            "unauthenticated",
            401,
            raw("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
                .into()),
        ),
        ("oversized", 413, raw(head("POST", CHAT, "content-length: 200000\r\n") + &"x".repeat(200_000))),
        ("a huge header", 431, raw(head("GET", "/health", &format!("x: {}\r\n", "y".repeat(300_000))))),
        ("half a body", 408, raw(head("POST", CHAT, "content-length: 50\r\n") + "{")),
        ("no HTTP", 400, raw("hello\r\n\r\n".into())),
    ];
    for (what, status, (found, reply)) in &cases {
        assert_eq!(found, status, "{what}: {}", reply.body);
        let health = ask(address, "GET", "/health", "");
        assert_eq!((health.status, &health.json()["status"]), (200, &json!("ok")), "after {what}");
    }
}

#[test]
fn many_clients_get_what_they_get_alone_and_leave_nothing() {
    let (plan, process, seen) = (Plan::new(), Process::start(), Seen::default());
    let address = process.address;
    the_meter_is_alive();
    let alone: Vec<(&str, String, String)> = asks()
        .into_iter()
        .map(|(path, body)| (path, said(&ask(address, "POST", path, &body)), body))
        .map(|(p, s, b)| (p, b, s))
        .collect();
    // Once everything was asked by everybody, what the process needs it has.
    crowd(&process, &Plan { time: Duration::ZERO, rounds: 1, ..Plan::new() }, &alone, &Seen::default());
    let warm = memory(process.child.id());
    let began = Instant::now();
    crowd(&process, &plan, &alone, &seen);
    let crowded = memory(process.child.id());
    let seconds = began.elapsed().as_secs_f64();
    cancelled(address, plan.cancelled);
    slow_readers(address, &alone[1]);
    nonsense(address);
    let last = memory(process.child.id());
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} clients, {seconds:.1} s: {} answers equal to those given alone, {} tokens in all, {} refusals honoured; at most {} \
         ran and {} waited; {} cancelled; memory {:.1} MiB warm, {:.1} after the crowd, {:.1} at the end",
        plan.clients,
        of(&seen.answers),
        metric(address, "gptoss_generated_tokens_total"),
        of(&seen.refused),
        of(&seen.active_most),
        of(&seen.queued_most),
        metric(address, "gptoss_cancelled_total"),
        warm as f64 / 1048576.0,
        crowded as f64 / 1048576.0,
        last as f64 / 1048576.0,
    );
    assert!(of(&seen.answers) >= (plan.clients * plan.rounds) as u64);
    assert!(of(&seen.active_most) <= LANES && of(&seen.queued_most) <= QUEUE);
    assert!(metric(address, "gptoss_cancelled_total") > 0, "nobody went away in time");
    assert!(crowded.max(last) < warm + GROWTH_BYTES_MAX, "{warm} bytes grew to {crowded} and {last}");
    let (path, body, want) = &alone[1];
    assert_eq!(said(&ask(address, "POST", path, body)), *want);
    assert_eq!(process.end(), Some(0), "an orderly end is 0");
}
