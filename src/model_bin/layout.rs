//! Where everything is in a model.bin: the constants of the format, and the plan of one file.
//!
//! All little-endian; UUIDs as 16 bytes in text order; padding is zero bytes.  Arrays are BF16 unless said otherwise.
//!
//! | region    | contents                                                                          | begins at           |
//! |-----------|-----------------------------------------------------------------------------------|---------------------|
//! | prefix    | header, special tokens, regex, text tokens                                        | 0                   |
//! | shared    | embedding; per block: norm, qkv, sinks, out, norm, gate; final norm; unembedding  | multiple of 16 384  |
//! | MoE layer | for each expert: mlp1 blocks (u8), scales (u8), bias, mlp2 blocks, scales, bias   | multiple of 16 384  |
//!
//! An array begins at a multiple of 16, except that a bias follows its dense weight with nothing between.  The file
//! ends with the last array.  16 384 is the format's number, whatever the page size of the machine.
//!
//! Source: `create-local-model.py` of openai/gpt-oss (`gpt_oss/metal/scripts`).

use crate::checkpoint::{ModelConfig, Role, TensorId};

/// First 16 bytes: magic and a zero u32.
pub const MAGIC: [u8; 16] = *b"GPT-OSS v1.0\0\0\0\0";
/// Bytes before the special-token table.
pub const HEADER_BYTES: u64 = 148;
/// Alignment of the weights and of each MoE layer.
pub const REGION_ALIGN: u64 = 16_384;
/// Alignment of an array.
pub const ARRAY_ALIGN: u64 = 16;
/// Added to each E8M0 scale: the Metal kernels place E2M1 codes in half-precision bits, which reads as value × 2^−14.
pub const SCALE_OFFSET: u8 = 14;
/// Experts per token of every model.bin: the upstream converter writes this whatever the config says.
pub const ACTIVE_EXPERTS: usize = 4;
/// Head size of every model.bin: the converter asserts it, and the scales of Q and K assume it.
pub const HEAD_DIM: usize = 64;

/// UUIDs that name the parts of the format.
pub mod ids {
    /// The model type: gpt-oss.
    pub const MODEL: [u8; 16] = 0xdf52dc86_1789_4ed0_a295_66f10508145b_u128.to_be_bytes();
    /// The weight layout: Apple GPU.
    pub const APPLE_GPU: [u8; 16] = 0x229177a8_5775_4268_bfd8_d588b351c56d_u128.to_be_bytes();
    /// The tokenizer type: tiktoken.
    pub const TIKTOKEN: [u8; 16] = 0x7401aded_2a95_40cb_b782_9ccebaafe72b_u128.to_be_bytes();
}

/// What a section of the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Magic, ids, model header, tokenizer header.
    Header,
    /// One UUID per special token.
    SpecialTokens,
    /// The pre-tokenizer's pattern and a NUL.
    Regex,
    /// u16 length and bytes of each text token.
    TextTokens,
    /// Zeros up to an alignment.
    Padding,
    /// A tensor outside the experts.
    Dense(TensorId),
    /// One expert's part of a tensor.
    Expert(TensorId, usize),
}

impl Part {
    /// The tensor it holds or is part of.
    pub fn tensor(self) -> Option<TensorId> {
        match self {
            Part::Dense(tensor) | Part::Expert(tensor, _) => Some(tensor),
            _ => None,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Header => f.write_str("header"),
            Part::SpecialTokens => f.write_str("tokenizer.special_tokens"),
            Part::Regex => f.write_str("tokenizer.regex"),
            Part::TextTokens => f.write_str("tokenizer.text_tokens"),
            Part::Padding => f.write_str("padding"),
            Part::Dense(tensor) => write!(f, "{tensor}"),
            Part::Expert(tensor, expert) => write!(f, "{tensor}[{expert}]"),
        }
    }
}

/// A run of bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub part: Part,
    /// Absolute offset.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
}

impl Section {
    /// The section as an index range.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset as usize..(self.offset + self.bytes) as usize
    }
}

/// Sizes of the tokenizer's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenizerBytes {
    /// 16 × number of special tokens.
    pub special_tokens: u64,
    /// Pattern and NUL.
    pub regex: u64,
    /// All records.
    pub text_tokens: u64,
}

/// Every section of one file, in order and without gaps.
#[derive(Debug, Clone)]
pub struct Plan {
    sections: Vec<Section>,
    file_bytes: u64,
}

impl Plan {
    /// The plan for a model whose embedding has `vocab_rows` rows in the file.
    pub fn new(config: &ModelConfig, vocab_rows: usize, tokenizer: TokenizerBytes) -> Plan {
        Plan::within(config, vocab_rows, tokenizer, u64::MAX).expect("no file exceeds u64::MAX bytes")
    }

    /// The plan, unless the file would be longer than `bytes_max`: then the first section that passes it.
    ///
    /// Work and memory stay in proportion to `bytes_max`, so that a damaged header cannot ask for more.
    pub fn within(
        config: &ModelConfig,
        vocab_rows: usize,
        tokenizer: TokenizerBytes,
        bytes_max: u64,
    ) -> Result<Plan, Section> {
        let mut plan = Builder { sections: Vec::new(), offset: 0, bytes_max };
        plan.push(Part::Header, HEADER_BYTES)?;
        plan.push(Part::SpecialTokens, tokenizer.special_tokens)?;
        plan.push(Part::Regex, tokenizer.regex)?;
        plan.push(Part::TextTokens, tokenizer.text_tokens)?;
        plan.pad(REGION_ALIGN)?;
        plan.shared(config, vocab_rows)?;
        for layer in 0..config.layers {
            plan.moe_layer(config, layer)?;
        }
        Ok(Plan { sections: plan.sections, file_bytes: plan.offset })
    }

    /// The sections, in file order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}

/// The parts of a block's shared region; `true` where the array follows its predecessor without padding.
const SHARED_OF_A_BLOCK: [(Role, bool); 9] = [
    (Role::AttnNorm, false),
    (Role::QkvWeight, false),
    (Role::QkvBias, true),
    (Role::Sinks, false),
    (Role::OutWeight, false),
    (Role::OutBias, true),
    (Role::MlpNorm, false),
    (Role::GateWeight, false),
    (Role::GateBias, true),
];

struct Builder {
    sections: Vec<Section>,
    offset: u64,
    bytes_max: u64,
}

impl Builder {
    fn push(&mut self, part: Part, bytes: u64) -> Result<(), Section> {
        let section = Section { part, offset: self.offset, bytes };
        if bytes > self.bytes_max - self.offset {
            return Err(section);
        }
        if bytes > 0 {
            self.sections.push(section);
        }
        self.offset += bytes;
        Ok(())
    }

    fn pad(&mut self, align: u64) -> Result<(), Section> {
        self.push(Part::Padding, self.offset.next_multiple_of(align) - self.offset)
    }

    fn shared(&mut self, config: &ModelConfig, vocab_rows: usize) -> Result<(), Section> {
        let vocab_bytes = vocab_rows as u64 * TensorId::outside(Role::Embedding).row_bytes(config) as u64;
        self.pad(ARRAY_ALIGN)?;
        self.push(Part::Dense(TensorId::outside(Role::Embedding)), vocab_bytes)?;
        for layer in 0..config.layers {
            for (role, follows) in SHARED_OF_A_BLOCK {
                if !follows {
                    self.pad(ARRAY_ALIGN)?;
                }
                let tensor = TensorId::of_block(role, layer);
                self.push(Part::Dense(tensor), tensor.bytes(config) as u64)?;
            }
        }
        self.pad(ARRAY_ALIGN)?;
        let norm = TensorId::outside(Role::FinalNorm);
        self.push(Part::Dense(norm), norm.bytes(config) as u64)?;
        self.pad(ARRAY_ALIGN)?;
        self.push(Part::Dense(TensorId::outside(Role::Unembedding)), vocab_bytes)
    }

    fn moe_layer(&mut self, config: &ModelConfig, layer: usize) -> Result<(), Section> {
        self.pad(REGION_ALIGN)?;
        let arrays = Role::OF_AN_EXPERT.map(|role| {
            let tensor = TensorId::of_block(role, layer);
            (tensor, tensor.row_bytes(config) as u64)
        });
        for expert in 0..config.experts {
            for (tensor, bytes) in arrays {
                self.pad(ARRAY_ALIGN)?;
                self.push(Part::Expert(tensor, expert), bytes)?;
            }
        }
        Ok(())
    }
}
