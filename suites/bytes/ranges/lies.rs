//! One case for each lie: a typed error, or a repetition that gives the right bytes.  Never wrong bytes.

use std::time::Duration;

use gptoss::range::{HttpOptions, RangeError, Require};
use gptoss::verify::liar::{Answer, Content, Framing, Heard, Then};

use super::{content, file, open, options, read_right, server, wait};

/// What must come of a lie.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Want {
    /// The error of this name, at once: the server hears of nothing a second time.
    Refused(&'static str),
    /// The error of this name, after every attempt.
    GivenUp(&'static str),
    /// The right bytes, after at least one repetition.
    Repeated,
    /// The right bytes: it is no lie.
    Right,
}
use Want::{GivenUp, Refused, Repeated, Right};

/// One server.
struct Lie {
    name: &'static str,
    /// The answers that are lies: of these requests, counted from 0, which opens the source.
    from: usize,
    to: usize,
    answer: fn(&Content, &Heard) -> Answer,
    want: Want,
}

/// The answer to every request from `from` on.
const fn always(name: &'static str, from: usize, answer: fn(&Content, &Heard) -> Answer, want: Want) -> Lie {
    Lie { name, from, to: usize::MAX, answer, want }
}

/// The answer to the second request, the first that reads.
const fn once(name: &'static str, answer: fn(&Content, &Heard) -> Answer, want: Want) -> Lie {
    Lie { name, from: 1, to: 2, answer, want }
}

/// An honest answer, of which the body's first half is sent.
fn half(file: &Content, heard: &Heard, framing: fn(usize) -> Framing, then: Then) -> Answer {
    let honest = file.honest(heard);
    let whole = honest.body.len();
    Answer { body: honest.body[..whole / 2].to_vec(), framing: framing(whole), then, ..honest }
}

fn told(file: &Content, heard: &Heard, first: isize, last: isize, total: usize) -> Answer {
    let range = heard.range().expect("a client of ours asks for a range");
    let (first, last) = (range.start as isize + first, range.end as isize - 1 + last);
    file.honest(heard).with("content-range", format!("bytes {first}-{last}/{total}"))
}

const LIES: &[Lie] = &[
    always("honest", 0, |f, h| f.honest(h), Right),
    always("chunked", 0, |f, h| Answer { framing: Framing::Chunked, ..f.honest(h) }, Right),
    always("identity is no encoding", 0, |f, h| f.honest(h).with("content-encoding", "identity"), Right),
    always("closes after every answer", 0, |f, h| Answer { then: Then::Close, ..f.honest(h) }, Right),
    // status
    always(
        "ignores Range",
        0,
        |f, _| Answer { body: f.bytes.clone(), ..Answer::status(200).with("etag", &f.etag) },
        Refused("range-ignored"),
    ),
    always(
        "ignores Range later",
        1,
        |f, _| Answer { body: f.bytes.clone(), ..Answer::status(200).with("etag", &f.etag) },
        Refused("range-ignored"),
    ),
    always("says 200 and sends the range", 1, |f, h| Answer { status: 200, ..f.honest(h) }, Refused("range-ignored")),
    always(
        "416",
        1,
        |f, _| Answer::status(416).with("content-range", format!("bytes */{}", f.bytes.len())),
        Refused("not-satisfiable"),
    ),
    always(
        "416 of a shorter file",
        1,
        |_, _| Answer::status(416).with("content-range", "bytes */10"),
        Refused("total-changed"),
    ),
    always("not found", 0, |_, _| Answer::status(404), Refused("status")),
    always("forbidden", 0, |_, _| Answer::status(403), Refused("status")),
    always("no content", 0, |_, _| Answer::status(204), Refused("status")),
    once("503, then fine", |_, _| Answer::status(503).with("retry-after", "0"), Repeated),
    once("429, then fine", |_, _| Answer::status(429), Repeated),
    Lie { name: "503 at first", from: 0, to: 2, answer: |_, _| Answer::status(503), want: Repeated },
    always("503 for ever", 1, |_, _| Answer::status(503), GivenUp("busy")),
    // the range
    always("begins a byte late", 1, |f, h| told(f, h, 1, 0, f.bytes.len()), Refused("content-range")),
    always("begins a byte early", 0, |f, h| told(f, h, -1, 0, f.bytes.len()), Refused("content-range")),
    always("ends a byte early", 1, |f, h| told(f, h, 0, -1, f.bytes.len()), Refused("content-range")),
    always("ends a byte late", 1, |f, h| told(f, h, 0, 1, f.bytes.len()), Refused("content-range")),
    always("tells another total", 1, |f, h| told(f, h, 0, 0, f.bytes.len() + 1), Refused("total-changed")),
    always("tells no total", 0, |f, h| f.honest(h).with("content-range", "bytes 0-0/*"), Refused("content-range")),
    always("tells no range", 1, |f, h| f.honest(h).without("content-range"), Refused("content-range")),
    always("counts words", 1, |f, h| f.honest(h).with("content-range", "words 0-0/9"), Refused("content-range")),
    always(
        "many ranges at once",
        1,
        |f, h| f.honest(h).without("content-range").with("content-type", "multipart/byteranges; boundary=x"),
        Refused("content-range"),
    ),
    // the body
    once("short body", |f, h| half(f, h, Framing::Claimed, Then::Close), Repeated),
    once("short chunked body", |f, h| half(f, h, |_| Framing::Chunked, Then::Keep), Repeated),
    once("reset amid the body", |f, h| half(f, h, Framing::Claimed, Then::Reset), Repeated),
    once("chunks that do not end", |f, h| half(f, h, |_| Framing::Chunked, Then::Close), Repeated),
    always(
        "never an answer",
        1,
        |_, _| Answer { framing: Framing::Bare, then: Then::Close, ..Answer::status(0) },
        GivenUp("broken"),
    ),
    always(
        "no HTTP",
        1,
        |_, _| Answer { body: b"SSH-2.0-x\r\n\r\n".to_vec(), framing: Framing::Bare, ..Answer::status(0) },
        Refused("malformed"),
    ),
    once(
        "a reset for an answer",
        |_, _| Answer { framing: Framing::Bare, then: Then::Reset, ..Answer::status(0) },
        Repeated,
    ),
    always("always a short body", 1, |f, h| half(f, h, |_| Framing::Length, Then::Keep), Refused("content-length")),
    always(
        "never a body",
        1,
        |f, h| Answer { body: Vec::new(), framing: Framing::Chunked, ..f.honest(h) },
        GivenUp("body-short"),
    ),
    always(
        "long body",
        1,
        |f, h| {
            let honest = f.honest(h);
            Answer { body: [honest.body.as_slice(), b"x"].concat(), ..honest }
        },
        Refused("content-length"),
    ),
    always(
        "long chunked body",
        1,
        |f, h| {
            let honest = f.honest(h);
            Answer { body: [honest.body.as_slice(), b"x"].concat(), framing: Framing::Chunked, ..honest }
        },
        Refused("body-long"),
    ),
    once(
        "bytes behind the body",
        |f, h| {
            let honest = f.honest(h);
            let claimed = honest.body.len();
            Answer {
                body: [honest.body.as_slice(), b"HTTP/1.1 206 x"].concat(),
                framing: Framing::Claimed(claimed),
                ..honest
            }
        },
        Right,
    ),
    // what version it is
    always("gzip", 1, |f, h| f.honest(h).with("content-encoding", "gzip"), Refused("encoded")),
    always("no ETag", 0, |f, h| f.honest(h).without("etag"), Refused("unpinned")),
    always("weak ETag", 0, |f, h| f.honest(h).with("etag", "W/\"one\""), Refused("unpinned")),
    always("bare ETag", 0, |f, h| f.honest(h).with("etag", "one"), Refused("unpinned")),
    always("another file", 1, |_, h| content(100_000, "\"two\"").honest(h), Refused("changed")),
    always(
        "another file, If-Range not kept",
        1,
        |_, h| told(&content(100_000, "\"one\""), h, 0, 0, 100_000).with("etag", "\"two\""),
        Refused("changed"),
    ),
    always("the ETag is gone", 1, |f, h| f.honest(h).without("etag"), Refused("changed")),
    always("the ETag weakens", 1, |f, h| f.honest(h).with("etag", "W/\"one\""), Refused("changed")),
    always(
        "two ETags",
        1,
        |f, h| Answer { headers: [f.honest(h).headers, vec![("etag", "\"two\"".into())]].concat(), ..f.honest(h) },
        Refused("changed"),
    ),
];

/// Opens and reads; what the server was asked, too.
fn meet(lie: &'static Lie, options: HttpOptions) -> (Result<(), RangeError>, Vec<Heard>) {
    let (honest, read) = (file(), file());
    let server = server(move |heard| match (lie.from..lie.to).contains(&heard.nth) {
        true => (lie.answer)(&honest, heard),
        // A lie meets a connection of its own: what breaks on a kept one is sent again without being counted.
        false if heard.nth < lie.from => Answer { then: Then::Close, ..honest.honest(heard) },
        false => honest.honest(heard),
    });
    let outcome = wait(async {
        let source = open(&server, options).await?;
        read_right(&source, &read).await
    });
    (outcome, server.heard())
}

#[test]
fn every_lie_is_an_error_that_names_it_or_is_asked_again() {
    let attempts = options().attempts as usize;
    for lie in LIES {
        // One request at a time, so that what a server hears can be counted.
        let (outcome, heard) = meet(lie, HttpOptions { parallel: 1, ..options() });
        let found = outcome.as_ref().map_err(RangeError::name).copied();
        let name = lie.name;
        match lie.want {
            Right | Repeated => assert_eq!(found, Ok(()), "{name}: {outcome:?}"),
            Refused(want) | GivenUp(want) => assert_eq!(found, Err(want), "{name}: {outcome:?}"),
        }
        // A whole read is 7 requests of 16 384 bytes, the others add 8; one opens.
        let right = 16;
        match lie.want {
            Refused(_) => assert_eq!(heard.len(), lie.from + 1, "{name}: a lie is not asked for twice"),
            GivenUp(_) => assert_eq!(heard.len(), lie.from + attempts, "{name}: attempts are counted"),
            Repeated => assert_eq!(heard.len(), right + lie.to - lie.from, "{name}: one more for each lie"),
            Right => assert!(heard.len() >= right, "{name}: {} requests", heard.len()),
        }
        if let Err(error) = outcome {
            let text = error.to_string();
            assert!(text.contains("/model.gguf"), "{name}: says where: {text}");
        }
    }
}

#[test]
fn eight_requests_at_once_make_no_difference() {
    for lie in LIES.iter().filter(|lie| lie.to == usize::MAX) {
        let (outcome, _) = meet(lie, options());
        match lie.want {
            Right | Repeated => assert!(outcome.is_ok(), "{}: {outcome:?}", lie.name),
            Refused(want) | GivenUp(want) => {
                assert_eq!(outcome.as_ref().map_err(RangeError::name).copied(), Err(want), "{}: {outcome:?}", lie.name);
            }
        }
    }
}

#[test]
fn a_stall_is_left_and_asked_again() {
    let stalls = |amid: bool| {
        let (honest, read) = (file(), file());
        let server = server(move |heard| match heard.nth {
            1 if amid => half(&honest, heard, Framing::Claimed, Then::Stall),
            // Claims a head that never ends: nothing is sent before the body's first byte is.
            1 => Answer {
                body: Vec::new(),
                framing: Framing::Claimed(16_384),
                then: Then::Stall,
                ..honest.honest(heard)
            },
            _ => honest.honest(heard),
        });
        let patient = HttpOptions { parallel: 1, attempts: 50, stall: Duration::from_millis(300), ..options() };
        let outcome = wait(async {
            let source = open(&server, patient).await?;
            read_right(&source, &read).await
        });
        (outcome, server.heard())
    };
    for amid in [false, true] {
        let (outcome, heard) = stalls(amid);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(heard.len() > 16, "the stalled request was sent again");
    }
    let honest = file();
    let server = server(move |heard| half(&honest, heard, |_| Framing::Claimed(1), Then::Stall));
    let hasty = HttpOptions { attempts: 2, stall: Duration::from_millis(50), ..options() };
    let error = wait(open(&server, hasty)).expect_err("it never answers");
    assert_eq!(error.name(), "timeout");
    assert!(error.to_string().contains("given up after 2 attempts"), "{error}");
}

#[test]
fn an_attempt_has_an_end_however_a_server_dribbles() {
    let honest = file();
    let server = server(move |heard| match heard.nth {
        0 => honest.honest(heard),
        _ => half(&honest, heard, Framing::Claimed, Then::Stall),
    });
    let options = HttpOptions { attempts: 1, whole: Duration::from_millis(300), ..options() };
    let error = wait(async {
        let source = open(&server, options).await?;
        read_right(&source, &file()).await
    });
    let error = error.expect_err("it never ends");
    assert!(error.to_string().contains("for the whole range"), "{error}");
}

#[test]
fn what_a_server_lacks_can_be_forgiven_by_name() {
    let serve = |etag: Option<&'static str>, date: Option<&'static str>, broken: bool| {
        let honest = file();
        server(move |heard| {
            let answer = match heard.nth == 1 && broken {
                true => half(&honest, heard, Framing::Claimed, Then::Close),
                false => honest.honest(heard),
            };
            let answer = answer.without("etag");
            let answer = etag.into_iter().fold(answer, |answer, etag| answer.with("etag", etag));
            date.into_iter().fold(answer, |answer, date| answer.with("last-modified", date))
        })
    };
    let read = |server: &gptoss::verify::liar::Liar, require| {
        wait(async {
            let source = open(server, HttpOptions { require, parallel: 1, ..options() }).await?;
            read_right(&source, &file()).await
        })
        .map_err(|error| error.name())
    };
    let date = Some("Sat, 28 Nov 2026 03:00:00 GMT");
    assert_eq!(read(&serve(Some("W/\"one\""), date, false), Require::LastModified), Ok(()));
    assert_eq!(read(&serve(None, date, false), Require::StrongEtag), Err("unpinned"));
    assert_eq!(read(&serve(None, None, false), Require::LastModified), Err("unpinned"));
    assert_eq!(read(&serve(None, None, false), Require::Length), Ok(()));
    // Without a strong validator a broken body is not gone on with: the rest may be another version's.
    let server = serve(None, date, true);
    assert_eq!(read(&server, Require::LastModified), Ok(()));
    let heard = server.heard();
    assert_eq!(heard[1].headers["range"], heard[2].headers["range"], "from its start");
    assert!(heard.iter().all(|heard| !heard.headers.contains_key("if-range")));
}
