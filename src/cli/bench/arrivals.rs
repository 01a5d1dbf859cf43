//! When tokens of several streams arrived, and what that says: a common rate, and the gaps between tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// A token of a stream, and when it came since some moment that all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Which stream.
    pub(super) stream: usize,
    /// When.
    pub(super) at: Duration,
}

/// Seconds between a token and the next of the same stream, over all streams.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Gaps {
    /// The middle one; of an even number, the larger of the two.
    pub(super) median: f64,
    /// No more than a twentieth is larger.
    pub(super) p95: f64,
    /// The largest.
    pub(super) max: f64,
}

impl Gaps {
    /// Of all streams together; `None` where no stream has two tokens.
    pub(super) fn of(arrivals: &[Arrival]) -> Option<Self> {
        let mut last: BTreeMap<usize, Duration> = BTreeMap::new();
        let gap = |a: &Arrival| last.insert(a.stream, a.at).map(|before| (a.at - before).as_secs_f64());
        let mut gaps: Vec<f64> = arrivals.iter().filter_map(gap).collect();
        gaps.sort_by(f64::total_cmp);
        let rank = |share: f64| (share * gaps.len() as f64).ceil() as usize;
        let max = *gaps.last()?;
        Some(Self { median: gaps[gaps.len() / 2], p95: gaps[rank(0.95).clamp(1, gaps.len()) - 1], max })
    }

    /// How many times as long as `other`, each by its own measure.
    pub(super) fn over(self, other: Self) -> Self {
        Self { median: self.median / other.median, p95: self.p95 / other.p95, max: self.max / other.max }
    }
}

/// Tokens of all streams a second: each from its first arrival, which was made before, to its last; `None` where no stream has
/// two.
pub(super) fn rate(arrivals: &[Arrival]) -> Option<f64> {
    let mut streams: BTreeMap<usize, (Duration, Duration, u32)> = BTreeMap::new();
    for &Arrival { stream, at } in arrivals {
        let (_, last, made) = streams.entry(stream).or_insert((at, at, 0));
        (*last, *made) = (at, *made + 1);
    }
    let timed = streams.into_values().filter(|(first, last, _)| last > first);
    let rates: Vec<f64> = timed.map(|(first, last, made)| f64::from(made - 1) / (last - first).as_secs_f64()).collect();
    (!rates.is_empty()).then(|| rates.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(of: &[(usize, u64)]) -> Vec<Arrival> {
        of.iter().map(|&(stream, ms)| Arrival { stream, at: Duration::from_millis(ms) }).collect()
    }

    #[test]
    fn gaps_are_those_of_a_stream_not_of_neighbours() {
        // Two streams in step: 100 ms apart, though arrivals are a millisecond apart.
        let both = arrivals(&[(0, 0), (1, 1), (0, 100), (1, 101), (0, 200), (1, 201)]);
        let gaps = Gaps::of(&both).expect("gaps");
        assert_eq!(gaps, Gaps { median: 0.1, p95: 0.1, max: 0.1 });
    }

    #[test]
    fn quantiles_are_of_all_streams() {
        // Twenty gaps of one stream: 1 to 20 ms.
        let mut at = 0;
        let mut all = arrivals(&[(3, 0)]);
        for gap in 1..=20 {
            at += gap;
            all.push(Arrival { stream: 3, at: Duration::from_millis(at) });
        }
        let gaps = Gaps::of(&all).expect("gaps");
        assert_eq!(gaps, Gaps { median: 0.011, p95: 0.019, max: 0.020 });
        let half = Gaps { median: 0.0055, p95: 0.0095, max: 0.005 };
        assert_eq!(gaps.over(half), Gaps { median: 2.0, p95: 2.0, max: 4.0 });
    }

    #[test]
    fn one_token_of_each_has_no_gap() {
        assert_eq!(Gaps::of(&arrivals(&[(0, 1), (1, 2)])), None);
        assert_eq!(Gaps::of(&[]), None);
    }

    #[test]
    fn a_rate_counts_what_was_made_in_its_time() {
        // Three streams, four tokens each, 20 ms apart within a step: nine tokens in 0.3 s, not eleven.
        let steps = (0..4).flat_map(|step| (0..3).map(move |stream| (stream, step * 100 + 20 * stream as u64)));
        let rate = rate(&arrivals(&steps.collect::<Vec<_>>())).expect("time passed");
        assert!((rate - 30.0).abs() < 1e-9, "{rate}");
        assert_eq!(super::rate(&arrivals(&[(0, 5), (1, 5)])), None);
        assert_eq!(super::rate(&[]), None);
    }
}
