//! f16 by its definition, in f64, as caches of keys and values hold it: two to a word, saturated at ±65 504.

use crate::kernels::codec::KvType;

/// Largest finite bits.
const MAX: u16 = 0x7bff;

/// The value of finite bits.
pub(super) fn value(bits: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(-24),
        _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// The nearest bits, ties to even, saturated.
pub(super) fn nearest(value: f64) -> u16 {
    rounded(value, f64::round_ties_even)
}

/// As [`nearest`], with another way to round a count of steps.
pub(super) fn rounded(value: f64, round: fn(f64) -> f64) -> u16 {
    let magnitude = value.abs().min(65_504.0);
    // Quarters of the smallest subnormal and less round to zero from this exponent, too.
    let exponent = (magnitude.max(f64::MIN_POSITIVE).log2().floor() as i32).max(-14);
    let steps = round(magnitude * 2f64.powi(10 - exponent)) as u16;
    let bits = (((exponent + 14) as u16) << 10).saturating_add(steps).min(MAX);
    bits | if value.is_sign_negative() { 0x8000 } else { 0 }
}

/// As the cache holds it, in f32.
pub(super) fn kept(value: f32, kv: KvType) -> f32 {
    match kv {
        KvType::F32 => value,
        KvType::F16 => self::value(nearest(f64::from(value))) as f32,
    }
}

/// The words of a cache that holds these values.
pub(super) fn words(values: &[f32], kv: KvType) -> Vec<u32> {
    let bits = |x: f32| u32::from(nearest(f64::from(x)));
    match kv {
        KvType::F32 => values.iter().map(|x| x.to_bits()).collect(),
        KvType::F16 => values.as_chunks().0.iter().map(|&[a, b]| bits(a) | bits(b) << 16).collect(),
    }
}

/// Each half of each word as the bits of its f32.
pub(super) fn unpacked(words: &[u32]) -> Vec<u32> {
    words.iter().flat_map(|&word| [word as u16, (word >> 16) as u16]).map(widened).collect()
}

/// The bits of the f32 of an f16: infinities and NaN become NaN, which nothing equals.
pub(super) fn widened(bits: u16) -> u32 {
    if bits & 0x7c00 == 0x7c00 { f32::NAN.to_bits() } else { (value(bits) as f32).to_bits() }
}
