//! What host and device hold, at a moment and at the most, and proof that the meters see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::device::Compute;
use crate::verify::outcome::{Check, Level};
use crate::verify::resources::{private_bytes, resident_bytes};

/// What the meters must see come and go.
const PROBE_BYTES: usize = 64 << 20;
/// How much of the probe may stay unseen, or be seen besides it: drivers keep staging memory for a while.
const PROBE_SLACK_BYTES: u64 = 12 << 20;
/// Between two looks.
const INTERVAL: Duration = Duration::from_micros(1500);

/// Bytes held, or held at the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Of the process in memory, pages of mapped files included.
    pub resident: u64,
    /// Of those, what no file backs: heap, stacks, and what is shared with a driver.
    pub private: u64,
    /// On the device, by tensors.
    pub in_use: u64,
    /// On the device, by pools: tensors, and what they have left room for.
    pub reserved: u64,
}

impl Reading {
    /// The present state; zero where the system does not say.
    pub fn now(compute: &Compute) -> Self {
        let (in_use, reserved) = compute.memory_bytes();
        let (resident, private) = (resident_bytes().unwrap_or(0), private_bytes().unwrap_or(0));
        Self { resident, private, in_use, reserved }
    }

    /// The higher of each.
    pub fn highest(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            private: self.private.max(other.private),
            in_use: self.in_use.max(other.in_use),
            reserved: self.reserved.max(other.reserved),
        }
    }
}

/// What a run held before it and at the most.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    /// Before.
    pub before: Reading,
    /// At the most.
    pub peak: Reading,
}

/// Runs `work` under the meters.
pub fn watch<T>(compute: &Compute, work: impl FnOnce() -> T) -> (Watched, T) {
    let stop = AtomicBool::new(false);
    let filler = fill_heap();
    let before = Reading::now(compute);
    let (peak, result) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak = Reading::default();
            while !stop.load(Ordering::Relaxed) {
                peak = peak.highest(Reading::now(compute));
                std::thread::sleep(INTERVAL);
            }
            peak
        });
        // On this thread: each thread has pools of its own.
        let result = work();
        stop.store(true, Ordering::Relaxed);
        (sampler.join().expect("the sampler only reads"), result)
    });
    let peak = peak.highest(before).highest(Reading::now(compute));
    drop(std::hint::black_box(filler));
    (Watched { before, peak }, result)
}

/// Takes up the heap that earlier work left resident and free, where an increase would not be seen.
fn fill_heap() -> Vec<Vec<u8>> {
    const PIECE_BYTES: usize = 64 << 10;
    const PIECES_MAX: usize = 1 << 14;
    /// So many pieces in a row for which the process grew.
    const GROWN: usize = 32;
    let mut filler: Vec<Vec<u8>> = Vec::with_capacity(PIECES_MAX);
    let mut grown = 0;
    let mut last = private_bytes().unwrap_or(0);
    while grown < GROWN && filler.len() < PIECES_MAX {
        filler.push(vec![1; PIECE_BYTES]);
        let now = private_bytes().unwrap_or(0);
        grown = if now > last { grown + 1 } else { 0 };
        last = now;
    }
    filler
}

/// Where the adapter's memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the process's own: a software adapter's.  The host meter sees it.
    Host,
    /// Elsewhere.
    Device,
}

impl Place {
    /// Host and device together, nothing twice.
    pub fn total(self, reading: Reading) -> u64 {
        match self {
            // Pages that were taken and never written are not in memory, but the next write puts them there.
            Place::Host => reading.resident.max(reading.reserved),
            Place::Device => reading.resident + reading.reserved,
        }
    }

    /// The process's private memory without the device's.
    pub fn host(self, reading: Reading) -> u64 {
        match self {
            Place::Host => reading.private.saturating_sub(reading.reserved),
            Place::Device => reading.private,
        }
    }
}

/// What a probe on each side did to the meters.
#[derive(Debug, Clone, Copy)]
pub struct Probed {
    /// A device probe: what rose, then what fell again.
    pub device: [Reading; 2],
    /// A host probe, likewise.
    pub host: [Reading; 2],
}

/// The rise from `from` to `to`.
fn rise(from: Reading, to: Reading) -> Reading {
    Reading {
        resident: to.resident.saturating_sub(from.resident),
        private: to.private.saturating_sub(from.private),
        in_use: to.in_use.saturating_sub(from.in_use),
        reserved: to.reserved.saturating_sub(from.reserved),
    }
}

/// Puts a known number of bytes on the device, then on the heap, and takes them away again.
pub fn probe(compute: &Compute) -> Probed {
    // The first write of a process also starts the driver's threads and compiler.
    probe_device(compute);
    let device = probe_device(compute);
    let before = Reading::now(compute);
    // Opaque to the optimiser, which may otherwise drop an allocation that nobody reads.
    let heap = std::hint::black_box(vec![1u8; PROBE_BYTES]);
    let during = Reading::now(compute);
    drop(std::hint::black_box(heap));
    let host = [rise(before, during), rise(Reading::now(compute), during)];
    Probed { device, host }
}

fn probe_device(compute: &Compute) -> [Reading; 2] {
    const PIECE_BYTES: usize = 4 << 20;
    let piece = vec![1u8; PIECE_BYTES];
    compute.release_unused();
    let before = Reading::now(compute);
    let tensor = compute.floats([PROBE_BYTES / 4]);
    for at in (0..PROBE_BYTES).step_by(PIECE_BYTES) {
        compute.write(&tensor, at, &piece);
        compute.wait();
    }
    let during = Reading::now(compute);
    drop(tensor);
    compute.release_unused();
    [rise(before, during), rise(Reading::now(compute), during)]
}

impl Probed {
    /// Where the adapter's memory is, if the meters saw both probes come and go.
    pub fn place(&self) -> Result<Place, String> {
        let probe = PROBE_BYTES as u64;
        let sees = |bytes: u64| bytes.abs_diff(probe) <= PROBE_SLACK_BYTES;
        let all = |seen: &dyn Fn(&Reading) -> bool, steps: &[Reading; 2]| steps.iter().all(seen);
        let on_device = all(&|r| r.in_use == probe && r.reserved == probe, &self.device);
        let on_host = all(&|r| sees(r.private) && sees(r.resident) && r.in_use + r.reserved == 0, &self.host);
        if !on_device || !on_host {
            return Err(format!("a probe of {PROBE_BYTES} bytes on each side was not seen: {self:?}"));
        }
        if all(&|r| sees(r.private), &self.device) {
            return Ok(Place::Host);
        }
        match all(&|r| r.private <= PROBE_SLACK_BYTES, &self.device) {
            true => Ok(Place::Device),
            false => Err(format!("the host meter sees a part of the device's memory: {self:?}")),
        }
    }

    /// As a check.
    pub fn check(&self, name: &str) -> Check {
        let [rose, fell] = self.device;
        let host = self.host[0].private;
        match self.place() {
            Err(reason) => Check::fail(name, Level::Memory, reason),
            Ok(place) => Check::pass(
                name,
                Level::Memory,
                format!(
                    "probes of {PROBE_BYTES} bytes: the device meter rose by {} and fell by {}, the host meter rose by {host}; \
                     device memory is {}",
                    rose.reserved,
                    fell.reserved,
                    match place {
                        Place::Host => format!("the process's own (it rose by {} with the device's)", rose.private),
                        Place::Device => "apart from the process's".into(),
                    }
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u64 = PROBE_BYTES as u64;

    fn probed(device: Reading, host: Reading) -> Probed {
        Probed { device: [device; 2], host: [host; 2] }
    }

    #[test]
    fn a_dead_meter_is_told() {
        let (seen, host) = (
            Reading { in_use: FULL, reserved: FULL, ..Reading::default() },
            Reading { private: FULL, resident: FULL, ..Reading::default() },
        );
        assert_eq!(probed(seen, host).place(), Ok(Place::Device));
        assert_eq!(probed(Reading { private: FULL, resident: FULL, ..seen }, host).place(), Ok(Place::Host));
        assert!(probed(Reading::default(), host).place().is_err(), "the device meter");
        assert!(probed(seen, Reading::default()).place().is_err(), "the host meter");
        assert!(probed(Reading { private: FULL / 2, ..seen }, host).place().is_err(), "half of it");
        let stays = Probed { device: [seen, Reading::default()], ..probed(seen, host) };
        assert!(stays.place().is_err(), "what does not fall");
    }
}
