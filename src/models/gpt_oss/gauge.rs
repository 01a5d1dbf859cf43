//! What a benchmark asks a loaded model: how many bytes a token reads, and its experts by the path that packed kernels replace.

use burn::tensor::Tensor;

use super::GptOss;
use super::experts::{Experts, Packed};
use super::load::ExpertShape;
use crate::device::DeviceError;
use crate::kernels::gauge::expand;
use crate::kernels::ops::{ExpertSpec, Words, experts_down, experts_up, linear_store};

/// Rows that are expanded at a time: never a whole expert.
const EXPANDED_ROWS: usize = 720;

impl GptOss {
    /// Bytes of weights that one decoded token reads.
    pub fn weight_bytes_per_token(&self) -> u64 {
        let c = &self.config;
        let blocks =
            self.blocks.iter().map(|b| b.dense_bytes() + b.experts.expert_bytes() * c.experts_per_token as u64);
        let tables = self.unembedding.iter().map(|(_, piece)| piece.bytes());
        blocks.chain(tables).chain([self.embedding.row_bytes(c.hidden)]).sum()
    }

    /// Bytes of keys and values that a token at `position` reads.
    pub fn cache_bytes_per_token(&self, position: usize) -> u64 {
        let seen = |layer: usize| match layer.is_multiple_of(2) {
            true => self.config.sliding_window.min(position + 1),
            false => position + 1,
        };
        let rows: usize = (0..self.config.layers).map(seen).sum();
        (rows * 2 * 4 * self.heads.cache_words()) as u64
    }

    /// A large buffer of the model, to measure how fast the adapter reads.
    pub fn large_buffer(&self) -> Words<2> {
        let largest = self.unembedding.iter().map(|(_, matrix)| matrix).max_by_key(|matrix| matrix.bytes());
        largest.unwrap_or(&self.blocks[0].out).words.clone()
    }

    /// The first experts of a block that are on the device, where all are.
    fn resident(&self) -> Option<(&Packed, &ExpertShape)> {
        self.blocks.iter().find_map(|block| match &block.experts {
            Experts::Resident(packed, shape) => Some((packed, shape)),
            Experts::Paged(..) => None,
        })
    }

    /// Runs the chosen experts of one token straight from their packed blocks, and waits.
    pub async fn gauge_packed(&self) -> Result<bool, DeviceError> {
        let Some((packed, shape)) = self.resident() else { return Ok(false) };
        let (t, ids, scores, h) = self.gauge_inputs(shape);
        let spec = ExpertSpec {
            first: 0,
            scale_offset: shape.scale_offset,
            chosen: shape.chosen,
            limit: shape.limit,
            family: self.compute.family(),
        };
        let at = |first: usize| ExpertSpec { first, ..spec };
        let h = packed.up.iter().fold(h, |h, (first, chunk)| experts_up(&t, &ids, chunk, h, at(*first)));
        let x = packed.down.iter().fold(t, |x, (first, chunk)| experts_down(&h, &ids, &scores, chunk, x, at(*first)));
        self.compute.read_floats(x).await.map(|_| true)
    }

    /// The matrix products of the same experts by expanding them to BF16 first, a slice at a time, and waits.
    pub async fn gauge_expanded(&self) -> Result<bool, DeviceError> {
        let Some((packed, shape)) = self.resident() else { return Ok(false) };
        let (t, _, _, h) = self.gauge_inputs(shape);
        let h = h.reshape([shape.chosen, shape.intermediate]).narrow(0, 0, 1);
        let mut last = None;
        for (x, chunks) in [(&t, &packed.up), (&h, &packed.down)] {
            let Some((_, chunk)) = chunks.first() else { continue };
            let [held, rows, _] = chunk.blocks.dims();
            for expert in (0..shape.chosen).map(|e| e % held) {
                for first in (0..rows).step_by(EXPANDED_ROWS) {
                    let count = EXPANDED_ROWS.min(rows - first);
                    let w = expand(chunk, expert, first, count, shape.scale_offset);
                    let out = self.compute.scratch([1, count]);
                    last = Some(linear_store(x, &w, out, 0, self.compute.family()));
                }
            }
        }
        match last {
            Some(out) => self.compute.read_floats(out).await.map(|_| true),
            None => Ok(false),
        }
    }

    fn gauge_inputs(&self, shape: &ExpertShape) -> (Tensor<2>, Words<2>, Tensor<2>, Tensor<3>) {
        let device = self.compute.device();
        let ids: Vec<u32> = (0..shape.chosen as u32).collect();
        let t = Tensor::<2>::ones([1, shape.hidden], device);
        let scores = Tensor::<2>::ones([1, shape.experts + shape.chosen], device);
        let h = Tensor::<3>::ones([1, shape.chosen, shape.intermediate], device);
        (t, self.compute.upload(&ids, [1, shape.chosen]), scores, h)
    }
}
