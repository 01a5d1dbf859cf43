//! What a run cost: wall time and peak memory, and a meter that proves itself alive before a bound is believed.

use std::time::Instant;

use serde::Serialize;

/// Time and memory of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resources {
    /// Wall-clock seconds.
    pub wall_seconds: f64,
    /// Largest resident size, mapped file pages included; `null` where the system does not say.
    pub peak_resident_bytes: Option<u64>,
}

impl Resources {
    /// The cost since `start`.
    pub fn since(start: Instant) -> Resources {
        let wall_seconds = start.elapsed().as_secs_f64();
        Resources { wall_seconds, peak_resident_bytes: status_bytes("VmHWM") }
    }
}

/// Resident bytes that are not file pages: heap and stacks.
pub fn anonymous_bytes() -> Option<u64> {
    status_bytes("RssAnon")
}

/// Resident bytes that no file backs: heap, stacks, and what is shared with a driver.
pub fn private_bytes() -> Option<u64> {
    Some(anonymous_bytes()? + status_bytes("RssShmem")?)
}

/// Resident bytes, pages of mapped files included.
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS")
}

/// A field of `/proc/self/status`, in bytes.
fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
