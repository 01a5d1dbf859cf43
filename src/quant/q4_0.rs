//! Q4_0 and IQ4_NL: blocks of 32 four-bit codes under one F16 scale.
//!
//! ```text
//! f16 d · u8 qs[16]        byte j: value j in the low nibble, value j + 16 in the high one
//! Q4_0                     value = d × (code − 8)
//! IQ4_NL                   value = d × IQ4_NL[code]
//! ```

use super::f16;

/// Values of a block.
pub const VALUES: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 18;

/// What the codes of IQ4_NL stand for (ggml's `kvalues_iq4nl`).
pub const IQ4_NL: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The values of a Q4_0 block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; VALUES]) {
    times(block, codes(block), out);
}

/// The values of an IQ4_NL block.
pub fn decode_iq4_nl(block: &[u8; BYTES], out: &mut [f32; VALUES]) {
    times(block, codes_iq4_nl(block), out);
}

/// What a Q4_0 block's scale is multiplied with.
pub fn codes(block: &[u8; BYTES]) -> [i8; VALUES] {
    std::array::from_fn(|i| nibble(block, i) as i8 - 8)
}

/// What an IQ4_NL block's scale is multiplied with.
pub fn codes_iq4_nl(block: &[u8; BYTES]) -> [i8; VALUES] {
    std::array::from_fn(|i| IQ4_NL[usize::from(nibble(block, i))])
}

fn nibble(block: &[u8; BYTES], i: usize) -> u8 {
    (block[2 + i % 16] >> (4 * (i / 16))) & 15
}

fn times(block: &[u8; BYTES], codes: [i8; VALUES], out: &mut [f32; VALUES]) {
    let d = f16::read([block[0], block[1]]);
    for (value, code) in out.iter_mut().zip(codes) {
        *value = f32::from(code) * d;
    }
}
