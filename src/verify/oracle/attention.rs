//! Attention with learned sinks, causal, grouped-query, windowed on even layers.
//!
//! For query head h at position i, key-value head `h / (heads / kv_heads)` and the keys j it sees:
//!
//! * `a_j = scale · q·k_j`, scale = 1/√d; it sees `j ≤ i`, in a windowed layer `i − window < j ≤ i`
//! * `p_j = exp(a_j − m) / (exp(s − m) + Σ exp(a − m))`, `m = max(s, a)`: the sink s of head h takes part in the softmax,
//!   unscaled and never masked, and has no value
//! * output: `Σ p_j · v_j`
//!
//! Source: `sdpa` of OpenAI's `gpt_oss/torch/model.py`; sinks as a denominator term: arXiv 2309.17453 §3, "softmax1".

use std::ops::Range;

use super::real::Real;
use super::rows::{Rows, dot};
use super::semantics::{Attention, KvHead, SinkOf, SinkWeighs};

/// Sizes that attention needs to know.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

/// Weighted values of each head: `q` is `[heads × head_dim]`, `k` and `v` `[kv_heads × head_dim]`, `sinks` `[heads]`.
pub fn attention<F: Real>(
    q: &Rows<F>,
    k: &Rows<F>,
    v: &Rows<F>,
    sinks: &[F],
    sizes: Heads,
    layer: usize,
    rule: &Attention,
) -> Rows<F> {
    let d = sizes.head_dim;
    Rows::each(q.width, q.count(), |i| {
        let keys = visible(i, q.count(), layer, rule);
        let of_head = |h: usize| {
            let kv = kv_head(h, sizes, rule) * d;
            let query = &q.row(i)[h * d..][..d];
            let keys = keys.clone();
            let scale = F::from_f64(rule.scale);
            let scores: Vec<F> = keys.clone().map(|j| dot(query, &k.row(j)[kv..][..d]) * scale).collect();
            let values: Vec<&[F]> = keys.map(|j| &v.row(j)[kv..][..d]).collect();
            weighted_values(&scores, &values, sink(h, sinks, sizes, layer, rule), d, rule)
        };
        (0..sizes.heads).flat_map(of_head).collect()
    })
}

/// The keys that query `i` of `count` positions sees.
pub fn visible(i: usize, count: usize, layer: usize, rule: &Attention) -> Range<usize> {
    let end = (i + 1).saturating_add_signed(rule.lookahead).min(count);
    let window = if rule.windowed.contain(layer) { rule.window } else { count };
    let chunk = rule.forgets_after.map_or(0, |chunk| i / chunk * chunk);
    (i + 1).saturating_sub(window).max(chunk).min(end)..end
}

fn kv_head(head: usize, sizes: Heads, rule: &Attention) -> usize {
    match rule.kv_head {
        KvHead::Grouped => head / (sizes.heads / sizes.kv_heads),
        KvHead::Modulo => head % sizes.kv_heads,
    }
}

/// The sink's logit for query head `head`, if the layer has one.
fn sink<F: Real>(head: usize, sinks: &[F], sizes: Heads, layer: usize, rule: &Attention) -> Option<F> {
    let index = match rule.sink.of {
        SinkOf::OwnHead => head,
        SinkOf::NextHead => (head + 1) % sizes.heads,
        SinkOf::KvHead => kv_head(head, sizes, rule),
    };
    let is_there = rule.sink.count > 0 && rule.sink.layers.contain(layer);
    is_there.then(|| sinks[index] * F::from_f64(rule.sink.factor))
}

/// `Σ p_j · v_j`, p the softmax over scores and sink.
fn weighted_values<F: Real>(scores: &[F], values: &[&[F]], sink: Option<F>, d: usize, rule: &Attention) -> Vec<F> {
    let lowest = F::from_f64(f64::NEG_INFINITY);
    let max = scores.iter().fold(sink.unwrap_or(lowest), |max, &score| max.larger(score));
    let weights: Vec<F> = scores.iter().map(|&score| (score - max).exp()).collect();
    let sink_weight = sink.map_or(F::zero(), |sink| (sink - max).exp() * F::from_f64(rule.sink.count as f64));
    let denominator = weights.iter().fold(sink_weight, |sum, &weight| sum + weight);
    let mut out = vec![F::zero(); d];
    for (j, (&weight, value)) in weights.iter().zip(values).enumerate() {
        let takes_sink = j == 0 && rule.sink.weighs == SinkWeighs::FirstValue;
        let p = if takes_sink { (weight + sink_weight) / denominator } else { weight / denominator };
        out.iter_mut().zip(*value).for_each(|(out, &v)| *out += p * v);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::semantics::{Layers, Semantics, Sink};
    use super::*;
    use crate::verify::fixture::Recipe;

    fn right() -> Attention {
        Semantics::gpt_oss(&Recipe::built_in("T3").config()).attention
    }

    #[test]
    fn a_window_holds_128_keys_with_the_querys_own_on_even_layers() {
        assert_eq!(visible(0, 300, 0, &right()), 0..1);
        assert_eq!(visible(127, 300, 0, &right()), 0..128);
        assert_eq!(visible(128, 300, 0, &right()), 1..129);
        assert_eq!(visible(299, 300, 2, &right()), 172..300);
        assert_eq!(visible(299, 300, 1, &right()), 0..300);
    }

    #[test]
    fn each_rule_of_visibility_changes_what_it_says() {
        let at = |i, layer, rule: Attention| visible(i, 300, layer, &rule);
        assert_eq!(at(200, 0, Attention { window: 127, ..right() }), 74..201);
        assert_eq!(at(200, 0, Attention { windowed: Layers::Odd, ..right() }), 0..201);
        assert_eq!(at(200, 1, Attention { windowed: Layers::Odd, ..right() }), 73..201);
        assert_eq!(at(200, 1, Attention { windowed: Layers::All, ..right() }), 73..201);
        assert_eq!(at(200, 0, Attention { windowed: Layers::None, ..right() }), 0..201);
        assert_eq!(at(200, 0, Attention { lookahead: 1, ..right() }), 73..202);
        assert_eq!(at(299, 0, Attention { lookahead: 1, ..right() }), 172..300);
        assert_eq!(at(0, 0, Attention { lookahead: -1, ..right() }), 0..0);
        assert_eq!(at(200, 0, Attention { lookahead: -1, ..right() }), 73..200);
        assert_eq!(at(200, 0, Attention { forgets_after: Some(64), ..right() }), 192..201);
        assert_eq!(at(191, 1, Attention { forgets_after: Some(64), ..right() }), 128..192);
    }

    /// Four query heads and two key-value heads of one value.  Keys are 0, so that all scores are 0; the values of
    /// head 0 are 1, 2, 3, those of head 1 ten times as much.  exp(sink) is 1, 2, 3, 4 by query head.
    fn at_the_end(rule: Attention) -> Vec<f64> {
        let sizes = Heads { heads: 4, kv_heads: 2, head_dim: 1 };
        let q = Rows { width: 4, values: vec![1.0; 12] };
        let k = Rows { width: 2, values: vec![0.0; 6] };
        let v = Rows { width: 2, values: vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0] };
        let sinks = [1f64, 2.0, 3.0, 4.0].map(f64::ln);
        attention(&q, &k, &v, &sinks, sizes, 1, &rule).row(2).to_vec()
    }

    fn assert_close(got: Vec<f64>, want: [f64; 4]) {
        let is_close = |(got, want): (&f64, &f64)| (got - want).abs() <= 1e-14 * want.abs();
        assert!(got.iter().zip(&want).all(is_close), "{got:?}, not {want:?}");
    }

    #[test]
    fn a_sink_takes_its_share_and_gives_no_value() {
        assert_close(at_the_end(right()), [6.0 / 4.0, 6.0 / 5.0, 60.0 / 6.0, 60.0 / 7.0]);
    }

    #[test]
    fn each_rule_of_heads_and_sinks_changes_what_it_says() {
        let with = |change: fn(&mut Sink)| {
            let mut rule = right();
            change(&mut rule.sink);
            at_the_end(rule)
        };
        let modulo = at_the_end(Attention { kv_head: KvHead::Modulo, ..right() });
        assert_close(modulo, [6.0 / 4.0, 60.0 / 5.0, 6.0 / 6.0, 60.0 / 7.0]);
        let none = [2.0, 2.0, 20.0, 20.0];
        assert_close(with(|sink| sink.count = 0), none);
        assert_close(with(|sink| sink.layers = Layers::Even), none);
        assert_close(with(|sink| sink.count = 2), [6.0 / 5.0, 6.0 / 7.0, 60.0 / 9.0, 60.0 / 11.0]);
        assert_close(with(|sink| sink.factor = -1.0), [6.0 / 4.0, 6.0 / 3.5, 60.0 / (3.0 + 1.0 / 3.0), 60.0 / 3.25]);
        assert_close(with(|sink| sink.of = SinkOf::NextHead), [6.0 / 5.0, 6.0 / 6.0, 60.0 / 7.0, 60.0 / 4.0]);
        assert_close(with(|sink| sink.of = SinkOf::KvHead), [6.0 / 4.0, 6.0 / 4.0, 60.0 / 5.0, 60.0 / 5.0]);
        let first = with(|sink| sink.weighs = SinkWeighs::FirstValue);
        assert_close(first, [7.0 / 4.0, 8.0 / 5.0, 90.0 / 6.0, 100.0 / 7.0]);
    }

    #[test]
    fn scores_are_scaled_and_large_ones_do_not_overflow() {
        let sizes = Heads { heads: 1, kv_heads: 1, head_dim: 2 };
        let q = Rows { width: 2, values: vec![1.0f32, 1.0, 300.0, 0.0] };
        let k = Rows { width: 2, values: vec![10.0, 0.0, 300.0, 0.0] };
        let v = Rows { width: 2, values: vec![1.0, 2.0, 3.0, 4.0] };
        let rule = Attention { scale: 0.1, ..right() };
        let out = attention(&q, &k, &v, &[0.0], sizes, 1, &rule);
        let p = 1.0 / (1.0 + (-1.0f32).exp());
        assert!((out.values[0] - p).abs() < 1e-6 && (out.values[1] - 2.0 * p).abs() < 1e-6, "{out:?}");
        assert_eq!(out.row(1), [3.0, 4.0]);
    }
}
