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
    by(block, out, |code| code as i8 - 8);
}

/// The values of an IQ4_NL block.
pub fn decode_iq4_nl(block: &[u8; BYTES], out: &mut [f32; VALUES]) {
    by(block, out, |code| IQ4_NL[usize::from(code)]);
}

fn by(block: &[u8; BYTES], out: &mut [f32; VALUES], value: impl Fn(u8) -> i8) {
    let d = f16::read([block[0], block[1]]);
    for (j, &byte) in block[2..].iter().enumerate() {
        out[j] = f32::from(value(byte & 15)) * d;
        out[j + 16] = f32::from(value(byte >> 4)) * d;
    }
}
