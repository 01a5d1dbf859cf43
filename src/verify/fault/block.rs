//! Wrong block codecs, judged by what ggml's own C code gave.

use super::codec::{Codec, Fault};
use crate::quant::{BlockType, f16, mxfp4, mxfp4_ggml, q8_0};

/// Decodes block by block: `before` changes what is read, `after` (with the block as it was) what came out.
fn by(kind: BlockType, bytes: &[u8], out: &mut [f32], before: fn(&mut [u8]), after: fn(&[u8], &mut [f32])) {
    for (block, values) in bytes.chunks_exact(kind.bytes()).zip(out.chunks_exact_mut(kind.values())) {
        let mut changed = block.to_vec();
        before(&mut changed);
        kind.decode(&changed, values);
        after(block, values);
    }
}

/// A fault of what is read.
macro_rules! reading {
    ($kind:ident, $before:expr) => {
        Codec::Block(BlockType::$kind, |bytes, out| by(BlockType::$kind, bytes, out, $before, |_, _| ()))
    };
}

/// A fault of what is made of it.
macro_rules! making {
    ($kind:ident, $after:expr) => {
        Codec::Block(BlockType::$kind, |bytes, out| by(BlockType::$kind, bytes, out, |_| (), $after))
    };
}

/// Values 2j and 2j + 1 of each 32 from byte j, in place of j and j + 16.
fn interleave(_: &[u8], values: &mut [f32]) {
    for values in values.chunks_exact_mut(32) {
        let split: Vec<f32> = values.to_vec();
        (0..32).for_each(|i| values[i] = split[i / 2 + i % 2 * 16]);
    }
}

/// Adds `steps` of the scale in the first two bytes.
fn shift(block: &[u8], values: &mut [f32], steps: f32) {
    let d = f16::to_f32(u16::from_le_bytes([block[0], block[1]]));
    values.iter_mut().for_each(|value| *value += steps * d);
}

fn nibbles_swapped(byte: u8) -> u8 {
    byte.rotate_left(4)
}

/// Every wrong block codec.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "ggml/f16-infinity-a-number",
        about: "exponent 31 read as a number beyond 65 504",
        caught_by: &["tensors/ggml/f16/*"],
        codec: making!(F16, |block, values| {
            if block[1] & 0x7c == 0x7c {
                let bits = u32::from(u16::from_le_bytes([block[0], block[1]]));
                values[0] = f32::from_bits((((bits & 0x7fff) << 13) + 0x3800_0000) | ((bits & 0x8000) << 16));
            }
        }),
    },
    Fault {
        name: "ggml/f16-subnormals-flushed",
        about: "subnormal scales read as zero, as a GPU may",
        caught_by: &["tensors/ggml/q8_0/*"],
        codec: reading!(Q8_0, |block| {
            if block[1] & 0x7c == 0 {
                (block[0], block[1]) = (0, block[1] & 0x80);
            }
        }),
    },
    Fault {
        name: "ggml/q8_0-unsigned",
        about: "the codes of Q8_0 read as unsigned",
        caught_by: &["tensors/ggml/q8_0/*"],
        codec: making!(Q8_0, |block, values| {
            let d = f16::to_f32(u16::from_le_bytes([block[0], block[1]]));
            values.iter_mut().zip(&block[2..]).for_each(|(value, &q)| *value = f32::from(q) * d);
        }),
    },
    Fault {
        name: "ggml/q4_0-interleaved",
        about: "values 2j and 2j + 1 from byte j of Q4_0",
        caught_by: &["tensors/ggml/q4_0/*"],
        codec: making!(Q4_0, interleave),
    },
    Fault {
        name: "ggml/q4_0-halves-swapped",
        about: "value j from the high nibble of Q4_0",
        caught_by: &["tensors/ggml/q4_0/*"],
        codec: reading!(Q4_0, |block| block[2..].iter_mut().for_each(|byte| *byte = nibbles_swapped(*byte))),
    },
    Fault {
        name: "ggml/q4_0-no-offset",
        about: "codes of Q4_0 without − 8",
        caught_by: &["tensors/ggml/q4_0/*"],
        codec: making!(Q4_0, |block, values| shift(block, values, 8.0)),
    },
    Fault {
        name: "ggml/q5_0-offset-of-q4_0",
        about: "codes of Q5_0 less 8 in place of 16",
        caught_by: &["tensors/ggml/q5_0/*"],
        codec: making!(Q5_0, |block, values| shift(block, values, 8.0)),
    },
    Fault {
        name: "ggml/q5_0-qh-reversed",
        about: "the fifth bits of Q5_0 read from the other end",
        caught_by: &["tensors/ggml/q5_0/*"],
        codec: reading!(Q5_0, |block| {
            block[2..6].reverse();
            block[2..6].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
        }),
    },
    Fault {
        name: "ggml/q5_0-qh-halves-swapped",
        about: "the fifth bits of values j and j + 16 exchanged",
        caught_by: &["tensors/ggml/q5_0/*"],
        codec: reading!(Q5_0, |block| block[2..6].rotate_left(2)),
    },
    Fault {
        name: "ggml/q5_1-minimum-subtracted",
        about: "− m in place of + m, as the K types have it",
        caught_by: &["tensors/ggml/q5_1/*"],
        codec: reading!(Q5_1, |block| block[3] ^= 0x80),
    },
    Fault {
        name: "ggml/iq4_nl-linear",
        about: "codes of IQ4_NL read as those of Q4_0, 16 steps wide",
        caught_by: &["tensors/ggml/iq4_nl/*"],
        codec: Codec::Block(BlockType::Iq4Nl, |bytes, out| {
            BlockType::Q4_0.decode(bytes, out);
            out.iter_mut().for_each(|value| *value *= 16.0);
        }),
    },
    Fault {
        name: "ggml/mxfp4-doubled",
        about: "the doubled table with the whole scale: twice every value",
        caught_by: &["tensors/ggml/mxfp4/*"],
        codec: making!(Mxfp4, |_, values| values.iter_mut().for_each(|value| *value *= 2.0)),
    },
    Fault {
        name: "ggml/mxfp4-interleaved",
        about: "the checkpoint's order: values 2j and 2j + 1 from byte j",
        caught_by: &["tensors/ggml/mxfp4/*"],
        codec: making!(Mxfp4, interleave),
    },
    Fault {
        name: "ggml/mxfp4-minus-zero",
        about: "code 8 decodes to −0, as OCP's table has it",
        caught_by: &["tensors/ggml/mxfp4/*"],
        codec: making!(Mxfp4, |block, values| {
            for (i, value) in values.iter_mut().enumerate() {
                if (block[1 + i % 16] >> (4 * (i / 16))) & 15 == 8 {
                    *value = -0.0;
                }
            }
        }),
    },
    Fault {
        name: "ggml/mxfp4-nan-scale",
        about: "e = 255 is NaN, as OCP says",
        caught_by: &["tensors/ggml/mxfp4/*"],
        codec: making!(Mxfp4, |block, values| {
            if block[0] == 255 {
                values.fill(f32::NAN);
            }
        }),
    },
    Fault {
        name: "ggml/mxfp4-subnormal-scales-flushed",
        about: "e of 0 and 1 give a factor of zero",
        caught_by: &["tensors/ggml/mxfp4/*"],
        codec: making!(Mxfp4, |block, values| {
            if block[0] < 2 {
                values.iter_mut().for_each(|value| *value *= 0.0);
            }
        }),
    },
    Fault {
        name: "ggml/mxfp4-scale-last",
        about: "the scale looked for behind the codes",
        caught_by: &["tensors/ggml/mxfp4/*"],
        codec: reading!(Mxfp4, |block| block.rotate_right(1)),
    },
    Fault {
        name: "ggml/q4_k-scales-of-four-bits",
        about: "the upper two bits of the last four scales and minima forgotten",
        caught_by: &["tensors/ggml/q4_k/*"],
        codec: reading!(Q4K, |block| block[4..12].iter_mut().for_each(|byte| *byte &= 63)),
    },
    Fault {
        name: "ggml/q4_k-scale-and-minimum-swapped",
        about: "scales read where minima are",
        caught_by: &["tensors/ggml/q4_k/*"],
        codec: reading!(Q4K, |block| {
            block[4..12].rotate_left(4);
            block[12..16].iter_mut().for_each(|byte| *byte = nibbles_swapped(*byte));
        }),
    },
    Fault {
        name: "ggml/q4_k-minimum-added",
        about: "+ dmin × m in place of −",
        caught_by: &["tensors/ggml/q4_k/*"],
        codec: reading!(Q4K, |block| block[3] ^= 0x80),
    },
    Fault {
        name: "ggml/q4_k-halves-of-a-sub-block",
        about: "each sub-block in 16 bytes of its own, as in Q4_0",
        caught_by: &["tensors/ggml/q4_k/*"],
        codec: reading!(Q4K, |block| {
            for group in block[16..].chunks_exact_mut(32) {
                let own = group.to_vec();
                let nibble = |s: usize, l: usize| (own[s * 16 + l % 16] >> (l / 16 * 4)) & 15;
                (0..32).for_each(|l| group[l] = nibble(0, l) | nibble(1, l) << 4);
            }
        }),
    },
    Fault {
        name: "ggml/q5_k-qh-reversed",
        about: "the fifth bits of sub-block s at bit 7 − s",
        caught_by: &["tensors/ggml/q5_k/*"],
        codec: reading!(Q5K, |block| block[16..48].iter_mut().for_each(|byte| *byte = byte.reverse_bits())),
    },
    Fault {
        name: "ggml/q6_k-d-first",
        about: "the scale of Q6_K looked for in front, as every other type has it",
        caught_by: &["tensors/ggml/q6_k/*"],
        codec: reading!(Q6K, |block| block.rotate_left(2)),
    },
    Fault {
        name: "ggml/q6_k-no-offset",
        about: "codes of Q6_K without − 32",
        caught_by: &["tensors/ggml/q6_k/*"],
        codec: making!(Q6K, |block, values| {
            let d = f16::to_f32(u16::from_le_bytes([block[208], block[209]]));
            let scale = |i: usize| f32::from(block[192 + i / 16] as i8);
            values.iter_mut().enumerate().for_each(|(i, value)| *value += d * scale(i) * 32.0);
        }),
    },
    Fault {
        name: "ggml/q6_k-qh-quarters-swapped",
        about: "the upper bits of quarters 1 and 2 exchanged",
        caught_by: &["tensors/ggml/q6_k/*"],
        codec: reading!(Q6K, |block| {
            for byte in &mut block[128..192] {
                *byte = (*byte & 0xc3) | (*byte & 0x0c) << 2 | (*byte & 0x30) >> 2;
            }
        }),
    },
    Fault {
        name: "ggml/q6_k-scales-unsigned",
        about: "the scales of Q6_K's sub-blocks read as unsigned",
        caught_by: &["tensors/ggml/q6_k/*"],
        codec: making!(Q6K, |block, values| {
            for (scale, values) in block[192..208].iter().zip(values.chunks_exact_mut(16)) {
                let factor = f32::from(*scale) / f32::from(*scale as i8);
                values.iter_mut().for_each(|value| *value *= factor);
            }
        }),
    },
    Fault {
        name: "ggml/q8_0-encode-ties-to-even",
        about: "codes of Q8_0 rounded to even at ties",
        caught_by: &["tensors/ggml/q8_0/encode*"],
        codec: Codec::BlockEncode(BlockType::Q8_0, |values| q8_0_by(values, |x, d| (x * (1.0 / d)).round_ties_even())),
    },
    Fault {
        name: "ggml/q8_0-encode-by-division",
        about: "x / d in place of x × (1/d)",
        caught_by: &["tensors/ggml/q8_0/encode-random"],
        codec: Codec::BlockEncode(BlockType::Q8_0, |values| q8_0_by(values, |x, d| (x / d).round())),
    },
    Fault {
        name: "ggml/q8_0-encode-by-stored-scale",
        about: "codes of Q8_0 by the scale after it was rounded to F16",
        caught_by: &["tensors/ggml/q8_0/encode*"],
        codec: Codec::BlockEncode(BlockType::Q8_0, |values| {
            q8_0_by(values, |x, d| (x * (1.0 / f16::to_f32(f16::from_f32(d)))).round())
        }),
    },
    Fault {
        name: "ggml/mxfp4-encode-ocp",
        about: "OCP's encoder: ties to even, the sign of zero kept",
        caught_by: &["tensors/ggml/mxfp4/encode*"],
        codec: Codec::BlockEncode(BlockType::Mxfp4, |values| {
            let (e, block) = mxfp4::encode_block(values).expect("golden blocks are finite");
            mxfp4_ggml::pack(&block, e).to_vec()
        }),
    },
    Fault {
        name: "ggml/mxfp4-encode-exact-exponent",
        about: "the exponent of amax exactly, where log2f rounds up just below a power of two",
        caught_by: &["tensors/ggml/mxfp4/encode*"],
        codec: Codec::BlockEncode(BlockType::Mxfp4, |values| {
            // A mantissa with its last bits cut off is far enough below the power.
            let cut =
                |v: f32| if v.to_bits() & 0x7f_ff00 == 0x7f_ff00 { f32::from_bits(v.to_bits() & !0xff) } else { v };
            mxfp4_ggml::encode(&values.map(cut)).expect("golden blocks are finite").to_vec()
        }),
    },
    Fault {
        name: "ggml/pack-order-kept",
        about: "the checkpoint's bytes copied behind the scale",
        caught_by: &["tensors/ggml/mxfp4/pack"],
        codec: Codec::Pack(|block, e| {
            let mut out = [e; 17];
            out[1..].copy_from_slice(block);
            out
        }),
    },
    Fault {
        name: "ggml/pack-nibbles-swapped",
        about: "value j in the high nibble",
        caught_by: &["tensors/ggml/mxfp4/pack"],
        codec: Codec::Pack(|block, e| {
            let mut out = mxfp4_ggml::pack(block, e);
            out[1..].iter_mut().for_each(|byte| *byte = nibbles_swapped(*byte));
            out
        }),
    },
];

/// Q8_0 whose codes are `code(x, d)` wherever ours are not zero.
fn q8_0_by(values: &[f32; 32], code: fn(f32, f32) -> f32) -> Vec<u8> {
    let mut block = q8_0::encode(values).expect("golden blocks are finite");
    let d = values.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
    for (q, &x) in block[2..].iter_mut().zip(values).filter(|(q, _)| **q != 0) {
        *q = code(x, d) as i8 as u8;
    }
    block.to_vec()
}
