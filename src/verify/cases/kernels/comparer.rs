//! The comparer of kernel checks against outputs that must fail, and the audit against inputs that hide faults.

use super::inputs::{SENTINEL, natural, swizzled, weakness};
use super::trial::{Cell, Verdict, Want, exact, near};
use crate::verify::oracle::Rows;
use crate::verify::outcome::{Check, Level};

pub(super) fn checks() -> Vec<Check> {
    vec![
        check("flips", every_word_counts(), "each word changed in turn is seen, and NaN in its place"),
        check("lengths", lengths_count(), "an output that is empty, shorter or longer is seen"),
        check(
            "budgets",
            budgets_are_of_rows(),
            "a small row beside a large one has a small budget; no zeros pass for it",
        ),
        check("open", nothing_compared_is_red(), "an output of which nothing is compared is red"),
        check("swizzle", swizzle_is_undone(), "natural undoes swizzled, which moves value p to 4 (p mod 8) + p / 8"),
        check("audit", audit_refuses(), "zeros, constants, equal rows and infinities are refused as inputs"),
    ]
}

fn check(name: &str, ok: bool, promise: &str) -> Check {
    let name = format!("tensors/comparer/{name}");
    match ok {
        true => Check::pass(name, Level::Tensors, promise),
        false => Check::fail(name, Level::Tensors, format!("does not hold: {promise}")),
    }
}

fn rows<F>(width: usize, values: Vec<F>) -> Rows<F> {
    Rows { width, values }
}

fn holds(want: &Want, found: &[u32]) -> bool {
    let mut verdict = Verdict::default();
    verdict.add(want, found);
    verdict.holds()
}

const VALUES: [f32; 6] = [1.5, -2.25, 0.0, -0.0, 3e-5, 1e4];

fn wants() -> [Want; 2] {
    let truth: Vec<f64> = VALUES.iter().map(|&x| f64::from(x)).collect();
    let exact = VALUES.iter().map(|&x| exact(f64::from(x))).collect();
    [Want::new("near", 1, near(&rows(1, truth), &rows(1, VALUES.to_vec()))), Want::new("exact", 3, exact)]
}

fn every_word_counts() -> bool {
    let right = VALUES.map(f32::to_bits);
    wants().iter().all(|want| {
        let is_seen = |i: usize, bits: u32| {
            let mut found = right;
            found[i] = bits;
            !holds(want, &found)
        };
        let each =
            |i: usize| [f32::NAN, f32::INFINITY, SENTINEL, VALUES[i] + 1.0].iter().all(|x| is_seen(i, x.to_bits()));
        holds(want, &right) && (0..right.len()).all(each)
    })
}

fn lengths_count() -> bool {
    let right = VALUES.map(f32::to_bits);
    let longer: Vec<u32> = right.iter().copied().chain([0]).collect();
    let seen = |want: &Want| !holds(want, &right[1..]) && !holds(want, &longer) && !holds(want, &[]);
    wants().iter().all(seen) && !holds(&Want::new("nothing", 1, Vec::new()), &[])
}

fn budgets_are_of_rows() -> bool {
    let truth = vec![1e6, -2e6, 1e-3, 2e-3];
    let rounded: Vec<f32> = truth.iter().map(|&x| x as f32).collect();
    let want = Want::new("rows", 2, near(&rows(2, truth), &rows(2, rounded.clone())));
    let bits: Vec<u32> = rounded.iter().map(|x| x.to_bits()).collect();
    let mut zeroed = bits.clone();
    zeroed[2] = 0;
    let mut close = bits.clone();
    close[2] += 64;
    holds(&want, &bits) && !holds(&want, &zeroed) && !holds(&want, &close)
}

fn nothing_compared_is_red() -> bool {
    !holds(&Want::new("open", 1, vec![Cell::Open; 3]), &[1, 2, 3])
}

fn swizzle_is_undone() -> bool {
    let values: Vec<u32> = (0..96).collect();
    let moved = swizzled(&values);
    natural(&moved) == values && (moved[32], moved[32 + 4 * 5], moved[32 + 1]) == (32, 32 + 5, 32 + 8)
}

fn audit_refuses() -> bool {
    let says = |width, values: &[f32]| weakness(&rows(width, values.to_vec()));
    let good = [1.0, 2.0, 3.0, 1.0, 2.0, 4.0];
    says(3, &good).is_none()
        && says(3, &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]) == Some("equal rows")
        && says(3, &[0.0, -0.0, 0.0]) == Some("all zero")
        && says(3, &[2.0; 3]) == Some("constant")
        && says(3, &[2.0, f32::NAN, 1.0]) == Some("not finite")
        && says(3, &[]) == Some("empty")
}
