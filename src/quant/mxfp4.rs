//! MXFP4: blocks of 32 four-bit E2M1 values that share one E8M0 scale (OCP Microscaling Formats v1.0).
//!
//! ```text
//! byte j of a block (0..16):  bits 0..4 are value 2j, bits 4..8 are value 2j + 1   (gpt-oss SafeTensors, model.bin)
//! code:  s e e m             value = (-1)^s × {0, 0.5, 1, 1.5, 2, 3, 4, 6}[eem]
//! scale: e (0..=254)         factor = 2^(e − 127)
//! ```
//!
//! Policy at the edges, each a row of `goldens/tensors/mxfp4-decode.json`:
//!
//! * code 8 is −0 and stays −0;
//! * e = 0 is 2^−127, a subnormal f32, and is kept, as is e = 1 with code 1 or 9;
//! * e ≥ 253 overflows to ±∞ where code × factor exceeds the largest f32; BF16 overflows at the same codes;
//! * e = 255 is NaN for every code, as OCP says; PyTorch's upcast and ggml do not special-case it, so a
//!   checkpoint that holds it is refused before it is decoded ([`crate::checkpoint::values`]).

use super::NotFinite;

/// Values of a block.
pub const BLOCK_VALUES: usize = 32;
/// Packed bytes of a block, without its scale.
pub const BLOCK_BYTES: usize = 16;
/// Bias of an E8M0 scale.
pub const SCALE_BIAS: i32 = 127;
/// The scale that means NaN.
pub const SCALE_NAN: u8 = 255;
/// Largest magnitude of E2M1.
pub const E2M1_MAX: f64 = 6.0;
/// Exponent of the largest power of two in E2M1: amax of a block is scaled to lie in `[4, 8)`.
const E2M1_EXPONENT_MAX: i32 = 2;

/// 2^(e − 127); NaN for 255.
pub fn scale_factor(e: u8) -> f32 {
    match e {
        0 => f32::from_bits(0x0040_0000), // 2^−127 is subnormal: no exponent field holds it
        SCALE_NAN => f32::NAN,
        _ => f32::from_bits(u32::from(e) << 23),
    }
}

/// One value: E2M1 `code` (its low four bits) times the factor of `e`.
///
/// Two stages, both exact.  The code's bits, placed in a BF16's exponent and mantissa, read as value × 2^−126; the
/// first factor undoes that, the second applies the scale.  One combined factor of 2^(e − 1) would overflow from e = 129.
pub fn decode(code: u8, e: u8) -> f32 {
    const PLACED: f32 = f32::from_bits((127 + 126) << 23);
    let placed = u32::from(code & 8) << 28 | u32::from(code & 7) << 22;
    f32::from_bits(placed) * PLACED * scale_factor(e)
}

/// As [`decode`], in BF16 bits.  Exact wherever the f32 is finite: E2M1 has two significant bits.
pub fn decode_bf16(code: u8, e: u8) -> u16 {
    super::bf16::from_f32(decode(code, e))
}

/// The code of value `index` (0..32) of a packed block.
pub fn code_at(block: &[u8; BLOCK_BYTES], index: usize) -> u8 {
    (block[index / 2] >> (4 * (index % 2))) & 0x0f
}

/// Decodes whole blocks.
///
/// `blocks` holds 16 bytes a block, `scales` one byte, `out` 32 values.
///
/// # Panics
/// If the three lengths do not describe the same number of blocks.
pub fn decode_blocks(blocks: &[u8], scales: &[u8], out: &mut [f32]) {
    assert_eq!(blocks.len(), scales.len() * BLOCK_BYTES, "packed bytes for {} scales", scales.len());
    assert_eq!(out.len(), scales.len() * BLOCK_VALUES, "values for {} scales", scales.len());
    let blocks = blocks.as_chunks::<BLOCK_BYTES>().0;
    for ((block, &e), values) in blocks.iter().zip(scales).zip(out.chunks_exact_mut(BLOCK_VALUES)) {
        for (index, value) in values.iter_mut().enumerate() {
            *value = decode(code_at(block, index), e);
        }
    }
}

/// Encodes one block: scale from the largest magnitude, codes to nearest even, saturating at ±6.
///
/// E8M0 e = floor(log2 amax) − 2 + 127, clamped to 0..=254; an all-zero block has e = 0 (OCP MX v1.0, 6.3).
pub fn encode_block(values: &[f32; BLOCK_VALUES]) -> Result<(u8, [u8; BLOCK_BYTES]), NotFinite> {
    let amax = NotFinite::amax(values)?;
    let e = match amax == 0.0 {
        true => 0,
        false => (floor_log2(amax) - E2M1_EXPONENT_MAX + SCALE_BIAS).clamp(0, 254) as u8,
    };
    let mut block = [0; BLOCK_BYTES];
    for (index, &value) in values.iter().enumerate() {
        // In f64 the quotient is exact, so that there is one rounding.
        let code = encode_e2m1(f64::from(value) / 2f64.powi(i32::from(e) - SCALE_BIAS));
        block[index / 2] |= code << (4 * (index % 2));
    }
    Ok((e, block))
}

/// The exponent of a positive finite f32; f64 has no subnormals in f32's range.
fn floor_log2(value: f32) -> i32 {
    ((f64::from(value).to_bits() >> 52) as i32 & 0x7ff) - 1023
}

/// The nearest E2M1 code; ties to the even code, magnitudes above 6 to 6, the sign kept also for zero.
fn encode_e2m1(value: f64) -> u8 {
    /// Midpoints between neighbours, and whether a tie goes up (to an even code).
    const STEPS: [(f64, bool); 7] =
        [(0.25, false), (0.75, true), (1.25, false), (1.75, true), (2.5, false), (3.5, true), (5.0, false)];
    let magnitude = value.abs();
    let code = STEPS.iter().filter(|&&(mid, up)| magnitude > mid || (up && magnitude == mid)).count() as u8;
    code | (u8::from(value.is_sign_negative()) << 3)
}
