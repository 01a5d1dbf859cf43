//! Q5_0 and Q5_1: blocks of 32 five-bit codes, the fifth bits apart.
//!
//! ```text
//! Q5_0   f16 d · u32 qh · u8 qs[16]            value = d × (code − 16)
//! Q5_1   f16 d · f16 m · u32 qh · u8 qs[16]    value = d × code + m    the product is exact: one rounding
//! ```
//!
//! Byte j of qs has value j in the low nibble, value j + 16 in the high one; bit i of qh is the fifth bit of value i.

use super::f16;

/// Values of a block.
pub const VALUES: usize = 32;
/// Bytes of a Q5_0 block.
pub const Q5_0_BYTES: usize = 22;
/// Bytes of a Q5_1 block.
pub const Q5_1_BYTES: usize = 24;

/// The values of a Q5_0 block.
pub fn decode_q5_0(block: &[u8; Q5_0_BYTES], out: &mut [f32; VALUES]) {
    let d = f16::read([block[0], block[1]]);
    for (value, code) in out.iter_mut().zip(signed_codes(block)) {
        *value = f32::from(code) * d;
    }
}

/// What a Q5_0 block's scale is multiplied with.
pub fn signed_codes(block: &[u8; Q5_0_BYTES]) -> [i8; VALUES] {
    codes(block.last_chunk().expect("20 bytes of 22")).map(|code| code as i8 - 16)
}

/// The values of a Q5_1 block.
pub fn decode_q5_1(block: &[u8; Q5_1_BYTES], out: &mut [f32; VALUES]) {
    let (d, m) = (f16::read([block[0], block[1]]), f16::read([block[2], block[3]]));
    let codes = codes(block.last_chunk().expect("20 bytes of 24"));
    for (value, code) in out.iter_mut().zip(codes) {
        *value = f32::from(code) * d + m;
    }
}

/// The five-bit codes of qh and qs.
fn codes(&[a, b, c, d, ref qs @ ..]: &[u8; 20]) -> [u8; VALUES] {
    let qh = u32::from_le_bytes([a, b, c, d]);
    std::array::from_fn(|i| {
        let nibble = (qs[i % 16] >> (4 * (i / 16))) & 15;
        nibble | ((qh >> i) as u8 & 1) << 4
    })
}
