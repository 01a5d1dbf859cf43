//! The file server over a socket: ranges, versions, origins, and paths that would lead out; then our client against it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime};

use gptoss::range::{HttpSource, RangeSource};
use gptoss::serve::files::{FileOptions, serve_files};

use super::{file, options, read_right, wait};

/// A server on a directory; it ends with its runtime.
struct Server {
    address: SocketAddr,
    directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

/// `model.gguf`, an empty file, a folder, links in and out, a hidden file, and a secret beside the root.
fn lay_out(root: &Path) {
    let served = root.join("served");
    std::fs::create_dir_all(served.join("sub dir/deep")).expect("folders");
    let write = |path: &str, bytes: &[u8]| std::fs::write(root.join(path), bytes).expect("it is written");
    write("secret", b"nobody's business");
    write("served/model.gguf", &file().bytes);
    write("served/empty", b"");
    write("served/config.json", b"{}");
    write("served/.hidden", b"nobody's business");
    write("served/sub dir/deep/\u{e9}+%41", b"named oddly");
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink("../secret", served.join("out")).expect("a link");
        symlink("..", served.join("up")).expect("a link");
        symlink("model.gguf", served.join("in")).expect("a link");
    }
}

fn start(origins: &[&str]) -> Server {
    let directory = tempfile::tempdir().expect("a directory");
    lay_out(directory.path());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (root, options) = (
        directory.path().join("served"),
        FileOptions { origins: origins.iter().map(|origin| origin.to_string()).collect() },
    );
    runtime.spawn(async move { serve_files(listener, &root, options, std::future::pending()).await });
    Server { address, directory, _runtime: runtime }
}

/// An answer as it came.
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Server {
    /// Writes exactly this request, target and all.
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        let mut text = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            text += &format!("host: {}\r\n", self.address);
        }
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{text}\r\n").as_bytes()).expect("it is sent");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("it answers");
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(all[..end].to_vec()).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Reply { status, head, body: all.split_off(end + 4) }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("served").join(name)
    }

    /// Waits until the file's tag is strong: its times must lie two seconds back.
    fn settled(&self, target: &str) -> String {
        let start = std::time::Instant::now();
        loop {
            let etag = self.ask("HEAD", target, &[]).header("etag").expect("a tag").to_string();
            if !etag.starts_with("W/") {
                return etag;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the tag of a file that rests becomes strong");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn ranges_are_answered_as_the_rfc_says() {
    let (server, bytes) = (start(&[]), file().bytes);
    let whole = server.ask("GET", "/model.gguf", &[]);
    assert_eq!((whole.status, whole.header("content-length")), (200, Some("100000")));
    assert!(whole.body == bytes);
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    for (range, want) in [
        ("bytes=0-0", 0..1),
        ("bytes=99999-", 99_999..100_000),
        ("bytes=-5", 99_995..100_000),
        ("bytes=10-1000000", 10..100_000),
        ("bytes=-1000000", 0..100_000),
    ] {
        let part = server.ask("GET", "/model.gguf", &[("range", range)]);
        let said = format!("bytes {}-{}/100000", want.start, want.end - 1);
        assert_eq!((part.status, part.header("content-range")), (206, Some(said.as_str())), "{range}");
        assert_eq!(part.header("content-length"), Some(want.len().to_string().as_str()), "{range}");
        assert!(part.body == bytes[want], "{range}");
        assert_eq!(part.header("content-encoding"), None);
    }
    for range in ["bytes=100000-", "bytes=-0"] {
        let none = server.ask("GET", "/model.gguf", &[("range", range)]);
        assert_eq!((none.status, none.header("content-range")), (416, Some("bytes */100000")), "{range}");
        assert!(none.body.is_empty());
    }
    for range in ["bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes=a-"] {
        assert_eq!(
            server.ask("GET", "/model.gguf", &[("range", range)]).status,
            200,
            "{range}: as if it were not there"
        );
    }
    assert_eq!(server.ask("GET", "/empty", &[]).status, 200);
    let none = server.ask("GET", "/empty", &[("range", "bytes=0-")]);
    assert_eq!((none.status, none.header("content-range")), (416, Some("bytes */0")));
    let head = server.ask("HEAD", "/model.gguf", &[("range", "bytes=0-0")]);
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("100000"), 0));
    assert_eq!(server.ask("GET", "/config.json", &[]).header("content-type"), Some("application/json"));
    let post = server.ask("POST", "/model.gguf", &[("content-length", "0")]);
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn a_version_is_told_and_asked_for() {
    let server = start(&[]);
    let etag = server.settled("/model.gguf");
    let ask = |headers: &[(&str, &str)]| server.ask("GET", "/model.gguf", headers);
    let part = |tag: &str| ask(&[("range", "bytes=0-9"), ("if-range", tag)]).status;
    assert_eq!(part(&etag), 206);
    let date = ask(&[]).header("last-modified").expect("a date").to_string();
    for other in ["\"x\"", &format!("W/{etag}"), date.as_str()] {
        assert_eq!(part(other), 200, "{other}");
    }
    let known = |tags: &str| ask(&[("if-none-match", tags)]);
    for tags in [etag.as_str(), "*", &format!("\"x\", W/{etag}")] {
        let reply = known(tags);
        assert_eq!((reply.status, reply.body.len(), reply.header("etag")), (304, 0, Some(etag.as_str())), "{tags}");
    }
    assert_eq!(known("\"x\"").status, 200);
    // Rewritten in place, with the old length and the old time of modification: another version all the same.
    let modified = std::fs::metadata(server.path("model.gguf")).and_then(|m| m.modified()).expect("a time");
    let mut bytes = file().bytes;
    bytes[0] ^= 1;
    std::fs::write(server.path("model.gguf"), &bytes).expect("it is written");
    let file = std::fs::File::options().write(true).open(server.path("model.gguf")).expect("it opens");
    file.set_modified(modified).expect("its time can be set");
    assert_eq!(part(&etag), 200);
    let now = ask(&[]).header("etag").expect("a tag").to_string();
    assert!(now.starts_with("W/") && !now.contains(&etag), "written a moment ago: {now}");
    // A time that is still to come never makes a strong tag.
    file.set_modified(SystemTime::now() + Duration::from_secs(3600)).expect("its time can be set");
    assert!(ask(&[]).header("etag").expect("a tag").starts_with("W/"));
}

#[test]
fn no_path_leads_out() {
    let server = start(&[]);
    let status = |target: &str| {
        let reply = server.ask("GET", target, &[]);
        assert!(!reply.body.windows(8).any(|eight| eight == b"business"), "{target} gave a secret away");
        reply.status
    };
    for target in [
        "/../secret",
        "/%2e%2e/secret",
        "/%2E%2E%2Fsecret",
        "/..%2fsecret",
        "/..%5csecret",
        "/sub%20dir/../../secret",
        "/sub%20dir/%2e%2e/%2e%2e/secret",
        "/./model.gguf",
        "//secret",
        "/%2fetc/passwd",
        "/out",
        "/up/secret",
        "/.hidden",
        "/model.gguf/",
        "/model.gguf/x",
        "/sub%20dir",
        "/",
        "/none",
        "/C:%5Csecret",
        "/model.gguf%00",
        "/%252e%252e/secret",
    ] {
        assert_eq!(status(target), 404, "{target}");
    }
    for target in ["/%", "/%2", "/%zz", "/%ff"] {
        assert_eq!(status(target), 400, "{target}");
    }
    let absolute = server.ask("GET", &format!("{}/secret", server.directory.path().display()), &[]);
    assert_eq!(absolute.status, 404);
    assert_eq!(server.ask("GET", "/sub%20dir/deep/%C3%A9+%2541", &[]).body, b"named oddly");
    assert_eq!(server.ask("GET", "/model.gguf?x=/../secret", &[("range", "bytes=0-0")]).status, 206);
    #[cfg(unix)]
    for target in ["/in", "/up/served/in"] {
        let reply = server.ask("GET", target, &[("range", "bytes=0-0")]);
        assert_eq!(reply.status, 206, "{target}: where a link ends is what counts");
    }
}

#[test]
fn pages_of_this_machine_may_read_and_others_only_if_they_are_named() {
    let server = start(&["https://app.example"]);
    let allowed = |origin: &str| {
        let reply = server.ask("GET", "/model.gguf", &[("origin", origin), ("range", "bytes=0-0")]);
        assert_eq!(reply.status, 206);
        assert!(reply.header("vary").is_some_and(|vary| vary.contains("origin")));
        let given = reply.header("access-control-allow-origin").map(String::from);
        let exposed = reply.header("access-control-expose-headers").unwrap_or_default().to_string();
        let resource = reply.header("cross-origin-resource-policy").map(String::from);
        given.map(|given| (given, exposed, resource))
    };
    for origin in ["http://localhost:3000", "http://127.0.0.1:1", "http://[::1]:5", "https://app.example"] {
        let (given, exposed, resource) = allowed(origin).expect(origin);
        assert_eq!((given.as_str(), resource.as_deref()), (origin, Some("cross-origin")));
        for name in ["content-range", "accept-ranges", "etag", "content-length"] {
            assert!(exposed.contains(name), "{exposed}");
        }
    }
    for origin in ["https://evil.example", "http://localhost.evil.example", "null", "https://app.example.evil"] {
        assert_eq!(allowed(origin), None, "{origin}");
    }
    let ask = [("origin", "http://localhost:3000"), ("access-control-request-headers", "range,if-range")];
    let options = server.ask("OPTIONS", "/model.gguf", &ask);
    assert_eq!(options.status, 204);
    let may = options.header("access-control-allow-headers").unwrap_or_default();
    assert!(may.contains("range") && may.contains("if-range"), "{may}");
    assert!(options.header("access-control-allow-methods").is_some_and(|methods| methods.contains("HEAD")));
    // A page may give its own name our address: then it is of our origin, and the name gives it away.
    assert_eq!(server.ask("GET", "/model.gguf", &[("host", "evil.example")]).status, 421);
    assert_eq!(server.ask("GET", "/model.gguf", &[("host", "localhost:1"), ("range", "bytes=0-0")]).status, 206);
    let anyone = start(&["*"]);
    let reply = anyone.ask("GET", "/config.json", &[("origin", "https://any.example")]);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://any.example"));
}

#[test]
fn our_client_reads_what_our_server_serves() {
    let server = start(&[]);
    server.settled("/model.gguf");
    let url = format!("http://{}/model.gguf", server.address);
    wait(async {
        let source = HttpSource::open(&url, options()).await.expect("it opens");
        read_right(&source, &file()).await.expect("it is honest");
        std::fs::write(server.path("model.gguf"), vec![7; 100_000]).expect("it is written");
        let error = source.read(0..10).await.expect_err("another file");
        assert_eq!(error.name(), "changed", "{error}");
    });
}
