//! A plain HTTP/1.1 client on a socket, which can also misbehave, and a server of this process for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gptoss::generate::engine::{Engine, EngineOptions};
use gptoss::serve::{Ended, ServeOptions, serve};
use serde_json::Value;

/// Nothing here takes as long: a read that does has hung.
const HUNG: Duration = Duration::from_secs(120);

/// What a server said.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The data of a stream's events.
    pub(crate) fn data(&self) -> impl Iterator<Item = &str> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: "))
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(HUNG)).expect("a timeout");
    stream
}

/// A connection whose own end holds little: who does not read it soon stops the other side.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a size");
        let stream = socket.connect(address).await.expect("it listens").into_std().expect("a socket");
        stream.set_nonblocking(false).expect("a blocking socket");
        stream.set_read_timeout(Some(HUNG)).expect("a timeout");
        stream
    })
}

/// A request's head, with these headers beside the usual ones.
pub(crate) fn head(method: &str, path: &str, headers: &str) -> String {
    head_as("secret", method, path, headers)
}

/// A request's head that shows `token`.
fn head_as(token: &str, method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{headers}\r\n")
}

/// Sends a request on a connection of its own.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
    send_on(connect(address), method, path, body)
}

/// Sends a request, the last one of its connection.
pub(crate) fn send_on(stream: TcpStream, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
    send_as("secret", stream, method, path, body)
}

/// As [`send_on`], showing `token`.
pub(crate) fn send_as(
    token: &str,
    mut stream: TcpStream,
    method: &str,
    path: &str,
    body: &str,
) -> BufReader<TcpStream> {
    let headers = format!("content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    // A server that refuses early may not read everything.
    let _ = stream.write_all((head_as(token, method, path, &headers) + body).as_bytes());
    BufReader::new(stream)
}

/// Reads a reply's head.
pub(crate) fn reply_head(reader: &mut BufReader<TcpStream>) -> Reply {
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).expect("a line") > 2 {
        head += &line.to_lowercase();
        line.clear();
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Reply { status, head, body: String::new() }
}

/// Reads a reply up to the end of its connection.
pub(crate) fn reply(mut reader: BufReader<TcpStream>) -> Reply {
    let found = reply_head(&mut reader);
    let mut bytes = Vec::new();
    let _ = reader.read_to_end(&mut bytes);
    let body = String::from_utf8_lossy(&bytes).into_owned();
    let body = if found.header("transfer-encoding") == Some("chunked") { unchunked(&body) } else { body };
    Reply { body, ..found }
}

fn unchunked(body: &str) -> String {
    let (mut out, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        // What was cut off ends where it ends.
        out += after.get(..size).unwrap_or(after);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    out
}

pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    reply(send(address, method, path, body))
}

/// A number of `/metrics`: the line that begins so.
pub(crate) fn metric(address: SocketAddr, line: &str) -> u64 {
    let text = ask(address, "GET", "/metrics", "").body;
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no `{line}` in\n{text}"))
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + HUNG;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {HUNG:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until no sequence runs and none waits.
pub(crate) fn until_idle(address: SocketAddr) {
    until("the engine is idle", || {
        let engine = ask(address, "GET", "/health", "").json()["engine"].clone();
        engine["active"] == 0 && engine["queued"] == 0
    });
}

/// A server of this process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    end: tokio::sync::oneshot::Sender<()>,
    thread: JoinHandle<Ended>,
}

impl Server {
    /// With sockets that hold little, so that a client who does not read is soon noticed.
    pub(crate) fn start(room: EngineOptions, options: ServeOptions) -> Server {
        let engine = Engine::start(crate::engine::model(), room).expect("an engine");
        let (end, ended) = tokio::sync::oneshot::channel();
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
                socket.set_send_buffer_size(4096).expect("a size");
                socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
                let listener = socket.listen(64).expect("it listens");
                sender.send(listener.local_addr().expect("an address")).expect("it is waited for");
                serve(listener, engine, options, async { ended.await.unwrap_or_default() }).await
            })
        });
        Server { address: receiver.recv().expect("an address"), end, thread }
    }

    /// Tells it to end.
    pub(crate) fn end(self) -> JoinHandle<Ended> {
        self.end.send(()).expect("it runs");
        self.thread
    }
}
