//! Equality of runs of elements, with the first difference and how many there are.

use crate::checkpoint::Dtype;
use crate::quant::bf16;

/// Where and how two runs of elements differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// One is shorter; values were not compared.
    Length {
        /// Bytes expected.
        want_bytes: usize,
        /// Bytes found.
        found_bytes: usize,
    },
    /// Same length, other elements.
    Elements {
        /// Index of the first that differs.
        first: usize,
        /// Its expected bytes, little-endian, widened to 64 bits.
        want: u64,
        /// Its found bytes.
        found: u64,
        /// How many differ.
        count: usize,
        /// How many there are.
        total: usize,
    },
}

/// Compares two runs of `element_bytes`-wide elements bit for bit.  `None` is equality, the only success.
pub fn difference(want: &[u8], found: &[u8], element_bytes: usize) -> Option<Difference> {
    if want.len() != found.len() {
        return Some(Difference::Length { want_bytes: want.len(), found_bytes: found.len() });
    }
    if want == found {
        return None;
    }
    let pairs = || want.chunks(element_bytes).zip(found.chunks(element_bytes));
    let first = pairs().position(|(w, f)| w != f).expect("unequal runs of equal length differ somewhere");
    let element = |run: &[u8]| {
        let bytes = &run[first * element_bytes..((first + 1) * element_bytes).min(run.len())];
        bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    };
    Some(Difference::Elements {
        first,
        want: element(want),
        found: element(found),
        count: pairs().filter(|(w, f)| w != f).count(),
        total: want.len().div_ceil(element_bytes),
    })
}

/// An element's bits with the value they mean.
pub fn decoded(dtype: Dtype, bits: u64) -> String {
    match dtype {
        Dtype::Bf16 => format!("{:#06x} ({:e})", bits, bf16::to_f32(bits as u16)),
        Dtype::F32 => format!("{:#010x} ({:e})", bits, f32::from_bits(bits as u32)),
        _ => format!("{bits:#04x} ({bits})"),
    }
}

impl Difference {
    /// In words; element indices are shifted by `base`.
    pub fn describe(&self, dtype: Dtype, base: usize) -> String {
        match self {
            Difference::Length { want_bytes, found_bytes } => {
                format!("expected {want_bytes} bytes, found {found_bytes}")
            }
            Difference::Elements { first, want, found, count, total } => format!(
                "element {}: expected {}, found {}; {count} of {total} differ",
                base + first,
                decoded(dtype, *want),
                decoded(dtype, *found)
            ),
        }
    }
}
