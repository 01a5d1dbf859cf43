//! Comparers against pairs that must fail.

use crate::checkpoint::Dtype;
use crate::verify::compare::bits::{Difference, difference};
use crate::verify::compare::digest::hex_sha256;
use crate::verify::outcome::{Check, Level};

/// A payload with the values that naive comparers get wrong: NaN, infinities, both zeros.
const PAYLOAD: [u16; 12] =
    [0x0000, 0x8000, 0x3f80, 0xbf80, 0x7f80, 0xff80, 0x7fc0, 0xffc0, 0x0001, 0x8001, 0x7f7f, 0x3e80];

pub(super) fn run() -> Vec<Check> {
    let payload: Vec<u8> = PAYLOAD.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    vec![
        every_bit(&payload),
        equal_is_equal(&payload),
        lengths(&payload),
        zeros_differ(),
        nan_equals_no_number(),
        counts_are_right(&payload),
        digests_differ(&payload),
    ]
}

fn check(name: &str, ok: bool, promise: &str) -> Check {
    let name = format!("bytes/comparer/{name}");
    match ok {
        true => Check::pass(name, Level::Bytes, promise),
        false => Check::fail(name, Level::Bytes, format!("does not hold: {promise}")),
    }
}

fn every_bit(payload: &[u8]) -> Check {
    let caught = (0..payload.len() * 8).all(|bit| {
        let mut flipped = payload.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        matches!(difference(payload, &flipped, 2), Some(Difference::Elements { first, count: 1, .. }) if first == bit / 16)
    });
    check("every-bit", caught, "each bit flipped in turn is seen, at its element")
}

fn equal_is_equal(payload: &[u8]) -> Check {
    let copy = payload.to_vec();
    check("equal", difference(payload, &copy, 2).is_none(), "a payload equals its copy, NaN included")
}

fn lengths(payload: &[u8]) -> Check {
    let short = &payload[..payload.len() - 2];
    let seen = |a: &[u8], b: &[u8]| matches!(difference(a, b, 2), Some(Difference::Length { .. }));
    let ok = seen(payload, short) && seen(short, payload) && seen(payload, &[]) && seen(&[], payload);
    check("lengths", ok, "a prefix, and nothing at all, differ from the payload")
}

fn zeros_differ() -> Check {
    let ok = difference(&0u16.to_le_bytes(), &0x8000u16.to_le_bytes(), 2).is_some();
    check("signed-zero", ok, "-0 is not 0")
}

fn nan_equals_no_number() -> Check {
    let nan = 0x7fc0u16.to_le_bytes();
    let ok =
        PAYLOAD.iter().filter(|bits| **bits != 0x7fc0).all(|bits| difference(&nan, &bits.to_le_bytes(), 2).is_some());
    check("nan", ok, "NaN equals no number and no other NaN")
}

fn counts_are_right(payload: &[u8]) -> Check {
    let inverted: Vec<u8> = payload.iter().map(|byte| !byte).collect();
    let ok =
        matches!(difference(payload, &inverted, 2), Some(Difference::Elements { first: 0, count: 12, total: 12, .. }));
    let says = difference(payload, &inverted, 2).map(|d| d.describe(Dtype::Bf16, 100)).unwrap_or_default();
    check(
        "counts",
        ok && says.contains("element 100") && says.contains("12 of 12"),
        "every difference is counted and placed",
    )
}

fn digests_differ(payload: &[u8]) -> Check {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"; // FIPS 180-4, the empty message
    let ok = hex_sha256(b"") == empty && hex_sha256(payload) != hex_sha256(&payload[1..]);
    check("digest", ok, "SHA-256 of nothing is the published one, and a shorter payload has another")
}
