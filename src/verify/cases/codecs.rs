//! Codecs against tables by PyPI's ml_dtypes.  Each takes the codec to judge, so that sabotage can hand in a wrong one.

use serde_json::Value;

use super::with_golden;
use crate::quant::{bf16, mxfp4};
use crate::verify::compare::digest::hex_sha256;
use crate::verify::oracle;
use crate::verify::outcome::{Check, Level};

const LEVEL: Level = Level::Tensors;

/// Every MXFP4 check on our codec.
pub(super) fn mxfp4_cases() -> Vec<Check> {
    let encode = |values: &[f32; 32]| mxfp4::encode_block(values).expect("golden blocks are finite");
    [decode_checks(mxfp4::decode), order_checks(mxfp4::code_at), encode_checks(encode), vec![blocks_check()]].concat()
}

/// Every BF16 check on our codec.
pub(super) fn bf16_cases() -> Vec<Check> {
    [round_checks(bf16::from_f32), scale_checks(bf16::scale)].concat()
}

/// All 256 × 16 products, in f32 and in BF16.
pub fn decode_checks(decode: impl Fn(u8, u8) -> f32) -> Vec<Check> {
    let name = "tensors/mxfp4/decode";
    with_golden("tensors/mxfp4-decode", name, LEVEL, |golden| {
        let in_bf16 = |code, e| u32::from(bf16::from_f32(decode(code, e)));
        vec![
            table_check(name, &golden["rows"], |code, e| one_nan(decode(code, e).to_bits(), 0x7f80_0000)),
            table_check("tensors/mxfp4/decode-bf16", &golden["bf16_rows"], |code, e| one_nan(in_bf16(code, e), 0x7f80)),
        ]
    })
}

/// Every NaN as the quiet positive one: which NaN a codec gives is not promised.
fn one_nan(bits: u32, infinity: u32) -> u32 {
    let sign = infinity.next_power_of_two(); // the bit above the exponent
    let quiet = 1 << (infinity.trailing_zeros() - 1); // the bit below it
    if bits & (sign - 1) > infinity { infinity | quiet } else { bits }
}

fn table_check(name: &str, rows: &Value, found: impl Fn(u8, u8) -> u32) -> Check {
    let Some(rows) = rows.as_array().filter(|rows| rows.len() == 256) else {
        return Check::fail(name, LEVEL, "the golden does not have 256 rows");
    };
    let mut wrong = Vec::new();
    for (e, row) in rows.iter().enumerate() {
        let want: Vec<u32> = words(row);
        if want.len() != 16 {
            return Check::fail(name, LEVEL, format!("row {e} of the golden does not have 16 codes"));
        }
        for (code, want) in want.into_iter().enumerate() {
            let found = found(code as u8, e as u8);
            if want != found {
                wrong.push(format!("e {e}, code {code}: expected {want:#x}, found {found:#x}"));
            }
        }
    }
    verdict(name, wrong, 256 * 16)
}

/// The order of values in a packed block.
pub fn order_checks(code_at: impl Fn(&[u8; 16], usize) -> u8) -> Vec<Check> {
    let name = "tensors/mxfp4/order";
    with_golden("tensors/mxfp4-encode", name, LEVEL, |golden| {
        let mut wrong = Vec::new();
        let mut seen = 0;
        for block in blocks(golden) {
            for index in 0..32 {
                let want = oracle::mxfp4::value(&block.packed, block.scale, index);
                let found = f64::from(mxfp4::decode(code_at(&block.packed, index), block.scale));
                seen += 1;
                if want.to_bits() != found.to_bits() {
                    wrong.push(format!("{} value {index}: expected {want:e}, found {found:e}", block.name));
                }
            }
        }
        vec![verdict(name, wrong, seen)]
    })
}

/// Encoding of every block of the golden.
pub fn encode_checks(encode: impl Fn(&[f32; 32]) -> (u8, [u8; 16])) -> Vec<Check> {
    let name = "tensors/mxfp4/encode";
    with_golden("tensors/mxfp4-encode", name, LEVEL, |golden| {
        let blocks = blocks(golden);
        let mut wrong = Vec::new();
        for block in &blocks {
            let found = encode(&block.input);
            if found != (block.scale, block.packed) {
                wrong.push(format!(
                    "{}: expected scale {} {:02x?}, found {} {:02x?}",
                    block.name, block.scale, block.packed, found.0, found.1
                ));
            }
        }
        vec![verdict(name, wrong, blocks.len())]
    })
}

/// The block decoder against the oracle, over random codes and every scale but NaN.
fn blocks_check() -> Check {
    let scales: Vec<u8> = (0..=254).collect();
    let packed: Vec<u8> = (0..scales.len() as u64 * 16)
        .map(|i| crate::verify::fixture::values::squares32(i, 0x9e37_79b9_7f4a_7c15) as u8)
        .collect();
    let mut found = vec![0.0; scales.len() * 32];
    mxfp4::decode_blocks(&packed, &scales, &mut found);
    let want = |i: usize| oracle::mxfp4::value(&packed[i / 32 * 16..][..16], scales[i / 32], i % 32) as f32;
    let wrong: Vec<String> = (0..found.len())
        .filter(|&i| want(i).to_bits() != found[i].to_bits())
        .map(|i| format!("value {i}: expected {:e}, found {:e}", want(i), found[i]))
        .collect();
    verdict("tensors/mxfp4/blocks", wrong, found.len())
}

/// f32 to BF16 on the golden's pairs.
pub fn round_checks(round: impl Fn(f32) -> u16) -> Vec<Check> {
    let name = "tensors/bf16/round";
    with_golden("tensors/bf16", name, LEVEL, |golden| {
        let pairs: Vec<(u32, u32)> = golden["from_f32"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pair| (words(&pair[0])[0], words(&pair[1])[0]))
            .collect();
        let wrong = pairs.iter().filter_map(|&(input, want)| {
            let found = round(f32::from_bits(input));
            (u32::from(found) != want).then(|| format!("{input:#010x}: expected {want:#06x}, found {found:#06x}"))
        });
        vec![verdict(name, wrong.collect(), pairs.len())]
    })
}

/// × 0.5 and × 0.25 over every pattern that is no NaN.
pub fn scale_checks(scale: impl Fn(u16, f32) -> u16) -> Vec<Check> {
    with_golden("tensors/bf16", "tensors/bf16/halved", LEVEL, |golden| {
        let digest = |factor| {
            let scaled = (0..=u16::MAX).flat_map(|bits| {
                let scaled = if bits & 0x7fff > 0x7f80 { 0 } else { scale(bits, factor) };
                scaled.to_le_bytes()
            });
            hex_sha256(&scaled.collect::<Vec<u8>>())
        };
        [("tensors/bf16/halved", "halved_sha256", 0.5), ("tensors/bf16/quartered", "quartered_sha256", 0.25)]
            .map(|(name, key, factor)| {
                Check::equal(name, LEVEL, golden[key].as_str().unwrap_or("nothing").to_string(), digest(factor))
            })
            .into()
    })
}

/// One block of the encode golden.
struct Block {
    name: String,
    input: [f32; 32],
    scale: u8,
    packed: [u8; 16],
}

fn blocks(golden: &Value) -> Vec<Block> {
    let block = |value: &Value| {
        let input: Vec<f32> = words(&value["input"]).into_iter().map(f32::from_bits).collect();
        let packed = value["packed"].as_str().unwrap_or_default();
        let byte = |j: usize| u8::from_str_radix(packed.get(2 * j..2 * j + 2)?, 16).ok();
        Block {
            name: value["name"].as_str().unwrap_or_default().into(),
            input: input.try_into().expect("a golden block has 32 inputs"),
            scale: value["scale"].as_u64().unwrap_or_default() as u8,
            packed: std::array::from_fn(|j| byte(j).expect("a golden block has 16 packed bytes")),
        }
    };
    golden["blocks"].as_array().into_iter().flatten().map(block).collect()
}

/// Hex words separated by spaces.
pub(super) fn words(value: &Value) -> Vec<u32> {
    let text = value.as_str().unwrap_or_default();
    text.split(' ').map(|word| u32::from_str_radix(word, 16).expect("a golden word is hex")).collect()
}

pub(super) fn verdict(name: &str, wrong: Vec<String>, total: usize) -> Check {
    match wrong.first() {
        None if total == 0 => Check::fail(name, LEVEL, "the golden is empty"),
        None => Check::pass(name, LEVEL, format!("{total} equal")),
        Some(first) => Check::fail(name, LEVEL, format!("{} of {total} differ, first {first}", wrong.len())),
    }
}
