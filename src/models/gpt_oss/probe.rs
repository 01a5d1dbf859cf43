//! Looking into the forward pass, at values and at what they cost; nothing is copied or waited for when nobody looks.

use burn::tensor::{Int, Tensor};

use super::stage::Stage;
use super::trace::Tracer;
use crate::checkpoint::ModelConfig;
use crate::device::{Compute, DeviceError};
use crate::kernels::codec::{KvType, swizzle};
use crate::telemetry::events::Paging;

/// How a tapped tensor lies on the device.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "some dozens of taps, for one run")]
enum Order {
    Natural,
    Swizzled,
    /// Rows sorted by expert, swizzled: row `r` belongs to assignment `perm[r]`.
    Sorted(Tensor<1, Int>),
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "some dozens of taps, for one run")]
enum Values {
    Floats(Tensor<2>, Order),
    Words(Tensor<2, Int>),
    Cached(Tensor<2, Int>, KvType),
}

/// Stages asked for, and what was seen of them: device copies, read back together at the end.
#[derive(Debug, Default)]
pub struct Probe {
    /// Told what every layer costs, if there is one.
    pub tracer: Option<Tracer>,
    wanted: Vec<Stage>,
    seen: Vec<(Stage, Option<usize>, Values)>,
}

/// The values of one stage of one layer, rows in order of position.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Where.
    pub stage: Stage,
    /// In which layer, for stages of a layer.
    pub layer: Option<usize>,
    /// `[rows × width]`; expert ids are exact as f32.
    pub values: Vec<f32>,
}

/// `kernel` has been launched, for whoever looks.
pub(super) fn lap(probe: &mut Option<&mut Probe>, compute: &Compute, kernel: &'static str) {
    if let Some(probe) = probe {
        probe.lap(compute, kernel);
    }
}

impl Probe {
    /// A probe for some stages.
    pub fn of(wanted: impl IntoIterator<Item = Stage>) -> Self {
        Self { wanted: wanted.into_iter().collect(), ..Self::default() }
    }

    fn wants(&self, stage: Stage) -> bool {
        self.wanted.contains(&stage)
    }

    /// `kernel` has been launched.
    pub(super) fn lap(&mut self, compute: &Compute, kernel: &'static str) {
        if let Some(tracer) = &mut self.tracer {
            tracer.lap(compute, kernel);
        }
    }

    /// A chunk begins; see [`Tracer::begin`].
    pub(super) fn begin(&mut self, compute: &Compute, position: usize, tokens: usize) {
        if let Some(tracer) = &mut self.tracer {
            tracer.begin(compute, position, tokens);
        }
    }

    /// What was launched belongs to no layer; see [`Tracer::outside`].
    pub(super) fn outside(&mut self, weight_bytes: u64) {
        if let Some(tracer) = &mut self.tracer {
            tracer.outside(weight_bytes);
        }
    }

    /// A layer is done; see [`Tracer::layer`].
    pub(super) async fn layer_done(
        &mut self,
        compute: &Compute,
        layer: usize,
        ids: &Tensor<2, Int>,
        bytes: (u64, u64),
        paging: Paging,
    ) -> Result<(), DeviceError> {
        match &mut self.tracer {
            Some(tracer) => tracer.layer(compute, layer, ids, bytes, paging).await,
            None => Ok(()),
        }
    }

    /// Taps a tensor in natural order.  What is later changed in place is copied first.
    pub(crate) fn natural(&mut self, stage: Stage, layer: Option<usize>, tensor: &Tensor<2>) {
        if self.wants(stage) {
            self.seen.push((stage, layer, Values::Floats(tensor.clone().mul_scalar(1.0), Order::Natural)));
        }
    }

    /// Taps a swizzled tensor.
    pub(super) fn swizzled(&mut self, stage: Stage, layer: Option<usize>, tensor: &Tensor<2>) {
        if self.wants(stage) {
            self.seen.push((stage, layer, Values::Floats(tensor.clone(), Order::Swizzled)));
        }
    }

    /// Taps rows of a cache.
    pub(super) fn cached(&mut self, stage: Stage, layer: usize, rows: Tensor<2, Int>, kv: KvType) {
        if self.wants(stage) {
            self.seen.push((stage, Some(layer), Values::Cached(rows, kv)));
        }
    }

    /// Taps expert ids.
    pub(super) fn ids(&mut self, layer: usize, tensor: &Tensor<2, Int>) {
        if self.wants(Stage::Experts) {
            self.seen.push((Stage::Experts, Some(layer), Values::Words(tensor.clone())));
        }
    }

    /// Taps the experts' activations `[tokens, chosen, intermediate]`, sorted by `perm` where there is one.
    pub(super) fn activations(&mut self, layer: usize, h: &Tensor<3>, perm: Option<&Tensor<1, Int>>) {
        if self.wants(Stage::Swiglu) {
            let [tokens, chosen, width] = h.dims();
            let rows = h.clone().reshape([tokens * chosen, width]);
            let order = perm.map_or(Order::Swizzled, |perm| Order::Sorted(perm.clone()));
            self.seen.push((Stage::Swiglu, Some(layer), Values::Floats(rows, order)));
        }
    }

    /// Reads everything back, undoing device orders.
    pub async fn read(self, compute: &Compute, config: &ModelConfig) -> Result<Vec<Seen>, DeviceError> {
        let mut out = Vec::with_capacity(self.seen.len());
        for (stage, layer, values) in self.seen {
            let values = match values {
                Values::Words(ids) => compute.read_words(ids).await?.into_iter().map(|id| id as f32).collect(),
                Values::Cached(rows, kv) => widened(&compute.read_words(rows).await?, kv),
                Values::Floats(tensor, order) => {
                    let width = tensor.dims()[1];
                    let raw = compute.read_floats(tensor).await?;
                    match order {
                        Order::Natural => raw,
                        Order::Swizzled => unswizzle(&raw, width),
                        Order::Sorted(perm) => unsort(&unswizzle(&raw, width), width, &compute.read_words(perm).await?),
                    }
                }
            };
            debug_assert!(stage == Stage::Logits || values.len().is_multiple_of(stage.width(config)));
            out.push(Seen { stage, layer, values });
        }
        Ok(out)
    }
}

fn widened(words: &[u32], kv: KvType) -> Vec<f32> {
    match kv {
        KvType::F32 => words.iter().map(|&word| f32::from_bits(word)).collect(),
        KvType::F16 => words.iter().flat_map(|&word| [half(word & 0xFFFF), half(word >> 16)]).collect(),
    }
}

/// The value of f16 bits that are finite, as all in a cache are.
fn half(bits: u32) -> f32 {
    let magnitude = bits & 0x7FFF;
    let value = match magnitude < 0x400 {
        true => magnitude as f32 / 16_777_216.0,
        false => f32::from_bits((magnitude << 13) + 0x3800_0000),
    };
    if bits & 0x8000 == 0 { value } else { -value }
}

fn unswizzle(raw: &[f32], width: usize) -> Vec<f32> {
    raw.chunks_exact(width).flat_map(|row| (0..width).map(|i| row[swizzle(i)])).collect()
}

/// Rows that no entry of `perm` names are NaN: where the device chose ids that are none, entries hold anything, and the verdict
/// is to name the stage at which that began.
fn unsort(rows: &[f32], width: usize, perm: &[u32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows.len()];
    for (row, &to) in rows.chunks_exact(width).zip(perm) {
        if let Some(place) = out.chunks_exact_mut(width).nth(to as usize) {
            place.copy_from_slice(row);
        }
    }
    out
}
