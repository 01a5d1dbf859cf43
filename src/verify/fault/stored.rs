//! Ways to write a tensor wrongly: each one that a converter somewhere has shipped, or that its code invites.

use crate::checkpoint::{Layout, ModelConfig, Role, TensorId};
use crate::verify::oracle;

use Role::*;

/// A tensor, or one expert's part of it, about to be stored.
pub struct Slab<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// The tensor.
    pub tensor: TensorId,
    /// The format it is stored in.
    pub layout: Layout,
    /// Its true bytes, as the original layout has them.
    pub canonical: &'a [u8],
}

/// One wrong way.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What a person is told when a file shows it.
    pub looks_like: &'static str,
    /// Tensors it can strike.
    pub applies: fn(Role) -> bool,
    /// The tensor it strikes in the sabotage suite.
    pub strikes: (Role, Option<usize>),
    /// The wrong bytes; `None` where the fault does not exist for this format or shape.
    pub damage: fn(&Slab) -> Option<Vec<u8>>,
}

impl Slab<'_> {
    /// The right way.
    pub fn stored(&self, canonical: &[u8]) -> Vec<u8> {
        match self.layout {
            Layout::ModelBin => oracle::model_bin::stored(self.config, self.tensor, canonical),
            // A GGUF is read in the original form before it is compared.
            Layout::Original | Layout::Hf | Layout::Gguf => canonical.to_vec(),
        }
    }

    /// Bytes of one row of the slab.  An expert's slab has the rows of its matrix, any other those of the tensor.
    fn row_bytes(&self) -> usize {
        let shape = self.tensor.shape(self.config);
        let below = if self.tensor.role.is_of_an_expert() { 2 } else { 1 };
        shape[below..].iter().product::<usize>() * self.tensor.role.dtype().bytes()
    }

    fn rows(&self) -> Vec<&[u8]> {
        self.canonical.chunks_exact(self.row_bytes()).collect()
    }

    fn reordered(&self, order: impl Iterator<Item = usize>) -> Vec<u8> {
        let rows = self.rows();
        let bytes: Vec<u8> = order.flat_map(|row| rows[row].iter().copied()).collect();
        self.stored(&bytes)
    }

    /// QKV stored with other factors, order or scope than the format's.
    fn qkv(&self, q: f32, k: f32, order: fn(usize, usize) -> usize, v_too: bool) -> Option<Vec<u8>> {
        let c = self.config;
        if self.layout != Layout::ModelBin || self.canonical.len() != self.tensor.bytes(c) {
            return None;
        }
        let (rows, d) = (self.rows(), c.head_dim);
        let mut out = Vec::with_capacity(self.canonical.len());
        for row in 0..rows.len() {
            let (head, within) = (row / d, row % d);
            let factor = match head {
                head if head < c.heads => q,
                head if head < c.heads + c.kv_heads => k,
                _ => 1.0,
            };
            let moves = v_too || head < c.heads + c.kv_heads;
            let source = if moves { head * d + order(within, d) } else { row };
            out.extend(rows[source].as_chunks::<2>().0.iter().flat_map(|pair| scaled(*pair, factor)));
        }
        Some(out)
    }

    fn scales_plus(&self, offset: u8) -> Option<Vec<u8>> {
        (self.layout == Layout::ModelBin).then(|| self.canonical.iter().map(|s| s.wrapping_add(offset)).collect())
    }

    /// The slab as a square matrix of elements, transposed.
    fn transposed(&self, elements: Vec<u16>) -> Option<Vec<u16>> {
        let side = elements.len().isqrt();
        if side * side != elements.len() {
            return None;
        }
        Some((0..elements.len()).map(|i| elements[i % side * side + i / side]).collect())
    }

    fn bf16_map(&self, map: impl Fn(u16) -> u16) -> Vec<u8> {
        self.stored(&from_u16(self.canonical.as_chunks::<2>().0.iter().map(|pair| map(u16::from_le_bytes(*pair)))))
    }
}

fn from_u16(values: impl Iterator<Item = u16>) -> Vec<u8> {
    values.flat_map(u16::to_le_bytes).collect()
}

/// × factor with one rounding of the f32, to nearest even.
fn scaled(pair: [u8; 2], factor: f32) -> [u8; 2] {
    crate::quant::bf16::scale(u16::from_le_bytes(pair), factor).to_le_bytes()
}

fn interleave(row: usize, d: usize) -> usize {
    (row % 2) * (d / 2) + row / 2
}

fn interleave_inverse(row: usize, d: usize) -> usize {
    if row < d / 2 { 2 * row } else { 2 * (row - d / 2) + 1 }
}

fn keep(row: usize, _d: usize) -> usize {
    row
}

fn codes(bytes: &[u8]) -> Vec<u16> {
    bytes.iter().flat_map(|byte| [u16::from(byte & 15), u16::from(byte >> 4)]).collect()
}

fn packed(codes: &[u16]) -> Vec<u8> {
    codes.chunks_exact(2).map(|pair| pair[0] as u8 | (pair[1] as u8) << 4).collect()
}

fn is_gate_up(role: Role) -> bool {
    matches!(role, Mlp1Blocks | Mlp1Scales | Mlp1Bias)
}

fn is_bf16(role: Role) -> bool {
    !role.is_blocks() && !role.is_scales()
}

fn is_plain_bf16(role: Role) -> bool {
    is_bf16(role) && !role.is_qkv()
}

fn is_norm(role: Role) -> bool {
    matches!(role, AttnNorm | MlpNorm | FinalNorm)
}

/// Gate rows first, up rows after: the layout of most other models.
fn split_gate_up(slab: &Slab) -> Option<Vec<u8>> {
    let rows = slab.rows().len();
    Some(slab.reordered((0..rows).map(|row| (2 * row) % rows + 2 * row / rows)))
}

/// Every wrong way, most specific first: a diagnosis names the first that fits.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "blocks/nibbles-swapped",
        looks_like: "expert blocks look nibble-swapped: the high nibble was taken as the even value",
        applies: Role::is_blocks,
        strikes: (Mlp1Blocks, Some(3)),
        damage: |slab| Some(slab.canonical.iter().map(|byte| byte.rotate_left(4)).collect()),
    },
    Fault {
        name: "blocks/nibbles-split-half",
        looks_like: "expert blocks are in GGUF's order: byte j holds values j and j + 16, not 2j and 2j + 1",
        applies: Role::is_blocks,
        strikes: (Mlp2Blocks, Some(1)),
        damage: |slab| {
            let codes = codes(slab.canonical);
            let split: Vec<u16> =
                codes.chunks_exact(32).flat_map(|b| (0..16).flat_map(|j| [b[j], b[j + 16]])).collect();
            Some(packed(&split))
        },
    },
    Fault {
        name: "blocks/words-swapped",
        looks_like: "expert blocks were written as big-endian u32 words",
        applies: Role::is_blocks,
        strikes: (Mlp2Blocks, Some(2)),
        damage: |slab| Some(slab.canonical.as_chunks::<4>().0.iter().flat_map(|w| [w[3], w[2], w[1], w[0]]).collect()),
    },
    Fault {
        name: "blocks/signs-flipped",
        looks_like: "expert blocks have every sign flipped",
        applies: Role::is_blocks,
        strikes: (Mlp1Blocks, Some(0)),
        damage: |slab| Some(slab.canonical.iter().map(|byte| byte ^ 0x88).collect()),
    },
    Fault {
        name: "blocks/transposed",
        looks_like: "expert blocks look transposed: rows are inputs, not outputs",
        applies: |role| role == Mlp2Blocks,
        strikes: (Mlp2Blocks, Some(0)),
        damage: |slab| slab.transposed(codes(slab.canonical)).map(|codes| packed(&codes)),
    },
    Fault {
        name: "gate-up/blocks-split",
        looks_like: "gate/up rows split instead of interleaved",
        applies: is_gate_up,
        strikes: (Mlp1Blocks, Some(2)),
        damage: split_gate_up,
    },
    Fault {
        name: "gate-up/scales-split",
        looks_like: "gate/up rows split instead of interleaved",
        applies: is_gate_up,
        strikes: (Mlp1Scales, Some(1)),
        damage: split_gate_up,
    },
    Fault {
        name: "gate-up/bias-split",
        looks_like: "gate/up rows split instead of interleaved",
        applies: is_gate_up,
        strikes: (Mlp1Bias, Some(1)),
        damage: split_gate_up,
    },
    Fault {
        name: "gate-up/swapped",
        looks_like: "gate and up rows are swapped: even rows must be the gate",
        applies: is_gate_up,
        strikes: (Mlp1Bias, Some(0)),
        damage: |slab| Some(slab.reordered((0..slab.rows().len()).map(|row| row ^ 1))),
    },
    Fault {
        name: "scales/offset-missing",
        looks_like: "scales lack the +14 offset",
        applies: Role::is_scales,
        strikes: (Mlp1Scales, Some(0)),
        damage: |slab| slab.scales_plus(0),
    },
    Fault {
        name: "scales/offset-twice",
        looks_like: "scales carry the +14 offset twice",
        applies: Role::is_scales,
        strikes: (Mlp2Scales, Some(0)),
        damage: |slab| slab.scales_plus(28),
    },
    Fault {
        name: "scales/offset-subtracted",
        looks_like: "scales have 14 subtracted instead of added",
        applies: Role::is_scales,
        strikes: (Mlp2Scales, Some(3)),
        damage: |slab| slab.scales_plus(14u8.wrapping_neg()),
    },
    Fault {
        name: "scales/doubled-table",
        looks_like: "scales are one too low: meant for a table of doubled E2M1 values",
        applies: Role::is_scales,
        strikes: (Mlp1Scales, Some(2)),
        damage: |slab| Some(slab.stored(slab.canonical).iter().map(|s| s.wrapping_sub(1)).collect()),
    },
    Fault {
        name: "scales/next-group",
        looks_like: "scales are shifted by one group",
        applies: Role::is_scales,
        strikes: (Mlp2Scales, Some(1)),
        damage: |slab| {
            let mut scales = slab.stored(slab.canonical);
            scales.rotate_left(1);
            Some(scales)
        },
    },
    Fault {
        name: "qkv/nothing-done",
        looks_like: "QKV is the checkpoint's own: halves not interleaved, Q and K pre-scale missing",
        applies: Role::is_qkv,
        strikes: (QkvBias, Some(2)),
        damage: |slab| slab.qkv(1.0, 1.0, keep, false),
    },
    Fault {
        name: "qkv/not-interleaved",
        looks_like: "QKV halves not interleaved",
        applies: Role::is_qkv,
        strikes: (QkvWeight, Some(0)),
        damage: |slab| slab.qkv(0.5, 0.25, keep, false),
    },
    Fault {
        name: "qkv/interleaved-backwards",
        looks_like: "QKV rows were de-interleaved where they should be interleaved",
        applies: Role::is_qkv,
        strikes: (QkvWeight, Some(1)),
        damage: |slab| slab.qkv(0.5, 0.25, interleave_inverse, false),
    },
    Fault {
        name: "qkv/v-interleaved",
        looks_like: "V rows were interleaved like Q and K",
        applies: Role::is_qkv,
        strikes: (QkvWeight, Some(2)),
        damage: |slab| slab.qkv(0.5, 0.25, interleave, true),
    },
    Fault {
        name: "qkv/q-scale-missing",
        looks_like: "Q pre-scale missing",
        applies: Role::is_qkv,
        strikes: (QkvWeight, Some(3)),
        damage: |slab| slab.qkv(1.0, 0.25, interleave, false),
    },
    Fault {
        name: "qkv/k-scale-missing",
        looks_like: "K pre-scale missing",
        applies: Role::is_qkv,
        strikes: (QkvBias, Some(0)),
        damage: |slab| slab.qkv(0.5, 1.0, interleave, false),
    },
    Fault {
        name: "qkv/scales-swapped",
        looks_like: "Q and K pre-scales are swapped",
        applies: Role::is_qkv,
        strikes: (QkvBias, Some(1)),
        damage: |slab| slab.qkv(0.25, 0.5, interleave, false),
    },
    Fault {
        name: "qkv/scale-on-q-alone",
        looks_like: "the whole pre-scale of 1/8 is on Q",
        applies: Role::is_qkv,
        strikes: (QkvBias, Some(3)),
        damage: |slab| slab.qkv(0.125, 1.0, interleave, false),
    },
    Fault {
        name: "qkv/k-and-v-exchanged",
        looks_like: "K and V rows are exchanged",
        applies: Role::is_qkv,
        strikes: (QkvWeight, Some(0)),
        damage: |slab| {
            let (q, kv) = (slab.config.q_rows(), slab.config.kv_rows());
            (slab.rows().len() == q + 2 * kv).then(|| slab.reordered((0..q).chain(q + kv..q + 2 * kv).chain(q..q + kv)))
        },
    },
    Fault {
        name: "bf16/bytes-swapped",
        looks_like: "BF16 values are big-endian",
        applies: is_bf16,
        strikes: (OutWeight, Some(1)),
        damage: |slab| Some(slab.bf16_map(u16::swap_bytes)),
    },
    Fault {
        name: "bf16/is-f16",
        looks_like: "values were converted to F16, the header still means BF16",
        applies: is_plain_bf16,
        strikes: (OutWeight, Some(0)),
        damage: |slab| Some(slab.bf16_map(f16_bits)),
    },
    Fault {
        name: "dense/transposed",
        looks_like: "the matrix is transposed",
        applies: |role| matches!(role, OutWeight | GateWeight),
        strikes: (OutWeight, Some(2)),
        damage: |slab| {
            let rows = slab.rows();
            let columns = slab.row_bytes() / 2;
            let at = |row: usize, column: usize| [rows[row][2 * column], rows[row][2 * column + 1]];
            Some((0..columns).flat_map(|c| (0..rows.len()).flat_map(move |r| at(r, c))).collect::<Vec<u8>>())
        },
    },
    Fault {
        name: "dense/rows-reversed",
        looks_like: "rows are in reverse order",
        applies: |role| matches!(role, GateWeight | GateBias | Sinks),
        strikes: (GateWeight, Some(1)),
        damage: |slab| Some(slab.reordered((0..slab.rows().len()).rev())),
    },
    Fault {
        name: "norm/gain-minus-one",
        looks_like: "norm gains are stored minus one, as for x·(1 + g)",
        applies: is_norm,
        strikes: (AttnNorm, Some(2)),
        damage: |slab| {
            let minus_one = |bits: u16| crate::quant::bf16::from_f32(crate::quant::bf16::to_f32(bits) - 1.0);
            Some(slab.bf16_map(minus_one))
        },
    },
    Fault {
        name: "tensor/never-written",
        looks_like: "all zeros: the tensor was never written",
        applies: |_| true,
        strikes: (OutBias, Some(1)),
        damage: |slab| Some(vec![0; slab.canonical.len()]),
    },
    Fault {
        name: "sinks/halved",
        looks_like: "values are halved: the Q pre-scale was applied here too",
        applies: is_plain_bf16,
        strikes: (Sinks, Some(1)),
        damage: |slab| Some(slab.bf16_map(|bits| crate::quant::bf16::scale(bits, 0.5))),
    },
];

/// The nearest IEEE half of a BF16 in half's normal range; zero below, infinity above.
fn f16_bits(bits: u16) -> u16 {
    let (sign, exponent, mantissa) = (bits & 0x8000, i32::from(bits >> 7 & 0xff) - 127, bits & 0x7f);
    match exponent {
        ..-14 => sign,
        16.. => sign | 0x7c00,
        _ => sign | ((exponent + 15) as u16) << 10 | mantissa << 3,
    }
}
