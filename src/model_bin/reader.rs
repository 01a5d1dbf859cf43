//! A strict reader: one pass over prefix and padding, then typed views of every tensor.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::ModelBinError;
use super::header::{Header, ModelHeader};
use super::layout::{Part, Plan, SCALE_OFFSET, Section};
use super::qkv;
use super::tokenizer::Tokenizer;
use crate::checkpoint::source::gather;
use crate::checkpoint::{Layout, ModelConfig, NotExact, TensorId, WeightSource};
use crate::mapped::FileBytes;

/// An open model.bin.
///
/// **Invariant:** the file is exactly as long as its header's sizes say, and every byte of padding is zero.
#[derive(Debug)]
pub struct ModelBin {
    path: PathBuf,
    bytes: FileBytes,
    header: Header,
    config: ModelConfig,
    plan: Plan,
    /// Sections of each tensor: one, or one for each expert in order.
    sections: HashMap<TensorId, Vec<usize>>,
}

impl ModelBin {
    /// Maps and validates a file.
    pub fn open(path: &Path) -> Result<ModelBin, ModelBinError> {
        let bytes = FileBytes::map(path).map_err(|source| ModelBinError::Io { path: path.into(), source })?;
        ModelBin::from_bytes(path, bytes)
    }

    /// Validates bytes; `path` is for messages.
    pub fn from_bytes(path: &Path, bytes: FileBytes) -> Result<ModelBin, ModelBinError> {
        let header = Header::parse(path, &bytes)?;
        Tokenizer::parse(path, &bytes, header.tokenizer)?;
        let vocab = header.tokenizer.vocab_rows();
        let config = header.model.config(vocab);
        let plan = plan_of(path, &bytes, &header, &config)?;
        for padding in plan.sections().iter().filter(|s| s.part == Part::Padding) {
            if let Some(at) = bytes[padding.range()].iter().position(|&b| b != 0) {
                let offset = padding.offset + at as u64;
                let found = bytes[offset as usize];
                return Err(ModelBinError::PaddingNotZero { path: path.into(), offset, found });
            }
        }
        let mut sections: HashMap<TensorId, Vec<usize>> = HashMap::new();
        for (index, section) in plan.sections().iter().enumerate() {
            if let Some(tensor) = section.part.tensor() {
                sections.entry(tensor).or_default().push(index);
            }
        }
        Ok(ModelBin { path: path.into(), bytes, header, config, plan, sections })
    }

    /// The numbers of the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Every section of the file.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The whole file.
    pub fn file(&self) -> &FileBytes {
        &self.bytes
    }

    /// The bytes of one section.
    pub fn data(&self, section: &Section) -> &[u8] {
        &self.bytes[section.range()]
    }

    /// The tokenizer section.
    pub fn tokenizer(&self) -> Tokenizer<'_> {
        Tokenizer::trusted(&self.bytes, self.header.tokenizer)
    }

    /// The tensor with model.bin's transforms undone: its bytes in the original layout.
    ///
    /// QKV is de-interleaved and un-scaled (exact up to subnormals, see [`qkv`]), scales lose their offset, the rest
    /// is a copy.  Allocates the tensor.
    pub fn restore(&self, tensor: TensorId) -> Vec<u8> {
        let bytes = self.segments(tensor).iter().map(|segment| segment.len()).sum();
        self.restored(tensor, 0..bytes).into_owned()
    }

    /// A part of a restored tensor.
    fn restored(&self, tensor: TensorId, range: Range<usize>) -> Cow<'_, [u8]> {
        let segments = self.segments(tensor);
        let mut bytes = gather(&segments, range.clone());
        if tensor.role.is_qkv() {
            let row_bytes = tensor.row_bytes(&self.config);
            let mut restored = Vec::new();
            for head in qkv::head_rows(&self.config) {
                let Some(scale) = head.scale else { continue };
                let (start, end) = (head.rows.start * row_bytes, head.rows.end * row_bytes);
                let (from, to) = (range.start.max(start), range.end.min(end));
                if from < to {
                    restored.resize(end - start, 0);
                    qkv::restore_head(&gather(&segments, start..end), scale, self.config.head_dim, &mut restored);
                    bytes.to_mut()[from - range.start..to - range.start]
                        .copy_from_slice(&restored[from - start..to - start]);
                }
            }
        } else if tensor.role.is_scales() {
            bytes.to_mut().iter_mut().for_each(|scale| *scale = scale.wrapping_sub(SCALE_OFFSET));
        }
        bytes
    }
}

/// The plan that the header's sizes describe, if it ends where the file ends.
fn plan_of(path: &Path, bytes: &[u8], header: &Header, config: &ModelConfig) -> Result<Plan, ModelBinError> {
    let found_bytes = bytes.len() as u64;
    let tokenizer = header.tokenizer.part_bytes();
    let plan = Plan::within(config, config.vocab, tokenizer, found_bytes).map_err(|cut| {
        let section = format!("{} of num_blocks = {}", cut.part, header.model.num_blocks);
        ModelBinError::FileTruncated { path: path.into(), section, offset: cut.offset, found_bytes }
    })?;
    match plan.file_bytes() == found_bytes {
        true => Ok(plan),
        false => Err(ModelBinError::FileTooLong { path: path.into(), want_bytes: plan.file_bytes(), found_bytes }),
    }
}

impl WeightSource for ModelBin {
    fn path(&self) -> &Path {
        &self.path
    }

    fn layout(&self) -> Layout {
        Layout::ModelBin
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn model_header(&self) -> ModelHeader {
        self.header.model
    }

    fn vocab_rows(&self) -> usize {
        self.config.vocab
    }

    fn segments(&self, tensor: TensorId) -> Vec<&[u8]> {
        let sections = self.sections.get(&tensor).expect("an open model.bin holds every tensor of its header");
        sections.iter().map(|&index| self.data(&self.plan.sections()[index])).collect()
    }

    fn read(&self, tensor: TensorId, range: Range<usize>) -> Result<Cow<'_, [u8]>, NotExact> {
        Ok(self.restored(tensor, range))
    }

    fn place_of(&self, bytes: &[u8]) -> Option<(&FileBytes, Range<usize>)> {
        Some((&self.bytes, self.bytes.range_of(bytes)?))
    }
}
