//! The heap that an export takes, with a meter that first proves itself alive.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::checkpoint::{Checkpoint, Layout};
use crate::model_bin::{TokenizerSection, export};
use crate::telemetry::Silent;
use crate::verify::fixture::{self, Recipe};
use crate::verify::outcome::{Check, Level, Outcome};
use crate::verify::resources::anonymous_bytes;

/// Heap that an export may add, whatever the model: the vocabulary while its section is made, then a scratch buffer a
/// thread and the plan.
const EXPORT_HEAP_BYTES_MAX: u64 = 128 << 20;
/// What the meter must see come and go.
const PROBE_BYTES: usize = 48 << 20;
/// How much of the probe may stay unseen: pages that were resident before.
const PROBE_SLACK_BYTES: u64 = 4 << 20;

const LEVEL: Level = Level::Memory;

/// The meter, then an export of T2 (166 MB) under it.
pub(in super::super) fn export_cases() -> Vec<Check> {
    let name = "memory/export/T2";
    let Some(before) = anonymous_bytes() else {
        let reason = "this system does not report a process's anonymous memory";
        return vec![Check::new(name, LEVEL, Outcome::Skip, reason)];
    };
    vec![meter_check(before), bound_check(name)]
}

fn meter_check(before: u64) -> Check {
    let name = "memory/export/meter";
    // Opaque to the optimiser, which may otherwise drop an allocation that nobody reads.
    let probe = std::hint::black_box(vec![1u8; PROBE_BYTES]);
    let during = anonymous_bytes().unwrap_or(0);
    drop(std::hint::black_box(probe));
    let after = anonymous_bytes().unwrap_or(u64::MAX);
    let (rose, fell) = (during.saturating_sub(before), during.saturating_sub(after));
    let want = PROBE_BYTES as u64 - PROBE_SLACK_BYTES;
    let detail = format!("a probe of {PROBE_BYTES} bytes: the meter rose by {rose} and fell by {fell}");
    match rose >= want && fell >= want {
        true => Check::pass(name, LEVEL, detail),
        false => Check::fail(name, LEVEL, detail),
    }
}

fn bound_check(name: &str) -> Check {
    match peak_of_export() {
        Err(error) => Check::fail(name, LEVEL, error),
        Ok((added, bytes)) => {
            let detail = format!("{added} bytes of heap for a file of {bytes}; bound {EXPORT_HEAP_BYTES_MAX}");
            match added <= EXPORT_HEAP_BYTES_MAX {
                true => Check::pass(name, LEVEL, detail),
                false => Check::fail(name, LEVEL, detail),
            }
        }
    }
}

/// Heap that making the vocabulary and exporting added at the peak, and the file's size.
///
/// Heap that the allocator kept from earlier work would hide an increase: the group runs first, or in its own process.
fn peak_of_export() -> Result<(u64, u64), String> {
    let before = anonymous_bytes().unwrap_or(0);
    let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
    let checkpoint = directory.path().join("T2");
    fixture::write(&Recipe::built_in("T2"), Layout::Original, 1, &checkpoint, &Silent).map_err(|e| e.to_string())?;
    let source = Checkpoint::open(&checkpoint).map_err(|e| e.to_string())?;
    let (peak, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let exported = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_bytes().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        let exported = TokenizerSection::o200k_harmony().and_then(|tokenizer| {
            export(&source, &tokenizer, &directory.path().join("model.bin"), &Silent).map_err(|e| e.to_string())
        });
        stop.store(true, Ordering::Relaxed);
        exported
    });
    let bytes = exported?.bytes;
    Ok((peak.into_inner().saturating_sub(before), bytes))
}
