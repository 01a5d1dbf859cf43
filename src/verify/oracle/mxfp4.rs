//! MXFP4 by its definition, in f64, where every product is exact.

/// The sixteen E2M1 values.
const E2M1: [f64; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Value `index` of a block of 16 packed bytes with scale `e`.
pub fn value(block: &[u8], e: u8, index: usize) -> f64 {
    let byte = block[index / 2];
    let code = if index.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
    if e == 255 { f64::NAN } else { E2M1[code as usize] * 2f64.powi(e as i32 - 127) }
}
