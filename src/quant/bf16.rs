//! BF16: the upper half of an f32.

/// Widens; every BF16 value is an f32 value.
pub fn to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Rounds to nearest, ties to even.  Values beyond the largest BF16 become infinite; NaN stays NaN (quiet).
pub fn from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // Truncation could clear every mantissa bit of a NaN and leave an infinity.
        return (bits >> 16) as u16 | 0x0040;
    }
    // Adding just under half of the dropped part, plus the kept part's lowest bit, carries exactly when RNE rounds up.
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// `value × factor`, computed in f32 and rounded to nearest even: what PyTorch's in-place multiply does.
///
/// Exact for a power of two unless the result is subnormal; subnormals are kept, −0 stays −0.
pub fn scale(bits: u16, factor: f32) -> u16 {
    from_f32(to_f32(bits) * factor)
}

/// Reads the element at `index` of little-endian BF16 bytes.
pub fn get(bytes: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]])
}
