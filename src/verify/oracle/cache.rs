//! What attention finds in the cache: the keys and values as they were computed, or rounded to f16.
//!
//! f16 has 11 significant bits down to 2^-14 and steps of 2^-24 below (IEEE 754, binary16).  Its largest value is 65 504; a cache
//! saturates there, where IEEE would say infinity.

use super::real::Real;
use super::rows::Rows;
use super::semantics::Cache;

/// Largest finite f16.
const F16_MAX: f64 = 65_504.0;

/// Keys and values of a layer that attention reads in place of its own, a row for each position.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Kept {
    pub keys: Rows<f32>,
    pub values: Rows<f32>,
}

/// The rows as a cache keeps them.
pub fn kept<F: Real>(rows: Rows<F>, rule: Cache) -> Rows<F> {
    match rule {
        Cache::AsComputed => rows,
        Cache::F16 => {
            let nearest = |x: &F| F::from_f64(nearest_f16(x.to_f64()));
            Rows { width: rows.width, values: rows.values.iter().map(nearest).collect() }
        }
    }
}

/// Distance between neighbouring f16 at the magnitude of `x`: `2^(max(exponent, −14) − 10)`.
pub fn f16_step(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    2f64.powi(exponent.max(-14) - 10)
}

/// The nearest multiple of the step, of two the even one; saturated.  NaN stays NaN.
pub fn nearest_f16(x: f64) -> f64 {
    let step = f16_step(x);
    ((x / step).round_ties_even() * step).clamp(-F16_MAX, F16_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every finite f16 from 0 up, in order: mantissa and exponent read off the bits.
    fn all() -> Vec<f64> {
        let value = |bits: u32| match (bits >> 10, f64::from(bits & 1023)) {
            (0, mantissa) => mantissa / 2f64.powi(24),
            (exponent, mantissa) => (1.0 + mantissa / 1024.0) * 2f64.powi(exponent as i32 - 15),
        };
        (0..0x7c00).map(value).collect()
    }

    #[test]
    fn every_f16_is_kept_and_between_two_the_nearer_wins() {
        let all = all();
        assert_eq!((all[1], all[0x3ff], *all.last().unwrap()), (2f64.powi(-24), 1023.0 / 2f64.powi(24), F16_MAX));
        for (bits, pair) in all.windows(2).enumerate() {
            let [low, high] = [pair[0], pair[1]];
            let middle = (low + high) / 2.0;
            let even = if bits % 2 == 0 { low } else { high };
            for (x, want) in [(low, low), (middle.next_down(), low), (middle, even), (middle.next_up(), high)] {
                assert_eq!((nearest_f16(x), nearest_f16(-x)), (want, -want), "{x:e}");
            }
        }
    }

    #[test]
    fn large_values_saturate_and_nan_is_not_hidden() {
        for x in [65_504.0, 65_519.0, 65_520.0, 1e30, f64::INFINITY] {
            assert_eq!((nearest_f16(x), nearest_f16(-x)), (F16_MAX, -F16_MAX));
        }
        assert!(nearest_f16(f64::NAN).is_nan());
        assert!(nearest_f16(-0.0).is_sign_negative() && nearest_f16(f64::MIN_POSITIVE) == 0.0);
    }

    #[test]
    fn both_float_types_round_alike() {
        let row = |values: &[f64]| Rows { width: values.len(), values: values.to_vec() };
        let rows = row(&[1.0 / 3.0, -2049.0, 5e-6, 70_000.0]);
        assert_eq!(kept(rows.clone(), Cache::AsComputed), rows);
        let want = row(&[0.333_251_953_125, -2048.0, 84.0 / 16_777_216.0, 65_504.0]);
        assert_eq!(kept(rows.clone(), Cache::F16), want);
        assert_eq!(kept(rows.to::<f32>(), Cache::F16), want.to());
    }
}
