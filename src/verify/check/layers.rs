//! A device's pass against the oracle one layer at a time, each from what the device itself put into it.
//!
//! Errors do not add up from layer to layer, so that any layer of a large model can be judged alone, and the oracle never holds
//! more than one.

use crate::checkpoint::WeightSource;
use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::verify::compare::calls::{chosen_of, is_right, margin};
use crate::verify::compare::stages::{Finding, compare};
use crate::verify::oracle::noise::{Noise, Tap, noise, nudged};
use crate::verify::oracle::router::Chosen;
use crate::verify::oracle::{Given, Oracle, Request, Rows, Vocab};

/// A run of a device, every stage of it.
pub(super) struct Pass<'a> {
    /// The checkpoint it ran.
    pub(super) source: &'a dyn WeightSource,
    /// The prompt, from position 0.
    pub(super) tokens: &'a [u32],
    /// The vocabulary ids whose logits were kept.
    pub(super) vocab: &'a [u32],
    /// What the device showed.
    pub(super) seen: Vec<Seen>,
}

/// Taps of a part of the pass in f64, and what f32 does to them.
type Judged = (Vec<Tap<f64>>, Vec<Noise>);

impl Pass<'_> {
    /// The embedding rows.
    pub(super) fn embedding(&self) -> Vec<Finding> {
        let oracle = Oracle::new(self.source);
        let tap = Tap { stage: Stage::Embedding, layer: None, rows: oracle.embed::<f64>(self.tokens) };
        let floor = noise(&tap, &oracle.embed::<f32>(self.tokens));
        compare(&[tap], &[floor], &self.seen)
    }

    /// Every stage of a layer; what went into it is the device's.
    ///
    /// Experts that the device chose in a close call are the oracle's too.
    pub(super) fn layer(&self, layer: usize) -> Vec<Finding> {
        let before = if layer == 0 { (Stage::Embedding, None) } else { (Stage::BlockOutput, Some(layer - 1)) };
        let x = self.rows(before);
        let judged = self.run(layer, &x, None);
        let findings = compare(&judged.0, &judged.1, &self.seen);
        let other_experts = findings.iter().any(|f| f.stage == Stage::Experts && !f.holds());
        match chosen_of(&self.seen, layer, self.source.config()) {
            Some(chosen) if other_experts && is_fair(&judged, &chosen) => {
                let judged = self.run(layer, &x, Some(&chosen));
                compare(&judged.0, &judged.1, &self.seen)
            }
            _ => findings,
        }
    }

    /// The last norm and the logits of all positions.
    pub(super) fn head(&self) -> Vec<Finding> {
        let oracle = Oracle::new(self.source);
        let x = self.rows((Stage::BlockOutput, Some(self.source.config().layers - 1)));
        let ask = Request { vocab: Vocab::These(self.vocab), ..Request::default() };
        let mut taps = Vec::new();
        oracle
            .head::<f64>(&x.to(), &ask, &mut |stage, layer, rows| taps.push(Tap { stage, layer, rows: rows.clone() }));
        let mut floor = Vec::new();
        oracle.head::<f32>(&x, &ask, &mut |_, _, rows| floor.push(noise(&taps[floor.len()], rows)));
        compare(&taps, &floor, &self.seen)
    }

    fn run(&self, layer: usize, x: &Rows<f32>, routing: Option<&Chosen>) -> Judged {
        let oracle = Oracle::new(self.source);
        let mut taps = Vec::new();
        oracle.layer::<f64>(layer, &x.to(), Given { routing, ..Given::default() }, &mut |stage, layer, rows| {
            taps.push(Tap { stage, layer, rows: rows.clone() });
        });
        let own: Vec<Chosen> = crate::verify::oracle::noise::routing(&taps);
        let floor = |x: &Rows<f32>| {
            let mut floor = Vec::new();
            let given = Given { routing: own.first(), ..Given::default() };
            oracle.layer::<f32>(layer, x, given, &mut |_, _, rows| floor.push(noise(&taps[floor.len()], rows)));
            floor
        };
        // The prompt is short: two throws of the dice.
        let floor = floor(x).into_iter().zip(floor(&nudged(x))).map(|(a, b): (Noise, Noise)| a.or(b)).collect();
        (taps, floor)
    }

    /// What the device showed of a stage, a row for each position.
    fn rows(&self, place: (Stage, Option<usize>)) -> Rows<f32> {
        let parts = self.seen.iter().filter(|s| (s.stage, s.layer) == place);
        let values: Vec<f32> = parts.flat_map(|s| s.values.iter().copied()).collect();
        assert_eq!(values.len() % self.tokens.len(), 0, "rows of {place:?}");
        Rows { width: values.len() / self.tokens.len(), values }
    }
}

/// Whether the device's choice is right by the oracle's own router logits, but for close calls.
fn is_fair((taps, floor): &Judged, chosen: &Chosen) -> bool {
    let router = taps.iter().zip(floor).find(|(tap, _)| tap.stage == Stage::RouterLogits);
    router.is_some_and(|(tap, noise)| is_right(tap, chosen, margin(noise)))
}
