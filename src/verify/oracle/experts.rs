//! The experts: `Σ_k w_k · (W₂ · swiglu(W₁ · t + b₁) + b₂)` over the chosen, in the order of their weights.
//!
//! `swiglu`: of the 2F values, even ones are gates g, odd ones linear u; g is limited to at most 7, u to ±7;
//! the result is `g · σ(1.702 · g) · (u + 1)`, `[F]`.  Source: `swiglu` and `MLPBlock` of `gpt_oss/torch/model.py`.
//!
//! Matrices are decoded a row at a time, for all positions that chose the expert.

use super::real::Real;
use super::router::Chosen;
use super::rows::{Rows, add_bias, linear};
use super::semantics::{Experts, GateUp, Mlp2Bias, Mxfp4, Weighted};
use super::weights::Weights;
use crate::checkpoint::Role;

/// What the experts of a layer compute.
pub struct Mixed<F> {
    /// After SwiGLU, for each chosen expert in order: `[experts_per_token × intermediate]`.
    pub swiglu: Rows<F>,
    /// The weighted sum: `[hidden]`.
    pub output: Rows<F>,
}

/// Runs the chosen experts of `layer` on each row of `t`, `[hidden]`; `routed` holds their weights.
pub fn experts<F: Real>(
    t: &Rows<F>,
    chosen: &Chosen,
    routed: &Rows<F>,
    layer: usize,
    weights: Weights,
    (rule, mxfp4): (&Experts, Mxfp4),
) -> Mixed<F> {
    let config = weights.config();
    let (k, hidden, inner) = (routed.width, config.hidden, config.intermediate);
    let mut swiglu = Rows::zeros(k * inner, t.count());
    let mut outputs = Rows::zeros(k * hidden, t.count());
    for expert in 0..config.experts {
        let users = users_of(expert, chosen);
        if users.is_empty() {
            continue;
        }
        let mut x = t.select(&users.iter().map(|&(p, _)| p).collect::<Vec<_>>());
        if rule.weighted == Weighted::Input {
            for (row, &(p, slot)) in x.values.chunks_exact_mut(hidden).zip(&users) {
                row.iter_mut().for_each(|x| *x = *x * routed.row(p)[slot]);
            }
        }
        let (inside, output) = run_one(&x, layer, (expert + rule.id_shift) % config.experts, weights, (rule, mxfp4));
        for (index, &(p, slot)) in users.iter().enumerate() {
            swiglu.row_mut(p)[slot * inner..][..inner].copy_from_slice(inside.row(index));
            outputs.row_mut(p)[slot * hidden..][..hidden].copy_from_slice(output.row(index));
        }
    }
    let unweighted_bias = |expert| weights.expert_bias::<F>(Role::Mlp2Bias, layer, expert);
    let output = Rows::each(hidden, t.count(), |p| {
        let mut sum = vec![F::zero(); hidden];
        for (slot, output) in outputs.row(p).chunks_exact(hidden).enumerate() {
            let weight = if rule.weighted == Weighted::Output { routed.row(p)[slot] } else { F::one() };
            sum.iter_mut().zip(output).for_each(|(sum, &y)| *sum += weight * y);
            if rule.mlp2_bias == Mlp2Bias::Unweighted {
                let bias = unweighted_bias(chosen[p][slot]);
                sum.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
            }
        }
        sum
    });
    Mixed { swiglu, output }
}

/// The positions that chose `expert`, each with the expert's place among its chosen.
fn users_of(expert: usize, chosen: &Chosen) -> Vec<(usize, usize)> {
    let place = |(p, experts): (usize, &Vec<usize>)| Some((p, experts.iter().position(|&e| e == expert)?));
    chosen.iter().enumerate().filter_map(place).collect()
}

/// One expert on each row of `x`: after SwiGLU, `[intermediate]`, and at its end, `[hidden]`.
fn run_one<F: Real>(
    x: &Rows<F>,
    layer: usize,
    expert: usize,
    weights: Weights,
    (rule, mxfp4): (&Experts, Mxfp4),
) -> (Rows<F>, Rows<F>) {
    let config = weights.config();
    let mlp1 = weights.expert(Role::Mlp1Blocks, layer, expert, mxfp4);
    let mlp2 = weights.expert(Role::Mlp2Blocks, layer, expert, mxfp4);
    let mut b1: Vec<F> = weights.expert_bias(Role::Mlp1Bias, layer, expert);
    if !rule.mlp1_bias {
        b1.fill(F::zero());
    }
    let h = linear(x, 2 * config.intermediate, |row| mlp1.row(row));
    let inside = Rows::each(config.intermediate, x.count(), |p| swiglu(h.row(p), &b1, rule));
    let mut output = linear(&inside, config.hidden, |row| mlp2.row(row));
    if rule.mlp2_bias == Mlp2Bias::Weighted {
        add_bias(&mut output, &weights.expert_bias(Role::Mlp2Bias, layer, expert));
    }
    (inside, output)
}

/// `g · σ(alpha · g) · (u + 1)` of `h + bias`, both `[2 × intermediate]`, gates and linear parts limited.
pub fn swiglu<F: Real>(h: &[F], bias: &[F], rule: &Experts) -> Vec<F> {
    let inner = h.len() / 2;
    let limited = |index: usize, (low, high): (f64, f64)| {
        let limit = |x: F| x.larger(F::from_f64(low)).smaller(F::from_f64(high));
        if rule.limits_before_bias { limit(h[index]) + bias[index] } else { limit(h[index] + bias[index]) }
    };
    let value = |i: usize| {
        let (gate, up) = match rule.gate_up {
            GateUp::Interleaved => (2 * i, 2 * i + 1),
            GateUp::Swapped => (2 * i + 1, 2 * i),
            GateUp::Halves => (i, inner + i),
        };
        let (g, u) = (limited(gate, rule.gate_limits), limited(up, rule.up_limits));
        let logistic = F::one() / (F::one() + (-F::from_f64(rule.alpha) * g).exp());
        g * logistic * (u + F::from_f64(rule.up_offset))
    };
    (0..inner).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::fixture::Recipe;
    use crate::verify::oracle::Semantics;

    fn right() -> Experts {
        Semantics::gpt_oss(&Recipe::built_in("T3").config()).experts
    }

    /// SwiGLU of one pair without bias.
    fn of(gate: f64, up: f64, rule: Experts) -> f64 {
        swiglu(&[gate, up], &[0.0, 0.0], &rule)[0]
    }

    fn swish(gate: f64, alpha: f64) -> f64 {
        gate / (1.0 + (-alpha * gate).exp())
    }

    #[test]
    fn gates_are_limited_from_above_and_linear_parts_on_both_sides() {
        assert_eq!(of(2.0, 3.0, right()), swish(2.0, 1.702) * 4.0);
        assert_eq!(of(7.5, 8.0, right()), swish(7.0, 1.702) * 8.0);
        assert_eq!(of(-9.0, -8.0, right()), swish(-9.0, 1.702) * -6.0);
        assert_eq!(of(0.0, 5.0, right()), 0.0);
        assert!(of(f64::NAN, 0.0, right()).is_nan() && of(1.0, f64::NAN, right()).is_nan());
    }

    #[test]
    fn each_rule_changes_what_it_says() {
        let open = (f64::NEG_INFINITY, f64::INFINITY);
        assert_eq!(of(9.0, 8.0, Experts { gate_limits: open, up_limits: open, ..right() }), swish(9.0, 1.702) * 9.0);
        assert_eq!(of(-9.0, 0.0, Experts { gate_limits: (-7.0, 7.0), ..right() }), swish(-7.0, 1.702));
        assert_eq!(of(2.0, 3.0, Experts { alpha: 1.0, ..right() }), swish(2.0, 1.0) * 4.0);
        assert_eq!(of(2.0, 3.0, Experts { up_offset: 0.0, ..right() }), swish(2.0, 1.702) * 3.0);
        assert_eq!(of(2.0, 3.0, Experts { gate_up: GateUp::Swapped, ..right() }), swish(3.0, 1.702) * 3.0);
        let late = Experts { limits_before_bias: true, ..right() };
        assert_eq!(swiglu(&[9.0, 0.0], &[1.0, 0.5], &late), [swish(8.0, 1.702) * 1.5]);
        assert_eq!(swiglu(&[9.0, 0.0], &[1.0, 0.5], &right()), [swish(7.0, 1.702) * 1.5]);
    }

    #[test]
    fn gates_and_linear_parts_alternate() {
        let (h, bias) = ([1.0, 2.0, 3.0, 4.0], [0.0; 4]);
        assert_eq!(swiglu(&h, &bias, &right()), [swish(1.0, 1.702) * 3.0, swish(3.0, 1.702) * 5.0]);
        let halves = swiglu(&h, &bias, &Experts { gate_up: GateUp::Halves, ..right() });
        assert_eq!(halves, [swish(1.0, 1.702) * 4.0, swish(2.0, 1.702) * 5.0]);
    }

    #[test]
    fn users_are_those_who_chose_the_expert() {
        let chosen = vec![vec![3, 1], vec![0, 2], vec![1, 3]];
        assert_eq!(users_of(1, &chosen), [(0, 1), (2, 0)]);
        assert_eq!(users_of(4, &chosen), []);
    }
}
