//! RMSNorm: `y = x / √(mean(x²) + ε) · gain`, ε = 1e-5 (Zhang and Sennrich, arXiv 1910.07467).

use super::real::Real;
use super::rows::Rows;
use super::semantics::{Gain, Norm, NormKind};

/// Normalises each row of `x`, `[hidden]`; `gain` is `[hidden]`.
pub fn rms_norm<F: Real>(x: &Rows<F>, gain: &[F], rule: &Norm) -> Rows<F> {
    assert_eq!(gain.len(), x.width);
    Rows::each(x.width, x.count(), |p| normalised(x.row(p), gain, rule))
}

fn normalised<F: Real>(x: &[F], gain: &[F], rule: &Norm) -> Vec<F> {
    let count = F::from_f64(x.len() as f64);
    let mut x = x.to_vec();
    if rule.gain == Gain::Before {
        x.iter_mut().zip(gain).for_each(|(x, &gain)| *x = *x * gain);
    }
    if rule.kind == NormKind::Centered {
        let mean = sum(x.iter().copied()) / count;
        x.iter_mut().for_each(|x| *x = *x - mean);
    }
    let squares = sum(x.iter().map(|&x| x * x));
    let divisor = match rule.kind {
        NormKind::RootMeanSquare | NormKind::Centered => (squares / count + F::from_f64(rule.epsilon)).sqrt(),
        NormKind::RootSumSquare => (squares + F::from_f64(rule.epsilon)).sqrt(),
        NormKind::Absent => F::one(),
    };
    let scaled = |(&x, &gain): (&F, &F)| match rule.gain {
        Gain::After => x / divisor * gain,
        Gain::PlusOne => x / divisor * (F::one() + gain),
        Gain::Before | Gain::Absent => x / divisor,
    };
    x.iter().zip(gain).map(scaled).collect()
}

fn sum<F: Real>(values: impl Iterator<Item = F>) -> F {
    values.fold(F::zero(), |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: Norm = Norm { kind: NormKind::RootMeanSquare, epsilon: 1e-5, gain: Gain::After };

    fn norm(rule: Norm) -> Vec<f64> {
        rms_norm(&Rows { width: 2, values: vec![3.0, 4.0] }, &[2.0, 0.5], &rule).values
    }

    fn assert_close(got: Vec<f64>, want: [f64; 2]) {
        let is_close = |(got, want): (&f64, &f64)| (got - want).abs() <= 1e-15;
        assert!(got.iter().zip(&want).all(is_close), "{got:?}, not {want:?}");
    }

    #[test]
    fn a_row_is_divided_by_the_root_of_its_mean_square() {
        let root = (12.5f64 + 1e-5).sqrt();
        assert_close(norm(RIGHT), [3.0 / root * 2.0, 4.0 / root * 0.5]);
    }

    #[test]
    fn each_rule_changes_what_it_says() {
        assert_close(norm(Norm { epsilon: 12.5, ..RIGHT }), [3.0 / 5.0 * 2.0, 4.0 / 5.0 * 0.5]);
        let exact = Norm { epsilon: 0.0, ..RIGHT };
        assert_close(norm(Norm { kind: NormKind::RootSumSquare, ..exact }), [3.0 / 5.0 * 2.0, 4.0 / 5.0 * 0.5]);
        assert_close(norm(Norm { kind: NormKind::Centered, ..exact }), [-2.0, 0.5]);
        assert_close(norm(Norm { kind: NormKind::Absent, ..exact }), [6.0, 2.0]);
        let root = 12.5f64.sqrt();
        assert_close(norm(Norm { gain: Gain::PlusOne, ..exact }), [3.0 / root * 3.0, 4.0 / root * 1.5]);
        assert_close(norm(Norm { gain: Gain::Absent, ..exact }), [3.0 / root, 4.0 / root]);
        let root = 20.0f64.sqrt();
        assert_close(norm(Norm { gain: Gain::Before, ..exact }), [6.0 / root, 2.0 / root]);
    }
}
