//! Attention with sinks, causal and windowed, over a ring of slots, against the oracle's.
//!
//! Slots that no visible position lies in hold NaN: a kernel that reads one shows it, whatever weight it gives it.

use super::half;
use super::inputs::{Numbers, audit, floats, steps, to};
use super::qkv::{heads, in_f16};
use super::trial::{Output, Trial, Want, Where, near};
use crate::device::Compute;
use crate::kernels::ops::sink_attention;
use crate::kernels::qkv::{Class, Heads};
use crate::verify::oracle::attention::{self, attention};
use crate::verify::oracle::semantics::{Attention, KvHead, Layers, Sink, SinkOf, SinkWeighs};
use crate::verify::oracle::{Real, Rows};

/// What the sinks' logits are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sinks {
    /// Of order one, each head its own.
    Usual,
    /// The same for every head.
    All(f32),
    /// −1e4, 0 and 50 by turns.
    Extreme,
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    heads: Heads,
    window: usize,
    position: usize,
    tokens: usize,
    slots: usize,
    sinks: Sinks,
    /// Roughly the largest score.
    score: f32,
    on: Where,
}

const fn case(name: &'static str, heads: Heads, window: usize, [position, tokens, slots]: [usize; 3]) -> Case {
    Case { name, heads, window, position, tokens, slots, sinks: Sinks::Usual, score: 4.0, on: Where::Families }
}

impl Case {
    const fn sinks(self, sinks: Sinks) -> Case {
        Case { sinks, ..self }
    }

    const fn score(self, score: f32) -> Case {
        Case { score, ..self }
    }

    const fn on(self, on: Where) -> Case {
        Case { on, ..self }
    }
}

const HEADS_OF_4: Heads = heads(8, 8, 4, false);
const HEADS_OF_8: Heads = heads(8, 1, 8, false);
pub(super) const HEADS_OF_32: Heads = heads(4, 2, 32, false);
const HEADS_OF_64: Heads = heads(8, 1, 64, false);
/// Two key-value heads whose queries fill a subgroup of 8 each: the units of a lane's subgroup share what they load.
const HEADS_OF_64_TWICE: Heads = heads(16, 2, 64, false);
const HEADS_OF_120: Heads = heads(4, 2, 120, false);

/// A unit takes 4 keys at a time, in the split form every 32nd: steps of 4 and 128 keys.
const CASES: [Case; 37] = [
    case("one token sees itself and the sink", HEADS_OF_32, 0, [0, 1, 1]),
    case("2 tokens from the start", HEADS_OF_32, 0, [0, 2, 4]),
    case("5 tokens, a step of keys and one", HEADS_OF_32, 0, [0, 5, 5]),
    case("9 tokens from position 4", HEADS_OF_32, 0, [4, 9, 20]),
    case("33 keys, one over the split's units", HEADS_OF_32, 0, [31, 2, 40]),
    case("129 keys, one over the split's step", HEADS_OF_32, 0, [127, 3, 256]),
    case("window of 1: itself alone", HEADS_OF_32, 1, [0, 6, 6]),
    case("window of 1 in a ring", HEADS_OF_32, 1, [50, 3, 3]),
    case("window of 4 around its edge", HEADS_OF_32, 4, [0, 9, 16]),
    case("window of 127 around its edge", HEADS_OF_32, 127, [120, 16, 160]),
    case("window of 128 around its edge", HEADS_OF_32, 128, [120, 16, 160]),
    case("window of 129 around its edge", HEADS_OF_32, 129, [120, 16, 160]),
    case("window of 128, one token at 127", HEADS_OF_32, 128, [127, 1, 128]),
    case("window of 128, one token at 128, exact ring", HEADS_OF_32, 128, [128, 1, 128]),
    case("window longer than the context", HEADS_OF_32, 1000, [6, 3, 9]),
    case("ring that wraps inside chunk and window", HEADS_OF_32, 4, [37, 5, 16]),
    case("ring as short as window and chunk allow", HEADS_OF_32, 4, [101, 5, 8]),
    case("ring of 130, window of 128, chunk of 3", HEADS_OF_32, 128, [300, 3, 130]),
    case("smallest heads, 2000 keys", HEADS_OF_4, 0, [1996, 4, 2000]),
    case("8 queries to a key, window of 128 at 1000", HEADS_OF_8, 128, [1000, 9, 136]),
    case("most units of the split form", HEADS_OF_8, 0, [2, 128, 130]),
    case("first count of tokens in rows", HEADS_OF_8, 0, [2, 129, 131]),
    case("129 tokens in rows, window of 4, ring", HEADS_OF_8, 4, [40, 129, 132]),
    case("8 queries to a key, heads of 64", HEADS_OF_64, 128, [126, 5, 131]).on(Where::FamiliesAndGroupLimits),
    case("8 queries to each of two keys, heads of 64", HEADS_OF_64_TWICE, 0, [37, 4, 64]),
    case("8 queries to each of two keys, window of 4 in a ring", HEADS_OF_64_TWICE, 4, [37, 5, 16]),
    case("8 queries to each of two keys, a cache of f16", in_f16(HEADS_OF_64_TWICE), 128, [130, 3, 131]),
    // Its workgroup memory is close to the default limit; longest to compile.
    case("heads of 120, the largest", HEADS_OF_120, 0, [40, 2, 42]).on(Where::WorkgroupLimits),
    case("sinks of -1e4 have no weight", HEADS_OF_32, 0, [30, 5, 35]).sinks(Sinks::All(-1e4)),
    case("sinks of 0", HEADS_OF_32, 4, [30, 5, 35]).sinks(Sinks::All(0.0)),
    case("sinks of 50 take nearly all", HEADS_OF_32, 0, [30, 5, 35]).sinks(Sinks::All(50.0)),
    case("extreme sinks side by side", HEADS_OF_8, 0, [30, 5, 35]).sinks(Sinks::Extreme),
    case("scores of 80 with extreme sinks", HEADS_OF_32, 0, [60, 6, 70]).sinks(Sinks::Extreme).score(80.0),
    case("scores of 80, 140 tokens in rows", HEADS_OF_8, 0, [0, 140, 140]).sinks(Sinks::Extreme).score(80.0),
    case("scores of 400: exp underflows", HEADS_OF_32, 0, [130, 4, 200]).sinks(Sinks::Extreme).score(400.0),
    case("a cache of f16, one token", in_f16(HEADS_OF_32), 0, [40, 1, 48]),
    case("a cache of f16, window of 4 in a ring", in_f16(HEADS_OF_32), 4, [37, 5, 16]),
];

pub(super) fn trials() -> Vec<Trial> {
    let right = CASES.iter().map(|case| trial(case, &rule(case)).on(case.on));
    let wrong = |case: &Case, says: &str, change: fn(&mut Attention)| {
        let mut rule = rule(case);
        change(&mut rule);
        trial(case, &rule).planted(says)
    };
    let edge = &CASES[10];
    let planted = [
        wrong(edge, "no sink", |rule| rule.sink.count = 0),
        wrong(edge, "the sink is counted twice", |rule| rule.sink.count = 2),
        wrong(edge, "the next head's sink", |rule| rule.sink.of = SinkOf::NextHead),
        wrong(edge, "a window of one more", |rule| rule.window += 1),
        wrong(edge, "a window of one less", |rule| rule.window -= 1),
        wrong(edge, "one key of the future", |rule| rule.lookahead = 1),
        wrong(edge, "key heads by remainder", |rule| rule.kv_head = KvHead::Modulo),
        wrong(&CASES[24], "key heads by remainder, where units share keys", |rule| rule.kv_head = KvHead::Modulo),
        wrong(edge, "scores not scaled", |rule| rule.scale = 1.0),
    ];
    right.chain(planted).collect()
}

/// The rule of a case, as OpenAI's reference has it for its sizes.
fn rule(case: &Case) -> Attention {
    Attention {
        scale: 1.0 / (case.heads.head_dim as f64).sqrt(),
        window: case.window,
        windowed: if case.window == 0 { Layers::None } else { Layers::All },
        lookahead: 0,
        forgets_after: None,
        kv_head: KvHead::Grouped,
        sink: Sink { layers: Layers::All, factor: 1.0, count: 1, of: SinkOf::OwnHead, weighs: SinkWeighs::Nothing },
        output_bias: false,
    }
}

/// Every position from 0 on: the oracle starts there.
struct Input {
    heads: Heads,
    q: Rows<f32>,
    k: Rows<f32>,
    v: Rows<f32>,
    sinks: Vec<f32>,
}

fn input(case: &Case) -> Input {
    let h = case.heads;
    let mut numbers = Numbers::new(case.name);
    let end = case.position + case.tokens;
    // q·k/√d of uniform numbers has a spread of amplitude² / 3; its largest of many is some three times that.
    let amplitude = case.score.sqrt();
    let mut input = Input {
        heads: h,
        q: numbers.rows(end, h.heads * h.head_dim, amplitude),
        k: numbers.rows(end, h.kv_heads * h.head_dim, amplitude),
        v: numbers.rows(end, h.kv_heads * h.head_dim, 2.0),
        sinks: numbers.rows(1, h.heads, 2.0).values,
    };
    input.v.row_mut(end - 1)[..3].copy_from_slice(&[0.0, -0.0, 1e-40]);
    input.k.row_mut(end - 1)[1..4].copy_from_slice(&[-0.0, 0.0, -1e-42]);
    for cached in [&mut input.k, &mut input.v] {
        cached.values.iter_mut().for_each(|x| *x = half::kept(*x, h.kv));
        audit(cached);
    }
    for (head, sink) in input.sinks.iter_mut().enumerate() {
        *sink = match case.sinks {
            Sinks::Usual => *sink,
            Sinks::All(logit) => logit,
            Sinks::Extreme => [-1e4, 0.0, 50.0, *sink][head % 4],
        };
    }
    input
}

/// The words of the ring after the chunk was written: NaN where no visible position lies.
fn ring(case: &Case, rows: &Rows<f32>) -> Vec<u32> {
    let width = case.heads.cache_words();
    // NaN in f32; in f16 the upper half is NaN and the lower the largest number but a few.
    let mut slots = vec![0x7fff_7bf0; case.slots * width];
    let oldest = if case.window == 0 { 0 } else { (case.position + 1).saturating_sub(case.window) };
    assert!(case.position + case.tokens - oldest <= case.slots, "{}: the ring is too short", case.name);
    for p in oldest..case.position + case.tokens {
        slots[p % case.slots * width..][..width].copy_from_slice(&half::words(rows.row(p), case.heads.kv));
    }
    slots
}

fn trial(case: &Case, rule: &Attention) -> Trial {
    let &Case { heads: h, position, tokens, slots, window, .. } = case;
    let input = input(case);
    let chunk: Vec<usize> = (position..position + tokens).collect();
    // Budgets of each head its own: sinks and scores of heads differ.
    let truth = Rows { width: h.head_dim, values: reference::<f64>(&input, rule).select(&chunk).values };
    let rounded = Rows { width: h.head_dim, values: reference::<f32>(&input, rule).select(&chunk).values };
    let cells = near(&truth, &rounded);
    let (keys, values) = (ring(case, &input.k), ring(case, &input.v));
    let q = input.q.select(&chunk);
    let launch = move |compute: &Compute| {
        let words = [slots, h.cache_words()];
        let q = floats(compute, &q.values, [tokens, h.heads * h.head_dim]);
        let (keys, values) = (compute.upload(&keys, words), compute.upload(&values, words));
        let sinks = floats(compute, &input.sinks, [h.heads]);
        let class = if window > 0 { Class::Window } else { Class::Full };
        let step = steps(compute, class, (position..position + tokens).map(|p| (p, 0, slots)), &[], h.head_dim);
        vec![Output::floats(sink_attention(q, &keys, &values, &sinks, &step, window, h, compute.family()))]
    };
    Trial::new(case.name, vec![Want::swizzled("attended", h.head_dim, cells)], Box::new(launch))
}

fn reference<F: Real>(input: &Input, rule: &Attention) -> Rows<F> {
    let Heads { heads, kv_heads, head_dim, .. } = input.heads;
    let sizes = attention::Heads { heads, kv_heads, head_dim };
    attention(&input.q.to::<F>(), &input.k.to(), &input.v.to(), &to(&input.sinks), sizes, 0, rule)
}
