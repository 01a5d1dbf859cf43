//! Rotary position embedding (arXiv 2104.09864) with YaRN scaling (arXiv 2309.00071).
//!
//! Pair i of a head of d values turns by `p · inv_i` at position p:
//!
//! * `f_i = theta^(2i/d)`; `inv_i = ramp_i / (factor · f_i) + (1 − ramp_i) / f_i`
//! * `ramp_i = clamp((i − low) / (high − low), 0, 1)`
//! * `low`, `high` = `(d/2) · ln(context / (2π · r)) / ln(theta)` for r = `beta_fast`, `beta_slow`, not rounded
//!   (ggml: `low` down and `high` up to whole pairs, within the head; [`CorrectionRange::Rounded`])
//! * cos and sin are multiplied by the concentration, `0.1 · ln(factor) + 1`
//! * `(x₁, x₂) → (x₁·cos − x₂·sin, x₂·cos + x₁·sin)`, x₁ the value i of the head, x₂ the value i + d/2

use super::real::Real;
use super::rows::Rows;
use super::semantics::{CorrectionRange, Direction, Pairs, Rope, Scaling};

/// Which of the two rotated inputs: they may differ in a faulty implementation only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rotated {
    Queries,
    Keys,
}

/// The first and last pair of YaRN's ramp, as real numbers.
pub fn correction_range(rule: &Rope) -> (f64, f64) {
    let pair = |rotations: f64| {
        let half = rule.frequency_dim as f64 / 2.0;
        half * (rule.initial_context_length / (rotations * 2.0 * std::f64::consts::PI)).ln() / rule.theta.ln()
    };
    let (low, high) = (pair(rule.beta_fast), pair(rule.beta_slow));
    match rule.range {
        CorrectionRange::Exact => (low, high),
        CorrectionRange::Rounded => {
            let last = rule.frequency_dim as f64 - 1.0;
            (if low < 0.0 { 0.0 } else { low.floor() }, if high > last { last } else { high.ceil() })
        }
    }
}

/// Radians by which each of `pairs` pairs turns from one position to the next.
pub fn inverse_frequencies<F: Real>(rule: &Rope, pairs: usize) -> Vec<F> {
    let (low, high) = correction_range(rule);
    let factor = F::from_f64(rule.factor);
    let frequency = |i: usize| {
        let wavelength = F::from_f64(rule.theta).powf(F::from_f64(2.0 * i as f64 / rule.frequency_dim as f64));
        let (kept, divided) = (F::one() / wavelength, F::one() / (factor * wavelength));
        let ramp = F::from_f64(((i as f64 - low) / (high - low)).clamp(0.0, 1.0));
        match rule.scaling {
            Scaling::Yarn => divided * ramp + kept * (F::one() - ramp),
            Scaling::YarnInverted => divided * (F::one() - ramp) + kept * ramp,
            Scaling::Absent => kept,
            Scaling::Linear => divided,
        }
    };
    (0..pairs).map(frequency).collect()
}

/// Turns each head of each row of `x`, `[heads × head_dim]`; row p is position p.
///
/// Angles, sines and cosines are f64 rounded once, whatever `F` is: an f32 angle of 200 radians is off by 1e-5, a hundred times
/// what the rest of f32 does to a key, and a table that every position shares has no excuse for it.
pub fn rotate<F: Real>(x: &Rows<F>, head_dim: usize, rule: &Rope, rotated: Rotated) -> Rows<F> {
    let inverse_frequencies = inverse_frequencies::<f64>(rule, head_dim / 2);
    let (concentration, shift) = match rotated {
        Rotated::Queries => (rule.query_concentration, rule.query_shift),
        Rotated::Keys => (rule.key_concentration, rule.key_shift),
    };
    Rows::each(x.width, x.count(), |p| {
        let position = rule.restarts_after.map_or(p, |chunk| p % chunk) as f64 + shift;
        let cos_sin = |inverse: &f64| {
            let angle = position * inverse;
            let sin = if rule.direction == Direction::Forward { angle.sin() } else { -angle.sin() };
            (F::from_f64(angle.cos() * concentration), F::from_f64(sin * concentration))
        };
        let table: Vec<(F, F)> = inverse_frequencies.iter().map(cos_sin).collect();
        let mut row = x.row(p).to_vec();
        for head in row.chunks_exact_mut(head_dim) {
            for (i, &(cos, sin)) in table.iter().enumerate() {
                let (first, second) = match rule.pairs {
                    Pairs::HalfSplit => (i, i + head_dim / 2),
                    Pairs::Interleaved => (2 * i, 2 * i + 1),
                };
                let (x1, x2) = (head[first], head[second]);
                head[first] = x1 * cos - x2 * sin;
                head[second] = x2 * cos + x1 * sin;
            }
        }
        row
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::fixture::Recipe;

    fn right() -> Rope {
        Rope::gpt_oss(&Recipe::built_in("T3").config())
    }

    fn assert_close(got: f64, want: f64, relative: f64) {
        assert!((got - want).abs() <= relative * want.abs(), "{got:e}, not {want:e}");
    }

    #[test]
    fn constants_are_those_of_the_reference() {
        let (low, high) = correction_range(&right());
        assert_close(low, 8.092779115512402, 1e-15);
        assert_close(high, 17.39802450158856, 1e-15);
        assert_eq!(right().query_concentration, 1.3465735902799727);
        assert_eq!(right().key_concentration, 1.3465735902799727);
    }

    #[test]
    fn frequencies_are_those_of_the_reference() {
        // f32 values of gpt_oss/torch and transformers, which agree in every bit.
        let witness: [(usize, f64); 10] = [
            (0, 1.0),
            (1, 0.6890442967),
            (8, 0.0508132726),
            (9, 0.0317056961),
            (12, 0.0067949593),
            (16, 0.000456483918),
            (17, 0.000129318694),
            (18, 3.83088118e-05),
            (24, 4.09997847e-06),
            (31, 3.0235114e-07),
        ];
        let (exact, rounded) = (inverse_frequencies::<f64>(&right(), 32), inverse_frequencies::<f32>(&right(), 32));
        for (i, want) in witness {
            // Half a unit of the last printed or stored digit; then three roundings of f32.
            assert_close(exact[i], want, 1.5e-7);
            assert_close(rounded[i].to_f64(), want, 4e-7);
        }
    }

    #[test]
    fn a_rounded_range_gives_the_frequencies_of_ggml() {
        let (low, high) = correction_range(&Rope { range: CorrectionRange::Rounded, ..right() });
        assert_eq!((low, high), (8.0, 18.0));
        let percent = [-0.27, 0.60, 1.73, 3.25, 5.42, 8.76, 14.59, 27.27, 76.27];
        let exact = inverse_frequencies::<f64>(&right(), 32);
        let ggml = inverse_frequencies::<f64>(&Rope { range: CorrectionRange::Rounded, ..right() }, 32);
        for (i, want) in (9..).zip(percent) {
            assert!(((ggml[i] / exact[i] - 1.0) * 100.0 - want).abs() <= 0.0051, "pair {i}");
        }
        assert!((0..9).chain(18..32).all(|i| ggml[i] == exact[i]));
    }

    #[test]
    fn scalings_keep_or_divide() {
        let of = |scaling| inverse_frequencies::<f64>(&Rope { scaling, ..right() }, 32);
        let (kept, divided) = (of(Scaling::Absent), of(Scaling::Linear));
        assert_close(kept[31], 150000f64.powf(-31.0 / 32.0), 1e-14);
        assert!(kept.iter().zip(&divided).all(|(kept, divided)| (kept / divided - 32.0).abs() < 1e-12));
        assert_eq!((of(Scaling::Yarn)[8], of(Scaling::Yarn)[18]), (kept[8], divided[18]));
        assert_eq!((of(Scaling::YarnInverted)[8], of(Scaling::YarnInverted)[18]), (divided[8], kept[18]));
    }

    /// A head of four values, frequencies 1 and 1/2, no concentration.
    fn small() -> Rope {
        Rope {
            theta: 4.0,
            frequency_dim: 4,
            scaling: Scaling::Absent,
            query_concentration: 1.0,
            key_concentration: 2.0,
            ..right()
        }
    }

    fn turned(rule: &Rope, position: usize, rotated: Rotated) -> Vec<f64> {
        let x = Rows { width: 4, values: [1.0, 0.0, 0.0, 10.0].repeat(position + 1) };
        rotate(&x, 4, rule, rotated).row(position).to_vec()
    }

    #[test]
    fn pairs_are_half_a_head_apart_and_turn_forward() {
        let (sin, cos) = 3f64.sin_cos();
        let (sin_half, cos_half) = 1.5f64.sin_cos();
        let want = vec![cos, -10.0 * sin_half, sin, 10.0 * cos_half];
        assert_eq!(turned(&small(), 3, Rotated::Queries), want);
        let doubled: Vec<f64> = want.iter().map(|x| 2.0 * x).collect();
        assert_eq!(turned(&small(), 3, Rotated::Keys), doubled);
        assert_eq!(turned(&small(), 0, Rotated::Queries), [1.0, 0.0, 0.0, 10.0]);
    }

    #[test]
    fn each_rule_changes_what_it_says() {
        let (sin, cos) = 3f64.sin_cos();
        let (sin_half, cos_half) = 1.5f64.sin_cos();
        let of = |rule: Rope, position| turned(&rule, position, Rotated::Queries);
        let interleaved = of(Rope { pairs: Pairs::Interleaved, ..small() }, 3);
        assert_eq!(interleaved, [cos, sin, -10.0 * sin_half, 10.0 * cos_half]);
        let backward = of(Rope { direction: Direction::Backward, ..small() }, 3);
        assert_eq!(backward, [cos, 10.0 * sin_half, -sin, 10.0 * cos_half]);
        assert_eq!(of(Rope { query_shift: 1.0, ..small() }, 3), of(small(), 4));
        assert_eq!(of(Rope { key_shift: 1.0, ..small() }, 3), of(small(), 3));
        assert_eq!(of(Rope { restarts_after: Some(3), ..small() }, 5), of(small(), 2));
    }
}
