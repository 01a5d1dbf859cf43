//! What the client asks for: headers, ranges, how much at once, and from where it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gptoss::range::{HttpOptions, RangeSource};
use gptoss::verify::liar::{Answer, Framing, Then};

use super::{file, open, options, read_right, server, wait};

#[test]
fn every_request_says_what_it_wants_and_of_which_version() {
    let honest = file();
    let server = server(move |heard| honest.honest(heard));
    wait(async { read_right(&open(&server, options()).await?, &file()).await }).expect("it is honest");
    let heard = server.heard();
    assert!(!heard[0].headers.contains_key("if-range"), "nothing is known yet");
    for heard in &heard {
        assert_eq!(heard.path, "/model.gguf");
        assert_eq!(heard.headers["accept-encoding"], "identity");
        assert_eq!(heard.headers["host"], server.address().to_string());
        let range = heard.range().expect("one range");
        assert!(!range.is_empty() && range.len() <= 16_384, "{range:?}");
    }
    assert!(heard[1..].iter().all(|heard| heard.headers["if-range"] == "\"one\""));
    let asked: usize = heard.iter().filter_map(|heard| Some(heard.range()?.len())).sum();
    assert_eq!(asked, 1 + 100_000 + 1 + 2 + 1 + 49_224, "what was read, and the byte that opened it");
}

#[test]
fn a_broken_body_goes_on_from_the_byte_it_reached() {
    let honest = file();
    let server = server(move |heard| match heard.nth {
        1 => {
            let whole = honest.honest(heard);
            let body = whole.body[..1000].to_vec();
            Answer { framing: Framing::Claimed(whole.body.len()), body, then: Then::Close, ..whole }
        }
        _ => honest.honest(heard),
    });
    wait(async {
        let source = open(&server, options()).await.expect("it opens");
        let found = source.read(5000..15_000).await.expect("it goes on");
        assert_eq!(found, file().bytes[5000..15_000]);
        assert_eq!(source.traffic().retries.load(Ordering::Relaxed), 1);
        assert_eq!(source.traffic().bytes.load(Ordering::Relaxed), 10_001, "nothing twice");
    });
    let heard = server.heard();
    assert_eq!(heard[1].range(), Some(5000..15_000));
    assert_eq!(heard[2].range(), Some(6000..15_000));
    assert_eq!(heard[2].headers["if-range"], "\"one\"");
}

#[test]
fn no_more_requests_are_under_way_than_allowed() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (honest, counts, peak) = (file(), now.clone(), most.clone());
    let server = server(move |heard| {
        peak.fetch_max(counts.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        counts.fetch_sub(1, Ordering::SeqCst);
        honest.honest(heard)
    });
    wait(async {
        let source =
            open(&server, HttpOptions { parallel: 3, request_bytes: 1000, ..options() }).await.expect("it opens");
        // Two long reads at once share the bound.
        let (a, b) = tokio::join!(source.read(0..50_000), source.read(50_000..100_000));
        assert_eq!([a.expect("a"), b.expect("b")].concat(), file().bytes);
    });
    let most = most.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most} at once");
}

#[test]
fn connections_are_kept() {
    let honest = file();
    let ports = Arc::new(AtomicUsize::new(0));
    let seen = ports.clone();
    let server = gptoss::verify::liar::Liar::wrapped(
        move |heard| honest.honest(heard),
        move |stream| {
            seen.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(stream))
        },
    )
    .expect("loopback can be listened on");
    let alone = HttpOptions { parallel: 1, ..options() };
    wait(async { read_right(&open(&server, alone).await?, &file()).await }).expect("it is honest");
    assert_eq!(ports.load(Ordering::SeqCst), 1, "sixteen requests, one connection");
}
