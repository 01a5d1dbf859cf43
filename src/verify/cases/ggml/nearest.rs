//! Blocks that ggml's own quantisers made, held to the rules of [`crate::verify::check::nearest`]: the rules are true of the
//! programs that they are about, and of little else.

use serde_json::Value;

use super::super::with_golden;
use super::blocks::super_blocks;
use super::{LEVEL, hex, stem};
use crate::gguf::{Encoding, GgmlType};
use crate::quant::BlockType;
use crate::verify::check::nearest::{Scales, judge_row};
use crate::verify::compare::digest::hex_sha256;
use crate::verify::outcome::Check;

/// Rows that ggml quantised.
pub const GOLDEN: &str = "tensors/ggml-nearest";
/// Super-blocks of 256 values that the golden has of each type, each a row.
pub const ROWS: usize = 8;

/// The types that have a rule beyond F16 and Q8_0, which the encoders' cases cover.
pub const KINDS: [BlockType; 7] = [
    BlockType::Q4_0,
    BlockType::Q5_0,
    BlockType::Q5_1,
    BlockType::Iq4Nl,
    BlockType::Q4K,
    BlockType::Q5K,
    BlockType::Q6K,
];

/// ggml's type of a block type.
pub(in crate::verify::cases) fn ggml_type(kind: BlockType) -> GgmlType {
    match kind {
        BlockType::Q4_0 => GgmlType::Q4_0,
        BlockType::Q5_0 => GgmlType::Q5_0,
        BlockType::Q5_1 => GgmlType::Q5_1,
        BlockType::Iq4Nl => GgmlType::IQ4_NL,
        BlockType::Q4K => GgmlType::Q4_K,
        BlockType::Q5K => GgmlType::Q5_K,
        BlockType::Q6K => GgmlType::Q6_K,
        other => unreachable!("{other:?} is none of KINDS"),
    }
}

/// Every type, without weights and with them.
pub(super) fn cases() -> Vec<Check> {
    let of = |kind: BlockType| [checks(kind, Scales::Plain, Vec::clone), checks(kind, Scales::Weighted, Vec::clone)];
    let kinds = KINDS.into_iter().flat_map(of).flatten();
    kinds.chain(KINDS.into_iter().filter(|kind| is_searched(*kind)).map(red_case)).chain([input_check()]).collect()
}

/// Types whose codes, under weights, are those of a search.
pub(in crate::verify::cases) fn is_searched(kind: BlockType) -> bool {
    matches!(kind, BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q5_1)
}

/// The rule on the golden's rows of a type, each after `damage`.
pub fn checks(kind: BlockType, scales: Scales, damage: impl Fn(&Vec<u8>) -> Vec<u8>) -> Vec<Check> {
    if scales == Scales::Weighted && is_searched(kind) {
        return Vec::new();
    }
    let name = check_name(kind, scales);
    with_golden(GOLDEN, &name, LEVEL, |golden| {
        let rows: Vec<Vec<u8>> = stored(golden, kind, scales).iter().map(&damage).collect();
        let judged = judge(kind, scales, &rows);
        vec![match judged {
            Ok(_) if rows.len() != ROWS => {
                Check::fail(name.clone(), LEVEL, format!("{} rows, expected {ROWS}", rows.len()))
            }
            Ok(steps) => Check::pass(
                name.clone(),
                LEVEL,
                format!("{} values, errors up to {steps:.4} of a step", 256 * rows.len()),
            ),
            Err(why) => Check::fail(name.clone(), LEVEL, why),
        }]
    })
}

/// The name of a type's check.
pub fn check_name(kind: BlockType, scales: Scales) -> String {
    match scales {
        Scales::Plain => format!("{}/nearest", stem(kind)),
        Scales::Weighted => format!("{}/nearest-weighted", stem(kind)),
    }
}

/// The golden's rows of a type.
pub(in crate::verify::cases) fn stored(golden: &Value, kind: BlockType, scales: Scales) -> Vec<Vec<u8>> {
    let how = if scales == Scales::Plain { "plain" } else { "weighted" };
    golden[how][<&str>::from(kind)].as_array().into_iter().flatten().map(hex).collect()
}

/// The values that were quantised, row by row.
pub(in crate::verify::cases) fn inputs() -> Vec<[f32; 256]> {
    super_blocks(0..ROWS)
}

fn judge(kind: BlockType, scales: Scales, rows: &[Vec<u8>]) -> Result<f64, String> {
    let mut worst = 0f64;
    for (index, (values, stored)) in inputs().iter().zip(rows).enumerate() {
        let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
        let judged = judge_row(Encoding::Ggml(ggml_type(kind)), scales, &values, stored);
        let steps = judged.unwrap_or(Err(" has no rule".into())).map_err(|why| format!("row {index}, {why}"))?;
        worst = worst.max(steps);
    }
    Ok(worst)
}

/// Codes that a search left behind are not the nearest: the rule, which is not for them, must say so.
fn red_case(kind: BlockType) -> Check {
    let name = format!("{}/nearest-searched", stem(kind));
    let check = with_golden(GOLDEN, &name, LEVEL, |golden| {
        let rows = stored(golden, kind, Scales::Weighted);
        vec![match judge(kind, Scales::Plain, &rows) {
            Err(why) => Check::pass(name.clone(), LEVEL, format!("refused: {why}")),
            Ok(_) => Check::fail(name.clone(), LEVEL, "codes of a search under weights pass as the nearest"),
        }]
    });
    check.into_iter().next().expect("one check was made")
}

/// The inputs are those of the witness.
fn input_check() -> Check {
    let name = "tensors/ggml/nearest-inputs";
    let judge = |golden: &Value| {
        let bytes: Vec<u8> = inputs().iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        vec![Check::equal(name, LEVEL, golden["inputs"].as_str().unwrap_or("nothing").into(), hex_sha256(&bytes))]
    };
    with_golden(GOLDEN, name, LEVEL, judge).remove(0)
}
