//! Q8_0: blocks of 32 signed bytes under one F16 scale.
//!
//! ```text
//! f16 d · i8 q[32]         value = d × q
//! ```
//!
//! Encoding is ggml's reference: d = amax / 127 in f32, q = round(x × (1/d)) with ties away from zero, and only then d to
//! F16.  So a block whose largest magnitude is above 127 × 65 519 has an infinite scale, and one below about 127 × 2^−25
//! has scale zero, in ggml as here.

use super::{NotFinite, f16};

/// Values of a block.
pub const VALUES: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 34;

/// The values of a block.
pub fn decode(block: &[u8; BYTES], out: &mut [f32; VALUES]) {
    let d = f16::read([block[0], block[1]]);
    for (value, &q) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(q as i8) * d;
    }
}

/// The block nearest to 32 finite values.
///
/// Where 1/d overflows (amax below 127 × 2^−128) C leaves the codes undefined; here they are zero, as x86 has them.
pub fn encode(values: &[f32; VALUES]) -> Result<[u8; BYTES], NotFinite> {
    let d = NotFinite::amax(values)? / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let mut block = [0; BYTES];
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, &x) in block[2..].iter_mut().zip(values) {
        let scaled = x * inverse;
        *q = if scaled.is_finite() { scaled.round() as i8 as u8 } else { 0 };
    }
    Ok(block)
}
