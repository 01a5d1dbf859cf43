//! Q4_K, Q5_K and Q6_K: super-blocks of 256 values whose sub-blocks have scales of their own.
//!
//! ```text
//! Q4_K   f16 d · f16 dmin · u8 scales[12] · u8 qs[128]                  value = (d × sc) × code − (dmin × m)
//! Q5_K   f16 d · f16 dmin · u8 scales[12] · u8 qh[32] · u8 qs[128]      the same, codes of five bits
//! Q6_K   u8 ql[128] · u8 qh[64] · i8 scales[16] · f16 d                 value = (d × sc) × (code − 32)
//! ```
//!
//! Q4_K, Q5_K: eight sub-blocks of 32; bytes 32g..32g + 32 of qs hold sub-block 2g in their low nibbles, 2g + 1 in the high
//! ones; bit s of byte l of qh is the fifth bit of value l of sub-block s.  Q6_K: sixteen sub-blocks of 16.
//! Products of scales and codes are exact in f32: the difference is what rounds.

use super::f16;

/// Values of a super-block.
pub const VALUES: usize = 256;
/// Bytes of a Q4_K super-block.
pub const Q4_K_BYTES: usize = 144;
/// Bytes of a Q5_K super-block.
pub const Q5_K_BYTES: usize = 176;
/// Bytes of a Q6_K super-block.
pub const Q6_K_BYTES: usize = 210;
/// Values of a sub-block of Q4_K and Q5_K.
pub const SUB_VALUES: usize = 32;

/// Six-bit scale and minimum of sub-block `j` (0..8) from the twelve packed bytes.
pub fn scale_min(packed: &[u8; 12], j: usize) -> (u8, u8) {
    match j {
        0..4 => (packed[j] & 63, packed[j + 4] & 63),
        _ => ((packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4, (packed[j + 4] >> 4) | (packed[j] >> 6) << 4),
    }
}

/// The values of a Q4_K super-block.
pub fn decode_q4_k(block: &[u8; Q4_K_BYTES], out: &mut [f32; VALUES]) {
    let (scales, qs) = (block[4..].first_chunk().expect("12 bytes of 140"), &block[16..]);
    sub_blocks(block, scales, out, |s, l| (qs[s / 2 * 32 + l] >> (s % 2 * 4)) & 15);
}

/// The values of a Q5_K super-block.
pub fn decode_q5_k(block: &[u8; Q5_K_BYTES], out: &mut [f32; VALUES]) {
    let (scales, qh, qs) = (block[4..].first_chunk().expect("12 bytes of 172"), &block[16..48], &block[48..]);
    sub_blocks(block, scales, out, |s, l| ((qs[s / 2 * 32 + l] >> (s % 2 * 4)) & 15) | ((qh[l] >> s) & 1) << 4);
}

/// Eight sub-blocks whose code `l` of sub-block `s` is `code(s, l)`.
fn sub_blocks(block: &[u8], scales: &[u8; 12], out: &mut [f32; VALUES], code: impl Fn(usize, usize) -> u8) {
    let (d, d_min) = (f16::read([block[0], block[1]]), f16::read([block[2], block[3]]));
    for (s, values) in out.chunks_exact_mut(SUB_VALUES).enumerate() {
        let (scale, min) = scale_min(scales, s);
        let (factor, offset) = (d * f32::from(scale), d_min * f32::from(min));
        for (l, value) in values.iter_mut().enumerate() {
            *value = factor * f32::from(code(s, l)) - offset;
        }
    }
}

/// The values of a Q6_K super-block.
pub fn decode_q6_k(block: &[u8; Q6_K_BYTES], out: &mut [f32; VALUES]) {
    let (ql, qh, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = f16::read([block[208], block[209]]);
    for (half, values) in out.chunks_exact_mut(128).enumerate() {
        let (ql, qh, scales) = (&ql[half * 64..][..64], &qh[half * 32..][..32], &scales[half * 8..][..8]);
        for (i, value) in values.iter_mut().enumerate() {
            // Quarter k of the half: nibbles of ql in the order low, low, high, high; bits 2k, 2k + 1 of qh.
            let (quarter, l) = (i / 32, i % 32);
            let low = (ql[quarter % 2 * 32 + l] >> (quarter / 2 * 4)) & 15;
            let code = low | ((qh[l] >> (2 * quarter)) & 3) << 4;
            *value = d * f32::from(scales[i / 16] as i8) * f32::from(code as i8 - 32);
        }
    }
}
