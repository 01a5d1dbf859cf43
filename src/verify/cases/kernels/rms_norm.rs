//! RMSNorm against the oracle's.

use super::inputs::{Numbers, floats, to};
use super::trial::{Output, Trial, Want, Where, near};
use crate::device::Compute;
use crate::kernels::ops::rms_norm_swizzled;
use crate::verify::oracle::rms_norm::rms_norm;
use crate::verify::oracle::semantics::{Gain, Norm, NormKind};
use crate::verify::oracle::{Real, Rows};

/// The rule, as OpenAI's reference has it.
pub(super) const RULE: Norm = Norm { kind: NormKind::RootMeanSquare, epsilon: 1e-5, gain: Gain::After };

/// What the rows hold.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fill {
    /// Values of this size.
    Amplitude(f32),
    /// A row of zeros between two others, which it must not disturb.
    ZeroRow,
    /// Both zeros and subnormals among values of order one.
    Edges,
    /// One value a million times the others.
    Outlier,
}

struct Case {
    name: &'static str,
    rows: usize,
    hidden: usize,
    fill: Fill,
    on: Where,
}

const fn case(name: &'static str, rows: usize, hidden: usize, fill: Fill) -> Case {
    Case { name, rows, hidden, fill, on: Where::Families }
}

const CASES: [Case; 9] = [
    case("one row of one block", 1, 32, Fill::Amplitude(1.0)),
    case("fewer vectors than units", 3, 64, Fill::Amplitude(2.0)),
    case("vectors no multiple of the units", 65, 96, Fill::Amplitude(2.0)),
    Case { on: Where::FamiliesAndLimits, ..case("the real width", 5, 2880, Fill::Amplitude(4.0)) },
    case("rows where epsilon dominates", 4, 96, Fill::Amplitude(1e-3)),
    case("squares near the top of the range", 2, 96, Fill::Amplitude(1e16)),
    case("a row of zeros stays zero", 3, 64, Fill::ZeroRow),
    case("both zeros and subnormals among ordinary values", 2, 96, Fill::Edges),
    case("one value a million times the others", 2, 2880, Fill::Outlier),
];

pub(super) fn trials() -> Vec<Trial> {
    let right = CASES.iter().map(|case| trial(case, &RULE).on(case.on));
    let wrong = Norm { epsilon: 2e-5, ..RULE };
    let centered = Norm { kind: NormKind::Centered, ..RULE };
    right
        .chain([
            trial(&CASES[4], &wrong).planted("twice the epsilon"),
            trial(&CASES[2], &centered).planted("the mean is subtracted"),
        ])
        .collect()
}

fn input(case: &Case, numbers: &mut Numbers) -> Rows<f32> {
    let amplitude = if let Fill::Amplitude(amplitude) = case.fill { amplitude } else { 1.0 };
    let mut x = numbers.rows(case.rows, case.hidden, amplitude);
    match case.fill {
        Fill::Amplitude(_) => {}
        Fill::ZeroRow => x.row_mut(1).fill(0.0),
        Fill::Edges => {
            x.row_mut(0)[..5].copy_from_slice(&[0.0, -0.0, 1e-40, -3e-39, f32::MIN_POSITIVE]);
            x.row_mut(1)[case.hidden - 3..].copy_from_slice(&[-1e-45, -0.0, 0.0]);
        }
        Fill::Outlier => x.row_mut(1)[case.hidden - 1] = -1e6,
    }
    x
}

fn trial(case: &Case, rule: &Norm) -> Trial {
    let (rows, hidden) = (case.rows, case.hidden);
    let mut numbers = Numbers::new(case.name);
    let x = input(case, &mut numbers);
    let gain = numbers.rows(1, hidden, 2.0).values;
    let cells = near(&reference(&x, &gain, rule), &reference(&x, &gain, rule));
    let launch = move |compute: &Compute| {
        let (x, gain) = (floats(compute, &x.values, [rows, hidden]), floats(compute, &gain, [hidden]));
        vec![Output::floats(rms_norm_swizzled(&x, &gain, compute.family()))]
    };
    Trial::new(case.name, vec![Want::swizzled("normed", hidden, cells)], Box::new(launch))
}

fn reference<F: Real>(x: &Rows<f32>, gain: &[f32], rule: &Norm) -> Rows<F> {
    rms_norm(&x.to::<F>(), &to::<F>(gain), rule)
}
