//! The forward pass of GPT-OSS on one screen.
//!
//! ```text
//! x = embedding[token]
//! each layer:  x += W_o · attention(rope(q), rope(k), v) + b_o      q, k, v = W · norm(x) + b
//!              x += experts(norm(x))                                chosen and weighted by the router
//! logits = U · norm(x)
//! ```
//!
//! All positions at once, from position 0: no cache and no chunks, which is what makes it obviously right.

use super::attention::{Heads, attention};
use super::cache::{Kept, kept};
use super::experts::experts;
use super::real::Real;
use super::rms_norm::rms_norm;
use super::rope::{Rotated, rotate};
use super::router::{Chosen, choose, weigh};
use super::rows::{Rows, add_bias, linear};
use super::semantics::{MlpInput, Semantics};
use super::weights::Weights;
use crate::checkpoint::{ModelConfig, Role, TensorId, WeightSource};
use crate::models::gpt_oss::stage::Stage;

/// Sees the values of every stage as they are computed: stage, layer where it has one, and a row for each position.
///
/// [`Stage::Experts`] comes as floats, which hold ids exactly.  [`Stage::FinalNorm`] and [`Stage::Logits`] have a row
/// for each position asked for.
pub type Observer<'o, F> = dyn FnMut(Stage, Option<usize>, &Rows<F>) + 'o;

/// What to compute.  The default: every layer, logits of the whole vocabulary at every position.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'r> {
    /// Positions that get logits.
    pub positions: Positions<'r>,
    /// Vocabulary ids that get logits.
    pub vocab: Vocab<'r>,
    /// Only so many of the layers are run.
    pub layers: Option<usize>,
    /// Experts that are used whatever the router says, for each layer and position; it still weighs them.
    pub routing: Option<&'r [Chosen]>,
    /// What attention reads in place of each layer's own keys and values; those are still computed and observed, not rounded.
    pub cache: Option<&'r [Kept]>,
}

impl<'r> Request<'r> {
    fn given(&self, layer: usize) -> Given<'r> {
        Given { routing: self.routing.map(|of| &of[layer]), cache: self.cache.map(|of| &of[layer]) }
    }
}

/// What a layer is given, where a [`Request`] gives it to the whole pass.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Given<'r> {
    pub routing: Option<&'r Chosen>,
    pub cache: Option<&'r Kept>,
}

/// Positions that get logits.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub enum Positions<'r> {
    #[default]
    All,
    Last,
    These(&'r [usize]),
}

/// Vocabulary ids that get logits, in that order.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub enum Vocab<'r> {
    #[default]
    All,
    These(&'r [u32]),
}

/// A checkpoint and the decisions by which it is run.
pub struct Oracle<'a> {
    weights: Weights<'a>,
    semantics: Semantics,
}

impl<'a> Oracle<'a> {
    /// The right forward pass of a checkpoint.
    pub fn new(source: &'a dyn WeightSource) -> Self {
        Oracle::with(source, Semantics::gpt_oss(source.config()))
    }

    /// The forward pass by other decisions: a fault.
    pub fn with(source: &'a dyn WeightSource, semantics: Semantics) -> Self {
        Oracle { weights: Weights::new(source), semantics }
    }

    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        self.weights.config()
    }

    /// The decisions.
    pub fn semantics(&self) -> &Semantics {
        &self.semantics
    }

    /// Logits of `tokens`, which start at position 0: a row for each position asked for.
    ///
    /// # Panics
    /// If there is no token, an id, a position or an expert lies outside the model, or a routing or a cache does not fit.
    pub fn forward<F: Real>(&self, tokens: &[u32], ask: &Request, observer: &mut Observer<F>) -> Rows<F> {
        let layers = ask.layers.unwrap_or(self.weights.config().layers);
        let mut x = self.embed(tokens);
        observer(Stage::Embedding, None, &x);
        for layer in 0..layers {
            x = self.layer(layer, &x, ask.given(layer), observer);
        }
        self.head(&x, ask, observer)
    }

    /// The embedding rows of `tokens`: `[hidden]`.
    pub fn embed<F: Real>(&self, tokens: &[u32]) -> Rows<F> {
        let rule = self.semantics.embedding;
        let embedding = self.weights.matrix(TensorId::outside(Role::Embedding));
        assert!(!tokens.is_empty(), "a forward pass needs a token");
        let strange = tokens.iter().find(|&&token| token as usize >= embedding.rows());
        assert!(strange.is_none(), "token {strange:?} of {} rows", embedding.rows());
        Rows::each(self.weights.config().hidden, tokens.len(), |p| {
            let row = embedding.row((tokens[p] as usize + rule.row_shift) % embedding.rows());
            row.into_iter().map(|x: F| x * F::from_f64(rule.factor)).collect()
        })
    }

    /// Block `layer` on the residual stream `x`, `[hidden]`, whose rows are positions 0, 1, …
    pub fn layer<F: Real>(&self, layer: usize, x: &Rows<F>, given: Given, observer: &mut Observer<F>) -> Rows<F> {
        let x = self.attend(layer, x, given.cache, observer);
        observer(Stage::AttentionResidual, Some(layer), &x);
        let x = self.mix(layer, &x, given.routing, observer);
        observer(Stage::BlockOutput, Some(layer), &x);
        x
    }

    /// The first half of a block: `x + W_o · attention(rope(q), rope(k), v) + b_o`.
    fn attend<F: Real>(&self, layer: usize, x: &Rows<F>, cache: Option<&Kept>, observer: &mut Observer<F>) -> Rows<F> {
        let (w, s, c) = (self.weights, &self.semantics, self.weights.config());
        let mut tap = |stage, rows: &Rows<F>| observer(stage, Some(layer), rows);
        let of = |role| TensorId::of_block(role, layer);

        let t = rms_norm(x, &w.vector(of(Role::AttnNorm)), &s.attention_norm);
        tap(Stage::AttentionNorm, &t);
        let [q, k, v] = self.project(layer, &t);
        let q = rotate(&q, c.head_dim, &s.rope, Rotated::Queries);
        let k = rotate(&k, c.head_dim, &s.rope, Rotated::Keys);
        let [k, v] = [k, v].map(|rows| kept(rows, s.cache));
        tap(Stage::Query, &q);
        tap(Stage::Key, &k);
        tap(Stage::Value, &v);
        let [k, v] = cache.map_or([k, v], |cache| [cache.keys.to(), cache.values.to()]);
        let heads = Heads { heads: c.heads, kv_heads: c.kv_heads, head_dim: c.head_dim };
        let a = attention(&q, &k, &v, &w.vector(of(Role::Sinks)), heads, layer, &s.attention);
        tap(Stage::Attention, &a);
        let out = w.matrix(of(Role::OutWeight));
        let mut y = linear(&a, c.hidden, |row| out.row(row));
        if s.attention.output_bias {
            add_bias(&mut y, &w.vector(of(Role::OutBias)));
        }
        x.scaled_plus(s.residual.attention, &y)
    }

    /// Queries, keys and values with their biases, not yet rotated.
    fn project<F: Real>(&self, layer: usize, t: &Rows<F>) -> [Rows<F>; 3] {
        let (w, rule, c) = (self.weights, &self.semantics.projection, self.weights.config());
        let matrix = w.matrix(TensorId::of_block(Role::QkvWeight, layer));
        let bias: Vec<F> = w.vector(TensorId::of_block(Role::QkvBias, layer));
        let qkv = linear(t, c.qkv_rows(), |row| matrix.row(row));
        let (k, v) = (c.q_rows(), c.q_rows() + c.kv_rows());
        let (k, v) = if rule.key_value_swapped { (v, k) } else { (k, v) };
        let parts =
            [(0, c.q_rows(), rule.query_bias), (k, c.kv_rows(), rule.key_bias), (v, c.kv_rows(), rule.value_bias)];
        parts.map(|(first, width, has_bias)| {
            let rows = first..first + width;
            let mut y = qkv.columns(rows.clone());
            if has_bias {
                add_bias(&mut y, &bias[rows]);
            }
            y
        })
    }

    /// The second half of a block: `x + experts(norm(x))`.
    fn mix<F: Real>(&self, layer: usize, x: &Rows<F>, routing: Option<&Chosen>, observer: &mut Observer<F>) -> Rows<F> {
        let (w, s, c) = (self.weights, &self.semantics, self.weights.config());
        let mut tap = |stage, rows: &Rows<F>| observer(stage, Some(layer), rows);
        let of = |role| TensorId::of_block(role, layer);

        let t = rms_norm(x, &w.vector(of(Role::MlpNorm)), &s.mlp_norm);
        tap(Stage::MlpNorm, &t);
        let input = |input| if input == MlpInput::Normed { &t } else { x };
        let gate = w.matrix(of(Role::GateWeight));
        let mut logits = linear(input(s.router.input), c.experts, |row| gate.row(row));
        if s.router.bias {
            add_bias(&mut logits, &w.vector(of(Role::GateBias)));
        }
        tap(Stage::RouterLogits, &logits);
        let chosen = routing.cloned().unwrap_or_else(|| choose(&logits, &s.router));
        tap(Stage::Experts, &ids(&chosen, s.router.experts_per_token));
        let weights = weigh(&logits, &chosen, &s.router);
        tap(Stage::ExpertWeights, &weights);
        let mixed = experts(input(s.experts.input), &chosen, &weights, layer, w, (&s.experts, s.mxfp4));
        tap(Stage::Swiglu, &mixed.swiglu);
        x.scaled_plus(s.residual.mlp, &mixed.output)
    }

    /// The last norm and the logits at the positions asked for; `x` has a row for each position.
    pub fn head<F: Real>(&self, x: &Rows<F>, ask: &Request, observer: &mut Observer<F>) -> Rows<F> {
        let (w, rule) = (self.weights, &self.semantics.unembedding);
        let x = match ask.positions {
            Positions::All => x.clone(),
            Positions::Last => x.select(&[x.count() - 1]),
            Positions::These(positions) => x.select(positions),
        };
        let t = rms_norm(&x, &w.vector(TensorId::outside(Role::FinalNorm)), &self.semantics.final_norm);
        observer(Stage::FinalNorm, None, &t);
        let unembedding = w.matrix(TensorId::outside(if rule.tied { Role::Embedding } else { Role::Unembedding }));
        let mut logits = match ask.vocab {
            Vocab::All => linear(&t, unembedding.rows(), |id| unembedding.row(id)),
            Vocab::These(ids) => linear(&t, ids.len(), |index| unembedding.row(ids[index] as usize)),
        };
        if let Some(cap) = rule.softcap.map(F::from_f64) {
            logits.values.iter_mut().for_each(|logit| *logit = (*logit / cap).tanh() * cap);
        }
        observer(Stage::Logits, None, &logits);
        logits
    }
}

/// Expert ids as floats.
fn ids<F: Real>(chosen: &Chosen, experts_per_token: usize) -> Rows<F> {
    Rows::each(experts_per_token, chosen.len(), |p| chosen[p].iter().map(|&id| F::from_f64(id as f64)).collect())
}
