//! Packed expert matrices made up for kernel checks: as the oracle reads them, and as the device holds them.

use std::ops::Range;

use super::inputs::{Numbers, floats};
use crate::device::Compute;
use crate::kernels::ops::ExpertChunk;
use crate::verify::oracle::rows::linear;
use crate::verify::oracle::{Real, Rows, mxfp4};

/// Values of a block, and its packed bytes.
const BLOCK: usize = 32;
const BLOCK_BYTES: usize = 16;

/// One matrix of every expert of a layer.
pub(super) struct Packed {
    pub(super) experts: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// 16 bytes a block.
    pub(super) blocks: Vec<u8>,
    /// E8M0 bytes without a file's offset.
    pub(super) scales: Vec<u8>,
    /// A row for each expert.
    pub(super) bias: Rows<f32>,
}

impl Packed {
    /// Random codes; scales `low..low + 5`.
    pub(super) fn new(numbers: &mut Numbers, [experts, rows, columns]: [usize; 3], low: u8) -> Self {
        let count = experts * rows * columns / BLOCK;
        let byte = |numbers: &mut Numbers| (numbers.word() >> 24) as u8;
        Self {
            experts,
            rows,
            columns,
            blocks: (0..count * BLOCK_BYTES).map(|_| byte(numbers)).collect(),
            scales: (0..count).map(|_| low + numbers.below(5) as u8).collect(),
            bias: numbers.rows(experts, rows, 0.5),
        }
    }

    /// One row of one expert, decoded.
    pub(super) fn row<F: Real>(&self, expert: usize, row: usize) -> Vec<F> {
        let blocks = self.columns / BLOCK;
        let first = (expert * self.rows + row) * blocks;
        let value = |i: usize| {
            let block = first + i / BLOCK;
            mxfp4::value(&self.blocks[block * BLOCK_BYTES..][..BLOCK_BYTES], self.scales[block], i % BLOCK)
        };
        (0..self.columns).map(|i| F::from_f64(value(i))).collect()
    }

    /// `x wᵀ` of one expert, without bias.
    pub(super) fn times<F: Real>(&self, x: &Rows<F>, expert: usize) -> Rows<F> {
        linear(x, self.rows, |row| self.row(expert, row))
    }

    /// Some of the experts on the device, their scales with the file's offset.
    pub(super) fn chunk(&self, compute: &Compute, experts: Range<usize>, scale_offset: u32) -> ExpertChunk {
        let count = experts.len();
        let blocks = self.rows * self.columns / BLOCK;
        let (first, end) = (experts.start * blocks, experts.end * blocks);
        let word = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let packed = &self.blocks[first * BLOCK_BYTES..end * BLOCK_BYTES];
        let words: Vec<u32> = packed.as_chunks().0.iter().map(word).collect();
        // The last word is filled up with a scale that would show.
        let stored = self.scales[first..end].iter().map(|&scale| scale + scale_offset as u8);
        let mut scales: Vec<u8> = stored.collect();
        scales.resize(scales.len().next_multiple_of(4), 0xff);
        let scales: Vec<u32> = scales.as_chunks().0.iter().map(word).collect();
        ExpertChunk {
            blocks: compute.upload(&words, [count, self.rows, self.columns / 8]),
            scales: compute.upload(&scales, [scales.len()]),
            bias: floats(
                compute,
                &self.bias.values[experts.start * self.rows..experts.end * self.rows],
                [count, self.rows],
            ),
        }
    }
}

/// Parts of `0..experts` that end at `ends` and at `experts`.
pub(super) fn parts(experts: usize, ends: &[usize]) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends.iter().copied().chain([experts])).map(|(start, end)| start..end).collect()
}
