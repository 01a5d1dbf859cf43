//! A small HTTP server on loopback that answers as it is told: honestly, or with exactly one lie.
//!
//! It shares no code with the client it judges, nor with our own file server: requests and answers are text here.
//! What it heard is kept, so that a case can say what the client asked for.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// How many requests came before it.
    pub nth: usize,
}

impl Heard {
    /// The range that was asked for, if it is one of the form `bytes=FIRST-LAST`.
    pub fn range(&self) -> Option<Range<usize>> {
        let (first, last) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some(first.parse().ok()?..last.parse::<usize>().ok()? + 1)
    }
}

/// How the length of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`, of the body that is sent.
    Length,
    /// `Content-Length`, of another body.
    Claimed(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Not at all: the body is all that is sent, without a head.
    Bare,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next request.
    Keep,
    /// The end of the connection.
    Close,
    /// A reset of the connection: what is under way is lost.
    Reset,
    /// Nothing, until the client goes away.
    Stall,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers, but those of the framing.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// How its length is told.
    pub framing: Framing,
    /// What follows.
    pub then: Then,
}

impl Answer {
    /// A status and nothing else.
    pub fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new(), framing: Framing::Length, then: Then::Keep }
    }

    /// A redirect.
    pub fn redirect(status: u16, to: &str) -> Answer {
        Answer::status(status).with("location", to)
    }

    /// The same with a header set to another value.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    /// The same without a header.
    pub fn without(mut self, name: &str) -> Answer {
        self.headers.retain(|(other, _)| *other != name);
        self
    }
}

/// A file as an honest server has it.
#[derive(Debug, Clone)]
pub struct Content {
    /// Bytes.
    pub bytes: Vec<u8>,
    /// Its ETag.
    pub etag: String,
}

impl Content {
    /// What an honest server answers (RFC 9110 §14): a single range, whole files, `If-Range`, 416.
    pub fn honest(&self, heard: &Heard) -> Answer {
        let total = self.bytes.len();
        let base = Answer::status(200).with("etag", &self.etag).with("accept-ranges", "bytes");
        let is_same = heard.headers.get("if-range").is_none_or(|etag| *etag == self.etag);
        match heard.range().filter(|_| is_same) {
            None => Answer { body: self.bytes.clone(), ..base },
            Some(range) if range.start >= total => {
                Answer { status: 416, ..base }.with("content-range", format!("bytes */{total}"))
            }
            Some(range) => {
                let range = range.start..range.end.min(total);
                let told = format!("bytes {}-{}/{total}", range.start, range.end - 1);
                Answer { status: 206, body: self.bytes[range].to_vec(), ..base }.with("content-range", told)
            }
        }
    }
}

/// Decides what to answer.
type Script = dyn Fn(&Heard) -> Answer + Send + Sync;

/// A running server; it stops when it is dropped.
pub struct Liar {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    over: Arc<AtomicBool>,
}

impl Liar {
    /// Begins to answer on a free port of loopback.
    pub fn start(script: impl Fn(&Heard) -> Answer + Send + Sync + 'static) -> io::Result<Liar> {
        Liar::over(Arc::new(script), |stream| Ok(Box::new(stream)))
    }

    /// The same behind a layer, such as TLS, that `wrap` puts on each connection.
    pub fn wrapped(
        script: impl Fn(&Heard) -> Answer + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> io::Result<Box<dyn Wire>> + Send + Sync + 'static,
    ) -> io::Result<Liar> {
        Liar::over(Arc::new(script), wrap)
    }

    fn over(
        script: Arc<Script>,
        wrap: impl Fn(TcpStream) -> io::Result<Box<dyn Wire>> + Send + Sync + 'static,
    ) -> io::Result<Liar> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (heard, over) = (Arc::<Mutex<Vec<Heard>>>::default(), Arc::new(AtomicBool::new(false)));
        let (kept, ends, wrap) = (heard.clone(), over.clone(), Arc::new(wrap));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let (script, kept, wrap) = (script.clone(), kept.clone(), wrap.clone());
                std::thread::spawn(move || {
                    let raw = stream.try_clone();
                    // A client that goes away is no failure of the server.
                    if let (Ok(raw), Ok(wire)) = (raw, wrap(stream)) {
                        let _ = converse(wire, raw, &*script, &kept);
                    }
                });
            }
        });
        Ok(Liar { address, heard, over })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An address of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked for so far, in order.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("nothing panics while it is held").clone()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the loop that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Both directions of a connection.
pub trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// Requests and answers of one connection, until it ends.
fn converse(wire: Box<dyn Wire>, raw: TcpStream, script: &Script, kept: &Mutex<Vec<Heard>>) -> io::Result<()> {
    let mut wire = BufReader::new(wire);
    while let Some(mut heard) = listen(&mut wire)? {
        {
            let mut all = kept.lock().expect("nothing panics while it is held");
            heard.nth = all.len();
            all.push(heard.clone());
        }
        let answer = script(&heard);
        let out = wire.get_mut();
        if answer.framing != Framing::Bare {
            out.write_all(&head(&answer))?;
        }
        match answer.framing {
            Framing::Chunked => {
                for chunk in answer.body.chunks(1000) {
                    out.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                    out.write_all(chunk)?;
                    out.write_all(b"\r\n")?;
                }
                if answer.then == Then::Keep {
                    out.write_all(b"0\r\n\r\n")?;
                }
            }
            Framing::Length | Framing::Claimed(_) | Framing::Bare => out.write_all(&answer.body)?,
        }
        out.flush()?;
        match answer.then {
            Then::Keep => {}
            Then::Close => return raw.shutdown(std::net::Shutdown::Both),
            Then::Reset => return reset(raw),
            Then::Stall => {
                let mut rest = [0; 64];
                while wire.read(&mut rest)? > 0 {}
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The next request; `None` where the client has gone.
fn listen(wire: &mut BufReader<Box<dyn Wire>>) -> io::Result<Option<Heard>> {
    let mut line = String::new();
    if wire.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        wire.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_string()),
            None => return Ok(Some(Heard { path, headers, nth: 0 })),
        };
    }
}

fn head(answer: &Answer) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} -\r\n", answer.status);
    answer.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    head += &match answer.framing {
        Framing::Length => format!("content-length: {}\r\n\r\n", answer.body.len()),
        Framing::Claimed(bytes) => format!("content-length: {bytes}\r\n\r\n"),
        Framing::Chunked => "transfer-encoding: chunked\r\n\r\n".to_string(),
        Framing::Bare => String::new(),
    };
    head.into_bytes()
}

/// Ends a connection with a reset: what was not sent yet never is.
fn reset(stream: TcpStream) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)?.set_zero_linger()
}
