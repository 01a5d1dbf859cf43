//! What a run cost: wall time and peak memory, and a meter that proves itself alive before a bound is believed.

use std::time::Instant;

use serde::Serialize;

/// Time and memory of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resources {
    /// Wall-clock seconds.
    pub wall_seconds: f64,
    /// Seconds of CPU time of the whole process; `null` where the system does not say.
    pub cpu_seconds: Option<f64>,
    /// Largest resident size, mapped file pages included; `null` where the system does not say.
    pub peak_resident_bytes: Option<u64>,
}

impl Resources {
    /// The cost since `start`.
    pub fn since(start: Instant) -> Resources {
        let wall_seconds = start.elapsed().as_secs_f64();
        Resources { wall_seconds, cpu_seconds: cpu_seconds(), peak_resident_bytes: status_bytes("VmHWM") }
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

/// User and system time of `/proc/self/stat`, whose ticks are hundredths of a second (`USER_HZ`).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name comes second, in parentheses, and may hold anything; user time is field 14.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

/// A field of `/proc/self/status`, in bytes.
fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
