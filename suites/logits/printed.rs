//! The oracle against numbers that other people printed: logits of OpenAI's model, and what breaking it does to them.
//!
//! They were made apart from `goldens/logits/`, by the upstream model in f32 on another machine (specification §10).

use gptoss::checkpoint::{Checkpoint, Layout};
use gptoss::models::gpt_oss::stage::Stage;
use gptoss::verify::bench::prompt;
use gptoss::verify::fault::forward::FAULTS;
use gptoss::verify::fixture::{Recipe, in_memory};
use gptoss::verify::oracle::noise::{Noise, Tap, noise_floor, trace};
use gptoss::verify::oracle::semantics::Scaling;
use gptoss::verify::oracle::{Oracle, Positions, Request, Semantics};

/// Printed numbers come from an f32 pass on another machine: another order of sums doubles the noise.
const NOISE_FACTOR: f64 = 2.0;

/// Logits of the last position after the first `count` tokens of the prompt.
struct Printed {
    fixture: &'static str,
    count: usize,
    /// The best tokens, five decimals.
    top: &'static [(usize, f64)],
    /// Logits of tokens 0, 1, …, six decimals.
    first: &'static [f64],
    /// Their root mean square, six decimals, where printed.
    rms: Option<f64>,
}

const PRINTED: [Printed; 5] = [
    Printed {
        fixture: "T1",
        count: 5,
        top: &[(129671, 5.10112), (29816, 4.29512), (54784, 4.1316), (8880, 4.0798), (21752, 4.02541)],
        first: &[1.532093, -0.503904, -0.095593, -0.819146],
        rms: Some(0.986865),
    },
    Printed {
        fixture: "T1",
        count: 200,
        top: &[(48703, 4.06292), (36608, 4.01861), (156592, 3.86246), (69659, 3.76678), (42747, 3.75662)],
        first: &[0.295267, 0.322363, -0.527639, -0.648179],
        rms: None,
    },
    Printed {
        fixture: "T3",
        count: 5,
        top: &[(69596, 4.43923), (70498, 4.37561), (118212, 4.18456), (43163, 4.11224), (163957, 4.05308)],
        first: &[0.815696, -1.443811, -0.488048, 0.081381],
        rms: Some(0.984128),
    },
    Printed {
        fixture: "T3",
        count: 200,
        top: &[(63480, 4.56229), (16671, 4.52363), (2851, 4.51352), (95483, 4.46961), (167473, 4.36216)],
        first: &[0.327419, 0.474582, 0.33261, 1.290902],
        rms: None,
    },
    Printed {
        fixture: "T2",
        count: 200,
        top: &[(195533, 9.10745), (87519, 8.29756), (190892, 8.00167)],
        first: &[],
        rms: None,
    },
];

/// T3 after 200 tokens, the last position of each layer: experts, their weights, the block's first values.
const LAYERS: [([f64; 4], [f64; 4], [f64; 4]); 4] = [
    ([5., 0., 6., 1.], [0.50254, 0.245742, 0.129953, 0.121765], [0.05329, 2.654027, 0.979945, -1.466376]),
    ([0., 6., 5., 2.], [0.849887, 0.07003, 0.042282, 0.037801], [-7.438534, 7.212329, 1.639336, -1.236107]),
    ([5., 1., 4., 6.], [0.37553, 0.291141, 0.179077, 0.154252], [-5.848638, 9.560445, 1.180415, -1.481177]),
    ([2., 4., 1., 7.], [0.836276, 0.095925, 0.035665, 0.032134], [-4.274568, 8.724538, 3.556428, -1.453593]),
];

/// A change of the model, and the largest change of a logit as printed: over all 200 positions, then at the last.
struct Sensitivity {
    change: Change,
    t1: [&'static str; 2],
    t3: [&'static str; 2],
}

enum Change {
    Fault(&'static str),
    Own(fn(&mut Semantics)),
}

fn fixture(name: &str) -> Checkpoint {
    in_memory(&Recipe::built_in(name), Layout::Original, 1).expect("the recipe is valid")
}

fn tokens(count: usize) -> Vec<u32> {
    prompt(count, 200_014)
}

fn find<T>(all: &[T], is_it: impl Fn(&T) -> bool) -> &T {
    all.iter().find(|item| is_it(item)).expect("the run has the stage")
}

/// A printed number is as good as its digits and the f32 pass that it came from.
fn demand(what: &str, found: f64, printed: f64, decimals: i32, noise: f64) {
    let budget = 0.5 * 10f64.powi(-decimals) + NOISE_FACTOR * noise;
    let error = (found - printed).abs();
    assert!(error <= budget, "{what}: {found}, printed {printed}: off by {error:e}, budget {budget:e}");
}

#[test]
fn logits_are_the_printed_ones() {
    let ask = Request { positions: Positions::Last, ..Request::default() };
    for printed in PRINTED {
        let checkpoint = fixture(printed.fixture);
        let (oracle, tokens) = (Oracle::new(&checkpoint), tokens(printed.count));
        let taps = trace(&oracle, &tokens, &ask);
        let noise = noise_floor(&oracle, &tokens, &ask, &taps);
        let noise = find(&noise, |noise: &Noise| noise.stage == Stage::Logits).max_error;
        let logits = &find(&taps, |tap: &Tap<f64>| tap.stage == Stage::Logits).rows.values;
        let what = format!("{} after {} tokens", printed.fixture, printed.count);
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        assert!(
            printed.top.iter().map(|top| top.0).eq(ids[..printed.top.len()].iter().copied()),
            "{what}: best tokens"
        );
        for &(id, value) in printed.top {
            demand(&format!("{what}, token {id}"), logits[id], value, 5, noise);
        }
        for (id, &value) in printed.first.iter().enumerate() {
            demand(&format!("{what}, token {id}"), logits[id], value, 6, noise);
        }
        if let Some(rms) = printed.rms {
            let mean_square = logits.iter().map(|x| x * x).sum::<f64>() / logits.len() as f64;
            demand(&format!("{what}, rms"), mean_square.sqrt(), rms, 6, noise);
        }
    }
}

#[test]
fn layers_are_the_printed_ones() {
    let checkpoint = fixture("T3");
    let (oracle, tokens) = (Oracle::new(&checkpoint), tokens(200));
    let ask = Request { positions: Positions::Last, ..Request::default() };
    let taps = trace(&oracle, &tokens, &ask);
    let noise = noise_floor(&oracle, &tokens, &ask, &taps);
    for (layer, (experts, weights, block)) in LAYERS.iter().enumerate() {
        let at = |stage| {
            let is_it = |(s, l)| (s, l) == (stage, Some(layer));
            let tap = find(&taps, |tap: &Tap<f64>| is_it((tap.stage, tap.layer)));
            (tap.rows.row(199), find(&noise, |noise: &Noise| is_it((noise.stage, noise.layer))).max_error)
        };
        assert_eq!(at(Stage::Experts).0, experts, "layer {layer}");
        for (stage, printed) in [(Stage::ExpertWeights, weights), (Stage::BlockOutput, block)] {
            let (found, noise) = at(stage);
            for (i, (&found, &printed)) in found.iter().zip(printed).enumerate() {
                demand(&format!("layer {layer} {stage} {i}"), found, printed, 6, noise);
            }
        }
    }
}

const fn row(change: Change, t1: [&'static str; 2], t3: [&'static str; 2]) -> Sensitivity {
    Sensitivity { change, t1, t3 }
}

/// The table's rows, but for bf16, which the oracle does not run in.  An empty text was not printed.
///
/// "no YaRN / concentration=1" is both at once; "no +1 / alpha=1" prints one number for each.
const SENSITIVITY: [Sensitivity; 9] = [
    row(Change::Fault("forward/attention-window-off"), ["2.48", "0.46"], ["4.14", "0.99"]),
    row(Change::Fault("forward/attention-window-127"), ["0.36", "0.008"], ["5.40", "0.040"]),
    row(Change::Fault("forward/attention-window-129"), ["0.13", "0.034"], ["0.74", "0.016"]),
    row(Change::Fault("forward/sinks-none"), ["1.52", "0.010"], ["3.77", "0.006"]),
    row(Change::Own(no_yarn), ["2.1", "0.7"], ["6.1", "2.0"]),
    row(Change::Fault("forward/experts-no-limits"), ["2.7", "0.67"], ["2.5", "0.66"]),
    row(Change::Fault("forward/experts-up-without-plus-one"), ["6.4", ""], ["7.4", ""]),
    row(Change::Fault("forward/experts-alpha-1"), ["1.9", ""], ["3.2", ""]),
    row(Change::Fault("forward/rope-interleaved-pairs"), ["3.8", ""], ["6.9", ""]),
];

fn no_yarn(s: &mut Semantics) {
    s.rope.scaling = Scaling::Absent;
    (s.rope.query_concentration, s.rope.key_concentration) = (1.0, 1.0);
}

/// The oracle is as far off when it is broken as the upstream model was when it was broken alike.
fn changes_as_printed(name: &str, printed: fn(&Sensitivity) -> [&'static str; 2]) {
    let checkpoint = fixture(name);
    let tokens = tokens(200);
    let run = |semantics: Semantics| {
        Oracle::with(&checkpoint, semantics).forward::<f32>(&tokens, &Request::default(), &mut |_, _, _| {})
    };
    let largest =
        |found: &[f32], want: &[f32]| found.iter().zip(want).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    let right = Oracle::new(&checkpoint).semantics().clone();
    let want = run(right.clone());
    for row in &SENSITIVITY {
        let mut semantics = right.clone();
        let what = match row.change {
            Change::Own(change) => {
                change(&mut semantics);
                "a change of its own"
            }
            Change::Fault(name) => {
                (find(FAULTS, |fault| fault.name == name).change)(&mut semantics);
                name
            }
        };
        let found = run(semantics);
        let found = [largest(&found.values, &want.values), largest(found.row(199), want.row(199))];
        for (found, printed) in found.into_iter().zip(printed(row)).filter(|(_, printed)| !printed.is_empty()) {
            let decimals = printed.split('.').nth(1).map_or(0, str::len);
            assert_eq!(format!("{found:.decimals$}"), printed, "{name}, {what}: {found}");
        }
    }
}

#[test]
fn wrong_decisions_change_t1_by_the_printed_amounts() {
    changes_as_printed("T1", |row| row.t1);
}

#[test]
fn wrong_decisions_change_t3_by_the_printed_amounts() {
    changes_as_printed("T3", |row| row.t3);
}
