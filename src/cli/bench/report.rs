//! What `gptoss bench --streams` says.

use std::io::{self, Write};

use serde::Serialize;

use super::Spread;
use super::arrivals::{Arrival, Gaps};
use super::layers::{Part, Step};

/// What some streams did together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    streams: usize,
    /// Of all streams together.
    tokens_per_second: Spread,
    /// Over one stream of the same round.
    over_one: Spread,
    /// What `over_one` would be if only bytes cost time.
    floor_over_one: f64,
    bytes_per_step: u64,
    experts_per_step: usize,
    launches_per_step: u64,
    /// Of the round with the middle median.
    gap_seconds: Option<Gaps>,
    parts: Vec<Part>,
}

impl Row {
    /// `step` is a step of theirs, `one` that of one stream.
    pub(super) fn new(
        streams: usize,
        tokens_per_second: Spread,
        over_one: Spread,
        gaps: &[Gaps],
        step: &Step,
        one: &Step,
    ) -> Self {
        let mut gaps = gaps.to_vec();
        gaps.sort_by(|a, b| a.median.total_cmp(&b.median));
        Self {
            streams,
            tokens_per_second,
            over_one,
            floor_over_one: streams as f64 * one.bytes as f64 / step.bytes as f64,
            bytes_per_step: step.bytes,
            experts_per_step: step.experts,
            launches_per_step: step.launches,
            gap_seconds: gaps.get(gaps.len() / 2).copied(),
            parts: step.parts.clone(),
        }
    }
}

/// What streams felt of a prompt that entered beside them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Beside {
    streams: usize,
    prompt_tokens: usize,
    /// From its submission to its first token.
    prompt_seconds: f64,
    alone: Gaps,
    beside: Gaps,
    ratio: Gaps,
    /// All the time divided by all the tokens, over the same without the prompt.
    mean_ratio: f64,
}

impl Beside {
    /// What arrived while the prompt entered, and of the same streams at the same positions without it; both from the last
    /// token of each stream before, for that is where the first gap begins.
    pub(super) fn of(
        streams: usize,
        prompt_tokens: usize,
        prompt_seconds: f64,
        alone: &[Arrival],
        during: &[Arrival],
    ) -> Option<Self> {
        let mean = |arrivals: &[Arrival]| Some(streams as f64 / super::arrivals::rate(arrivals)?);
        let mean_ratio = mean(during)? / mean(alone)?;
        let (alone, beside) = (Gaps::of(alone)?, Gaps::of(during)?);
        Some(Self { streams, prompt_tokens, prompt_seconds, alone, beside, ratio: beside.over(alone), mean_ratio })
    }
}

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct StreamsReport {
    pub(super) schema: u32,
    pub(super) command: &'static str,
    pub(super) device: String,
    pub(super) kernels: String,
    pub(super) layers: usize,
    pub(super) load_seconds: f64,
    pub(super) prompt_tokens: usize,
    pub(super) decoded_tokens: usize,
    pub(super) streams: Vec<Row>,
    pub(super) beside: Vec<Beside>,
}

impl StreamsReport {
    /// As text.
    pub(super) fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{}, {} kernels, {} layers; loaded in {:.1} s",
            self.device, self.kernels, self.layers, self.load_seconds
        )?;
        writeln!(
            out,
            "{:>7} {:>22} {:>20} {:>6} {:>9} {:>8} {:>8} {:>24}",
            "streams", "tok/s, all", "over one", "floor", "MB/step", "experts", "launches", "gap ms: median, p95, max"
        )?;
        for row in &self.streams {
            writeln!(
                out,
                "{:>7} {:>22} {:>20} {:>6.2} {:>9.1} {:>8} {:>8} {:>24}",
                row.streams,
                row.tokens_per_second,
                row.over_one,
                row.floor_over_one,
                row.bytes_per_step as f64 / 1e6,
                row.experts_per_step,
                row.launches_per_step,
                row.gap_seconds.map_or_else(String::new, milliseconds)
            )?;
        }
        self.parts(out)?;
        for b in &self.beside {
            writeln!(
                out,
                "a prompt of {} tokens beside {} streams, in {:.1} s: gaps {} ms instead of {}: {:.2}, {:.2}, {:.2} × \
                 (median, p95, max); {:.2} × in the mean",
                b.prompt_tokens,
                b.streams,
                b.prompt_seconds,
                milliseconds(b.beside),
                milliseconds(b.alone),
                b.ratio.median,
                b.ratio.p95,
                b.ratio.max,
                b.mean_ratio
            )?;
        }
        Ok(())
    }

    /// The parts of a step, a column for each number of streams.
    fn parts(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{:>14}", "traced step ms")?;
        self.streams.iter().try_for_each(|row| write!(out, " {:>9}", row.streams))?;
        writeln!(out)?;
        let mut names: Vec<&str> = Vec::new();
        for part in self.streams.iter().flat_map(|row| &row.parts) {
            if !names.contains(&part.part) {
                names.push(part.part);
            }
        }
        for name in names {
            write!(out, "{name:>14}")?;
            for row in &self.streams {
                match row.parts.iter().find(|part| part.part == name) {
                    Some(part) => write!(out, " {:>9.2}", part.milliseconds)?,
                    None => write!(out, " {:>9}", "-")?,
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn milliseconds(gaps: Gaps) -> String {
    format!("{:.1}, {:.1}, {:.1}", 1e3 * gaps.median, 1e3 * gaps.p95, 1e3 * gaps.max)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `count` tokens of two streams in step, `gap` ms apart, from `from` on.
    fn steps(from: u64, gap: u64, count: u64) -> Vec<Arrival> {
        let at = |step| Duration::from_millis(from + gap * step);
        (0..count).flat_map(|step| [0, 1].map(|stream| Arrival { stream, at: at(step) })).collect()
    }

    fn step(bytes: u64, ms: f64) -> Step {
        let parts = vec![Part { part: "qkv", milliseconds: ms }];
        Step { bytes, experts: 4, launches: 36, parts }
    }

    fn report() -> StreamsReport {
        let spread = |median| Spread { min: median, median, max: median };
        let gaps = Gaps { median: 0.1, p95: 0.2, max: 0.3 };
        let one = step(100, 1.0);
        let row = Row::new(16, spread(40.0), spread(4.0), &[gaps], &step(400, 2.5), &one);
        let beside = Beside::of(2, 1024, 3.0, &steps(0, 100, 11), &steps(1000, 150, 11));
        StreamsReport {
            schema: 1,
            command: "bench",
            device: "a device".into(),
            kernels: "Lane".into(),
            layers: 4,
            load_seconds: 0.5,
            prompt_tokens: 16,
            decoded_tokens: 16,
            streams: vec![Row::new(1, spread(10.0), spread(1.0), &[gaps], &one, &one), row],
            beside: beside.into_iter().collect(),
        }
    }

    #[test]
    fn the_floor_is_tokens_over_bytes() {
        let report = report();
        let floors: Vec<f64> = report.streams.iter().map(|row| row.floor_over_one).collect();
        // Sixteen tokens for four times the bytes of one.
        assert_eq!(floors, [1.0, 4.0]);
    }

    #[test]
    fn gaps_beside_are_over_those_without() {
        let beside = &report().beside[0];
        assert!((beside.ratio.median - 1.5).abs() < 1e-9, "{beside:?}");
        assert!((beside.mean_ratio - 1.5).abs() < 1e-9, "{beside:?}");
        let late: Vec<Arrival> = steps(0, 400, 2).into_iter().chain(steps(500, 100, 9)).collect();
        let late = Beside::of(2, 8, 1.0, &steps(0, 100, 11), &late).expect("gaps");
        assert!((late.ratio.max - 4.0).abs() < 1e-9 && (late.ratio.median - 1.0).abs() < 1e-9, "{late:?}");
    }

    #[test]
    fn the_report_says_every_number() {
        let mut text = Vec::new();
        report().table(&mut text).expect("written");
        let text = String::from_utf8(text).expect("UTF-8");
        for wanted in ["40.00 (40.00-40.00)", "4.00 (4.00-4.00)", "100.0, 200.0, 300.0", "qkv", "2.50"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert!(text.contains("1024 tokens beside 2 streams, in 3.0 s"), "{text}");
        assert!(text.contains("1.50, 1.50, 1.50 ×"), "{text}");
        let json = serde_json::to_value(report()).expect("JSON");
        assert_eq!(json["streams"][1]["floor_over_one"], 4.0);
        assert_eq!(json["beside"][0]["prompt_tokens"], 1024);
    }
}
