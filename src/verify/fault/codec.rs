//! Wrong codecs, judged by tables that other people's code made.

use crate::quant::{BlockType, bf16, mxfp4};

/// A codec to put in the place of ours.
pub enum Codec {
    /// E2M1 code and scale to a value.
    Decode(fn(u8, u8) -> f32),
    /// The code of value `index` of a block.
    CodeAt(fn(&[u8; 16], usize) -> u8),
    /// 32 values to scale and packed codes.
    Encode(fn(&[f32; 32]) -> (u8, [u8; 16])),
    /// f32 to BF16.
    Round(fn(f32) -> u16),
    /// BF16 times a factor.
    Scale(fn(u16, f32) -> u16),
    /// Blocks of a type of ggml to values.
    Block(BlockType, fn(&[u8], &mut [f32])),
    /// 32 values to a block of a type of ggml.
    BlockEncode(BlockType, fn(&[f32; 32]) -> Vec<u8>),
    /// A checkpoint's block and scale to GGUF's.
    Pack(fn(&[u8; 16], u8) -> [u8; 17]),
}

/// One wrong codec.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// The checks that must catch it, all and only these.
    pub caught_by: &'static [&'static str],
    /// The codec.
    pub codec: Codec,
}

/// Every wrong codec.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "mxfp4/doubled",
        about: "ggml's doubled integer table with the undoubled factor: twice every value",
        caught_by: &["tensors/mxfp4/decode", "tensors/mxfp4/decode-bf16"],
        codec: Codec::Decode(|code, e| 2.0 * mxfp4::decode(code, e)),
    },
    Fault {
        name: "mxfp4/minus-zero-lost",
        about: "an integer table cannot hold −0: code 8 decodes to +0",
        caught_by: &["tensors/mxfp4/decode", "tensors/mxfp4/decode-bf16"],
        codec: Codec::Decode(|code, e| if code == 8 && e != 255 { 0.0 } else { mxfp4::decode(code, e) }),
    },
    Fault {
        name: "mxfp4/nan-scale-finite",
        about: "e = 255 read as 2^128, as PyTorch's ldexp and ggml do",
        caught_by: &["tensors/mxfp4/decode", "tensors/mxfp4/decode-bf16"],
        codec: Codec::Decode(|code, e| match e {
            255 if code & 7 == 0 => mxfp4::decode(code, 254),
            255 => mxfp4::decode(code, 254) * 2.0,
            _ => mxfp4::decode(code, e),
        }),
    },
    Fault {
        name: "mxfp4/subnormals-flushed",
        about: "results below 2^−126 flushed to zero, as a GPU may",
        caught_by: &["tensors/mxfp4/decode", "tensors/mxfp4/decode-bf16"],
        codec: Codec::Decode(|code, e| match mxfp4::decode(code, e) {
            x if x.is_subnormal() => 0f32.copysign(x),
            x => x,
        }),
    },
    Fault {
        name: "mxfp4/one-stage-overflow",
        about: "2^(e − 1) as one factor: infinite from e = 129",
        caught_by: &["tensors/mxfp4/decode", "tensors/mxfp4/decode-bf16"],
        codec: Codec::Decode(|code, e| {
            let placed = f32::from_bits(u32::from(code & 8) << 28 | u32::from(code & 7) << 22);
            if e == 255 { f32::NAN } else { placed * 2f32.powi(i32::from(e) - 1) }
        }),
    },
    Fault {
        name: "mxfp4/five-for-six",
        about: "a typing error in the table: 5 for 6",
        caught_by: &["tensors/mxfp4/decode", "tensors/mxfp4/decode-bf16"],
        codec: Codec::Decode(|code, e| mxfp4::decode(code, e) * if code & 7 == 7 { 5.0 / 6.0 } else { 1.0 }),
    },
    Fault {
        name: "mxfp4/high-nibble-first",
        about: "value 2j taken from the high nibble",
        caught_by: &["tensors/mxfp4/order"],
        codec: Codec::CodeAt(|block, index| mxfp4::code_at(block, index ^ 1)),
    },
    Fault {
        name: "mxfp4/split-half",
        about: "GGUF's order: value j + 16 in the high nibble of byte j",
        caught_by: &["tensors/mxfp4/order"],
        codec: Codec::CodeAt(|block, index| (block[index % 16] >> (4 * (index / 16))) & 15),
    },
    Fault {
        name: "mxfp4/encode-scale-up",
        about: "the scale's exponent rounded up: one bit of precision lost",
        caught_by: &["tensors/mxfp4/encode"],
        codec: Codec::Encode(|values| {
            let halved = values.map(|v| v / 2.0);
            let (e, block) = encode(&halved);
            (if e == 0 { 0 } else { e.saturating_add(1) }, block)
        }),
    },
    Fault {
        name: "mxfp4/encode-ties-away",
        about: "ties rounded away from zero",
        caught_by: &["tensors/mxfp4/encode"],
        codec: Codec::Encode(|values| {
            // One step outward turns a tie into the larger neighbour and nothing else.
            encode(&values.map(|v| if v == 0.0 || v.abs() == f32::MAX { v } else { f32::from_bits(v.to_bits() + 1) }))
        }),
    },
    Fault {
        name: "mxfp4/encode-truncates",
        about: "values truncated toward zero to the code below",
        caught_by: &["tensors/mxfp4/encode"],
        codec: Codec::Encode(|values| {
            let (e, _) = encode(values);
            let code = |v: f32| {
                let magnitude = f64::from(v.abs()) / 2f64.powi(i32::from(e) - 127);
                let steps = [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
                steps.iter().filter(|step| magnitude >= **step).count() as u8 | u8::from(v.is_sign_negative()) << 3
            };
            (e, std::array::from_fn(|j| code(values[2 * j]) | code(values[2 * j + 1]) << 4))
        }),
    },
    Fault {
        name: "bf16/truncates",
        about: "the lower half cut off instead of rounded",
        caught_by: &["tensors/bf16/round"],
        codec: Codec::Round(|value| (value.to_bits() >> 16) as u16),
    },
    Fault {
        name: "bf16/ties-away",
        about: "ties rounded away from zero",
        caught_by: &["tensors/bf16/round"],
        codec: Codec::Round(|value| match value.is_finite() {
            true => ((value.to_bits() + 0x8000) >> 16) as u16,
            false => (value.to_bits() >> 16) as u16,
        }),
    },
    Fault {
        name: "bf16/exponent-decrement",
        about: "× 0.5 and × 0.25 as a subtraction from the exponent field: wrong for zero, subnormals and infinity",
        caught_by: &["tensors/bf16/halved", "tensors/bf16/quartered"],
        codec: Codec::Scale(|bits, factor| bits.wrapping_sub(if factor == 0.5 { 0x80 } else { 0x100 })),
    },
    Fault {
        name: "bf16/scale-flushes",
        about: "subnormal products flushed to zero",
        caught_by: &["tensors/bf16/halved", "tensors/bf16/quartered"],
        codec: Codec::Scale(|bits, factor| match bf16::scale(bits, factor) {
            scaled if scaled & 0x7f80 == 0 => scaled & 0x8000,
            scaled => scaled,
        }),
    },
    Fault {
        name: "bf16/scale-truncates",
        about: "subnormal products truncated instead of rounded to even",
        caught_by: &["tensors/bf16/halved", "tensors/bf16/quartered"],
        codec: Codec::Scale(|bits, factor| ((bf16::to_f32(bits) * factor).to_bits() >> 16) as u16),
    },
];

fn encode(values: &[f32; 32]) -> (u8, [u8; 16]) {
    mxfp4::encode_block(values).expect("golden blocks are finite")
}
