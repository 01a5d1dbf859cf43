//! Everything that can be wrong with a model.bin, and with the wish to write one.

use std::io;
use std::path::PathBuf;

use crate::checkpoint::{CheckpointError, NotExact};
use crate::output::OutputError;

/// Why a model.bin was refused.  [`ModelBinError::name`] is the variant's stable kebab-case name.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum ModelBinError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {found_bytes} bytes are too short for a model.bin: its header takes {want_bytes}", path = path.display())]
    HeaderTruncated { path: PathBuf, want_bytes: u64, found_bytes: u64 },
    #[error("{path}: offset 0: expected the magic `GPT-OSS v1.0`, found `{found}`", path = path.display())]
    Magic { path: PathBuf, found: String },
    #[error("{path}: offset {offset}: {field} UUID: expected {want}, found {found}", path = path.display())]
    Uuid { path: PathBuf, field: &'static str, offset: u64, want: String, found: String },
    #[error("{path}: offset {offset}: field `{field}`: expected {want}, found {found}", path = path.display())]
    HeaderField { path: PathBuf, field: &'static str, offset: u64, want: String, found: String },
    #[error("{path}: the tokenizer's sizes reach to offset {want_bytes}, the file holds {found_bytes} bytes", path = path.display())]
    TokenizerTruncated { path: PathBuf, want_bytes: u64, found_bytes: u64 },
    #[error("{path}: offset {offset}: special-token slot {slot}: unknown UUID {found}", path = path.display())]
    SpecialTokenUnknown { path: PathBuf, slot: usize, offset: u64, found: String },
    #[error("{path}: offset {offset}: special-token slot {slot} repeats `{token}` of slot {first}", path = path.display())]
    SpecialTokenDuplicate { path: PathBuf, slot: usize, offset: u64, first: usize, token: &'static str },
    #[error("{path}: offset {offset}: regex: expected ASCII text that ends with its only NUL, found byte {found:#04x}", path = path.display())]
    Regex { path: PathBuf, offset: u64, found: u8 },
    #[error("{path}: offset {offset}: text token {id}: length 0", path = path.display())]
    TextTokenEmpty { path: PathBuf, id: usize, offset: u64 },
    #[error("{path}: offset {offset}: text token {id}: its {want_bytes} bytes pass the end of the tokens at {end}", path = path.display())]
    TextTokenTruncated { path: PathBuf, id: usize, offset: u64, want_bytes: u64, end: u64 },
    #[error("{path}: offset {offset}: num_text_tokens = {count} records end here, tokens_size says {end}", path = path.display())]
    TextTokensTrailing { path: PathBuf, offset: u64, count: usize, end: u64 },
    #[error("{path}: the header's sizes call for more than the file's {found_bytes} bytes: section {section} begins at offset {offset}", path = path.display())]
    FileTruncated { path: PathBuf, section: String, offset: u64, found_bytes: u64 },
    #[error("{path}: the header's sizes call for {want_bytes} bytes, the file holds {found_bytes}", path = path.display())]
    FileTooLong { path: PathBuf, want_bytes: u64, found_bytes: u64 },
    #[error("{path}: offset {offset}: padding must be zero, found {found:#04x}", path = path.display())]
    PaddingNotZero { path: PathBuf, offset: u64, found: u8 },
}

impl ModelBinError {
    /// The variant's stable name, such as `padding-not-zero`.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// Why a model.bin could not be written.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)]
pub enum ExportError {
    #[error(transparent)]
    Source(#[from] CheckpointError),
    #[error(transparent)]
    NotExact(#[from] NotExact),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("{path}: config `{field}`: model.bin can hold only {want}, found {found}", path = path.display())]
    Unsupported { path: PathBuf, field: &'static str, want: String, found: String },
    #[error("{path}: tensor `{name}` has {found} rows; the tokenizer section lists {want} tokens", path = path.display())]
    VocabTooSmall { path: PathBuf, name: &'static str, want: usize, found: usize },
    #[error("{path}: already a model.bin: copy the file", path = path.display())]
    AlreadyModelBin { path: PathBuf },
    #[error("{path}: is the source itself", path = path.display())]
    OverSource { path: PathBuf },
    #[error("the bundled o200k_harmony vocabulary cannot be read: {0}")]
    Vocabulary(String),
    #[error("interrupted; nothing was written under {path}", path = path.display())]
    Interrupted { path: PathBuf },
}

impl ExportError {
    /// The stable name of the cause.
    pub fn name(&self) -> &'static str {
        match self {
            ExportError::Source(source) => source.name(),
            ExportError::Output(output) => output.name(),
            other => other.into(),
        }
    }
}
