//! Everything that can be wrong with a GGUF, one variant per cause.

use std::io;
use std::path::PathBuf;

use super::ggml_type::GgmlType;

/// Why a GGUF was refused.  [`GgufError::name`] is the variant's stable kebab-case name.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum GgufError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },

    // the header
    #[error("{path}: offset 0: expected the magic `GGUF`, found `{found}`", path = path.display())]
    GgufMagic { path: PathBuf, found: String },
    #[error("{path}: offset {offset}: {found} says that the file is big-endian: convert it to little-endian, in which gpt-oss is published", path = path.display())]
    BigEndian { path: PathBuf, offset: u64, found: String },
    #[error("{path}: offset 4: GGUF version: expected 2 or 3, found {found}", path = path.display())]
    GgufVersion { path: PathBuf, found: u32 },
    #[error("{path}: offset {offset}: {field} needs bytes up to {want_bytes}, the file holds {found_bytes} bytes", path = path.display())]
    GgufTruncated { path: PathBuf, field: String, offset: u64, want_bytes: u64, found_bytes: u64 },
    #[error("{path}: offset {offset}: {field}: {found} passes the limit of {max}", path = path.display())]
    GgufLimit { path: PathBuf, field: String, offset: u64, found: u64, max: u64 },

    // metadata
    #[error("{path}: offset {offset}: metadata key {index} is empty", path = path.display())]
    KeyEmpty { path: PathBuf, index: u64, offset: u64 },
    #[error("{path}: offset {offset}: metadata key {index} is not UTF-8: `{found}`", path = path.display())]
    KeyNotUtf8 { path: PathBuf, index: u64, offset: u64, found: String },
    #[error("{path}: offset {offset}: metadata key `{key}` is there twice", path = path.display())]
    KeyDuplicate { path: PathBuf, key: String, offset: u64 },
    #[error("{path}: offset {offset}: metadata `{key}`: expected a value type of 0 to 12, found {found}", path = path.display())]
    ValueTypeUnknown { path: PathBuf, key: String, offset: u64, found: u32 },
    #[error("{path}: offset {offset}: metadata `{key}`: a bool is 0 or 1, found {found}", path = path.display())]
    BoolInvalid { path: PathBuf, key: String, offset: u64, found: u8 },
    #[error("{path}: offset {offset}: metadata `{key}`: arrays inside arrays, more than {max} deep", path = path.display())]
    ArrayTooDeep { path: PathBuf, key: String, offset: u64, max: usize },
    #[error("{path}: offset {offset}: metadata `general.alignment`: expected a multiple of 8 above 0, found {found}", path = path.display())]
    Alignment { path: PathBuf, offset: u64, found: u64 },
    #[error("{path}: metadata `{key}` is missing", path = path.display())]
    MetadataMissing { path: PathBuf, key: String },
    #[error("{path}: offset {offset}: metadata `{key}`: expected {want}, found {found}", path = path.display())]
    MetadataType { path: PathBuf, key: String, offset: u64, want: String, found: String },

    // tensors
    #[error("{path}: offset {offset}: the name of tensor {index} has no bytes", path = path.display())]
    TensorNameEmpty { path: PathBuf, index: u64, offset: u64 },
    #[error("{path}: offset {offset}: the name of tensor {index} is not UTF-8: `{found}`", path = path.display())]
    TensorNameNotUtf8 { path: PathBuf, index: u64, offset: u64, found: String },
    #[error("{path}: offset {offset}: tensor `{name}` is there twice", path = path.display())]
    TensorTwice { path: PathBuf, name: String, offset: u64 },
    #[error("{path}: offset {offset}: tensor `{name}`: the element count of dims {dims:?} overflows", path = path.display())]
    TensorElements { path: PathBuf, name: String, offset: u64, dims: Vec<u64> },
    #[error("{path}: offset {offset}: tensor `{name}`: rows of {found} values, expected a multiple of {want}, the block of {ggml_type}", path = path.display())]
    TensorRow { path: PathBuf, name: String, offset: u64, ggml_type: GgmlType, want: u64, found: u64 },
    #[error("{path}: offset {offset}: tensor `{name}`: data offset {found} is no multiple of the alignment {want}", path = path.display())]
    TensorMisaligned { path: PathBuf, name: String, offset: u64, want: u64, found: u64 },
    #[error("{path}: tensor `{name}` starts at data offset {start}, which `{other}` already covers up to {other_end}", path = path.display())]
    TensorsOverlap { path: PathBuf, name: String, start: u64, other: String, other_end: u64 },
    #[error("{path}: tensor `{name}` reaches to offset {end}, the file holds {found_bytes} bytes", path = path.display())]
    TensorPastEnd { path: PathBuf, name: String, end: u64, found_bytes: u64 },
    #[error("{path}: tensor `{name}` is missing", path = path.display())]
    NoSuchTensor { path: PathBuf, name: String },
    #[error("{path}: tensor `{name}` is of type {found}, whose data this version cannot read", path = path.display())]
    TypeUnsupported { path: PathBuf, name: String, found: GgmlType },

    // split files
    #[error("{path}: metadata `split.count` says {count} files: expected a name that ends in `{want}`", path = path.display())]
    SplitName { path: PathBuf, count: u64, want: String },
    #[error("{path}: file {number} of {count} is missing", path = path.display())]
    SplitMissing { path: PathBuf, number: u64, count: u64 },
    #[error("{path}: metadata `{field}`: expected {want}, found {found}", path = path.display())]
    SplitField { path: PathBuf, field: &'static str, want: String, found: String },
    #[error("tensor `{name}` is in both {first} and {second}", first = first.display(), second = second.display())]
    SplitTensorTwice { name: String, first: PathBuf, second: PathBuf },
}

impl GgufError {
    /// The variant's stable name, such as `tensors-overlap`.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}
