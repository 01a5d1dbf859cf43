//! GGUF files written wrongly: what converters have shipped and peers have read wrongly, each judged against the source.

use std::ops::Range;
use std::path::Path;

use super::run::{Catalogued, caught, red};
use crate::checkpoint::{Checkpoint, Layout, WeightSource};
use crate::gguf::dialect::DenseType;
use crate::gguf::{Gguf, GgufModel};
use crate::open::OpenError;
use crate::telemetry::Silent;
use crate::verify::check;
use crate::verify::fixture::{Recipe, gguf_bytes, in_memory};
use crate::verify::sample::Sample;

/// One wrong file.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// The type of the dense matrices of the honest file.
    pub dense: DenseType,
    /// The checks that must catch it, all and only these.
    pub caught_by: &'static [&'static str],
    /// The typed error, where the reader refuses the file.
    pub error: Option<&'static str>,
    /// The damage.
    pub damage: fn(&mut Artifact),
}

/// A file that is being damaged.
pub struct Artifact {
    bytes: Vec<u8>,
    honest: Gguf,
}

/// Bytes of a block of MXFP4, scale included.
const BLOCK: usize = 17;

impl Artifact {
    fn new(recipe: &str, dense: DenseType) -> Artifact {
        Artifact::of(gguf_bytes(&Recipe::built_in(recipe), dense).expect("the recipe can be written"))
    }

    /// The file of these bytes, which are sound.
    pub(super) fn of(bytes: Vec<u8>) -> Artifact {
        let honest = Gguf::from_bytes(Path::new("model.gguf"), bytes.clone().into()).expect("the file is honest");
        Artifact { bytes, honest }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn overwrite(&mut self, at: usize, with: &[u8]) {
        self.bytes[at..at + with.len()].copy_from_slice(with);
    }

    fn range(&self, name: &str) -> Range<usize> {
        let range = self.honest.tensor(name).and_then(|tensor| tensor.range().ok()).expect("the file has the tensor");
        range.start as usize..range.end as usize
    }

    pub(super) fn data(&self, name: &str) -> Vec<u8> {
        self.bytes[self.range(name)].to_vec()
    }

    pub(super) fn put(&mut self, name: &str, data: &[u8]) {
        self.overwrite(self.range(name).start, data);
    }

    fn swap(&mut self, a: &str, b: &str) {
        let (left, right) = (self.data(a), self.data(b));
        assert_eq!(left.len(), right.len(), "{a} and {b}");
        self.put(a, &right);
        self.put(b, &left);
    }

    /// Changes each 17-byte block of a tensor.
    pub(super) fn each_block(&mut self, name: &str, change: fn(&[u8; BLOCK]) -> [u8; BLOCK]) {
        let changed: Vec<u8> = self.data(name).as_chunks().0.iter().flat_map(change).collect();
        self.put(name, &changed);
    }

    fn value(&mut self, key: &str, value: [u8; 4]) {
        let offset = self.honest.metadata().offset_of(key).expect("the file has the key") as usize;
        self.overwrite(offset, &value);
    }

    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.value(key, value.to_le_bytes());
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.value(key, value.to_le_bytes());
    }

    /// Where a key or a tensor's name stands in the header.
    pub(super) fn name_at(&self, name: &str) -> usize {
        let wanted = [&(name.len() as u64).to_le_bytes()[..], name.as_bytes()].concat();
        let found = self.bytes.windows(wanted.len()).position(|window| window == wanted);
        found.expect("the file has the name") + 8
    }

    /// Another name of the same length, for a key or a tensor.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len(), "{from} and {to}");
        self.overwrite(self.name_at(from), to.as_bytes());
    }

    /// Rows of a tensor in another order, within each run of `run` rows.
    fn reorder(&mut self, name: &str, run: usize, order: fn(usize, usize) -> usize) {
        let info = self.honest.tensor(name).expect("the file has the tensor").info;
        let rows: usize = info.dims[1..].iter().product::<u64>() as usize;
        let data = self.data(name);
        let row_bytes = data.len() / rows;
        let reordered: Vec<u8> = (0..rows)
            .flat_map(|row| {
                let from = row / run * run + order(row % run, run);
                data[from * row_bytes..(from + 1) * row_bytes].to_vec()
            })
            .collect();
        self.put(name, &reordered);
    }
}

/// Values 2j and 2j + 1 in byte j, as the checkpoint has them.
pub(super) fn in_order(block: &[u8; BLOCK]) -> [u8; BLOCK] {
    let code = |i: usize| block[1 + i % 16] >> (4 * (i / 16)) & 15;
    std::array::from_fn(|at| if at == 0 { block[0] } else { code(2 * at - 2) | code(2 * at - 1) << 4 })
}

fn scale_last(block: &[u8; BLOCK]) -> [u8; BLOCK] {
    std::array::from_fn(|at| block[(at + 1) % BLOCK])
}

/// The first matrix of `ffn_down_exps`, 64 × 64, transposed: codes move, each scale stays where it was.
fn transpose_expert(artifact: &mut Artifact) {
    const SIDE: usize = 64;
    let name = "blk.2.ffn_down_exps.weight";
    let mut data = artifact.data(name);
    let place = |row: usize, column: usize| {
        let (block, i) = (row * (SIDE / 32) + column / 32, column % 32);
        (block * BLOCK + 1 + i % 16, 4 * (i / 16))
    };
    let honest = data.clone();
    for row in 0..SIDE {
        for column in 0..SIDE {
            let ((to, shift), (from, by)) = (place(row, column), place(column, row));
            data[to] = data[to] & !(15 << shift) | (honest[from] >> by & 15) << shift;
        }
    }
    artifact.put(name, &data);
}

/// Gate holds the first half of the fused rows and up the second, instead of the even and the odd ones.
pub(super) fn halves(artifact: &mut Artifact, block: &str) {
    let (gate, up) = (&*format!("{block}.ffn_gate_exps.weight"), &*format!("{block}.ffn_up_exps.weight"));
    let (even, odd) = (artifact.data(gate), artifact.data(up));
    let (rows, experts) = (64, 8);
    let row_bytes = even.len() / (rows * experts);
    let fused = |expert: usize, row: usize| {
        let half = if row.is_multiple_of(2) { &even } else { &odd };
        half[(expert * rows + row / 2) * row_bytes..][..row_bytes].to_vec()
    };
    let half = |first: usize| -> Vec<u8> {
        (0..experts * rows).flat_map(|row| fused(row / rows, first + row % rows)).collect()
    };
    let (first, second) = (half(0), half(rows));
    artifact.put(gate, &first);
    artifact.put(up, &second);
}

const BF16: DenseType = DenseType::Bf16;

/// A fault of a lossless file that opens.
const fn read(
    name: &'static str,
    about: &'static str,
    caught_by: &'static [&'static str],
    damage: fn(&mut Artifact),
) -> Fault {
    Fault { name, about, dense: BF16, caught_by, error: None, damage }
}

/// A fault that the reader refuses.
const fn refused(name: &'static str, about: &'static str, error: &'static str, damage: fn(&mut Artifact)) -> Fault {
    Fault { name, about, dense: BF16, caught_by: &["structure/open"], error: Some(error), damage }
}

const CONFIG: &[&str] = &["structure/config"];

/// Every wrong file.
pub const FAULTS: &[Fault] = &[
    read(
        "gguf-model/gate-up-swapped",
        "the gate's rows are under the name of up, and the other way round",
        &["tensors/block.1.mlp.mlp1_weight.blocks", "tensors/block.1.mlp.mlp1_weight.scales"],
        |a| a.swap("blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight"),
    ),
    read(
        "gguf-model/gate-up-halves",
        "gate and up are the halves of the fused rows instead of the even and the odd ones",
        &["tensors/block.1.mlp.mlp1_weight.blocks", "tensors/block.1.mlp.mlp1_weight.scales"],
        |a| halves(a, "blk.1"),
    ),
    read(
        "gguf-model/gate-up-bias-swapped",
        "the biases of gate and up are swapped, their matrices are not",
        &["tensors/block.0.mlp.mlp1_bias"],
        |a| a.swap("blk.0.ffn_gate_exps.bias", "blk.0.ffn_up_exps.bias"),
    ),
    read(
        "gguf-model/nibbles-in-order",
        "expert codes keep the checkpoint's order: byte j holds values 2j and 2j + 1",
        &["tensors/block.0.mlp.mlp2_weight.blocks"],
        |a| a.each_block("blk.0.ffn_down_exps.weight", in_order),
    ),
    read(
        "gguf-model/nibbles-swapped",
        "the halves of each byte of codes are swapped",
        &["tensors/block.3.mlp.mlp2_weight.blocks"],
        |a| {
            a.each_block("blk.3.ffn_down_exps.weight", |b| {
                std::array::from_fn(|at| if at == 0 { b[0] } else { b[at].rotate_left(4) })
            })
        },
    ),
    read(
        "gguf-model/scale-last",
        "the scale of each block is behind its codes",
        &["tensors/block.1.mlp.mlp2_weight.blocks", "tensors/block.1.mlp.mlp2_weight.scales"],
        |a| a.each_block("blk.1.ffn_down_exps.weight", scale_last),
    ),
    read(
        "gguf-model/doubled-table",
        "scales are one less, for a table of doubled values",
        &["tensors/block.2.mlp.mlp2_weight.scales"],
        |a| a.each_block("blk.2.ffn_down_exps.weight", |b| std::array::from_fn(|at| b[at] - u8::from(at == 0))),
    ),
    read(
        "gguf-model/expert-transposed",
        "an expert's square matrix is transposed, which no shape shows",
        &["tensors/block.2.mlp.mlp2_weight.blocks"],
        transpose_expert,
    ),
    read(
        "gguf-model/down-is-up",
        "the down matrices of a layer hold its up matrices, which have the same shape",
        &["tensors/block.0.mlp.mlp2_weight.blocks", "tensors/block.0.mlp.mlp2_weight.scales"],
        |a| {
            let up = a.data("blk.0.ffn_up_exps.weight");
            a.put("blk.0.ffn_down_exps.weight", &up);
        },
    ),
    read(
        "gguf-model/bias-over-weight",
        "a bias was loaded over the weight of the same width",
        &["tensors/block.1.attn.norm.scale"],
        |a| {
            let bias = a.data("blk.1.attn_output.bias");
            a.put("blk.1.attn_norm.weight", &bias);
        },
    ),
    read(
        "gguf-model/q-rows-permuted",
        "rows of Q are permuted for rotating neighbours, as llama.cpp does for other models",
        &["tensors/block.0.attn.qkv.weight"],
        |a| a.reorder("blk.0.attn_q.weight", 64, |row, d| row % 2 * (d / 2) + row / 2),
    ),
    read(
        "gguf-model/k-rows-permuted",
        "rows of K are permuted for rotating neighbours",
        &["tensors/block.3.attn.qkv.weight"],
        |a| a.reorder("blk.3.attn_k.weight", 64, |row, d| row % 2 * (d / 2) + row / 2),
    ),
    read(
        "gguf-model/k-v-swapped",
        "K and V, which have the same shape, are swapped",
        &["tensors/block.2.attn.qkv.weight"],
        |a| {
            a.swap("blk.2.attn_k.weight", "blk.2.attn_v.weight");
        },
    ),
    read(
        "gguf-model/embedding-is-output",
        "embedding and unembedding are swapped: one file calls them tied",
        &["tensors/embedding.weight", "tensors/unembedding.weight"],
        |a| a.swap("token_embd.weight", "output.weight"),
    ),
    read(
        "gguf-model/norms-swapped",
        "the norm before the experts, called post_attention_norm, is the one before attention",
        &["tensors/block.1.attn.norm.scale", "tensors/block.1.mlp.norm.scale"],
        |a| a.swap("blk.1.attn_norm.weight", "blk.1.post_attention_norm.weight"),
    ),
    read(
        "gguf-model/router-type",
        "the router's F32 bytes are announced as F16",
        &["tensors/block.1.mlp.gate.weight"],
        |a| {
            let name = "blk.1.ffn_gate_inp.weight";
            let at = a.name_at(name) + name.len() + 4 + 2 * 8;
            a.overwrite(at, &[1]);
        },
    ),
    refused("gguf-model/bias-missing", "a bias is not there under its name", "gguf-tensor-missing", |a| {
        a.rename("blk.0.attn_q.bias", "blk.0.attn_q.bia_");
    }),
    refused("gguf-model/epsilon", "the norms' epsilon is 1e-6", "gguf-key-value", |a| {
        a.f32("gpt-oss.attention.layer_norm_rms_epsilon", 1e-6);
    }),
    refused(
        "gguf-model/head-size",
        "the head size is hidden / heads, not the 64 of the model",
        "gguf-key-value",
        |a| {
            a.u32("gpt-oss.attention.key_length", 8);
        },
    ),
    read("gguf-model/yarn-factor", "the context extension factor is half of what it was", CONFIG, |a| {
        a.f32("gpt-oss.rope.scaling.factor", 16.0);
    }),
    read("gguf-model/yarn-context", "the original context is the extended one", CONFIG, |a| {
        a.u32("gpt-oss.rope.scaling.original_context_length", 131_072);
    }),
    read("gguf-model/yarn-betas", "beta_fast and beta_slow are those of another model", CONFIG, |a| {
        a.f32("gpt-oss.rope.scaling.yarn_beta_fast", 64.0);
    }),
    read("gguf-model/rope-base", "the base of the frequencies is 10 000", CONFIG, |a| {
        a.f32("gpt-oss.rope.freq_base", 1e4)
    }),
    read("gguf-model/window", "the window is one token short", CONFIG, |a| {
        a.u32("gpt-oss.attention.sliding_window", 127)
    }),
    read("gguf-model/experts-used", "two experts a token instead of four", CONFIG, |a| {
        a.u32("gpt-oss.expert_used_count", 2)
    }),
    Fault {
        name: "gguf-model/q8_0-truncated",
        about: "Q8_0 codes are cut off instead of rounded",
        dense: DenseType::Q8_0,
        caught_by: &["tensors/block.0.attn.out.weight"],
        error: None,
        damage: |a| {
            // One code toward zero: within a step, beyond half of one.
            let mut data = a.data("blk.0.attn_output.weight");
            data[2] = (data[2] as i8 - (data[2] as i8).signum()) as u8;
            a.put("blk.0.attn_output.weight", &data);
        },
    },
    Fault {
        name: "gguf-model/q8_0-scale",
        about: "a Q8_0 scale is that of the next block",
        dense: DenseType::Q8_0,
        caught_by: &["tensors/unembedding.weight"],
        error: None,
        damage: |a| {
            let mut data = a.data("output.weight");
            let next = [data[34], data[35]];
            data[..2].copy_from_slice(&next);
            a.put("output.weight", &data);
        },
    },
    Fault {
        name: "gguf-model/f16-bits",
        about: "BF16 bits were written where the header says F16",
        dense: DenseType::F16,
        caught_by: &["tensors/block.1.attn.out.weight"],
        error: None,
        damage: |a| {
            let source = in_memory(&Recipe::built_in(RECIPE), Layout::Original, 1).expect("the recipe is valid");
            let tensor = crate::checkpoint::TensorId::of_block(crate::checkpoint::Role::OutWeight, 1);
            a.put("blk.1.attn_output.weight", &source.segments(tensor).concat());
        },
    },
];

/// The recipe whose files are damaged.
const RECIPE: &str = "small-vocab";

/// Plants every fault and judges it against the original checkpoint.
pub fn planted() -> Vec<Catalogued> {
    let source = in_memory(&Recipe::built_in(RECIPE), Layout::Original, 1).expect("the recipe is valid");
    FAULTS.iter().map(|fault| plant(fault, &source)).collect()
}

fn plant(fault: &'static Fault, source: &Checkpoint) -> Catalogued {
    let mut artifact = Artifact::new(RECIPE, fault.dense);
    (fault.damage)(&mut artifact);
    let checks = match GgufModel::from_bytes(Path::new("model.gguf"), artifact.bytes.into()) {
        Err(error) => vec![check::refused("structure/open", &OpenError::Gguf(error))],
        Ok(model) => {
            let mut checks = check::against_source(&model, source);
            checks.extend(check::against(&model, source, &Sample::All, &Silent).checks);
            checks
        }
    };
    let red = red(checks);
    let error = red.first().and_then(|check| check.error.as_deref());
    let objection = (error != fault.error).then(|| format!("expected the error {:?}, found {error:?}", fault.error));
    let named = fault.caught_by.iter().map(|name| name.to_string()).collect();
    caught(fault.name, fault.about, named, red, objection)
}
