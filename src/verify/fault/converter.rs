//! GGUF files that an exporter of ours could have written, each unlike what llama.cpp's converter writes.
//!
//! [`super::gguf_model`] judges files against their source; here the judge is the other program's file, which also tells
//! what the source cannot: names, types and metadata.

use super::gguf_model::{Artifact, halves, in_order};
use super::run::{Catalogued, caught, red};
use crate::gguf::dialect::DenseType;
use crate::verify::cases::converter;

/// One wrong file.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// The check that must catch it, and only it.
    pub caught_by: &'static str,
    /// The damage.
    pub damage: fn(&mut Artifact),
}

const TENSORS: &str = "bytes/gguf-converter/T3/bf16/tensors";
const METADATA: &str = "bytes/gguf-converter/T3/bf16/metadata";

const fn tensors(name: &'static str, about: &'static str, damage: fn(&mut Artifact)) -> Fault {
    Fault { name, about, caught_by: TENSORS, damage }
}

const fn metadata(name: &'static str, about: &'static str, damage: fn(&mut Artifact)) -> Fault {
    Fault { name, about, caught_by: METADATA, damage }
}

/// Every wrong file.
pub const FAULTS: &[Fault] = &[
    tensors(
        "converter/gate-up-halves",
        "gate and up are the halves of the fused rows: they were not taken apart row by row",
        |a| halves(a, "blk.1"),
    ),
    tensors("converter/scales-permuted", "the scales of two neighbouring blocks are exchanged", |a| {
        let name = "blk.2.ffn_down_exps.weight";
        let mut data = a.data(name);
        data.swap(0, 17);
        a.put(name, &data);
    }),
    tensors("converter/nibbles-in-order", "expert codes keep the checkpoint's order", |a| {
        a.each_block("blk.0.ffn_up_exps.weight", in_order);
    }),
    tensors("converter/last-value", "the last value of a bias is another one", |a| {
        let name = "blk.3.ffn_down_exps.bias";
        let mut data = a.data(name);
        let last = data.len() - 2;
        data[last] ^= 1;
        a.put(name, &data);
    }),
    tensors("converter/name", "a norm has the name that Ollama's early files give it, padded to its length", |a| {
        a.rename("blk.1.post_attention_norm.weight", "blk.1.ffn_norm.weight___________");
    }),
    tensors("converter/dims", "a matrix is told as one row of as many values", |a| {
        let name = "blk.0.ffn_gate_inp.weight";
        let at = a.name_at(name) + name.len() + 4;
        let dims: [u64; 2] =
            std::array::from_fn(|dim| u64::from_le_bytes(a.bytes()[at + 8 * dim..][..8].try_into().expect("8 bytes")));
        a.overwrite(at, &(dims[0] * dims[1]).to_le_bytes());
        a.overwrite(at + 8, &1u64.to_le_bytes());
    }),
    metadata("converter/key", "a key is spelt otherwise: the width of experts is not found", |a| {
        a.rename("gpt-oss.expert_feed_forward_length", "gpt-oss.experts_feed_forward_lengt");
    }),
    metadata("converter/value-type", "a count is signed", |a| {
        let key = "gpt-oss.expert_count";
        let at = a.name_at(key) + key.len();
        a.overwrite(at, &5u32.to_le_bytes());
    }),
    metadata("converter/file-type", "the file says that it is mostly F16", |a| a.u32("general.file_type", 1)),
    metadata("converter/context", "the context is the one before its extension", |a| {
        a.u32("gpt-oss.context_length", 4096);
    }),
    metadata("converter/epsilon", "the norms' epsilon is 1e-6", |a| {
        a.f32("gpt-oss.attention.layer_norm_rms_epsilon", 1e-6);
    }),
    metadata("converter/alignment", "the key that is ours alone has another name than the one agreed on", |a| {
        a.rename("general.alignment", "general.alignmen_");
    }),
];

/// Plants every fault and judges it against the converter's file.
pub fn planted() -> Vec<Catalogued> {
    let honest = converter::exported(DenseType::Bf16).expect("the recipe can be exported");
    let plant = |fault: &'static Fault| {
        let mut artifact = Artifact::of(honest.clone());
        (fault.damage)(&mut artifact);
        let red = red(converter::checks(artifact.into_bytes(), DenseType::Bf16));
        caught(fault.name, fault.about, vec![fault.caught_by.into()], red, None)
    };
    FAULTS.iter().map(plant).collect()
}
