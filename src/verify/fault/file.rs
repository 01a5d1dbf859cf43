//! Damage to files: headers, tokenizers, regions, names.

use crate::checkpoint::Role;
use crate::model_bin::layout::{Part, Plan, Section};

/// What a fault damages.
pub enum Damage {
    /// The bytes of the model.bin.
    ModelBin(fn(&Artifact) -> Vec<u8>),
    /// The bytes of the HF checkpoint's single file, which is then compared with the original layout.
    Hf(fn(&[u8]) -> Vec<u8>),
}

/// The honest model.bin.
pub struct Artifact<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Its sections.
    pub plan: &'a Plan,
}

/// One damaged file.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// The checks that must catch it, all and only these.  A trailing `*` stands for any rest of the name.
    pub caught_by: &'static [&'static str],
    /// The typed error, where a reader refuses the file.
    pub error: Option<&'static str>,
    /// The damage.
    pub damage: Damage,
}

impl Artifact<'_> {
    fn section(&self, part: impl Fn(Part) -> bool) -> Section {
        *self.plan.sections().iter().find(|section| part(section.part)).expect("the artifact has such a section")
    }

    fn dense(&self, role: Role, layer: Option<usize>) -> Section {
        self.section(|part| matches!(part, Part::Dense(t) if t.role == role && t.layer == layer))
    }

    /// Everything of one expert, from its first array to the end of its last.
    fn expert(&self, layer: usize, expert: usize) -> std::ops::Range<usize> {
        let of_expert =
            |section: &&Section| matches!(section.part, Part::Expert(t, e) if t.layer == Some(layer) && e == expert);
        let first = self.plan.sections().iter().find(of_expert).expect("the expert exists");
        let last = self.plan.sections().iter().rfind(of_expert).expect("the expert exists");
        first.range().start..last.range().end
    }

    fn with(&self, offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = self.bytes.to_vec();
        damaged[offset..offset + bytes.len()].copy_from_slice(bytes);
        damaged
    }

    fn with_f32(&self, offset: usize, value: f32) -> Vec<u8> {
        self.with(offset, &value.to_le_bytes())
    }

    fn with_u32(&self, offset: usize, value: u32) -> Vec<u8> {
        self.with(offset, &value.to_le_bytes())
    }

    fn flipped(&self, offset: usize) -> Vec<u8> {
        self.with(offset, &[self.bytes[offset] ^ 1])
    }

    fn exchanged(&self, a: std::ops::Range<usize>, b: std::ops::Range<usize>) -> Vec<u8> {
        let (from_a, from_b) = (self.bytes[a.clone()].to_vec(), self.bytes[b.clone()].to_vec());
        let mut damaged = self.with(a.start, &from_b);
        damaged[b].copy_from_slice(&from_a);
        damaged
    }

    /// The file as a writer would lay it out that pads regions to `align`.
    fn repadded(&self, align: usize) -> Vec<u8> {
        let mut damaged = Vec::new();
        for section in self.plan.sections() {
            match section.part {
                Part::Padding if section.range().end.is_multiple_of(16384) => {
                    damaged.resize(damaged.len().next_multiple_of(align), 0);
                }
                _ => damaged.extend_from_slice(&self.bytes[section.range()]),
            }
        }
        damaged
    }
}

/// Exchanges two equally long texts in a SafeTensors header.
fn renamed(file: &[u8], a: &str, b: &str) -> Vec<u8> {
    assert_eq!(a.len(), b.len(), "the header keeps its length");
    let header_end = 8 + u64::from_le_bytes(*file.first_chunk().expect("a SafeTensors file")) as usize;
    let header = std::str::from_utf8(&file[8..header_end]).expect("a SafeTensors header");
    let hole = "\0".repeat(a.len());
    let exchanged = header.replace(a, &hole).replace(b, a).replace(&hole, b);
    [&file[..8], exchanged.as_bytes(), &file[header_end..]].concat()
}

macro_rules! model_bin {
    ($name:literal, $about:literal, [$($check:literal),*], $error:expr, $damage:expr) => {
        Fault {
            name: $name, about: $about, caught_by: &[$($check),*], error: $error,
            damage: Damage::ModelBin($damage),
        }
    };
}

const OPEN: Option<&str> = None;

/// Every damaged file.
pub const FAULTS: &[Fault] = &[
    model_bin!(
        "file/last-byte-missing",
        "the copy stopped one byte short",
        ["structure/open"],
        Some("file-truncated"),
        |a| { a.bytes[..a.bytes.len() - 1].to_vec() }
    ),
    model_bin!("file/one-byte-more", "a newline was appended", ["structure/open"], Some("file-too-long"), |a| {
        [a.bytes, b"\n"].concat()
    }),
    model_bin!(
        "file/padded-to-pages",
        "regions padded to the system's 4 KiB pages, not to 16 KiB",
        ["structure/open"],
        Some("file-truncated"),
        |a| a.repadded(4096)
    ),
    model_bin!(
        "file/padding-used",
        "a byte was written into padding",
        ["structure/open"],
        Some("padding-not-zero"),
        |a| { a.flipped(a.section(|part| part == Part::Padding).range().start) }
    ),
    model_bin!("file/last-bit", "one bit of the last byte flipped", ["tensors/block.3.mlp.mlp2_bias"], OPEN, |a| {
        a.flipped(a.bytes.len() - 1)
    }),
    model_bin!(
        "file/experts-exchanged",
        "experts 0 and 1 of block 2 exchanged",
        ["tensors/block.2.mlp.mlp*"],
        OPEN,
        |a| a.exchanged(a.expert(2, 0), a.expert(2, 1))
    ),
    model_bin!("file/expert-repeated", "expert 3 of block 0 holds expert 2", ["tensors/block.0.mlp.mlp*"], OPEN, |a| {
        a.with(a.expert(0, 3).start, &a.bytes[a.expert(0, 2)])
    }),
    model_bin!(
        "file/layer-stale",
        "the attention output of block 1 holds block 0's",
        ["tensors/block.1.attn.out.weight"],
        OPEN,
        |a| {
            let from = a.dense(Role::OutWeight, Some(0)).range();
            a.with(a.dense(Role::OutWeight, Some(1)).range().start, &a.bytes[from])
        }
    ),
    model_bin!(
        "file/norms-exchanged",
        "the two norms of block 3 exchanged",
        ["tensors/block.3.attn.norm.scale", "tensors/block.3.mlp.norm.scale"],
        OPEN,
        |a| { a.exchanged(a.dense(Role::AttnNorm, Some(3)).range(), a.dense(Role::MlpNorm, Some(3)).range()) }
    ),
    model_bin!(
        "file/embedding-tied",
        "the unembedding holds the embedding",
        ["tensors/unembedding.weight"],
        OPEN,
        |a| {
            let from = a.dense(Role::Embedding, None).range();
            a.with(a.dense(Role::Unembedding, None).range().start, &a.bytes[from])
        }
    ),
    model_bin!("header/other-magic", "the magic of a later version", ["structure/open"], Some("magic"), |a| a
        .with(9, b"2")),
    model_bin!(
        "header/layout-uuid-mixed-endian",
        "the layout UUID in Windows byte order",
        ["structure/open"],
        Some("uuid"),
        |a| {
            let u: [u8; 16] = crate::model_bin::layout::ids::APPLE_GPU;
            a.with(100, &[u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6]])
        }
    ),
    model_bin!(
        "header/context-not-extended",
        "context_length without the YaRN factor",
        ["structure/config"],
        OPEN,
        |a| { a.with_u32(32, 4096) }
    ),
    model_bin!("header/active-experts", "two active experts for four", ["structure/config"], OPEN, |a| a
        .with_u32(44, 2)),
    model_bin!("header/swiglu-limit", "the SwiGLU limit is 6", ["structure/config"], OPEN, |a| a.with_f32(56, 6.0)),
    model_bin!("header/window", "a window of 129", ["structure/config"], OPEN, |a| a.with_u32(72, 129)),
    model_bin!("header/theta", "theta of 10 000", ["structure/config"], OPEN, |a| a.with_f32(76, 10_000.0)),
    model_bin!(
        "header/factor-not-inverted",
        "interpolation_scale holds the factor, not its inverse",
        ["structure/config"],
        OPEN,
        |a| a.with_f32(80, 32.0)
    ),
    model_bin!(
        "header/yarn-rounded",
        "the correction range rounded to 8 and 18, as ggml does",
        ["structure/config"],
        OPEN,
        |a| {
            let offset = a.with_f32(84, -8.0 / 10.0);
            Artifact { bytes: &offset, plan: a.plan }.with_f32(88, 1.0 / 10.0)
        }
    ),
    model_bin!("header/concentration-missing", "yarn_multiplier of 1", ["structure/config"], OPEN, |a| a
        .with_f32(92, 1.0)),
    model_bin!("header/epsilon", "RMSNorm epsilon of 1e-6", ["structure/open"], Some("header-field"), |a| a
        .with_f32(96, 1e-6)),
    model_bin!(
        "header/heads-exchanged",
        "query and key-value heads exchanged",
        ["structure/open"],
        Some("header-field"),
        |a| {
            let heads: [u8; 4] = a.bytes[64..68].try_into().expect("four bytes");
            let kv: [u8; 4] = a.bytes[68..72].try_into().expect("four bytes");
            let first = a.with(64, &kv);
            Artifact { bytes: &first, plan: a.plan }.with(68, &heads)
        }
    ),
    model_bin!(
        "tokenizer/end-untrusted-written",
        "slot 3 holds the UUID that the upstream converter never writes",
        ["structure/tokenizer"],
        OPEN,
        |a| { a.with(148 + 3 * 16, &0xf265bd9c_c717_469e_a447_920687d65d90_u128.to_be_bytes()) }
    ),
    model_bin!(
        "tokenizer/slots-shifted",
        "the slots of <|return|> and <|constrain|> exchanged",
        ["structure/tokenizer"],
        OPEN,
        |a| { a.exchanged(148 + 4 * 16..148 + 5 * 16, 148 + 5 * 16..148 + 6 * 16) }
    ),
    model_bin!("tokenizer/message-missing", "the slot of <|message|> is empty", ["structure/tokenizer"], OPEN, |a| {
        a.with(148 + 10 * 16, &[0; 16])
    }),
    model_bin!("tokenizer/one-letter", "one letter of one token", ["structure/tokenizer"], OPEN, |a| {
        a.flipped(a.section(|part| part == Part::TextTokens).range().start + 2)
    }),
    model_bin!("tokenizer/regex", "one letter of the pattern", ["structure/tokenizer"], OPEN, |a| {
        a.flipped(a.section(|part| part == Part::Regex).range().start + 1)
    }),
    Fault {
        name: "hf/k-and-v-named-wrongly",
        about: "k_proj and v_proj of block 1 carry each other's names",
        caught_by: &["tensors/block.1.attn.qkv.weight", "tensors/block.1.attn.qkv.bias"],
        error: None,
        damage: Damage::Hf(|file| renamed(file, "layers.1.self_attn.k_proj", "layers.1.self_attn.v_proj")),
    },
    Fault {
        name: "hf/layers-named-wrongly",
        about: "the experts of blocks 0 and 2 carry each other's names",
        caught_by: &["tensors/block.0.mlp.mlp*", "tensors/block.2.mlp.mlp*"],
        error: None,
        damage: Damage::Hf(|file| renamed(file, "layers.0.mlp.experts", "layers.2.mlp.experts")),
    },
    Fault {
        name: "hf/up-projections-misnamed",
        about: "a tensor has a name that no model has",
        caught_by: &["structure/open"],
        error: Some("tensor-missing"),
        damage: Damage::Hf(|file| {
            renamed(file, "layers.0.mlp.experts.down_proj_bias", "layers.0.mlp.experts.downxproj_bias")
        }),
    },
];
