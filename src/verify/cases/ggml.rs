//! Block codecs against ggml's own C code: edge blocks in full, every scale and a million random blocks by digest.
//!
//! The witness made its inputs from splitmix64 of an index; they are made again here ([`blocks`]).  Each check takes the
//! codec to judge, so that sabotage can hand in a wrong one.

mod blocks;
pub mod nearest;

use std::ops::Range;

use rayon::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use strum::IntoEnumIterator;

use super::codecs::{verdict, words};
use super::with_golden;
use crate::quant::{BlockType, mxfp4_ggml, q8_0, repack};
use crate::verify::compare::digest::hex_sha256;
use crate::verify::outcome::{Check, Level};
use blocks::{Blocks, rows};

const LEVEL: Level = Level::Tensors;
/// Random blocks of a type, and the parts that have a digest each.
const BLOCKS: usize = 1_000_000;
/// Parts of the random blocks.
pub const PARTS: usize = 16;
const PART: usize = BLOCKS / PARTS;
/// Blocks decoded at a time.
const PIECE: usize = 500;

/// Every check on our codecs.
pub(super) fn cases() -> Vec<Check> {
    let decode = BlockType::iter().flat_map(|kind| decode_checks(kind, |b, v| kind.decode(b, v), PARTS));
    let finite = "the inputs are finite";
    let encode = [
        encode_checks(BlockType::Q8_0, |v| q8_0::encode(v).expect(finite).to_vec(), PARTS),
        encode_checks(BlockType::Mxfp4, |v| mxfp4_ggml::encode(v).expect(finite).to_vec(), PARTS),
        vec![input_check()],
        pack_checks(mxfp4_ggml::pack),
        vec![unpack_check()],
        as_q8_0_checks(),
    ];
    decode.chain(encode.concat()).chain(nearest::cases()).collect()
}

/// Start of the names of a type's checks.
fn stem(kind: BlockType) -> String {
    format!("tensors/ggml/{}", <&str>::from(kind).to_lowercase())
}

/// Decoding of a type: edges, all scales, and the first `parts` parts of the random blocks.
pub fn decode_checks(kind: BlockType, decode: impl Fn(&[u8], &mut [f32]) + Sync, parts: usize) -> Vec<Check> {
    with_golden("tensors/ggml-decode", &stem(kind), LEVEL, |golden| {
        let golden = &golden[<&str>::from(kind)];
        let scales = [(0..1 << 16, golden["scales"].clone())];
        let random = golden["random"].as_array().cloned().unwrap_or_default();
        let random: Vec<_> =
            (0..parts).map(|i| (i * PART..(i + 1) * PART, random.get(i).cloned().unwrap_or_default())).collect();
        let decode = &decode;
        let digest = |blocks: Blocks| move |range: Range<usize>| decoded_digest(kind, blocks, range, decode);
        let mut checks = vec![
            digest_check(&format!("{}/scales", stem(kind)), &scales, digest(Blocks::Scales)),
            digest_check(&format!("{}/random", stem(kind)), &random, digest(Blocks::Random)),
        ];
        // Types of one value a block have no edges beside all of their patterns.
        if kind.values() > 1 {
            checks.insert(0, edge_check(kind, &golden["edges"], decode));
        }
        checks
    })
}

fn edge_check(kind: BlockType, edges: &Value, decode: &impl Fn(&[u8], &mut [f32])) -> Check {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for edge in edges.as_array().into_iter().flatten() {
        let want = words(&edge["values"]);
        let mut found = vec![0.0; want.len()];
        decode(&hex(&edge["block"]), &mut found);
        for (index, (&want, &found)) in want.iter().zip(&found).enumerate() {
            seen += 1;
            if want != canonical(found) {
                let (name, want) = (edge["name"].as_str().unwrap_or_default(), f32::from_bits(want));
                wrong.push(format!("{name} value {index}: expected {want:e}, found {found:e}"));
            }
        }
    }
    verdict(&format!("{}/edges", stem(kind)), wrong, seen)
}

/// The bits of a value, every NaN as the same one.
fn canonical(value: f32) -> u32 {
    if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() }
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("a golden block is hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn decoded_digest(kind: BlockType, blocks: Blocks, range: Range<usize>, decode: impl Fn(&[u8], &mut [f32])) -> String {
    let mut sha = Sha256::new();
    let mut values = vec![0.0; PIECE * kind.values()];
    for first in range.clone().step_by(PIECE) {
        let count = PIECE.min(range.end - first);
        let values = &mut values[..count * kind.values()];
        decode(&blocks.make(kind, first, count), values);
        sha.update(values.iter().flat_map(|&value| canonical(value).to_le_bytes()).collect::<Vec<u8>>());
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ranges of blocks and the digests that the golden has for them.
fn digest_check(name: &str, parts: &[(Range<usize>, Value)], digest: impl Fn(Range<usize>) -> String + Sync) -> Check {
    let judge = |(range, want): &(Range<usize>, Value)| {
        let (found, want) = (digest(range.clone()), want.as_str().unwrap_or("nothing"));
        (found != want)
            .then(|| format!("blocks {range:?}: expected SHA-256 {}…, found {}…", start(want), start(&found)))
    };
    let wrong: Vec<String> = parts.par_iter().filter_map(judge).collect();
    let blocks: usize = parts.iter().map(|(range, _)| range.len()).sum();
    match wrong.first() {
        None if blocks == 0 => Check::fail(name, LEVEL, "no block was looked at"),
        None => Check::pass(name, LEVEL, format!("{blocks} blocks equal")),
        Some(first) => {
            Check::fail(name, LEVEL, format!("{} of {} digests differ, first {first}", wrong.len(), parts.len()))
        }
    }
}

fn start(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Encoding of a type: edges, and the first `parts` parts of the random blocks.
pub fn encode_checks(kind: BlockType, encode: impl Fn(&[f32; 32]) -> Vec<u8> + Sync, parts: usize) -> Vec<Check> {
    let name = format!("{}/encode", stem(kind));
    with_golden("tensors/ggml-encode", &name, LEVEL, |golden| {
        let golden = &golden[<&str>::from(kind)];
        let (mut wrong, mut seen) = (Vec::new(), 0);
        for edge in golden["edges"].as_array().into_iter().flatten() {
            let input: Vec<f32> = words(&edge["input"]).into_iter().map(f32::from_bits).collect();
            let (want, found) = (hex(&edge["packed"]), encode(input.as_slice().try_into().expect("32 values")));
            seen += 1;
            if want != found {
                wrong.push(format!("{}: expected {want:02x?}, found {found:02x?}", edge["name"]));
            }
        }
        let digests = golden["random"].as_array().cloned().unwrap_or_default();
        let random: Vec<_> =
            (0..parts).map(|i| (i * PART..(i + 1) * PART, digests.get(i).cloned().unwrap_or_default())).collect();
        let digest = |range: Range<usize>| hex_sha256(&rows(range).iter().flat_map(&encode).collect::<Vec<u8>>());
        vec![verdict(&format!("{name}-edges"), wrong, seen), digest_check(&format!("{name}-random"), &random, digest)]
    })
}

/// The encoders' inputs are those of the witness.
fn input_check() -> Check {
    let name = "tensors/ggml/encode-inputs";
    let judge = |golden: &Value| {
        let bytes: Vec<u8> = rows(0..PART).iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        vec![Check::equal(name, LEVEL, golden["inputs"].as_str().unwrap_or("nothing").into(), hex_sha256(&bytes))]
    };
    with_golden("tensors/ggml-encode", name, LEVEL, judge).remove(0)
}

/// The checkpoint's blocks as llama.cpp's converter writes them, and each scale before its codes.
pub fn pack_checks(pack: impl Fn(&[u8; 16], u8) -> [u8; 17]) -> Vec<Check> {
    let name = "tensors/ggml/mxfp4/pack";
    with_golden("tensors/ggml-encode", name, LEVEL, |golden| {
        let packed: Vec<(u8, [u8; 17])> = repacked_inputs().map(|(e, block)| (e, pack(&block, e))).collect();
        let codes: Vec<u8> = packed.iter().flat_map(|(_, block)| block[1..].to_vec()).collect();
        let misplaced = packed.iter().filter(|(e, block)| block[0] != *e).count();
        let want = (golden["repack"].as_str().unwrap_or("nothing").to_string(), 0);
        vec![Check::equal(name, LEVEL, format!("{want:?}"), format!("{:?}", (hex_sha256(&codes), misplaced)))]
    })
}

/// Unpacking undoes packing on the same blocks.
fn unpack_check() -> Check {
    let differs = |&(e, block): &(u8, [u8; 16])| mxfp4_ggml::unpack(&mxfp4_ggml::pack(&block, e)) != (e, block);
    let wrong = repacked_inputs().filter(differs).map(|(e, block)| format!("scale {e}, {block:02x?}")).collect();
    verdict("tensors/ggml/mxfp4/unpack", wrong, 1 << 16)
}

/// Types that are Q8_0 under other codes, every scale: the block that stands for them holds their values.
fn as_q8_0_checks() -> Vec<Check> {
    let check = |kind: BlockType| {
        let blocks = Blocks::Scales.make(kind, 0, 1 << 16);
        let (mut want, mut found) = ([0.0; 32], [0.0; 32]);
        let differs = |block: &&[u8]| {
            kind.decode(block, &mut want);
            repack::as_q8_0(kind, block).is_none_or(|as_q8_0| {
                BlockType::Q8_0.decode(&as_q8_0, &mut found);
                want.map(canonical) != found.map(canonical)
            })
        };
        let wrong: Vec<&[u8]> = blocks.chunks_exact(kind.bytes()).filter(differs).collect();
        verdict(&format!("{}/as-q8_0", stem(kind)), wrong.iter().map(|b| format!("{b:02x?}")).collect(), 1 << 16)
    };
    [BlockType::Q4_0, BlockType::Q5_0, BlockType::Iq4Nl].map(check).into()
}

fn repacked_inputs() -> impl Iterator<Item = (u8, [u8; 16])> {
    let bytes = Blocks::Repacked.make(BlockType::Mxfp4, 0, 1 << 16);
    let blocks: Vec<[u8; 17]> = bytes.as_chunks().0.to_vec();
    blocks.into_iter().map(|[e, codes @ ..]| (e, codes))
}
