//! Blocks of ggml's quantisers with one thing wrong: what the rules of [`crate::verify::check::nearest`] must see.

use super::run::{Catalogued, caught, red};
use crate::quant::BlockType;
use crate::verify::cases::ggml::nearest;
use crate::verify::check::nearest::Scales;

/// One wrong set of blocks.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with them.
    pub about: &'static str,
    /// Their type.
    pub kind: BlockType,
    /// The check that must catch it, and only it.
    pub caught_by: &'static str,
    /// The damage to a row of 256 values.
    pub damage: fn(&[u8]) -> Vec<u8>,
}

const LEVEL_OFF: &str = "the lowest bit of one code is flipped: one level off";
const SCALE_OF_THE_NEXT: &str = "the first block has the scale of the second";
const NIBBLES_SWAPPED: &str = "the halves of each byte of codes are swapped";

/// Where the first byte of four low bits is, and how many lie in a row there.
const fn codes(kind: BlockType) -> (usize, usize) {
    match kind {
        BlockType::Q4_0 | BlockType::Iq4Nl => (2, 16),
        BlockType::Q5_0 => (6, 16),
        BlockType::Q5_1 => (8, 16),
        BlockType::Q4K => (16, 128),
        BlockType::Q5K => (48, 128),
        _ => (0, 128),
    }
}

fn level_off<const AT: usize>(row: &[u8]) -> Vec<u8> {
    let mut row = row.to_vec();
    row[AT] ^= 1;
    row
}

fn swapped<const AT: usize, const COUNT: usize>(row: &[u8]) -> Vec<u8> {
    let mut row = row.to_vec();
    row[AT..AT + COUNT].iter_mut().for_each(|byte| *byte = byte.rotate_left(4));
    row
}

/// The `COUNT` bytes at `FROM` over those at `TO`.
fn over<const TO: usize, const FROM: usize, const COUNT: usize>(row: &[u8]) -> Vec<u8> {
    let mut row = row.to_vec();
    row.copy_within(FROM..FROM + COUNT, TO);
    row
}

/// The faults of a type: its names, and where its second block's scale lies.
macro_rules! of {
    ($kind:expr, $name:literal, $scale:expr) => {{
        const CODES: (usize, usize) = codes($kind);
        const BY: &str = concat!("tensors/ggml/", $name, "/nearest");
        [
            (concat!("nearest/", $name, "-level-off"), LEVEL_OFF, level_off::<{ CODES.0 }> as fn(&[u8]) -> Vec<u8>),
            (concat!("nearest/", $name, "-scale-of-the-next"), SCALE_OF_THE_NEXT, $scale),
            (concat!("nearest/", $name, "-nibbles-swapped"), NIBBLES_SWAPPED, swapped::<{ CODES.0 }, { CODES.1 }>),
        ]
        .map(|(name, about, damage)| Fault { name, about, kind: $kind, caught_by: BY, damage })
    }};
}

/// Every wrong set.
pub fn faults() -> Vec<Fault> {
    [
        of!(BlockType::Q4_0, "q4_0", over::<0, 18, 2>),
        of!(BlockType::Q5_0, "q5_0", over::<0, 22, 2>),
        of!(BlockType::Q5_1, "q5_1", over::<0, 24, 2>),
        of!(BlockType::Iq4Nl, "iq4_nl", over::<0, 18, 2>),
        // Six bits of the first sub-block's scale, with two of the fifth's.
        of!(BlockType::Q4K, "q4_k", over::<4, 5, 1>),
        of!(BlockType::Q5K, "q5_k", over::<4, 5, 1>),
        of!(BlockType::Q6K, "q6_k", over::<192, 193, 1>),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Plants every fault.
pub fn planted() -> Vec<Catalogued> {
    let plant = |fault: Fault| {
        let red = red(nearest::checks(fault.kind, Scales::Plain, |row| (fault.damage)(row)));
        caught(fault.name, fault.about, vec![fault.caught_by.into()], red, None)
    };
    faults().into_iter().map(plant).collect()
}
