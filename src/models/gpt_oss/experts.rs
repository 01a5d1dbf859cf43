//! The experts of a block on the device: all of them, or those that fit a budget.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use super::load::ExpertShape;
use super::pager::Pager;
use super::probe::{Probe, lap};
use crate::device::{Compute, DeviceError};
use crate::kernels::ops::{
    DECODE_TOKENS_MAX, ExpertChunk, ExpertSpec, combine_slots, experts_down, experts_tiled, experts_up, group_rows,
};
use crate::kernels::tile::{Epilogue, Shape};
use crate::telemetry::events::Paging;

/// Packed experts in as few buffers as the adapter allows: the first expert of each, and the buffer.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    /// First matrices.
    pub up: Vec<(usize, ExpertChunk)>,
    /// Second matrices.
    pub down: Vec<(usize, ExpertChunk)>,
}

/// Where a block's experts are.
#[derive(Debug)]
pub enum Experts {
    /// All on the device.
    Resident(Packed, ExpertShape),
    /// On the device while they fit a budget that all blocks share.
    Paged(Arc<Pager>, ExpertShape),
}

impl Experts {
    /// Bytes of one of them.
    pub fn expert_bytes(&self) -> u64 {
        let (Experts::Resident(_, shape) | Experts::Paged(_, shape)) = self;
        shape.expert_bytes() as u64
    }

    /// What paging has done so far, for all blocks.
    pub fn paging(&self) -> Paging {
        match self {
            Experts::Resident(..) => Paging::default(),
            Experts::Paged(pager, _) => pager.stats(),
        }
    }

    /// `x += Σ weight · expert(t)` for the chosen experts of every row.
    #[expect(clippy::too_many_arguments, reason = "what the router gave, and where it goes")]
    pub async fn forward(
        &self,
        compute: &Compute,
        layer: usize,
        t: &Tensor<2>,
        ids: &Tensor<2, Int>,
        scores: &Tensor<2>,
        x: Tensor<2>,
        probe: Option<&mut Probe>,
    ) -> Result<Tensor<2>, DeviceError> {
        match self {
            Experts::Resident(packed, shape) => {
                let mut pass = Pass::new(compute, *shape, layer, t, scores, x, probe);
                pass.run(compute, packed, shape.experts, ids);
                Ok(pass.finish(compute))
            }
            Experts::Paged(pager, shape) => {
                let mut pass = Pass::new(compute, *shape, layer, t, scores, x, probe);
                let routed = compute.read_words(ids.clone()).await?;
                for slots in pager.turns(layer, &routed) {
                    let ids = compute.upload(&slots, ids.dims());
                    lap(&mut pass.probe, compute, "page");
                    pass.run(compute, pager.packed(), pager.slots(), &ids);
                }
                Ok(pass.finish(compute))
            }
        }
    }
}

/// One pass of a block's experts over a chunk, in one turn or several.
struct Pass<'a> {
    shape: ExpertShape,
    spec: ExpertSpec,
    layer: usize,
    t: &'a Tensor<2>,
    scores: &'a Tensor<2>,
    x: Option<Tensor<2>>,
    h: Option<Tensor<3>>,
    y: Option<Tensor<3>>,
    probe: Option<&'a mut Probe>,
}

impl<'a> Pass<'a> {
    fn new(
        compute: &Compute,
        shape: ExpertShape,
        layer: usize,
        t: &'a Tensor<2>,
        scores: &'a Tensor<2>,
        x: Tensor<2>,
        probe: Option<&'a mut Probe>,
    ) -> Self {
        let [tokens, hidden] = t.dims();
        let spec = ExpertSpec {
            first: 0,
            scale_offset: shape.scale_offset,
            chosen: shape.chosen,
            limit: shape.limit,
            family: compute.family(),
        };
        let h = compute.scratch([tokens, shape.chosen, shape.intermediate]);
        let y = (tokens > DECODE_TOKENS_MAX).then(|| compute.scratch([tokens, shape.chosen, hidden]));
        Self { shape, spec, layer, t, scores, x: Some(x), h: Some(h), y, probe }
    }

    /// Runs the experts that `ids` names in `packed`, of `experts` there; other ids are passed over.
    fn run(&mut self, compute: &Compute, packed: &Packed, experts: usize, ids: &Tensor<2, Int>) {
        let (Some(x), Some(h)) = (self.x.take(), self.h.take()) else { return };
        let at = |first| ExpertSpec { first, ..self.spec };
        let Some(y) = self.y.take() else {
            let h = packed.up.iter().fold(h, |h, (first, chunk)| experts_up(self.t, ids, chunk, h, at(*first)));
            lap(&mut self.probe, compute, "up");
            let down =
                |x, (first, chunk): &(usize, ExpertChunk)| experts_down(&h, ids, self.scores, chunk, x, at(*first));
            self.x = Some(packed.down.iter().fold(x, down));
            lap(&mut self.probe, compute, "down");
            if let Some(probe) = &mut self.probe {
                probe.activations(self.layer, &h, None);
            }
            self.h = Some(h);
            return;
        };
        let shape = Shape::experts(self.spec.family, ids.dims().iter().product(), experts);
        let (perm, tiles) = group_rows(ids, experts, shape);
        lap(&mut self.probe, compute, "group");
        let list = (&perm, &tiles);
        let up = |h, (first, chunk): &(usize, ExpertChunk)| {
            experts_tiled(self.t, list, chunk, h, Epilogue::Swiglu, shape, at(*first))
        };
        let h = packed.up.iter().fold(h, up);
        lap(&mut self.probe, compute, "up");
        let [tokens, chosen, width] = h.dims();
        let rows = h.clone().reshape([tokens * chosen, width]);
        let down = |y, (first, chunk): &(usize, ExpertChunk)| {
            experts_tiled(&rows, list, chunk, y, Epilogue::Scatter, shape, at(*first))
        };
        self.y = Some(packed.down.iter().fold(y, down));
        lap(&mut self.probe, compute, "down");
        if let Some(probe) = &mut self.probe {
            probe.activations(self.layer, &h, Some(&perm));
        }
        (self.x, self.h) = (Some(x), Some(h));
    }

    fn finish(mut self, compute: &Compute) -> Tensor<2> {
        debug_assert_eq!(self.shape.chosen, self.spec.chosen);
        match (self.x, self.y) {
            (Some(x), Some(y)) => {
                let x = combine_slots(y, self.scores, x);
                lap(&mut self.probe, compute, "combine");
                x
            }
            (Some(x), None) => x,
            (None, _) => unreachable!("a pass keeps its residual stream"),
        }
    }
}
