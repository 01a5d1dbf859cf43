//! Inputs of kernel checks: numbers from a counter-based generator, seeded with the case's name, audited before use.
//!
//! An input that is constant, all zero, or has equal rows could hide a kernel that reads the wrong place.

use burn::tensor::{Int, Tensor};

use crate::device::Compute;
use crate::kernels::codec::Codec;
use crate::kernels::matrix::Matrix;
use crate::kernels::qkv::{Class, STEP_ANGLES};
use crate::quant::bf16;
use crate::verify::fixture::values::{fnv1a_64, squares32};
use crate::verify::oracle::{Real, Rows};

/// What memory holds that a kernel must not touch: a number no check computes.
pub(super) const SENTINEL: f32 = -7.654321e20;
/// Values of a packed block, in which activations are swizzled.
const BLOCK: usize = 32;

/// A stream of numbers that a name determines.
pub(super) struct Numbers {
    seed: u64,
    next: u64,
}

impl Numbers {
    /// The stream of a name.
    pub(super) fn new(name: &str) -> Self {
        Self { seed: fnv1a_64(name.bytes()) | 1, next: 0 }
    }

    /// 32 random bits.
    pub(super) fn word(&mut self) -> u32 {
        self.next += 1;
        squares32(self.next, self.seed)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.word() >> 1) as usize % end
    }

    /// An f32 with a full mantissa, in `[-amplitude, amplitude)`.
    pub(super) fn float(&mut self, amplitude: f32) -> f32 {
        (self.word() as i32 as f32) * (amplitude / (1u64 << 31) as f32)
    }

    /// Rows of such floats, audited.
    pub(super) fn rows(&mut self, count: usize, width: usize, amplitude: f32) -> Rows<f32> {
        let values = (0..count * width).map(|_| self.float(amplitude)).collect();
        let rows = Rows { width, values };
        audit(&rows);
        rows
    }

    /// BF16 of either sign, magnitudes in `[2^low, 2^(low + octaves))`, audited as rows of `width`.
    pub(super) fn bf16(&mut self, count: usize, width: usize, low: i32, octaves: u32) -> Vec<u16> {
        let bits = |r: u32| (r & 0x8000) | ((127 + low) as u32 + (r >> 16) % octaves) << 7 | (r & 0x7f);
        let values: Vec<u16> = (0..count * width).map(|_| bits(self.word()) as u16).collect();
        audit(&Rows { width, values: widened(&values) });
        values
    }

    /// `count` different numbers below `end`, in random order.
    pub(super) fn distinct(&mut self, count: usize, end: usize) -> Vec<u32> {
        let mut keyed: Vec<(u32, u32)> = (0..end as u32).map(|id| (self.word(), id)).collect();
        keyed.sort_unstable();
        keyed.iter().take(count).map(|&(_, id)| id).collect()
    }
}

/// Refuses rows that could hide a wrong read; what is wrong with them.
pub(super) fn weakness(rows: &Rows<f32>) -> Option<&'static str> {
    let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    let mut sorted: Vec<Vec<u32>> = rows.iter().map(bits).collect();
    sorted.sort_unstable();
    let constant = rows.values.len() > 1 && rows.values.iter().all(|x| x.to_bits() == rows.values[0].to_bits());
    match () {
        () if rows.values.is_empty() => Some("empty"),
        () if rows.values.iter().any(|x| !x.is_finite()) => Some("not finite"),
        () if rows.values.iter().all(|&x| x == 0.0) => Some("all zero"),
        () if constant => Some("constant"),
        // One or two values of few bits may well be equal by chance.
        () if rows.width > 2 && sorted.windows(2).any(|pair| pair[0] == pair[1]) => Some("equal rows"),
        () => None,
    }
}

/// As [`weakness`], for inputs of our own making.
///
/// # Panics
/// If there is one: the check would be worth nothing.
pub(super) fn audit(rows: &Rows<f32>) {
    let found = weakness(rows);
    assert!(found.is_none(), "a check's input is {}", found.unwrap_or_default());
}

/// BF16 as f32.
pub(super) fn widened(values: &[u16]) -> Vec<f32> {
    values.iter().map(|&bits| bf16::to_f32(bits)).collect()
}

/// In another float type, exactly.
pub(super) fn to<F: Real>(values: &[f32]) -> Vec<F> {
    values.iter().map(|&x| F::from_f64(f64::from(x))).collect()
}

/// Row `index` of a BF16 matrix of rows of `width`, in another float type.
pub(super) fn matrix_row<F: Real>(matrix: &[u16], index: usize, width: usize) -> Vec<F> {
    to(&widened(&matrix[index * width..][..width]))
}

/// Within each block of 32, place `4 (p mod 8) + p / 8` holds value p.
pub(super) fn swizzled<T: Copy>(natural: &[T]) -> Vec<T> {
    let mut out = natural.to_vec();
    for (from, to) in natural.chunks_exact(BLOCK).zip(out.chunks_exact_mut(BLOCK)) {
        (0..BLOCK).for_each(|p| to[4 * (p % 8) + p / 8] = from[p]);
    }
    out
}

/// The inverse of [`swizzled`].
pub(super) fn natural<T: Copy>(swizzled: &[T]) -> Vec<T> {
    let mut out = swizzled.to_vec();
    for (from, to) in swizzled.chunks_exact(BLOCK).zip(out.chunks_exact_mut(BLOCK)) {
        (0..BLOCK).for_each(|p| to[p] = from[4 * (p % 8) + p / 8]);
    }
    out
}

/// A tensor of these floats on the device.
pub(super) fn floats<const D: usize>(compute: &Compute, values: &[f32], shape: [usize; D]) -> Tensor<D> {
    let tensor = compute.scratch(shape);
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    compute.write(&tensor, 0, &bytes);
    tensor
}

/// A BF16 matrix of `rows` rows on the device, two values to a word.
pub(super) fn matrix(compute: &Compute, values: &[u16], rows: usize) -> Matrix {
    let words: Vec<u32> = values.as_chunks::<2>().0.iter().map(|&[a, b]| u32::from(a) | u32::from(b) << 16).collect();
    Matrix::new(compute.upload(&words, [rows, words.len() / rows]), Codec::Bf16)
}

/// The same matrix as F32.
pub(super) fn matrix_f32(compute: &Compute, values: &[u16], rows: usize) -> Matrix {
    let words: Vec<u32> = values.iter().map(|&bits| u32::from(bits) << 16).collect();
    Matrix::new(compute.upload(&words, [rows, words.len() / rows]), Codec::F32)
}

/// A step buffer: a row for each position, first slot and number of slots; the class of layers that is not looked at has others.
/// `angles` are cos and sin of each pair, a row for each token; without any, zeros.
pub(super) fn steps(
    compute: &Compute,
    class: Class,
    rows: impl ExactSizeIterator<Item = (usize, usize, usize)>,
    angles: &[f32],
    head_dim: usize,
) -> Tensor<2, Int> {
    let shape = [rows.len(), STEP_ANGLES + head_dim];
    let mut words = vec![0u32; shape[0] * shape[1]];
    for (i, (row, (position, first, slots))) in words.chunks_exact_mut(shape[1]).zip(rows).enumerate() {
        let other = Class::Window.word() + Class::Full.word() - class.word();
        (row[0], row[other], row[other + 1]) = (position as u32, 0, 1);
        (row[class.word()], row[class.word() + 1]) = (first as u32, slots as u32);
        for (word, angle) in row[STEP_ANGLES..].iter_mut().zip(angles.iter().skip(i * head_dim)) {
            *word = angle.to_bits();
        }
    }
    compute.upload(&words, shape)
}
