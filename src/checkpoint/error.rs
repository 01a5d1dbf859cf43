//! Everything that can be wrong with a SafeTensors checkpoint, one variant per cause.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::dtype::Dtype;

/// Why a SafeTensors checkpoint was refused.
///
/// Each variant has a stable kebab-case name ([`CheckpointError::name`]) that reports carry and tests match.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum CheckpointError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },

    // config.json
    #[error("{path}: expected a directory with config.json and *.safetensors, found {found}", path = path.display())]
    NotACheckpoint { path: PathBuf, found: String },
    #[error("{path}: not valid JSON: {source}", path = path.display())]
    ConfigJson { path: PathBuf, source: serde_json::Error },
    #[error("{path}: expected a JSON object", path = path.display())]
    ConfigNotObject { path: PathBuf },
    #[error("{path}: field `{field}` is missing", path = path.display())]
    ConfigMissing { path: PathBuf, field: String },
    #[error("{path}: field `{field}`: expected {want}, found {found}", path = path.display())]
    ConfigValue { path: PathBuf, field: String, want: String, found: String },

    // one SafeTensors file
    #[error("{path}: {found_bytes} bytes are too short for a SafeTensors file: the header length alone takes 8", path = path.display())]
    ShardTooShort { path: PathBuf, found_bytes: u64 },
    #[error("{path}: offset 0: header length {found_bytes} exceeds the limit of {max_bytes} bytes", path = path.display())]
    HeaderTooLong { path: PathBuf, found_bytes: u64, max_bytes: u64 },
    #[error("{path}: offset 0: header length {want_bytes} passes the end of the file: {found_bytes} bytes follow", path = path.display())]
    HeaderTruncated { path: PathBuf, want_bytes: u64, found_bytes: u64 },
    #[error("{path}: offset {offset}: header is not UTF-8", path = path.display())]
    HeaderNotUtf8 { path: PathBuf, offset: u64 },
    #[error("{path}: offset 8: header must start with `{{`, found byte {found:#04x}", path = path.display())]
    HeaderStart { path: PathBuf, found: u8 },
    #[error("{path}: header is not the JSON of a SafeTensors header: {source}", path = path.display())]
    HeaderJson { path: PathBuf, source: serde_json::Error },
    #[error("{path}: header names tensor `{name}` twice", path = path.display())]
    HeaderDuplicate { path: PathBuf, name: String },
    #[error("{path}: tensor `{name}`: unknown dtype `{found}`", path = path.display())]
    DtypeUnknown { path: PathBuf, name: String, found: String },
    #[error("{path}: tensor `{name}`: the element count of shape {shape:?} overflows", path = path.display())]
    ShapeOverflow { path: PathBuf, name: String, shape: Vec<u64> },
    #[error("{path}: tensor `{name}`: data_offsets {start}..{end} run backwards", path = path.display())]
    OffsetsReversed { path: PathBuf, name: String, start: u64, end: u64 },
    #[error("{path}: tensor `{name}`: {dtype} {shape:?} needs {want_bytes} bytes, its data_offsets hold {found_bytes}", path = path.display())]
    TensorBytes { path: PathBuf, name: String, dtype: Dtype, shape: Vec<u64>, want_bytes: u64, found_bytes: u64 },
    #[error("{path}: tensor `{name}`: data_offsets end at {end}, the file holds {data_bytes} data bytes", path = path.display())]
    TensorOutOfBounds { path: PathBuf, name: String, end: u64, data_bytes: u64 },
    #[error("{path}: tensor `{name}` starts at data offset {start}, which `{other}` already covers up to {other_end}", path = path.display())]
    TensorOverlap { path: PathBuf, name: String, start: u64, other: String, other_end: u64 },
    #[error("{path}: data bytes {start}..{end} belong to no tensor", start = gap.start, end = gap.end, path = path.display())]
    DataGap { path: PathBuf, gap: Range<u64> },

    // the set of files
    #[error("{path}: holds no *.safetensors file{hint}", path = path.display())]
    NoShards { path: PathBuf, hint: String },
    #[error("{path}: not a valid shard index: {source}", path = path.display())]
    IndexJson { path: PathBuf, source: serde_json::Error },
    #[error("{path}: tensor `{name}`: weight_map names `{file}`, which is not a file name in this directory", path = path.display())]
    IndexFileName { path: PathBuf, name: String, file: String },
    #[error("{path}: weight_map names {file}, which does not exist", path = path.display())]
    IndexFileAbsent { path: PathBuf, file: String },
    #[error("{path}: tensor `{name}`: weight_map says {file}, but that file does not hold it", path = path.display())]
    IndexTensorAbsent { path: PathBuf, name: String, file: String },
    #[error("{path}: tensor `{name}` of {file} is not in weight_map", path = path.display())]
    IndexTensorUnlisted { path: PathBuf, name: String, file: String },
    #[error("{path}: metadata.total_size: expected {want_bytes} (the sum of the tensors), found {found_bytes}", path = path.display())]
    IndexTotalSize { path: PathBuf, want_bytes: u64, found_bytes: u64 },
    #[error("tensor `{name}` is in both {first} and {second}", first = first.display(), second = second.display())]
    TensorDuplicate { name: String, first: PathBuf, second: PathBuf },

    // the tensors against the config
    #[error(
        "{path}: tensor `{name}` is {dtype} {shape:?}: these experts are not packed. gptoss needs MXFP4 experts \
         (`…_blocks` and `…_scales`): use the checkpoint as published (openai/gpt-oss-20b or -120b), or save the \
         fine-tune with MXFP4 quantisation", path = path.display()
    )]
    UnpackedExperts { path: PathBuf, name: String, dtype: Dtype, shape: Vec<u64> },
    #[error("{path}: {count} tensor(s) missing for num_hidden_layers = {layers}: {names}", path = path.display())]
    TensorMissing { path: PathBuf, layers: usize, count: usize, names: String },
    #[error("{path}: {count} tensor(s) that a gpt-oss model with num_hidden_layers = {layers} does not have: {names}", path = path.display())]
    TensorUnknown { path: PathBuf, layers: usize, count: usize, names: String },
    #[error("{path}: tensor `{name}`: expected dtype {want}, found {found}", path = path.display())]
    TensorDtype { path: PathBuf, name: String, want: Dtype, found: Dtype },
    #[error("{path}: tensor `{name}`: expected shape {want:?}, found {found:?}: dimension {dim} is set by {field} in config.json", path = path.display())]
    TensorShape { path: PathBuf, name: String, want: Vec<u64>, found: Vec<u64>, dim: usize, field: String },

    // values
    #[error("{path}: tensor `{name}`: element {index} is NaN (bf16 bits {bits:#06x})", path = path.display())]
    ValueNan { path: PathBuf, name: String, index: u64, bits: u16 },
    #[error("{path}: tensor `{name}`: scale {index} is 255, the E8M0 code of NaN", path = path.display())]
    ScaleNan { path: PathBuf, name: String, index: u64 },
    #[error("{path}: tensor `{name}`: scale {index} is {found}: model.bin stores scale + 14, which must stay below 255, so at most {max}", path = path.display())]
    ScaleOverflow { path: PathBuf, name: String, index: u64, found: u8, max: u8 },
}

impl CheckpointError {
    /// The variant's stable name, such as `tensor-out-of-bounds`.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// The same config error with its field inside `parent`.
    pub(super) fn within(mut self, parent: &str) -> Self {
        if let CheckpointError::ConfigMissing { field, .. } | CheckpointError::ConfigValue { field, .. } = &mut self {
            *field = format!("{parent}.{field}");
        }
        self
    }
}
