//! Rows of GGUF tensors as numbers, each type straight from its description.
//!
//! Every value is computed in f64 from the block's fields, where sums and products of a few bits are exact.

use crate::gguf::{Encoding, GgmlType};

/// IQ4_NL's values of the sixteen codes.
pub const IQ4_NL: [f64; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];
/// E2M1's values of the sixteen codes.
const E2M1: [f64; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// One value of a type whose blocks are grids of levels: `step · code + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// From one code to the next.
    pub step: f64,
    /// The value of code 0.
    pub offset: f64,
    /// What the stored bits stand for: an integer.
    pub code: f64,
}

impl Level {
    /// The value.
    pub fn value(self) -> f64 {
        self.step * self.code + self.offset
    }
}

/// The values of a row.
///
/// # Panics
/// For a type that has no description here.
pub fn row(encoding: Encoding, bytes: &[u8]) -> Vec<f64> {
    let blocks = |size: usize, values: fn(&[u8]) -> Vec<f64>| bytes.chunks_exact(size).flat_map(values).collect();
    match encoding {
        Encoding::Mxfp4InOrder => blocks(17, |b| (0..32).map(|i| mxfp4(b, b[1 + i / 2] >> (4 * (i % 2)))).collect()),
        Encoding::Ggml(GgmlType::F32) => blocks(4, |b| vec![f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()]),
        Encoding::Ggml(GgmlType::F16) => blocks(2, |b| vec![f16(b)]),
        Encoding::Ggml(GgmlType::BF16) => blocks(2, |b| vec![f32::from_le_bytes([0, 0, b[0], b[1]]).into()]),
        Encoding::Ggml(GgmlType::MXFP4) => {
            blocks(17, |b| (0..32).map(|i| mxfp4(b, nibble(&b[1..], i) as u8)).collect())
        }
        other => {
            let levels = levels(other, bytes).unwrap_or_else(|| panic!("{other} has no description here"));
            levels.into_iter().map(Level::value).collect()
        }
    }
}

/// Level i of a block.
type LevelOf = fn(&[u8], usize) -> Level;

/// The levels of a row; `None` for types that are no grids, or have no description here.
pub fn levels(encoding: Encoding, bytes: &[u8]) -> Option<Vec<Level>> {
    let Encoding::Ggml(ty) = encoding else { return None };
    let (size, count, level): (usize, usize, LevelOf) = match ty {
        GgmlType::Q8_0 => (34, 32, |b, i| scaled(b, f64::from(b[2 + i] as i8))),
        GgmlType::Q4_0 => (18, 32, |b, i| scaled(b, nibble(&b[2..], i) - 8.0)),
        GgmlType::IQ4_NL => (18, 32, |b, i| scaled(b, IQ4_NL[nibble(&b[2..], i) as usize])),
        GgmlType::Q5_0 => (22, 32, |b, i| scaled(b, nibble(&b[6..], i) + 16.0 * bit(&b[2..], i) - 16.0)),
        GgmlType::Q5_1 => (24, 32, |b, i| {
            let code = nibble(&b[8..], i) + 16.0 * bit(&b[4..], i);
            Level { offset: f16(&b[2..]), ..scaled(b, code) }
        }),
        GgmlType::Q4_K => (144, 256, |b, i| k_level(b, i, k_nibble(&b[16..], i))),
        GgmlType::Q5_K => (176, 256, |b, i| {
            // A fifth bit: bit i/32 of byte i mod 32.
            let high = f64::from(b[16 + i % 32] >> (i / 32) & 1);
            k_level(b, i, k_nibble(&b[48..], i) + 16.0 * high)
        }),
        GgmlType::Q6_K => (210, 256, q6_k),
        _ => return None,
    };
    Some(bytes.chunks_exact(size).flat_map(|block| (0..count).map(move |i| level(block, i))).collect())
}

/// A level of a block that begins with its scale.
fn scaled(block: &[u8], code: f64) -> Level {
    Level { step: f16(block), offset: 0.0, code }
}

/// Code i of 32: value i in the low half of byte i, value i + 16 in the high half.
fn nibble(bytes: &[u8], i: usize) -> f64 {
    f64::from(if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

fn bit(bytes: &[u8], i: usize) -> f64 {
    f64::from(bytes[i / 8] >> (i % 8) & 1)
}

fn mxfp4(block: &[u8], code: u8) -> f64 {
    E2M1[usize::from(code & 15)] * (f64::from(block[0]) - 127.0).exp2()
}

/// An IEEE half: sign, five bits of exponent, ten of fraction.
pub fn f16(bytes: &[u8]) -> f64 {
    let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
    let (exponent, fraction) = (f64::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    let magnitude = match bits >> 10 & 31 {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * (exponent - 15.0).exp2(),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// Where the step after the largest half would be: half way to it, rounding is to infinity.
const BEYOND: f64 = 65_536.0;

/// The magnitude of a half without sign; infinity as the step after the largest.
fn magnitude_of(bits: u16) -> f64 {
    if bits == 0x7c00 { BEYOND } else { f16(&bits.to_le_bytes()) }
}

/// The half nearest to a finite value, ties to the even one: halves of one sign grow with their bits.
pub fn nearest_f16(value: f64) -> u16 {
    let magnitude = value.abs();
    let (mut low, mut high) = (0u16, 0x7c00u16);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if magnitude_of(middle) <= magnitude { low = middle } else { high = middle }
    }
    let (below, above) = (magnitude - magnitude_of(low), magnitude_of(high) - magnitude);
    let nearest = if below < above || (below == above && low.is_multiple_of(2)) { low } else { high };
    nearest | if value.is_sign_negative() { 0x8000 } else { 0 }
}

/// The magnitudes to which `half`, positive and finite, is the nearest: from the middle below it to the one above.
pub fn rounded_to(half: f64) -> (f64, f64) {
    let bits = nearest_f16(half);
    let middle = |other: u16| (half + magnitude_of(other)) / 2.0;
    (middle(bits - 1), middle(bits + 1))
}

/// The scale and the minimum of sub-block j of Q4_K and Q5_K: six bits each, packed in twelve bytes.
fn scale_and_minimum(b: &[u8], j: usize) -> (f64, f64) {
    let (scale, minimum) = match j {
        0..4 => (b[j] & 63, b[j + 4] & 63),
        _ => ((b[j + 4] & 15) | (b[j - 4] >> 6) << 4, (b[j + 4] >> 4) | (b[j] >> 6) << 4),
    };
    (scale.into(), minimum.into())
}

/// Level i of a Q4_K or Q5_K block whose code is `code`.
fn k_level(block: &[u8], i: usize, code: f64) -> Level {
    let (scale, minimum) = scale_and_minimum(&block[4..16], i / 32);
    Level { step: f16(block) * scale, offset: -f16(&block[2..]) * minimum, code }
}

/// Sub-blocks 2g and 2g + 1 are the low and high halves of bytes 32g to 32g + 31.
fn k_nibble(bytes: &[u8], i: usize) -> f64 {
    f64::from(bytes[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15)
}

/// Two halves of 128; in each, quarter k of 32 has its low bits in a nibble and its high bits in bits 2k of `qh`.
fn q6_k(block: &[u8], i: usize) -> Level {
    let (half, quarter, l) = (i / 128, i / 32 % 4, i % 32);
    let low = block[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
    let high = block[128 + 32 * half + l] >> (2 * quarter) & 3;
    let scale = f64::from(block[192 + 8 * half + 2 * quarter + l / 16] as i8);
    Level { step: f16(&block[208..]) * scale, offset: 0.0, code: f64::from(low | high << 4) - 32.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_ieee_and_the_nearest_is_found() {
        let of = |bits: u16| f16(&bits.to_le_bytes());
        assert_eq!([0x3c00, 0xc000, 0x0001, 0x7bff].map(of), [1.0, -2.0, 2f64.powi(-24), 65504.0]);
        for bits in (0..0x7c00).chain(0x8000..0xfc00) {
            assert_eq!(nearest_f16(of(bits)), bits, "{bits:#06x}");
        }
        assert_eq!(nearest_f16(1.0 + 2f64.powi(-11)), 0x3c00, "a tie goes to the even half");
        assert_eq!(nearest_f16(1.0 + 3.0 * 2f64.powi(-11)), 0x3c02, "a tie goes to the even half");
        assert_eq!([65_519.0, 65_520.0].map(nearest_f16), [0x7bff, 0x7c00]);
        assert_eq!(rounded_to(1.0), (1.0 - 2f64.powi(-12), 1.0 + 2f64.powi(-11)));
        assert_eq!(rounded_to(of(1)), (2f64.powi(-25), 1.5 * 2f64.powi(-24)));
        assert_eq!(rounded_to(65_504.0), (65_488.0, 65_520.0));
    }

    #[test]
    fn blocks_are_what_they_say() {
        let mut q8_0 = vec![0; 34];
        q8_0[..2].copy_from_slice(&0x3800u16.to_le_bytes());
        (q8_0[2], q8_0[33]) = (127, 129);
        let values = row(Encoding::Ggml(GgmlType::Q8_0), &q8_0);
        assert_eq!((values[0], values[1], values[31]), (63.5, 0.0, -63.5));
        let mut block = vec![0; 17];
        (block[0], block[1], block[16]) = (128, 0x21, 0xf0);
        let halves = row(Encoding::Ggml(GgmlType::MXFP4), &block);
        assert_eq!((halves[0], halves[16], halves[31]), (1.0, 2.0, -12.0));
        let in_order = row(Encoding::Mxfp4InOrder, &block);
        assert_eq!((in_order[0], in_order[1], in_order[31]), (1.0, 2.0, -12.0));
    }
}
