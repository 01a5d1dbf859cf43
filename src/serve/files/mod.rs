//! Local checkpoints over HTTP, in ranges: for browsers, and for `gptoss` on another machine.
//!
//! ```text
//! GET, HEAD  /any/file/below/the/root    200, 206, 304, 404, 416; one range or one suffix; If-Range, If-None-Match
//! OPTIONS    anything                    204: what a page of another origin may ask for
//! ```
//!
//! * **Invariant:** nothing outside the root is ever read ([`place`]).
//! * **Invariant:** the bytes of one answer are of one version of the file: who changes it while it is sent breaks the
//!   connection, and the next answer has another ETag.
//! * A body costs [`CHUNK_BYTES`] of memory, whatever its length.
//! * Pages of other machines may not read: a server on loopback answers loopback origins only, unless more are allowed, and
//!   only to names of loopback (a page could otherwise give its own name our address).

pub mod place;
mod ranges;
mod version;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;

use self::place::PlaceError;
use self::ranges::Asked;
use self::version::{OpenFile, Version};

/// Bytes of a body that are in memory at once.
const CHUNK_BYTES: usize = 256 << 10;
/// What a page of another origin may read beside the body.
const EXPOSED: &str = "accept-ranges, content-length, content-range, etag, last-modified";
/// What it may send.
const ALLOWED: &str = "if-none-match, if-range, range";

/// How files are served.
#[derive(Debug, Clone, Default)]
pub struct FileOptions {
    /// Origins, beside those of loopback, whose pages may read; `*` stands for all.
    pub origins: Vec<String>,
}

/// What every request sees.
struct App {
    root: PathBuf,
    options: FileOptions,
    is_loopback: bool,
}

/// Serves the files below `root` on `listener` until `shutdown` resolves.
///
/// # Errors
/// If `root` is no directory, or the listener fails.
pub async fn serve_files(
    listener: tokio::net::TcpListener,
    root: &Path,
    options: FileOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let root = root.canonicalize()?;
    if !root.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "expected a directory"));
    }
    let is_loopback = listener.local_addr()?.ip().is_loopback();
    let app = Arc::new(App { root, options, is_loopback });
    axum::serve(listener, Router::new().fallback(answer).with_state(app)).with_graceful_shutdown(shutdown).await
}

async fn answer(State(app): State<Arc<App>>, request: Request) -> Response {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let mut response = if app.is_loopback && !is_loopback_host(headers, uri) {
        StatusCode::MISDIRECTED_REQUEST.into_response()
    } else if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else if method == Method::GET || method == Method::HEAD {
        file(&app, method, uri, headers).await
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD, OPTIONS")]).into_response()
    };
    permit(&app, headers, &mut response);
    response
}

/// Says which pages may read the answer, and what of it.
fn permit(app: &App, headers: &HeaderMap, response: &mut Response) {
    let out = response.headers_mut();
    out.insert(header::VARY, HeaderValue::from_static("origin"));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let Some(origin) = headers.get(header::ORIGIN) else { return };
    let is_listed = |origin: &str| app.options.origins.iter().any(|listed| listed == "*" || listed == origin);
    if !origin.to_str().is_ok_and(|origin| is_listed(origin) || is_loopback_origin(origin)) {
        return;
    }
    out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    let more = [
        ("access-control-expose-headers", EXPOSED),
        ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
        ("access-control-allow-headers", ALLOWED),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "86400"),
        // For pages with `Cross-Origin-Embedder-Policy: require-corp`.
        ("cross-origin-resource-policy", "cross-origin"),
    ];
    out.extend(more.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))));
}

/// Whether an origin, `scheme://host[:port]`, is this machine's.
fn is_loopback_origin(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| is_loopback_name(authority))
}

/// Whether the name that the client used for this server is one of loopback.
fn is_loopback_host(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(uri.authority().map(|a| a.as_str()));
    // HTTP/1.0 has no name; no page speaks it.
    host.is_none_or(is_loopback_name)
}

fn is_loopback_name(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<axum::http::uri::Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn file(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response {
    let (root, path) = (app.root.clone(), uri.path().to_string());
    let opened = tokio::task::spawn_blocking(move || {
        let path = place::resolve(&root, &path)?;
        Ok((OpenFile::open(&path).map_err(|_| PlaceError::Absent)?, content_type(&path)))
    });
    let (open, content_type) = match opened.await.expect("opening a file does not panic") {
        Ok(opened) => opened,
        Err(PlaceError::Malformed) => return StatusCode::BAD_REQUEST.into_response(),
        // Whether what lies outside exists is nobody's business.
        Err(PlaceError::Outside | PlaceError::Absent) => return StatusCode::NOT_FOUND.into_response(),
    };
    let version = open.version();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_held = text(header::IF_NONE_MATCH).is_some_and(|tags| version.is_among(tags));
    let is_same = text(header::IF_RANGE).is_none_or(|tag| version.is_strongly(tag));
    let asked = match text(header::RANGE).filter(|_| is_same && *method == Method::GET) {
        Some(range) => ranges::parse(range, version.bytes),
        None => Asked::Whole,
    };
    let (status, range) = match asked {
        _ if is_held => (StatusCode::NOT_MODIFIED, 0..0),
        Asked::Whole => (StatusCode::OK, 0..version.bytes),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    let mut response = status.into_response();
    describe(response.headers_mut(), status, &range, &version, content_type);
    if *method == Method::GET && !range.is_empty() {
        *response.body_mut() = body(open, version, range);
    }
    response
}

/// The headers of an answer about a file.
fn describe(
    out: &mut HeaderMap,
    status: StatusCode,
    range: &Range<u64>,
    version: &Version,
    content_type: &'static str,
) {
    let told = |text: String| HeaderValue::from_str(&text).expect("digits and visible ASCII");
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(header::ETAG, told(version.etag()));
    out.insert(header::LAST_MODIFIED, told(httpdate::fmt_http_date(version.modified)));
    // A copy may be kept, and is asked about before it is used.
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    match status {
        StatusCode::NOT_MODIFIED => return,
        StatusCode::RANGE_NOT_SATISFIABLE => {
            out.insert(header::CONTENT_RANGE, told(format!("bytes */{}", version.bytes)));
            return;
        }
        StatusCode::PARTIAL_CONTENT => {
            let said = format!("bytes {}-{}/{}", range.start, range.end - 1, version.bytes);
            out.insert(header::CONTENT_RANGE, told(said));
        }
        _ => {}
    }
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    out.insert(header::CONTENT_LENGTH, told((range.end - range.start).to_string()));
}

/// The bytes of a range, chunk by chunk; the file must stay as it was when its ETag was told.
fn body(open: OpenFile, version: Version, range: Range<u64>) -> Body {
    let chunks = stream::try_unfold((Arc::new(open), range), move |(open, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let (file, want) = (open.clone(), (range.end - range.start).min(CHUNK_BYTES as u64) as usize);
        let read = tokio::task::spawn_blocking(move || {
            let chunk = file.read(range.start, want)?;
            match file.version() == version {
                true => Ok(chunk),
                false => Err(io::Error::other("the file was changed while it was sent")),
            }
        });
        let chunk = read.await.map_err(io::Error::other)??;
        Ok::<_, io::Error>(Some((Bytes::from(chunk), (open, range.start + want as u64..range.end))))
    });
    Body::from_stream(chunks)
}

/// What browsers are told that a file is.
fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => "application/json",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

/// Where a server is reached.
pub fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_in_chunks_and_ends_where_its_file_changes() {
        use std::io::Write;

        use futures_util::StreamExt;
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&vec![7; 3 * CHUNK_BYTES]).expect("it is written");
        let open = OpenFile::open(file.path()).expect("it opens");
        let version = open.version();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut chunks = body(open, version, 0..3 * CHUNK_BYTES as u64).into_data_stream();
            let first = chunks.next().await.expect("a chunk").expect("it is read");
            assert_eq!(first.len(), CHUNK_BYTES);
            file.write_all(&[8]).expect("it grows");
            assert!(chunks.next().await.expect("an end").is_err(), "two versions in one body");
        });
    }

    #[test]
    fn names_of_loopback_are_told_from_others() {
        for name in ["localhost", "LOCALHOST:80", "127.0.0.1:8", "127.9.9.9", "[::1]:5"] {
            assert!(is_loopback_name(name), "{name}");
            assert!(is_loopback_origin(&format!("http://{name}")), "{name}");
        }
        for name in
            ["localhost.example", "example.com", "10.0.0.1", "", "127.0.0.1.example:80", "[::2]", "user@example.com"]
        {
            assert!(!is_loopback_name(name), "{name}");
        }
        assert!(!is_loopback_origin("null") && !is_loopback_origin("localhost"));
    }
}
