//! Checkpoints behind `gptoss serve-files`: inspected, checked and read in ranges by `gptoss-verify`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::program::{Bench, Ran, gptoss, verify};

/// `gptoss serve-files` on a free port; it ends when this is dropped.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(directory: &str) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gptoss"));
        command.args(["serve-files", directory, "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let url = line.split(' ').next().expect("an address").to_string();
        assert!(url.starts_with("http://127.0.0.1:") && url.ends_with('/'), "{line}");
        Server { process, url }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What was just written has a weak ETag for two seconds.
fn settle() {
    std::thread::sleep(Duration::from_millis(2300));
}

/// A fixture in three layouts, exported, with manifests, and served.
fn served() -> (Bench, Server) {
    let bench = Bench::new("small-vocab");
    bench.fixture("small-vocab", "hf", &["--layout", "hf", "--shards", "3"]);
    for (checkpoint, manifest) in [("original", "original.json"), ("hf", "hf.json")] {
        let ran = verify(&["manifest", &bench.path(checkpoint), "-o", &bench.path(manifest)]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    settle();
    let server = Server::start(&bench.path(""));
    (bench, server)
}

/// The outcome of each check of a JSON report.
fn outcomes(ran: &Ran) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_string();
    let checks = ran.json()["checks"].as_array().expect("checks").clone();
    checks.iter().map(|check| (text(&check["name"]), text(&check["outcome"]))).collect()
}

#[test]
fn an_address_is_inspected_and_checked_like_a_directory() {
    let (bench, server) = served();
    for (folder, shards) in [("original/", 1), ("hf/", 3)] {
        let local = verify(&["inspect", &bench.path(folder), "--tensors", "--json"]).json();
        let ran = verify(&["inspect", &server.url(folder), "--tensors", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let remote = ran.json();
        for key in ["layout", "config", "bytes", "tensor_count", "tensors"] {
            assert_eq!(local[key], remote[key], "{folder}: {key}");
        }
        assert_eq!(remote["versions"].as_array().map(Vec::len), Some(shards));
        let manifest = bench.path(&format!("{}.json", folder.trim_end_matches('/')));
        let ran = verify(&["check", &server.url(folder), "--manifest", &manifest, "--format", "json"]);
        assert_eq!(ran.code, 0, "{}", ran.stdout);
        let named = outcomes(&ran);
        assert!(named.iter().any(|(name, _)| name == "digests/config.json/text"), "{named:?}");
        assert!(named.iter().filter(|(name, _)| name.ends_with(".safetensors/bytes")).count() == shards, "{named:?}");
    }
    let file = verify(&["check", &server.url("original/model.safetensors"), "--format", "json"]);
    assert_eq!((file.code, outcomes(&file)), (0, vec![("structure/open".into(), "pass".into())]), "{}", file.stderr);
    let text = verify(&["inspect", &server.url("original/model.safetensors")]);
    assert!(text.code == 0 && text.stdout.contains("version \""), "{}{}", text.stdout, text.stderr);
}

#[test]
fn a_byte_that_differs_is_found_through_ranges() {
    let (bench, server) = served();
    let path = bench.file("original/model.safetensors");
    let mut bytes = std::fs::read(&path).expect("the fixture");
    *bytes.last_mut().expect("it has data") ^= 1;
    std::fs::write(&path, bytes).expect("it is written");
    settle();
    let ran =
        verify(&["check", &server.url("original/"), "--manifest", &bench.path("original.json"), "--format", "json"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let red: Vec<_> = outcomes(&ran).into_iter().filter(|(_, outcome)| outcome == "fail").collect();
    assert_eq!(red.len(), 1, "{red:?}");
    assert!(red[0].0.starts_with("digests/model.safetensors/"), "{red:?}");
}

#[test]
fn a_tensor_is_read_in_ranges_again_and_again() {
    let (bench, server) = served();
    let tensor = "block.1.attn.sinks";
    let range = |source: &str, more: &[&str]| {
        verify(&[&["range", source, "--tensor", tensor, "--format", "json"], more].concat())
    };
    let url = server.url("original/model.safetensors");
    let (local, manifest) = (bench.path("original/model.safetensors"), bench.path("original.json"));
    let ran = range(&url, &["--repeat", "3", "--against", &local, "--manifest", &manifest]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let want = ["range/open", "range/tensor", "range/repeat", "range/manifest", "range/against"];
    assert_eq!(outcomes(&ran), want.map(|name| (name.to_string(), "pass".to_string())));
    for (source, more, code) in [
        (local.as_str(), &["--len", "14", "--offset", "2"][..], 0),
        (server.url("original/").as_str(), &["--len", "16"], 0),
        (url.as_str(), &["--len", "16", "--repeat", "1"], 0),
        (&url, &["--len", "1000000"], 3),
        (&url, &["--against", &bench.path("none")], 3),
        (&server.url("none"), &[], 3),
        (&url, &["--ca-file", &local], 2),
    ] {
        let ran = range(source, more);
        assert_eq!(ran.code, code, "{source} {more:?}: {}{}", ran.stdout, ran.stderr);
    }
    // Through a cache the second run asks for the opening byte only.
    let cache = bench.path("cache");
    let requests = || {
        let ran = range(&url, &["--cache", &cache]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.json()["notes"][0].as_str().and_then(|note| note.split(' ').next()?.parse::<u32>().ok()).expect("a count")
    };
    assert!(requests() > 1);
    assert_eq!(requests(), 1);
}

#[test]
fn a_gguf_and_a_model_bin_are_read_by_their_headers() {
    let bench = Bench::new("T1");
    let exported = bench.export();
    let sample = gptoss::verify::fixture::gguf::sample();
    std::fs::write(bench.file("sample.gguf"), sample.write().bytes).expect("it is written");
    let (manifest, local) = (bench.path("model.json"), verify(&["inspect", &exported, "--json"]).json());
    assert_eq!(verify(&["manifest", &exported, "-o", &manifest]).code, 0);
    settle();
    let server = Server::start(&bench.path(""));
    let remote = verify(&["inspect", &server.url("model.bin"), "--json"]).json();
    assert_eq!((&local["header"], &local["bytes"]), (&remote["header"], &remote["bytes"]));
    let ran = verify(&["check", &server.url("model.bin"), "--manifest", &manifest, "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    assert!(outcomes(&ran).contains(&("structure/tokenizer".into(), "pass".into())), "{}", ran.stdout);
    let url = server.url("sample.gguf");
    assert_eq!(verify(&["inspect", &url, "--json"]).json()["tensor_count"], 4);
    assert_eq!(verify(&["check", &url]).code, 0);
    for tensor in &sample.tensors {
        let name = String::from_utf8_lossy(&tensor.name);
        let ran = verify(&["range", &url, "--tensor", &name, "--format", "json"]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        let want = format!("{}, 2 times", gptoss::verify::compare::digest::hex_sha256(&tensor.data));
        assert_eq!(ran.json()["checks"][2]["detail"], want, "{name}");
    }
}

#[test]
fn wrong_uses_are_told() {
    let ran = gptoss(&["serve-files", "no-such-directory"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, _kept) = taken.expect("a port");
    assert_eq!(gptoss(&["serve-files", ".", "--listen", &address.to_string()]).code, 2);
    let ran = verify(&["check", "http://127.0.0.1:1/x", "--level", "tensors"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert_eq!(verify(&["inspect", "http://user@127.0.0.1/x"]).code, 3);
}
