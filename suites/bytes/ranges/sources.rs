//! Files, maps and servers alike; prefixes that grow; digests that must hold.

use std::sync::Arc;

use gptoss::checkpoint::Layout;
use gptoss::manifest::{FileDigests, PartDigest, SectionDigest};
use gptoss::range::{FileSource, MapSource, Prefix, RangeError, RangeSource, Step, Witnessed, pieces};
use gptoss::verify::compare::digest::hex_sha256;

use super::{content, file, open, options, read_right, server, wait};

#[test]
fn a_file_a_map_and_a_server_give_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, file().bytes).expect("it is written");
    let honest = file();
    let server = server(move |heard| honest.honest(heard));
    wait(async {
        let sources: [Box<dyn RangeSource>; 3] = [
            Box::new(FileSource::open(&path).expect("it opens")),
            Box::new(MapSource::open(&path).expect("it maps")),
            Box::new(open(&server, options()).await.expect("it answers")),
        ];
        for source in &sources {
            read_right(source.as_ref(), &file()).await.expect("it is honest");
            for range in [0..100_001, 100_001..100_002, u64::MAX - 1..u64::MAX] {
                let error = source.read(range.clone()).await.expect_err("it is too short");
                assert_eq!(error.name(), "out-of-range", "{}", source.name());
            }
            let digest = pieces::sha256(source.as_ref(), 5..99_999, |_| {}).await.expect("it reads");
            assert_eq!(hex(&digest), hex_sha256(&file().bytes[5..99_999]));
        }
    });
    assert_eq!(FileSource::open(directory.path()).expect_err("a directory").name(), "io");
    assert_eq!(MapSource::open(&directory.path().join("none")).expect_err("absent").name(), "io");
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_header_of_13_mb_is_read_once_in_a_few_steps() {
    let header = 13_008_832;
    let whole = content(20_000_000, "\"one\"");
    let (bytes, honest) = (whole.bytes.clone(), whole.clone());
    let server = server(move |heard| honest.honest(heard));
    let options = gptoss::range::HttpOptions { request_bytes: 1 << 40, ..options() };
    wait(async {
        let source = open(&server, options).await.expect("it opens");
        let mut prefix = Prefix::new(&source, 64 << 20);
        // A parser that learns little by little how much it needs.
        let parsed: Result<usize, RangeError> = prefix
            .parse(|bytes| {
                Ok(if bytes.len() < header { Step::More(bytes.len() as u64 + 1) } else { Step::Done(header) })
            })
            .await;
        assert_eq!(parsed.ok(), Some(header));
        assert!(prefix.bytes() == &bytes[..prefix.bytes().len()]);
    });
    let ranges: Vec<_> = server.heard()[1..].iter().filter_map(|heard| heard.range()).collect();
    assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "nothing twice: {ranges:?}");
    assert_eq!((ranges[0].start, ranges.len()), (0, 5), "{ranges:?}");
    assert!(ranges[4].end <= 2 * header);
}

#[test]
fn a_prefix_has_an_end_and_a_limit() {
    let bytes = content(1000, "").bytes;
    let source = MapSource::new("x".into(), Arc::new(bytes.into()));
    let grow = |max_bytes, want_bytes| {
        wait(async {
            let mut prefix = Prefix::new(&source, max_bytes);
            prefix.grow(want_bytes).await.map(|()| prefix.bytes().len()).map_err(|error| error.name())
        })
    };
    assert_eq!(grow(5000, 1), Ok(1000), "a short file is read whole");
    assert_eq!(grow(100, 1), Ok(100));
    assert_eq!(grow(5000, 1001), Err("prefix-ends"));
    assert_eq!(grow(100, 101), Err("prefix-too-long"));
    let empty = MapSource::new("x".into(), Arc::new(Vec::new().into()));
    let more: Result<(), RangeError> = wait(Prefix::new(&empty, 100).parse(|_| Ok(Step::More(0))));
    assert_eq!(more.map_err(|error| error.name()), Err("prefix-ends"), "a parser that wants nothing still ends");
}

/// Digests of a file: 0..10, 10..30 in two parts, nothing for 30..40, 40..100.
fn digests(bytes: &[u8]) -> FileDigests {
    let part = |range: std::ops::Range<usize>| PartDigest {
        name: "part".into(),
        offset: range.start as u64,
        bytes: range.len() as u64,
        sha256: hex_sha256(&bytes[range]),
    };
    let section = |parts: Vec<PartDigest>, offset, count| SectionDigest {
        name: "section".into(),
        offset,
        bytes: count,
        sha256: parts[0].sha256.clone(),
        parts: if parts.len() > 1 { parts } else { Vec::new() },
    };
    let sections = vec![
        section(vec![part(40..100)], 40, 60),
        section(vec![part(0..10)], 0, 10),
        section(vec![part(10..15), part(15..30)], 10, 20),
    ];
    FileDigests { file: "x".into(), bytes: 100, sections }
}

#[test]
fn every_byte_is_held_against_its_digest() {
    let bytes = content(100, "").bytes;
    let read = |damaged: Option<usize>, range: std::ops::Range<u64>| {
        let mut found = bytes.clone();
        damaged.into_iter().for_each(|at| found[at] ^= 1);
        let source = Witnessed::new(MapSource::new("x".into(), Arc::new(found.into())), &digests(&bytes));
        wait(source.read(range)).map_err(|error| error.name())
    };
    for range in [0..30, 3..4, 9..11, 12..29, 40..100, 99..100, 5..5] {
        let want = bytes[range.start as usize..range.end as usize].to_vec();
        assert_eq!(read(None, range.clone()), Ok(want.into()), "{range:?}");
    }
    assert_eq!(read(Some(2), 3..4), Err("digest"), "the digest speaks of bytes that were not asked for");
    assert_eq!(read(Some(2), 15..30).map(|found| found.len()), Ok(15), "another range's byte");
    for range in [29..31, 30..40, 35..50, 0..100] {
        assert_eq!(read(None, range.clone()), Err("no-digest"), "{range:?}");
    }
    assert_eq!(read(None, 99..101), Err("out-of-range"));
    // Ranges that overlap, or that no file has: an error or the right bytes.
    let mut wild = digests(&bytes);
    wild.sections[0].offset = u64::MAX - 3;
    wild.sections[1].bytes = 25;
    let source = Witnessed::new(MapSource::new("x".into(), Arc::new(bytes.clone().into())), &wild);
    for start in 0..100 {
        for end in start..=100 {
            if let Ok(found) = wait_now(source.read(start..end)) {
                assert_eq!(found, bytes[start as usize..end as usize]);
            }
        }
    }
}

/// A file that is long, and never read.
struct Long;

impl RangeSource for Long {
    fn name(&self) -> &str {
        "long"
    }

    fn total_bytes(&self) -> u64 {
        1 << 40
    }

    fn read(&self, _range: std::ops::Range<u64>) -> gptoss::range::Reading<'_> {
        panic!("a range with one digest is too wide to be read for it");
    }
}

#[test]
fn a_digest_of_a_whole_disk_is_no_reason_to_read_it() {
    let mut wide = digests(&[0; 100]);
    wide.sections[1].bytes = 1 << 40;
    let error = wait_now(Witnessed::new(Long, &wide).read(0..10)).expect_err("it is too wide");
    assert_eq!(error.name(), "digest-too-wide", "{error}");
}

/// A read that never waits.
fn wait_now(reading: gptoss::range::Reading) -> Result<bytes::Bytes, RangeError> {
    use std::task::{Context, Poll, Waker};
    let mut reading = reading;
    match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("bytes in memory are there at once"),
    }
}

#[test]
fn a_manifest_gives_the_ranges_of_a_checkpoint() {
    use gptoss::open::AnyCheckpoint;
    use gptoss::verify::fixture::{Recipe, in_memory};
    use gptoss::verify::manifest::Manifest;
    let checkpoint = in_memory(&Recipe::built_in("small-vocab"), Layout::Hf, 1).expect("a recipe");
    let bytes = checkpoint.shards()[0].file().to_vec();
    let manifest = Manifest::of(&AnyCheckpoint::SafeTensors(checkpoint), &gptoss::telemetry::Silent);
    let source = MapSource::new("x".into(), Arc::new(bytes.clone().into()));
    let source = Witnessed::new(source, &manifest.files[0]);
    let found = wait(source.read(0..bytes.len() as u64)).expect("every byte has a digest");
    assert!(found == bytes);
}
