//! Ranges of files, maps and HTTP servers, honest ones and such as lie: the bytes of the range, or an error that says why.

mod cache;
mod lies;
mod redirects;
mod requests;
mod serve_files;
mod sources;
mod tls;

use std::future::Future;
use std::time::Duration;

use gptoss::range::{HttpOptions, HttpSource, RangeError, RangeSource};
use gptoss::verify::liar::{Answer, Content, Heard, Liar};

/// Waits for a future on a runtime of its own.
fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// A file whose bytes say where they are, and of which no two blocks are alike.
fn content(bytes: usize, etag: &str) -> Content {
    let byte = |at: usize| ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8;
    Content { bytes: (0..bytes).map(byte).collect(), etag: etag.into() }
}

/// The file of most cases.
fn file() -> Content {
    content(100_000, "\"one\"")
}

/// Short requests, and no wait that a slow machine could mistake for a stall.
fn options() -> HttpOptions {
    HttpOptions {
        request_bytes: 16_384,
        backoff: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        connect: Duration::from_secs(60),
        stall: Duration::from_secs(60),
        ..HttpOptions::default()
    }
}

/// A server that answers as `script` says.
fn server(script: impl Fn(&Heard) -> Answer + Send + Sync + 'static) -> Liar {
    Liar::start(script).expect("loopback can be listened on")
}

async fn open(server: &Liar, options: HttpOptions) -> Result<HttpSource, RangeError> {
    HttpSource::open(&server.url("/model.gguf"), options).await
}

/// Reads some ranges, and demands the bytes of the file.
async fn read_right(source: &dyn RangeSource, file: &Content) -> Result<(), RangeError> {
    let total = file.bytes.len() as u64;
    assert_eq!(source.total_bytes(), total);
    for range in [0..total, 1..2, 16_383..16_385, total - 1..total, 777..50_001, 5..5] {
        let found = source.read(range.clone()).await?;
        assert_eq!(found, file.bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    Ok(())
}
