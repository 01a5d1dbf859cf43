//! The cache on disk: blocks of one version, whole, within bounds; interrupted downloads go on.

use std::path::{Path, PathBuf};

use gptoss::range::cache::BLOCK_BYTES;
use gptoss::range::{Cache, Cached, RangeError, RangeSource};
use gptoss::verify::liar::{Answer, Content, Liar};

use super::{content, open, options, server, wait};

/// Two and a half blocks.
const TOTAL: u64 = BLOCK_BYTES * 5 / 2;

fn big(etag: &str) -> Content {
    content(TOTAL as usize, etag)
}

fn honest(etag: &'static str) -> Liar {
    let file = big(etag);
    server(move |heard| file.honest(heard))
}

fn cache(directory: &Path) -> Cache {
    Cache::open(directory, 1 << 30).expect("the directory can be written")
}

/// Reads through a cache; how many requests that took, the opening one not counted.
fn read(server: &Liar, cache: &Cache, range: std::ops::Range<u64>) -> Result<usize, RangeError> {
    let before = server.heard().len();
    let options = gptoss::range::HttpOptions { request_bytes: BLOCK_BYTES, attempts: 1, parallel: 1, ..options() };
    wait(async {
        let source = open(server, options).await?;
        let found = Cached::new(source, cache).read(range.clone()).await?;
        let bytes = big("").bytes;
        assert!(found == bytes[range.start as usize..range.end as usize], "other bytes than the file's at {range:?}");
        Ok(server.heard().len() - before - 1)
    })
}

fn blocks(directory: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let mut found: Vec<PathBuf> = list(directory).iter().flat_map(|folder| list(folder)).collect();
    found.sort();
    found
}

#[test]
fn what_was_read_is_not_asked_for_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, cache) = (honest("\"one\""), cache(directory.path()));
    assert_eq!(read(&server, &cache, 10..20).ok(), Some(1), "one block");
    assert_eq!(read(&server, &cache, 0..TOTAL).ok(), Some(2), "the other two");
    assert_eq!(read(&server, &cache, BLOCK_BYTES - 7..BLOCK_BYTES * 2 + 7).ok(), Some(0));
    let again = Cache::open(directory.path(), 1 << 30).expect("it opens again");
    assert_eq!(again.held_bytes(), TOTAL + 3 * 32);
    assert_eq!(read(&server, &again, 0..TOTAL).ok(), Some(0));
    // Another version, another address: other blocks.
    assert_eq!(read(&honest("\"two\""), &again, 0..TOTAL).ok(), Some(3));
}

#[test]
fn an_interrupted_download_goes_on_with_what_is_missing() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path());
    let file = big("\"one\"");
    // After two blocks the server is gone, and later it is back.
    let server = server(move |heard| match heard.nth {
        3..=4 => Answer::status(503),
        _ => file.honest(heard),
    });
    assert_eq!(read(&server, &cache, 0..TOTAL).map_err(|error| error.name()), Err("busy"));
    assert_eq!(blocks(directory.path()).len(), 2);
    assert_eq!(server.heard().len(), 4);
    // Opening is the fifth request, which is refused too.
    assert_eq!(read(&server, &cache, 0..TOTAL).map_err(|error| error.name()), Err("busy"));
    assert_eq!(read(&server, &cache, 0..TOTAL).ok(), Some(1));
    let last = server.heard().pop().and_then(|heard| heard.range());
    assert_eq!(last, Some(BLOCK_BYTES as usize * 2..TOTAL as usize));
}

#[test]
fn a_damaged_block_is_read_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, cache) = (honest("\"one\""), cache(directory.path()));
    let damages: [fn(&mut Vec<u8>); 5] = [
        |block| block[17] ^= 1,
        |block| *block.last_mut().expect("a digest") ^= 1,
        |block| block.truncate(100),
        |block| block.clear(),
        |block| block.push(0),
    ];
    assert_eq!(read(&server, &cache, 0..TOTAL).ok(), Some(3));
    for damage in damages {
        let path = &blocks(directory.path())[1];
        let mut bytes = std::fs::read(path).expect("a block");
        damage(&mut bytes);
        std::fs::write(path, bytes).expect("it can be damaged");
        assert_eq!(read(&server, &cache, 0..TOTAL).ok(), Some(1));
        assert_eq!(read(&server, &cache, 0..TOTAL).ok(), Some(0));
    }
}

#[test]
fn the_oldest_blocks_make_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = honest("\"one\"");
    let limit = BLOCK_BYTES * 9 / 4;
    let cache = Cache::open(directory.path(), limit).expect("it opens");
    assert_eq!(read(&server, &cache, 0..BLOCK_BYTES * 2).ok(), Some(2));
    // Which was used last is told by the file's time, whose steps may be coarse: set it.
    let first = blocks(directory.path()).remove(0);
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
    std::fs::File::open(&first).and_then(|file| file.set_modified(later)).expect("its time can be set");
    assert_eq!(read(&server, &cache, BLOCK_BYTES * 2..TOTAL).ok(), Some(1), "which makes room");
    assert!(cache.held_bytes() <= limit);
    assert!(blocks(directory.path()).contains(&first), "used last");
    assert_eq!(read(&server, &cache, 0..10).ok(), Some(0));
    assert_eq!(read(&server, &cache, BLOCK_BYTES..BLOCK_BYTES + 1).ok(), Some(1), "it had to go");
}

#[test]
fn what_has_no_version_is_not_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = cache(directory.path());
    let file = big("");
    let server = server(move |heard| file.honest(heard).without("etag"));
    let options = gptoss::range::HttpOptions { require: gptoss::range::Require::Length, ..options() };
    wait(async {
        let source = Cached::new(open(&server, options).await.expect("it opens"), &cache);
        source.read(0..10).await.expect("it reads");
    });
    assert_eq!(blocks(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = Cache::open(file.path(), 1).expect_err("it is a file");
    assert_eq!(error.name(), "cache");
}
