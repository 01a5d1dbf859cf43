//! F16 (IEEE binary16).
//!
//! Subnormals are kept in both directions.  Twin: ggml's `GGML_FP16_TO_FP32` and `GGML_FP32_TO_FP16`.

/// Widens; every F16 value is an f32 value.  NaN stays NaN with its payload.
pub fn to_f32(bits: u16) -> f32 {
    const SMALLEST: f32 = 1.0 / 16_777_216.0; // 2^−24, the step of subnormals
    let magnitude = u32::from(bits & 0x7fff);
    let value = match magnitude >> 10 {
        0 => magnitude as f32 * SMALLEST,
        31 => f32::from_bits(0x7f80_0000 | magnitude << 13),
        _ => f32::from_bits((magnitude << 13) + 0x3800_0000),
    };
    f32::from_bits(value.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// Rounds to nearest, ties to even.  From 65 520 on infinite; every NaN becomes 7e00 with its sign.
pub fn from_f32(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = value.to_bits() & 0x7fff_ffff;
    let rounded = match magnitude {
        0x7f80_0001.. => 0x7e00,
        0x477f_f000.. => 0x7c00,
        0x3880_0000.. => (magnitude - 0x3800_0000 + 0xfff + ((magnitude >> 13) & 1)) >> 13,
        // Below 2^−14: adding 1/2 leaves the multiples of 2^−24, rounded, in the low bits.
        _ => (f32::from_bits(magnitude) + 0.5).to_bits() - 0x3f00_0000,
    };
    sign | rounded as u16
}

/// The two bytes of an F16 in a block.
pub(super) fn read(bytes: [u8; 2]) -> f32 {
    to_f32(u16::from_le_bytes(bytes))
}
