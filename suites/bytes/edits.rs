//! Readers never panic, hang, or take more heap than the input's size justifies, on any bytes; every refusal names the
//! file; and no edit of a file goes unseen.
//!
//! | module        | what readers meet                                                                    |
//! |---------------|--------------------------------------------------------------------------------------|
//! | `containers`  | SafeTensors files and model.bins, as bytes                                           |
//! | `checkpoints` | sound shards under a config that they do not fit                                     |
//! | `texts`       | `config.json`, recipes, manifests                                                    |
//! | `directories` | checkpoints on disk: many files, an index, each in its turn damaged                  |
//! | `gguf`        | GGUFs, as bytes; prefixes of them; a million edits of one                            |
//! | `gguf_models` | a quarter of a million edits of a gpt-oss GGUF, opened as a model                    |
//! | `million`     | a million edits of two small files, against their manifests                          |
//!
//! No clock is asked whether a reader hangs: one that follows what a header claims beyond what the file holds takes
//! heap for it, and the bound on heap says no, on every machine alike.  The one walk that takes none, over the tensors
//! that a config calls for, is bounded by `config::limits`.

mod checkpoints;
mod containers;
mod directories;
mod gguf;
mod gguf_models;
pub(crate) mod headers;
mod heap;
mod json;
mod million;
mod texts;
mod tiny;

use std::fmt::Display;
use std::path::Path;

use gptoss::checkpoint::{TensorId, WeightSource};
use gptoss::telemetry::Silent;
use gptoss::verify::check::value_checks;
use gptoss::verify::sample::Sample;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The same cases in every run; `PROPTEST_RNG_SEED` asks for others.
pub(crate) fn deterministic(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    match config.rng_seed {
        RngSeed::Random => ProptestConfig { rng_seed: RngSeed::Fixed(1), ..config },
        RngSeed::Fixed(_) => config,
    }
}

/// Heap that a reader may take whatever it reads: paths, messages, the first step of each collection.
const HEAP_BYTES: u64 = 16 << 10;
/// Heap for each byte of a file: `"":["U8",[0],[0,0]],` is 20 bytes of header and a tensor to remember.
const HEAP_OF_A_FILE: u64 = 16;
/// Heap for each byte of a text that is read as any JSON: `{"":0},` is seven bytes and a map.
const HEAP_OF_JSON: u64 = 128;

/// Heap that opening `input_bytes` may take.
fn heap_bytes_max(input_bytes: usize, of_a_byte: u64) -> u64 {
    HEAP_BYTES + of_a_byte * input_bytes as u64
}

/// Reads; what was read, if it was accepted.  A refusal must name the file, and the heap stay in bounds.
fn read<T, E: Display>(path: &Path, heap_bytes_max: u64, reader: impl FnOnce() -> Result<T, E>) -> Option<T> {
    let (result, heap_bytes) = heap::peak_bytes_of(reader);
    assert!(heap_bytes <= heap_bytes_max, "{heap_bytes} bytes of heap, {heap_bytes_max} are justified");
    match result {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            let (message, path) = (error.to_string(), path.display().to_string());
            assert!(message.contains(&path), "`{message}` does not name {path}");
            None
        }
    }
}

/// Reads every value of what was opened: each tensor is judged, whatever it holds.
fn read_values(source: &dyn WeightSource) {
    let found = value_checks(source, &Sample::All, &Silent);
    assert_eq!(found.checks.len(), TensorId::all(source.config()).len());
}
