//! Dense matrices of every codec made up for kernel checks: as GGUF's blocks, as their definition reads them, and as the
//! device holds them.

use super::half;
use super::inputs::Numbers;
use crate::device::Compute;
use crate::kernels::matrix::Matrix;
use crate::models::gpt_oss::dense::{Stored, device_matrix};
use crate::quant::BlockType;
use crate::verify::oracle::Real;

/// Types whose matrices a device has a codec for, other than BF16.
pub(super) const KINDS: [BlockType; 4] = [BlockType::F16, BlockType::F32, BlockType::Q8_0, BlockType::Q4K];

/// A matrix of random blocks.
pub(super) struct Dense {
    kind: BlockType,
    pub(super) rows: usize,
    pub(super) columns: usize,
    bytes: Vec<u8>,
}

impl Dense {
    /// Weights of a size that sums of some thousands stay moderate.
    pub(super) fn new(numbers: &mut Numbers, kind: BlockType, rows: usize, columns: usize) -> Self {
        let count = rows * columns / kind.values();
        let blocks = (0..count).flat_map(|_| block(numbers, kind));
        Self { kind, rows, columns, bytes: blocks.collect() }
    }

    /// A matrix of these blocks.
    pub(super) fn of(kind: BlockType, rows: usize, columns: usize, bytes: Vec<u8>) -> Self {
        assert_eq!(Some(bytes.len()), kind.row_bytes(columns).map(|row| rows * row), "whole rows");
        Self { kind, rows, columns, bytes }
    }

    /// Weight `column` of row `row`, by the type's definition.
    pub(super) fn weight(&self, row: usize, column: usize) -> f64 {
        let (values, bytes) = (self.kind.values(), self.kind.bytes());
        let block = &self.bytes[(row * self.columns + column) / values * bytes..][..bytes];
        let f16 = |at: usize| half::value(u16::from_le_bytes([block[at], block[at + 1]]));
        let i = column % values;
        match self.kind {
            BlockType::F16 => f16(0),
            BlockType::F32 => f64::from(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
            BlockType::Q8_0 => f16(0) * f64::from(block[2 + i] as i8),
            BlockType::Q4K => {
                let (scale, minimum) = six_bits(&block[4..16], i / 32);
                let code = (block[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4)) & 15;
                f16(0) * scale * f64::from(code) - f16(2) * minimum
            }
            other => panic!("{other:?} has no definition here"),
        }
    }

    /// What its type is called.
    pub(super) fn name(&self) -> &'static str {
        self.kind.into()
    }

    /// Row `row`, decoded.
    pub(super) fn row<F: Real>(&self, row: usize) -> Vec<F> {
        (0..self.columns).map(|column| F::from_f64(self.weight(row, column))).collect()
    }

    /// On the device, as loading puts it there.
    pub(super) fn matrix(&self, compute: &Compute) -> Matrix {
        let stored = Stored { kind: self.kind, rows: self.rows, columns: self.columns };
        device_matrix(compute, stored, &self.bytes).expect("finite scales")
    }
}

/// Scale and minimum of sub-block `s`: bit by bit from the twelve bytes.
fn six_bits(packed: &[u8], s: usize) -> (f64, f64) {
    let of =
        |low: usize, shift: usize, high: usize| f64::from(((packed[low] >> shift) & 15) | (packed[high] >> 6) << 4);
    match s {
        0..4 => (f64::from(packed[s] & 63), f64::from(packed[s + 4] & 63)),
        _ => (of(s + 4, 0, s - 4), of(s + 4, 4, s)),
    }
}

fn block(numbers: &mut Numbers, kind: BlockType) -> Vec<u8> {
    let byte = |numbers: &mut Numbers| (numbers.word() >> 24) as u8;
    // An F16 of either sign in [2^-9, 2^-6).
    let scale = |numbers: &mut Numbers| {
        let r = numbers.word();
        ((r & 0x8000) | (6 + (r >> 16) % 3) << 10 | (r & 0x3ff)) as u16
    };
    match kind {
        BlockType::F32 => numbers.float(0.05).to_le_bytes().into(),
        BlockType::F16 => scale(numbers).to_le_bytes().into(),
        _ => {
            let mut block: Vec<u8> = (0..kind.bytes()).map(|_| byte(numbers)).collect();
            let scales = if kind == BlockType::Q4K { 2 } else { 1 };
            for at in 0..scales {
                // Weights of some tenths: codes reach 127, or 63 times 15.
                let d = scale(numbers) - (5 << 10);
                block[2 * at..2 * at + 2].copy_from_slice(&d.to_le_bytes());
            }
            block
        }
    }
}
