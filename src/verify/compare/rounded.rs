//! Values that a cache rounded to f16: rounding is exact, only what was rounded has noise.
//!
//! f32 noise may carry a value over the middle between two f16, and then a whole step separates device and oracle.  So the device's
//! value is not compared with the oracle's rounded one, but asked for what it may have been rounded from: [`miss`].

use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::verify::oracle::Kept;
use crate::verify::oracle::cache::{f16_step, nearest_f16};
use crate::verify::oracle::rows::Rows;

/// Distance of `exact` from the nearest value that is rounded to `kept`: 0 where it is itself.  Infinite where nothing is
/// rounded to `kept`, which then is no f16.
pub fn miss(exact: f64, kept: f64) -> f64 {
    if nearest_f16(kept) != kept {
        return f64::INFINITY;
    }
    if nearest_f16(exact) == kept {
        return 0.0;
    }
    // Towards zero, the steps from a power of two are those of the magnitudes below it.
    let outward = exact.abs() > kept.abs() || exact * kept < 0.0;
    let step = if outward { f16_step(kept) } else { f16_step(kept * (1.0 - 2f64.powi(-12))) };
    (exact - kept).abs() - step / 2.0
}

/// How much further than a step `found` is from the rounded `want`, which noise alone may make of it; infinite if it is no f16.
pub fn beyond_a_step(want: f64, found: f64) -> f64 {
    match nearest_f16(found) == found {
        true => ((found - want).abs() - f16_step(want).max(f16_step(found))).max(0.0),
        false => f64::INFINITY,
    }
}

/// The keys and values that a device showed, layer by layer; `None` where rows are missing or a value is not finite.
pub fn cache_of(seen: &[Seen], layers: usize, positions: usize, width: usize) -> Option<Vec<Kept>> {
    let rows = |stage, layer| {
        let parts = seen.iter().filter(|s| (s.stage, s.layer) == (stage, Some(layer)));
        let values: Vec<f32> = parts.flat_map(|s| s.values.iter().copied()).collect();
        let fits = values.len() == positions * width && values.iter().all(|x| x.is_finite());
        fits.then_some(Rows { width, values })
    };
    (0..layers).map(|layer| Some(Kept { keys: rows(Stage::Key, layer)?, values: rows(Stage::Value, layer)? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_is_the_way_to_the_middle() {
        // Steps at 1 and above: 2^-10; below 1: 2^-11.
        let step = 2f64.powi(-10);
        for (exact, kept, want) in [
            (1.0 + 0.4 * step, 1.0, 0.0),
            (1.0 + 0.5 * step, 1.0, 0.0),
            (1.0 + 0.75 * step, 1.0, 0.25 * step),
            (1.0 + 0.25 * step, 1.0 + step, 0.25 * step),
            (1.0 - 0.5 * step, 1.0, 0.25 * step),
            (-1.0 + 0.5 * step, -1.0, 0.25 * step),
            (-1.0 - 0.75 * step, -1.0, 0.25 * step),
            (2f64.powi(-26), 0.0, 0.0),
            (2f64.powi(-24), 0.0, 2f64.powi(-25)),
            (-2f64.powi(-26), 2f64.powi(-24), 2f64.powi(-25) + 2f64.powi(-26)),
            (70_000.0, 65_504.0, 0.0),
            (65_000.0, 65_504.0, 504.0 - 16.0),
        ] {
            assert_eq!(miss(exact, kept), want, "{exact:e} kept as {kept:e}");
        }
    }

    #[test]
    fn what_is_no_f16_is_never_right() {
        for (exact, kept) in [(1.0001, 1.0001), (f64::NAN, f64::NAN), (1.0, f64::NAN), (1e-9, 1e-9), (7e4, 7e4)] {
            assert_eq!(miss(exact, kept), f64::INFINITY, "{exact:e} kept as {kept:e}");
        }
        assert!(miss(f64::NAN, 1.0).is_nan(), "which no budget holds");
        assert!(miss(7e4, f64::INFINITY).is_infinite());
    }

    #[test]
    fn one_step_is_free_and_what_is_no_f16_never_right() {
        let step = 2f64.powi(-10);
        for (found, want) in [
            (1.0, 0.0),
            (1.0 + step, 0.0),
            (1.0 - step / 2.0, 0.0),
            (1.0 + 2.0 * step, step),
            (1.0 + step / 3.0, f64::INFINITY),
            (f64::NAN, f64::INFINITY),
        ] {
            assert_eq!(beyond_a_step(1.0, found), want, "{found}");
        }
    }

    #[test]
    fn a_cache_is_whole_and_finite() {
        let seen = |stage, values: &[f32]| Seen { stage, layer: Some(0), values: values.to_vec() };
        let whole = [seen(Stage::Key, &[1.0]), seen(Stage::Value, &[3.0, 4.0]), seen(Stage::Key, &[2.0])];
        let kept = cache_of(&whole, 1, 2, 1).expect("both are there");
        assert_eq!((&*kept[0].keys.values, &*kept[0].values.values), (&[1.0, 2.0][..], &[3.0, 4.0][..]));
        assert!(cache_of(&whole, 2, 2, 1).is_none() && cache_of(&whole[..2], 1, 2, 1).is_none());
        let spoilt = [seen(Stage::Key, &[1.0, f32::NAN]), seen(Stage::Value, &[3.0, 4.0])];
        assert!(cache_of(&spoilt, 1, 2, 1).is_none());
    }
}
