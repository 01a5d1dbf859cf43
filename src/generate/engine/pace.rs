//! How much of a prompt enters beside sequences that decode, so that these wait for a token at most twice as long.
//!
//! What a piece costs is not known beforehand: rows of attention grow with the position, matrices are multiplied in tiles,
//! a few rows may wake experts that nobody else needed, one row more may call another kernel, and the machine has other
//! things to do.  So pieces have one of few sizes, each about √2 of the one before, and what each size took last is
//! remembered as seconds beyond a step without a piece:
//!
//! * the next piece is the largest that is expected to meet the aim; sizes that were never tried are expected to take nearly
//!   in proportion, and those that were too much are forgotten slowly, so that they are tried again, but seldom;
//! * the aim follows how steady the machine is: a step that breaks the promise lowers it by as much as
//!   [`KEPT`] steps that keep it raise it;
//! * where one that is a little late brings much more, as where one row costs as much as a whole tile, and where not even
//!   the least piece meets the aim, what pieces take beyond the aim is owed, and paid by steps without a piece, so that the
//!   mean keeps the promise; their size is the one that then brings most tokens a step;
//! * now and then a step has no piece, for the measure of all others would be old.

use std::collections::VecDeque;

/// A step with a piece over one without: what is promised.
const PROMISE: f64 = 2.0;
/// What a step with a piece may take beyond one without, in such steps: at first, at least and at most.
const AIM: f64 = 0.6;
const AIM_MIN: f64 = 0.3;
const AIM_MAX: f64 = 0.8;
/// What a broken promise takes from the aim, and how many that are kept give as much back: one in so many is broken.
const BROKEN: f64 = 0.08;
const KEPT: f64 = 40.0;
/// Tokens of the first piece.
const FIRST: usize = 4;
/// Sizes by which a piece may be larger than any before it.
const AHEAD: usize = 2;
/// What a size is expected to take is that of another, times the ratio of tokens to this power.
const SCALING: f64 = 0.9;
/// How much of an expectation is replaced by what a piece of that size took, and how much of that of a larger size is
/// forgotten with each piece.
const LEARNED: f64 = 0.5;
const FORGOTTEN: f64 = 0.02;
/// A piece may take so many aims, and so much of a plain step, where it brings so many times the tokens of one that
/// meets the aim.
const BEYOND: f64 = 1.4;
const BEYOND_MAX: f64 = 0.9;
const WORTH: f64 = 1.5;
/// Where even the least piece takes more than that, others may take so many times as long.
const LATER: f64 = 1.5;
/// Steps with a piece between two without.
const PIECES: u32 = 10;
/// Steps without a piece that are remembered; the fastest counts, for the machine may stumble.
const PLAIN: usize = 3;
/// Aims that may be owed at most.
const OWED_MAX: f64 = 32.0;

/// The size of pieces, and what steps took.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Sizes that pieces may have, in tokens, and what each is known to take beyond a plain step, in seconds.
    sizes: Vec<(usize, Option<f64>)>,
    /// Seconds of steps without a piece, by the number of sequences that decode.
    plain: Vec<VecDeque<f64>>,
    /// What a step with a piece may take beyond one without, in such steps.
    aim: f64,
    /// Steps with a piece since the last without.
    pieces: u32,
    /// What pieces took beyond the aim, in aims: below 0 some are saved, one at most.
    owed: f64,
}

impl Pace {
    /// For pieces of at most `most` tokens beside at most `lanes` sequences.
    pub(super) fn new(most: usize, lanes: usize) -> Self {
        let powers = (0..usize::BITS).map(|bits| 1usize << bits);
        let mut sizes: Vec<usize> =
            powers.flat_map(|two| [two, two + two / 2]).take_while(|&size| size < most).collect();
        sizes.push(most);
        sizes.dedup();
        let sizes = sizes.into_iter().map(|size| (size, None)).collect();
        Self { sizes, plain: vec![VecDeque::new(); lanes + 1], aim: AIM, pieces: 0, owed: 0.0 }
    }

    /// Tokens of a prompt for the next step, beside `decoding` sequences; 0: none this time.
    pub(super) fn piece(&self, decoding: usize) -> usize {
        if decoding == 0 {
            return self.most();
        }
        match self.plain_seconds(decoding) {
            Some(plain) if self.pieces < PIECES && self.owed < 1.0 => self.size(plain),
            _ => 0,
        }
    }

    /// A step of `decoding` sequences and a piece of `tokens` (0: none) took `seconds`.
    pub(super) fn took(&mut self, decoding: usize, tokens: usize, seconds: f64) {
        match (decoding, tokens) {
            (0, _) => {}
            (_, 0) => {
                let plain = &mut self.plain[decoding];
                plain.push_back(seconds);
                plain.drain(..plain.len().saturating_sub(PLAIN));
                (self.pieces, self.owed) = (0, (self.owed - 1.0).max(-1.0));
            }
            _ => self.learn(decoding, tokens, seconds),
        }
    }

    /// What a step of `decoding` sequences takes without a piece; not measured yet, that of fewer.
    fn plain_seconds(&self, decoding: usize) -> Option<f64> {
        let known = self.plain[..=decoding].iter().rev().find(|plain| !plain.is_empty())?;
        Some(known.iter().copied().fold(f64::INFINITY, f64::min))
    }

    /// The size of a piece beside a step that takes `plain` seconds without it.
    fn size(&self, plain: f64) -> usize {
        let Some(last) = self.sizes.iter().rposition(|size| size.1.is_some()) else { return FIRST.min(self.most()) };
        let open = 0..self.sizes.len().min(last + 1 + AHEAD);
        let open: Vec<(usize, f64)> = open.map(|index| (self.sizes[index].0, self.expected(index))).collect();
        let aim = self.aim * plain;
        // What exceeds the aim is owed: such a piece enters once in so many steps.
        let rate = |(size, seconds): (usize, f64)| size as f64 / (seconds / aim).max(1.0);
        let best = |most: f64| {
            let fit = open.iter().copied().filter(|(_, seconds)| *seconds <= most);
            fit.max_by(|a, b| rate(*a).total_cmp(&rate(*b)))
        };
        let (meets, keeps) = (best(aim), best((BEYOND * self.aim).min(BEYOND_MAX) * plain));
        match (meets, keeps) {
            (Some(meets), Some(keeps)) if rate(keeps) < WORTH * rate(meets) => meets.0,
            (_, Some(keeps)) => keeps.0,
            _ => best(LATER * open[0].1).map_or(1, |(size, _)| size),
        }
    }

    fn most(&self) -> usize {
        self.sizes.last().map_or(0, |size| size.0)
    }

    /// What a piece of a size is expected to take beyond a plain step: what it took, or by the next smaller size that is
    /// known, or the next larger.
    fn expected(&self, index: usize) -> f64 {
        let (size, known) = self.sizes[index];
        let scaled = |(other, seconds): &(usize, Option<f64>)| {
            seconds.map(|seconds| seconds * (size as f64 / *other as f64).powf(SCALING))
        };
        let near = || {
            self.sizes[..index].iter().rev().find_map(scaled).or_else(|| self.sizes[index..].iter().find_map(scaled))
        };
        known.or_else(near).unwrap_or(0.0)
    }

    fn learn(&mut self, decoding: usize, tokens: usize, seconds: f64) {
        let Some(plain) = self.plain_seconds(decoding) else { return };
        let extra = (seconds - plain).max(0.01 * self.aim * plain);
        self.pieces += 1;
        self.owed = (self.owed + extra / (self.aim * plain) - 1.0).clamp(-1.0, OWED_MAX);
        if self.expected(0) <= BEYOND_MAX * plain {
            let broken = extra > (PROMISE - 1.0) * plain;
            self.aim = (self.aim + if broken { -BROKEN } else { BROKEN / KEPT }).clamp(AIM_MIN, AIM_MAX);
        }

        // The rest of a prompt may be of no size: it bounds what those beside it take.
        let above = self.sizes.partition_point(|size| size.0 <= tokens);
        let tried = above.checked_sub(1).filter(|&index| self.sizes[index].0 == tokens);
        let taken = match tried {
            Some(index) => {
                let known = self.sizes[index].1;
                let taken = known.map_or(extra, |known| known + LEARNED * (extra - known));
                self.sizes[index].1 = Some(taken);
                taken
            }
            None => extra,
        };
        for (_, smaller) in &mut self.sizes[..tried.unwrap_or(above)] {
            *smaller = smaller.map(|seconds| seconds.min(taken));
        }
        for (size, larger) in &mut self.sizes[above..] {
            let scaled = taken * (*size as f64 / tokens as f64).powf(SCALING);
            *larger = larger.map(|seconds| (seconds + FORGOTTEN * (scaled - seconds)).max(taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever sizes pieces.
    trait Sizer {
        fn piece(&mut self, decoding: usize) -> usize;
        fn took(&mut self, decoding: usize, tokens: usize, seconds: f64);
    }

    impl Sizer for Pace {
        fn piece(&mut self, decoding: usize) -> usize {
            Pace::piece(self, decoding)
        }
        fn took(&mut self, decoding: usize, tokens: usize, seconds: f64) {
            Pace::took(self, decoding, tokens, seconds);
        }
    }

    /// Wrong: always the same.
    struct Constant(usize);

    impl Sizer for Constant {
        fn piece(&mut self, _: usize) -> usize {
            self.0
        }
        fn took(&mut self, _: usize, _: usize, _: f64) {}
    }

    /// Wrong: as much as a step takes, by the mean cost of a token so far, and eight at least.
    #[derive(Default)]
    struct Mean {
        plain: f64,
        spent: f64,
        tokens: f64,
    }

    impl Sizer for Mean {
        fn piece(&mut self, _: usize) -> usize {
            let size = if self.tokens > 0.0 { self.plain * self.tokens / self.spent } else { 8.0 };
            if self.plain == 0.0 { 0 } else { (size as usize).clamp(8, 512) }
        }
        fn took(&mut self, _: usize, tokens: usize, seconds: f64) {
            match tokens {
                0 => self.plain = seconds,
                _ => (self.spent, self.tokens) = (self.spent + seconds - self.plain, self.tokens + tokens as f64),
            }
        }
    }

    /// What steps cost.
    #[derive(Clone, Copy)]
    struct Device {
        /// Seconds of a step of one sequence, and of each further one.
        step: f64,
        lane: f64,
        /// Of a piece, of a tile of `tile` rows, and of a row at each position before it.
        wake: f64,
        tile: usize,
        of_tile: f64,
        position: f64,
        /// Of which any time may be more or less.
        noise: f64,
        /// Everything takes so many times as long from step 100 to step 160.
        slower: f64,
    }

    const GPU: Device = Device {
        step: 8e-3,
        lane: 1e-4,
        wake: 1e-3,
        tile: 16,
        of_tile: 4e-4,
        position: 1e-9,
        noise: 0.05,
        slower: 1.0,
    };
    const SOFTWARE: Device = Device {
        step: 20e-3,
        lane: 2e-3,
        wake: 2e-3,
        tile: 2,
        of_tile: 2e-3,
        position: 6e-7,
        noise: 0.05,
        slower: 1.0,
    };

    /// Steps over their plain selves, as these are when the machine is not faster than usual.
    struct Ratios {
        median: f64,
        p95: f64,
        mean: f64,
        steps: usize,
    }

    /// A prompt of `tokens` tokens enters beside `decoding` sequences.
    fn enter(sizer: &mut dyn Sizer, device: Device, decoding: usize, tokens: usize) -> Ratios {
        let (mut position, mut ratios, mut state) = (0, Vec::new(), 0x9E37_79B9u32);
        let mut uncertain = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            1.0 + device.noise * (f64::from(state >> 8) / f64::from(1 << 23) - 1.0)
        };
        while position < tokens {
            let piece = sizer.piece(decoding).min(tokens - position);
            let plain = device.step + device.lane * decoding as f64;
            let rows = (position..position + piece).map(|p| p as f64 * device.position).sum::<f64>();
            let wake = if piece > 0 { device.wake } else { 0.0 };
            let extra = wake + piece.div_ceil(device.tile) as f64 * device.of_tile + rows;
            let slower = if (100..160).contains(&ratios.len()) { device.slower } else { 1.0 };
            let seconds = (plain + extra) * slower * uncertain();
            sizer.took(decoding, piece, seconds);
            ratios.push(seconds / plain / slower.max(1.0));
            position += piece;
            assert!(ratios.len() < 100_000, "the prompt starves at {position}");
        }
        let (steps, mean) = (ratios.len(), ratios.iter().sum::<f64>() / ratios.len() as f64);
        ratios.sort_by(f64::total_cmp);
        Ratios { median: ratios[steps / 2], p95: ratios[steps * 95 / 100], mean, steps }
    }

    fn pace() -> Pace {
        Pace::new(512, 16)
    }

    #[test]
    fn the_promise_holds_on_devices_of_any_kind() {
        for (name, device) in [
            ("gpu", GPU),
            ("software", SOFTWARE),
            ("large tiles", Device { tile: 64, of_tile: 4e-3, wake: 0.0, ..GPU }),
            ("a tile just beyond the aim", Device { tile: 64, of_tile: 4e-3, ..GPU }),
            ("cheap rows", Device { of_tile: 1e-6, wake: 0.0, ..GPU }),
            ("noise", Device { noise: 0.15, ..SOFTWARE }),
            ("steep attention", Device { position: 2e-6, ..SOFTWARE }),
        ] {
            for decoding in [1, 16] {
                let r = enter(&mut pace(), device, decoding, 4096);
                let said = format!("{name}, {decoding}: {:.2}, {:.2}, {:.2}, {}", r.median, r.p95, r.mean, r.steps);
                assert!(r.median <= 1.7 && r.mean <= 1.7, "{said}");
                assert!(r.p95 <= 1.9, "{said}");
            }
        }
    }

    #[test]
    fn prompts_get_what_the_promise_leaves() {
        // What fits 0.6 of a step is 12 tiles of 16 tokens: 22 steps of 4096, and some to find that out.
        let r = enter(&mut pace(), GPU, 16, 4096);
        assert!(r.steps < 50, "{} steps", r.steps);
        assert!(r.median > 1.4, "{}", r.median);
        // Rows that cost nothing enter in pieces of the largest size.
        let r = enter(&mut pace(), Device { of_tile: 1e-9, wake: 0.0, position: 0.0, ..GPU }, 16, 65_536);
        assert!(r.steps < 180, "{} steps", r.steps);
    }

    #[test]
    fn a_slower_machine_is_no_larger_piece() {
        for slower in [0.5, 3.0] {
            let r = enter(&mut pace(), Device { slower, ..SOFTWARE }, 16, 4096);
            assert!(r.p95 <= 2.0 && r.mean <= 1.7, "{slower}: {:.2}, {:.2}", r.p95, r.mean);
        }
    }

    #[test]
    fn what_no_piece_can_meet_the_mean_does() {
        // The least piece takes four steps' time.
        let r = enter(&mut pace(), Device { wake: 40e-3, ..GPU }, 16, 512);
        assert!(r.mean <= 1.75, "{}", r.mean);
        assert!(r.median <= 1.1, "{}", r.median);
    }

    #[test]
    fn one_row_that_costs_as_much_as_many_brings_many() {
        // The first row of a tile takes 1.4 and 5 steps' time: 128 pieces each owe two steps, or 8 owe eight.
        let r = enter(&mut pace(), Device { tile: 32, of_tile: 10e-3, ..GPU }, 1, 4096);
        assert!(r.steps < 600 && r.mean <= 1.7, "{}, {}", r.steps, r.mean);
        let r = enter(&mut pace(), Device { tile: 512, of_tile: 40e-3, ..GPU }, 1, 4096);
        assert!(r.steps < 400 && r.mean <= 1.7, "{}, {}", r.steps, r.mean);
    }

    #[test]
    fn other_numbers_of_sequences_are_measured_once() {
        let mut pace = pace();
        assert_eq!(pace.piece(0), 512, "alone, as much as may be");
        assert_eq!(pace.piece(3), 0, "nothing is known: a step to measure");
        pace.took(3, 0, 0.01);
        assert_eq!(pace.piece(3), FIRST);
        assert_eq!(pace.piece(5), FIRST, "five take no less than three");
        assert_eq!(pace.piece(2), 0, "of fewer nothing is known");
    }

    #[test]
    fn a_pace_that_does_not_look_is_seen() {
        let constant = enter(&mut Constant(64), SOFTWARE, 16, 4096);
        assert!(constant.median > 2.0 && constant.mean > 2.0, "{:.2}", constant.median);
        let mean = enter(&mut Mean::default(), SOFTWARE, 16, 4096);
        assert!(mean.p95 > 2.2, "{:.2}", mean.p95);
        let slow = enter(&mut Constant(FIRST), Device { wake: 40e-3, ..GPU }, 16, 512);
        assert!(slow.mean > 2.0, "{:.2}", slow.mean);
    }
}
