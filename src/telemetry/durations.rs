//! How long things take, as counts by upper bounds: a histogram without locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the counts, seconds; a last count takes what is longer.
pub const BOUNDS_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Counts of durations.
#[derive(Debug, Default)]
pub struct Durations {
    counts: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    micros: AtomicU64,
}

/// What was counted until a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// For each bound, and for infinity, how many were within it and above the one before.
    pub counts: [u64; BOUNDS_SECONDS.len() + 1],
    /// Sum of all, seconds.
    pub seconds: f64,
}

impl Durations {
    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let index = BOUNDS_SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS_SECONDS.len());
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn counted(&self) -> Counted {
        let counts = std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed));
        Counted { counts, seconds: self.micros.load(Ordering::Relaxed) as f64 * 1e-6 }
    }
}

impl Counted {
    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean, if there was any.
    pub fn mean_seconds(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.seconds / self.count() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_at_its_bound_or_below() {
        let durations = Durations::default();
        assert_eq!(durations.counted().mean_seconds(), None);
        for seconds in [0.005, 0.006, 300.0, 301.0] {
            durations.observe(Duration::from_secs_f64(seconds));
        }
        let counted = durations.counted();
        assert_eq!((counted.counts[0], counted.counts[1], counted.counts[13], counted.counts[14]), (1, 1, 1, 1));
        assert_eq!((counted.count(), counted.mean_seconds()), (4, Some(601.011 / 4.0)));
    }
}
