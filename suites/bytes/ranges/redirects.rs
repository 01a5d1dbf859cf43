//! Redirects: followed within bounds, remembered, resolved anew when they expire.

use gptoss::range::{HttpOptions, HttpSource, RangeError, RangeSource};
use gptoss::verify::liar::{Answer, Heard};

use super::{content, file, open, options, read_right, server, wait};

fn read(script: impl Fn(&Heard) -> Answer + Send + Sync + 'static) -> (Result<(), RangeError>, Vec<Heard>) {
    let server = server(script);
    let outcome = wait(async {
        let source = open(&server, HttpOptions { parallel: 1, ..options() }).await?;
        read_right(&source, &file()).await
    });
    (outcome, server.heard())
}

fn paths(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|heard| heard.path.as_str()).collect()
}

#[test]
fn every_kind_is_followed_and_remembered() {
    for status in [301, 302, 303, 307, 308] {
        let (outcome, heard) = read(move |heard| match heard.path.as_str() {
            "/model.gguf" => Answer::redirect(status, "cdn/./x/../blob?key=secret"),
            _ => file().honest(heard),
        });
        assert!(outcome.is_ok(), "{status}: {outcome:?}");
        let paths = paths(&heard);
        assert_eq!(paths[..2], ["/model.gguf", "/cdn/blob?key=secret"]);
        assert!(paths[2..].iter().all(|path| *path == "/cdn/blob?key=secret"), "asked once where it is: {paths:?}");
        assert!(heard.iter().all(|heard| heard.range().is_some()), "the range goes along");
    }
}

#[test]
fn loops_and_long_ways_end() {
    let (outcome, heard) = read(|heard| match heard.path.as_str() {
        "/model.gguf" => Answer::redirect(302, "/b"),
        _ => Answer::redirect(302, "/model.gguf?"),
    });
    // `/model.gguf?` is another address than `/model.gguf`: the loop closes at the second `/b`.
    assert_eq!(outcome.map_err(|error| error.name()), Err("redirect-loop"));
    assert_eq!(heard.len(), 3);
    let (outcome, heard) = read(|heard| Answer::redirect(302, &format!("/n{}", heard.nth)));
    assert_eq!(outcome.map_err(|error| error.name()), Err("redirect-count"));
    assert_eq!(heard.len(), options().redirects + 1);
}

#[test]
fn a_wrong_target_is_named_without_its_signature() {
    for (location, reason) in [
        ("", "it names nothing"),
        ("ftp://127.0.0.1/x?secret", "only http and https"),
        ("http://user@127.0.0.1/x?secret", "user"),
        ("http://[x/?secret", "is no address"),
    ] {
        let (outcome, _) = read(move |_| Answer::redirect(302, location));
        let error = outcome.expect_err("it leads nowhere");
        assert_eq!(error.name(), "redirect-target", "{location}");
        let text = error.to_string();
        assert!(text.contains(reason) && !text.contains("secret"), "{text}");
    }
    let (outcome, _) = read(|_| Answer::status(302));
    assert_eq!(outcome.map_err(|error| error.name()), Err("redirect-target"), "no Location");
}

#[test]
fn an_address_that_expires_is_asked_for_again() {
    let (outcome, heard) = read(|heard| match heard.path.as_str() {
        "/model.gguf" => Answer::redirect(302, &format!("/signed/{}", heard.nth)),
        "/signed/0" if heard.nth > 4 => Answer::status(403),
        _ => file().honest(heard),
    });
    assert!(outcome.is_ok(), "{outcome:?}");
    let paths = paths(&heard);
    assert_eq!(paths[4..8], ["/signed/0", "/signed/0", "/model.gguf", "/signed/6"]);
    assert!(paths[7..].iter().all(|path| *path == "/signed/6"));
}

#[test]
fn a_redirect_to_another_file_is_a_change() {
    let (outcome, _) = read(|heard| match (heard.path.as_str(), heard.nth) {
        ("/model.gguf", 0) => file().honest(heard),
        ("/model.gguf", _) => Answer::redirect(302, "/other"),
        _ => content(100_000, "\"other\"").honest(heard),
    });
    assert_eq!(outcome.map_err(|error| error.name()), Err("changed"));
    // The same, and it says so with If-Range set aside.
    let (outcome, _) = read(|heard| match (heard.path.as_str(), heard.nth) {
        ("/model.gguf", 0) => file().honest(heard),
        ("/model.gguf", _) => Answer::redirect(302, "/other"),
        _ => file().honest(heard).with("etag", "\"other\""),
    });
    assert_eq!(outcome.map_err(|error| error.name()), Err("changed"));
}

#[test]
fn addresses_that_are_none_are_refused_before_anything_is_sent() {
    for address in
        ["", "model.gguf", "ftp://x/y", "http://", "http://u:p@127.0.0.1/x", "file:///x", "http://127.0.0.1:99999/"]
    {
        let error = wait(HttpSource::open(address, options())).expect_err(address);
        assert_eq!(error.name(), "address", "{address}: {error}");
    }
    // A port where nobody listens: the way is tried as often as it may be.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let error = wait(HttpSource::open(&format!("http://127.0.0.1:{port}/x"), HttpOptions { attempts: 2, ..options() }));
    assert_eq!(error.map(|source| source.total_bytes()).map_err(|error| error.name()), Err("connect"));
}
