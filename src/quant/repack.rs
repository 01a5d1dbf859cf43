//! Blocks in the order in which a device reads them: the same bits in other places, so that 16-byte pieces begin at
//! multiples of 16 and a piece's words give four values each without moving anything between lanes.
//!
//! | block  | codes                                                    | scales                                                  |
//! |--------|----------------------------------------------------------|---------------------------------------------------------|
//! | Q8_0   | byte k of word j is value 8k + j, plus 128               | the F16's two bytes                                     |
//! | Q4_K   | each sub-block of 32 in 16 bytes, values 2j, 2j + 1 in byte j | a word d, dmin; eight pairs of bytes sc, m         |
//!
//! Q4_0, Q5_0 and IQ4_NL are integers of at most eight bits times an F16, and so is Q8_0: [`as_q8_0`] loses nothing.

use super::{BlockType, k_quants, q4_0, q5, q8_0};

/// Bytes of a Q4_K super-block's scales on a device: 16 in the file, without the packing to six bits.
pub const Q4_K_SCALE_BYTES: usize = 20;

/// Appends the codes and the scale of a Q8_0 block.
pub fn q8_0(block: &[u8; q8_0::BYTES], codes: &mut Vec<u8>, scales: &mut Vec<u8>) {
    scales.extend_from_slice(&block[..2]);
    let swizzled: [u8; q8_0::VALUES] = std::array::from_fn(|at| block[2 + at % 4 * 8 + at / 4] ^ 0x80);
    codes.extend_from_slice(&swizzled);
}

/// Appends the codes and the scales of a Q4_K super-block.
pub fn q4_k(block: &[u8; k_quants::Q4_K_BYTES], codes: &mut Vec<u8>, scales: &mut Vec<u8>) {
    scales.extend_from_slice(&block[..4]);
    let packed: &[u8; 12] = block[4..].first_chunk().expect("12 bytes of 140");
    for s in 0..8 {
        let (scale, minimum) = k_quants::scale_min(packed, s);
        scales.extend_from_slice(&[scale, minimum]);
        let code = |l: usize| (block[16 + s / 2 * 32 + l] >> (s % 2 * 4)) & 15;
        codes.extend((0..16).map(|j| code(2 * j) | code(2 * j + 1) << 4));
    }
}

/// A Q4_0, Q5_0 or IQ4_NL block as the Q8_0 block of the same values, bit for bit; `None` for other types.
pub fn as_q8_0(kind: BlockType, block: &[u8]) -> Option<[u8; q8_0::BYTES]> {
    let codes = match kind {
        BlockType::Q4_0 => q4_0::codes(block.try_into().ok()?),
        BlockType::Iq4Nl => q4_0::codes_iq4_nl(block.try_into().ok()?),
        BlockType::Q5_0 => q5::signed_codes(block.try_into().ok()?),
        _ => return None,
    };
    let mut out = [0; q8_0::BYTES];
    out[..2].copy_from_slice(&block[..2]);
    out[2..].iter_mut().zip(codes).for_each(|(byte, code)| *byte = code as u8);
    Some(out)
}
