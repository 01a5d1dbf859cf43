//! The inputs of the ggml witness, made again: see `scripts/witness/ggml_codecs.py`.

use std::ops::Range;

use crate::quant::BlockType;
use crate::verify::fixture::values::fnv1a_64;

/// Where a stream of blocks begins that is not the million random ones.
const STREAM: u64 = 1 << 32;

/// A set of input blocks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Blocks {
    /// Random bytes throughout.
    Random,
    /// Random codes; the F16 scales of block i are the patterns i and 40503 i + 12345, an E8M0 scale is i mod 256.
    Scales,
    /// Random bytes, for repacking.
    Repacked,
}

impl Blocks {
    /// Blocks `first .. first + count`.
    pub(super) fn make(self, kind: BlockType, first: usize, count: usize) -> Vec<u8> {
        let (size, seed) = (kind.bytes(), fnv1a_64(<&str>::from(kind).bytes()));
        let stream = match self {
            Blocks::Random => 0,
            Blocks::Scales => STREAM,
            Blocks::Repacked => 3 * STREAM,
        };
        let words = size.div_ceil(8);
        let mut bytes = Vec::with_capacity(count * size);
        for index in first..first + count {
            let start = bytes.len();
            let word = |word| splitmix(seed, (stream + index as u64) * words as u64 + word);
            bytes.extend((0..words as u64).flat_map(|k| word(k).to_le_bytes()).take(size));
            if matches!(self, Blocks::Scales) {
                set_scales(kind, index as u32, &mut bytes[start..]);
            }
        }
        bytes
    }
}

fn set_scales(kind: BlockType, index: u32, block: &mut [u8]) {
    let places: &[usize] = match kind {
        BlockType::F32 => &[],
        BlockType::Mxfp4 => {
            block[0] = index as u8;
            &[]
        }
        BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => &[0, 2],
        BlockType::Q6K => &[208],
        _ => &[0],
    };
    for (&at, pattern) in places.iter().zip([index, index.wrapping_mul(40503).wrapping_add(12345)]) {
        block[at..at + 2].copy_from_slice(&(pattern as u16).to_le_bytes());
    }
}

/// The splitmix64 output of `seed + (index + 1) · γ`.
fn splitmix(seed: u64, index: u64) -> u64 {
    let z = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Super-blocks of 256 BF16 values, as f32, in eight kinds by index: see `scripts/witness/ggml_nearest.py`.
pub(super) fn super_blocks(range: Range<usize>) -> Vec<[f32; 256]> {
    let seed = fnv1a_64("nearest".bytes());
    let value = |index: u64| {
        let (word, group) = (splitmix(seed, index), splitmix(seed + 1, index / 16));
        let quarters = (0..4).map(|quarter| (word >> (16 * quarter)) & 0xffff).sum::<u64>() as i64 - 131_070;
        let bell = quarters as f32 * power((group % 6) as i64 - 20);
        let value = match index / 256 % 8 {
            3 => bell * power(-20),
            4 => (group / 2 % 3) as f32 * 0.25 - 0.25,
            5 if index.is_multiple_of(32) => -16.0 * power(-7),
            5 => ((word % 32) as f32 - 16.0) * power(-7),
            6 if group.is_multiple_of(3) => 0.0,
            7 => bell.abs(),
            _ => bell,
        };
        f32::from_bits(value.to_bits() & 0xffff_0000)
    };
    range.map(|block| std::array::from_fn(|at| value((block * 256 + at) as u64))).collect()
}

/// Blocks of 32 values for the encoders, in eight kinds by index.
pub(super) fn rows(range: Range<usize>) -> Vec<[f32; 32]> {
    let seed = fnv1a_64("encode".bytes());
    let row = |block: usize| {
        let h = splitmix(seed + 1, block as u64);
        std::array::from_fn(|j| value(block % 8, h, splitmix(seed, (block * 32 + j) as u64), j))
    };
    range.map(row).collect()
}

/// 2^exponent, for exponents of normal numbers.
fn power(exponent: i64) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// Value `j` of a block of kind `kind`, from the block's random bits `h` and its own `u`.
fn value(kind: usize, h: u64, u: u64, j: usize) -> f32 {
    const MIDPOINTS: [f32; 7] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];
    let (pick, mantissa, sign) = (u >> 40, u as u32 & 0x7f_ffff, (u >> 63) as u32 * 0x8000_0000);
    let n = (h % 200) as i64 - 100;
    let half_steps = || (if j == 0 { 254 } else { 2 * (pick % 127) + 1 }) as f32 * power(n - 1);
    let midpoints = || if j == 0 { 6.0 } else { MIDPOINTS[pick as usize % 7] } * power(n);
    let uniform = || (u as u32 as i32) as f32 * power((h % 40) as i64 - 51);
    let float = |exponent: u64| (exponent as u32 * 0x80_0000) | mantissa;
    let exponent = 10 + h % 240;
    let bits = match kind {
        0 => return uniform(),
        1 => float(2 + h % 240 + pick % 8),
        2 => float(pick % 255),
        3 => half_steps().to_bits(),
        4 => midpoints().to_bits(),
        5 if j == (h >> 16) as usize % 32 => exponent as u32 * 0x80_0000 - 1 - (h >> 8) as u32 % 16,
        5 => float(exponent - 2 - pick % 6),
        6 if !pick.is_multiple_of(4) || h.is_multiple_of(8) => 0,
        6 => uniform().abs().to_bits(),
        _ => {
            let tie = if h.is_multiple_of(2) { half_steps() } else { midpoints() };
            tie.to_bits().wrapping_add((pick >> 8) as u32 % 3).wrapping_sub(1)
        }
    };
    f32::from_bits(bits | sign)
}
