//! MXFP4 as GGUF stores it: the scale first, then the codes in split halves.
//!
//! ```text
//! u8 e · u8 qs[16]         byte j: value j in the low nibble, value j + 16 in the high one
//! ```
//!
//! The checkpoint ([`super::mxfp4`]) keeps scales apart and has values 2j and 2j + 1 in byte j.  The two hold the same codes
//! and scales: [`pack`] and [`unpack`] lose nothing.  Decoding differs from [`super::mxfp4::decode`] at the edges, for ggml
//! multiplies integers by half of the scale:
//!
//! * code 8 is +0, not −0;
//! * e = 255 is no NaN but one more power of two; loading refuses it, as it does for every format.
//!
//! Encoding is ggml's reference, which differs from OCP's: e = floor(log2f(amax)) − 2 + 127 with log2f rounded to f32, the
//! nearest value by f32 distance, ties to the lower code.  Below amax = 2^−125 the C text converts a negative float to a byte,
//! which is undefined; there e is 0 here.

use super::NotFinite;
use super::mxfp4::{BLOCK_BYTES, BLOCK_VALUES, code_at};

/// Bytes of a block with its scale.
pub const BYTES: usize = 1 + BLOCK_BYTES;

/// Twice the values of E2M1 (ggml's `kvalues_mxfp4`).
const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 2^(e − 128): half of the scale, for [`DOUBLED`] values.
fn half_scale(e: u8) -> f32 {
    f32::from_bits(match e {
        0 | 1 => 0x0020_0000 << e, // subnormal
        _ => u32::from(e - 1) << 23,
    })
}

/// The values of a block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; BLOCK_VALUES]) {
    let d = half_scale(block[0]);
    for (j, &byte) in block[1..].iter().enumerate() {
        out[j] = f32::from(DOUBLED[usize::from(byte & 15)]) * d;
        out[j + 16] = f32::from(DOUBLED[usize::from(byte >> 4)]) * d;
    }
}

/// The block of 32 finite values.
pub fn encode(values: &[f32; BLOCK_VALUES]) -> Result<[u8; BYTES], NotFinite> {
    let amax = NotFinite::amax(values)?;
    let e = match amax == 0.0 {
        true => 0,
        // log2f rounds: just below a power of two it may give the power's exponent.
        false => ((libm::log2(f64::from(amax)) as f32).floor() as i32 - 2 + 127).clamp(0, 254) as u8,
    };
    let d = half_scale(e);
    let mut block = [0; BYTES];
    block[0] = e;
    for j in 0..BLOCK_BYTES {
        block[1 + j] = nearest(values[j], d) | nearest(values[j + 16], d) << 4;
    }
    Ok(block)
}

fn nearest(value: f32, d: f32) -> u8 {
    let error = |code: usize| (f32::from(DOUBLED[code]) * d - value).abs();
    let better = |best: usize, code: usize| if error(code) < error(best) { code } else { best };
    (1..16).fold(0, better) as u8
}

/// A checkpoint's block and scale as GGUF holds them.
pub fn pack(block: &[u8; BLOCK_BYTES], e: u8) -> [u8; BYTES] {
    let mut out = [e; BYTES];
    for j in 0..BLOCK_BYTES {
        out[1 + j] = code_at(block, j) | code_at(block, j + 16) << 4;
    }
    out
}

/// The checkpoint's scale and block of what GGUF holds: [`pack`] undone.
pub fn unpack(block: &[u8; BYTES]) -> (u8, [u8; BLOCK_BYTES]) {
    let code = |i: usize| (block[1 + i % 16] >> (4 * (i / 16))) & 15;
    (block[0], std::array::from_fn(|j| code(2 * j) | code(2 * j + 1) << 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_c_leaves_undefined_is_scale_zero() {
        let tiny = [f32::from_bits(1); BLOCK_VALUES];
        assert_eq!(encode(&tiny), Ok([0; BYTES]));
        let largest = [2f32.powi(-126); BLOCK_VALUES];
        assert_eq!(encode(&largest).map(|block| block[0]), Ok(0));
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let mut values = [1.0; BLOCK_VALUES];
        values[7] = f32::NEG_INFINITY;
        assert_eq!(encode(&values), Err(NotFinite { index: 7, value: f32::NEG_INFINITY }));
        assert_eq!(super::super::q8_0::encode(&values).map_err(|e| e.index), Err(7));
    }

    #[test]
    fn packing_is_undone() {
        for seed in 0..=255u8 {
            let block: [u8; BLOCK_BYTES] = std::array::from_fn(|j| seed.wrapping_mul(37).wrapping_add(j as u8 * 17));
            assert_eq!(unpack(&pack(&block, seed)), (seed, block));
        }
    }
}
