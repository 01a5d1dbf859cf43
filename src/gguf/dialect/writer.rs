//! Any checkpoint → one GGUF in llama.cpp's dialect.
//!
//! Expert matrices are repacked, block by block, without loss; norms, biases, sinks and the router become F32, as
//! llama.cpp has them; the other matrices take the type that is asked for.  With BF16, every value is kept.
//!
//! As the exporter of model.bin: the plan says where each tensor goes, pieces are written by offset on all cores, and
//! the file gets its name when it is complete.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::super::{DEFAULT_ALIGNMENT, GgmlType};
use super::header::{self, About, Info};
use super::names::{Dialect, RowMap, Slabs};
use super::vocabulary::TokenList;
use crate::checkpoint::config::{MXFP4_BLOCK_VALUES, SWIGLU_LIMIT_DEFAULT};
use crate::checkpoint::names::MXFP4_BLOCK_BYTES;
use crate::checkpoint::{CheckpointError, ModelConfig, NotExact, Role, TensorId, WeightSource, values};
use crate::output::{OutputError, PendingFile, check_space, write_all_at};
use crate::quant::{bf16, f16, mxfp4_ggml, q8_0};
use crate::telemetry::Progress;

/// `general.file_type`: llama.cpp's converter says MXFP4_MOE whatever the other matrices are.
const FILE_TYPE: u32 = 38;
/// Bytes of a piece: large enough for sequential I/O, small enough to share out and to stop between.
const PIECE_BYTES: usize = 4 << 20;

/// The type of the matrices outside the experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseType {
    /// As the checkpoint has them.
    Bf16,
    /// Rounded where a value has no half; one that is too large is an error.
    F16,
    /// As ggml's reference quantises them; rows that blocks of 32 do not fill stay BF16.
    Q8_0,
}

impl DenseType {
    fn ggml_type(self, columns: usize) -> GgmlType {
        match self {
            DenseType::F16 => GgmlType::F16,
            DenseType::Q8_0 if columns.is_multiple_of(q8_0::VALUES) => GgmlType::Q8_0,
            _ => GgmlType::BF16,
        }
    }
}

/// Why a GGUF could not be written.  [`GgufExportError::name`] is the variant's stable kebab-case name.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[allow(missing_docs)] // the messages say what each field means
pub enum GgufExportError {
    #[error(transparent)]
    Source(#[from] CheckpointError),
    #[error(transparent)]
    NotExact(#[from] NotExact),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("{path}: config `{field}`: a GGUF of gpt-oss means {want}, found {found}", path = path.display())]
    Unsupported { path: PathBuf, field: &'static str, want: String, found: String },
    #[error("{path}: tensor `{name}`: {found:e} has no finite {ggml_type}: choose --dense bf16", path = path.display())]
    TooLarge { path: PathBuf, name: String, ggml_type: GgmlType, found: f32 },
    #[error("{path}: is the source itself", path = path.display())]
    OverSource { path: PathBuf },
    #[error("interrupted; nothing was written under {path}", path = path.display())]
    Interrupted { path: PathBuf },
}

impl GgufExportError {
    /// The stable name of the cause.
    pub fn name(&self) -> &'static str {
        match self {
            GgufExportError::Source(source) => source.name(),
            GgufExportError::Output(output) => output.name(),
            other => other.into(),
        }
    }
}

/// Bytes of a tensor in the original form.
type Read<'a> = dyn Fn(TensorId, Range<usize>) -> Result<Cow<'a, [u8]>, NotExact> + Sync + 'a;

/// What is written.
pub struct Contents<'a> {
    /// Where it comes from, for messages.
    pub path: &'a Path,
    /// The model.
    pub config: &'a ModelConfig,
    /// Rows of embedding and unembedding.
    pub vocab_rows: usize,
    /// Its tensors.
    pub read: &'a Read<'a>,
}

/// How it is written.
#[derive(Clone, Copy)]
pub struct GgufOptions<'a> {
    /// `general.name`.
    pub name: &'a str,
    /// The type of the matrices outside the experts.
    pub dense: DenseType,
    /// The vocabulary; a file without one is no use to llama.cpp.
    pub tokens: Option<&'a TokenList>,
}

/// Writes the checkpoint `source` as a GGUF at `path`; its length.
///
/// # Errors
/// [`GgufExportError`]; the file at `path`, if there was one, is then untouched.
pub fn export_gguf(
    source: &dyn WeightSource,
    options: &GgufOptions,
    path: &Path,
    progress: &dyn Progress,
) -> Result<u64, GgufExportError> {
    if path.canonicalize().is_ok_and(|to| source.path().canonicalize().is_ok_and(|from| from == to)) {
        return Err(GgufExportError::OverSource { path: path.into() });
    }
    let read = |tensor: TensorId, range: Range<usize>| {
        let bytes = source.read(tensor, range)?;
        if let Cow::Borrowed(mapped) = &bytes {
            source.will_read(mapped);
        }
        Ok(bytes)
    };
    let vocab_rows = source.vocab_rows();
    write_gguf(
        &Contents { path: source.path(), config: source.config(), vocab_rows, read: &read },
        options,
        path,
        progress,
    )
}

/// As [`export_gguf`], from tensors that need not be in a checkpoint.
///
/// # Errors
/// As [`export_gguf`].
pub fn write_gguf(
    contents: &Contents,
    options: &GgufOptions,
    path: &Path,
    progress: &dyn Progress,
) -> Result<u64, GgufExportError> {
    let config = contents.config;
    if config.swiglu_limit != SWIGLU_LIMIT_DEFAULT {
        let (want, found) = (SWIGLU_LIMIT_DEFAULT.to_string(), config.swiglu_limit.to_string());
        return Err(GgufExportError::Unsupported { path: contents.path.into(), field: "swiglu_limit", want, found });
    }
    let (plan, data_bytes) = plan(contents, options.dense);
    let infos: Vec<Info> = plan.iter().map(|planned| planned.info.clone()).collect();
    let about = About { name: options.name, file_type: FILE_TYPE, tokens: options.tokens };
    let header = header::bytes(config, &about, &infos);
    let want_bytes = header.len() as u64 + data_bytes;
    check_space(path, want_bytes)?;
    let output = OutputError::of(path);
    let pending = PendingFile::create(path).map_err(&output)?;
    progress.begin("export", data_bytes);
    // Padding is what is never written: a hole in the file reads as zeros.
    pending.file().set_len(want_bytes).map_err(&output)?;
    write_all_at(pending.file(), &header, 0).map_err(&output)?;
    let writing = Writing { contents, file: pending.file(), data_offset: header.len() as u64, path, progress };
    let pieces: Vec<Piece> = plan.iter().flat_map(Planned::pieces).collect();
    pieces.par_iter().try_for_each_init(Vec::new, |out, piece| writing.write(piece, out))?;
    pending.commit().map_err(output)?;
    progress.finish();
    Ok(want_bytes)
}

/// A stored tensor: which rows of which of ours, in what type, where.
struct Planned {
    info: Info,
    tensor: TensorId,
    rows: RowMap,
    slabs: Slabs,
    row_bytes: usize,
}

/// Stored rows of one slab.
struct Piece<'a> {
    planned: &'a Planned,
    slab: usize,
    rows: Range<usize>,
}

/// Every tensor of the file, and the bytes of them all.
fn plan(contents: &Contents, dense: DenseType) -> (Vec<Planned>, u64) {
    let config = contents.config;
    let (mut plan, mut offset) = (Vec::new(), 0);
    // Scales are in the tensor of the codes.
    for tensor in TensorId::each(config).filter(|tensor| !tensor.role.is_scales()) {
        let slabs = Slabs::of(tensor, config);
        for mut part in Dialect::LlamaCpp.parts(tensor, config) {
            if matches!(tensor.role, Role::Embedding | Role::Unembedding) {
                part.rows.count = contents.vocab_rows;
            }
            let ggml_type = match tensor.role {
                role if role.is_blocks() => GgmlType::MXFP4,
                Role::Embedding | Role::Unembedding | Role::QkvWeight | Role::OutWeight => {
                    dense.ggml_type(slabs.columns)
                }
                _ => GgmlType::F32,
            };
            let mut dims = Vec::new();
            dims.extend(slabs.is_matrix().then_some(slabs.columns as u64));
            dims.push(part.rows.count as u64);
            dims.extend(tensor.role.is_of_an_expert().then_some(slabs.slabs as u64));
            let bytes = ggml_type.bytes_of(&dims).expect("rows are whole blocks");
            let row_bytes = ggml_type.bytes_of(&[slabs.columns as u64]).expect("rows are whole blocks") as usize;
            let info = Info { name: part.name, dims, ggml_type, offset };
            plan.push(Planned { info, tensor, rows: part.rows, slabs, row_bytes });
            offset = (offset + bytes).next_multiple_of(DEFAULT_ALIGNMENT);
        }
    }
    (plan, offset)
}

impl Planned {
    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let (count, step) = (self.rows.count, (PIECE_BYTES / self.row_bytes).max(1));
        (0..self.slabs.slabs).flat_map(move |slab| {
            let rows = (0..count).step_by(step).map(move |from| from..(from + step).min(count));
            rows.map(move |rows| Piece { planned: self, slab, rows })
        })
    }
}

/// A file being written.
struct Writing<'w, 's> {
    contents: &'w Contents<'s>,
    file: &'w File,
    data_offset: u64,
    path: &'w Path,
    progress: &'w dyn Progress,
}

impl<'s> Writing<'_, 's> {
    fn write(&self, piece: &Piece, out: &mut Vec<u8>) -> Result<(), GgufExportError> {
        if self.progress.cancelled() {
            return Err(GgufExportError::Interrupted { path: self.path.into() });
        }
        let Piece { planned, slab, rows } = piece;
        out.clear();
        let source = self.rows(piece, planned.tensor)?;
        match planned.tensor.role {
            Role::Mlp1Blocks => self.pack(piece, Role::Mlp1Scales, &source, out)?,
            Role::Mlp2Blocks => self.pack(piece, Role::Mlp2Scales, &source, out)?,
            _ => {
                let row_bytes = 2 * planned.slabs.columns;
                for row in 0..rows.len() {
                    let row = &source[row * planned.rows.step * row_bytes..][..row_bytes];
                    self.encode(planned, row, out)?;
                }
            }
        }
        let first = (slab * planned.rows.count + rows.start) * planned.row_bytes;
        let offset = self.data_offset + planned.info.offset + first as u64;
        write_all_at(self.file, out, offset).map_err(OutputError::of(self.path))?;
        self.progress.advance(out.len() as u64);
        Ok(())
    }

    /// The piece's rows of `tensor` in the original form, with what lies between them; checked.
    fn rows(&self, piece: &Piece, tensor: TensorId) -> Result<Cow<'s, [u8]>, GgufExportError> {
        let Planned { rows: map, slabs, .. } = piece.planned;
        let blocks = slabs.columns / MXFP4_BLOCK_VALUES;
        let row_bytes = match tensor.role {
            role if role.is_blocks() => blocks * MXFP4_BLOCK_BYTES,
            role if role.is_scales() => blocks,
            _ => 2 * slabs.columns,
        };
        let row = |stored: usize| piece.slab * slabs.rows + map.first + map.step * stored;
        let range = row(piece.rows.start) * row_bytes..(row(piece.rows.end - 1) + 1) * row_bytes;
        let bytes = (self.contents.read)(tensor, range.clone())?;
        let first = (range.start / tensor.role.dtype().bytes()) as u64;
        let path = self.contents.path;
        match tensor.role.is_scales() {
            false => values::check(path, tensor, &bytes, first)?,
            // GGUF holds every scale but NaN.
            true => {
                if let Some(at) = bytes.iter().position(|&scale| scale == values::SCALE_NAN) {
                    let (name, index) = (tensor.original_name(), first + at as u64);
                    return Err(CheckpointError::ScaleNan { path: path.into(), name, index }.into());
                }
            }
        }
        Ok(bytes)
    }

    /// Appends the rows of an expert matrix as 17-byte blocks.
    fn pack(&self, piece: &Piece, role: Role, codes: &[u8], out: &mut Vec<u8>) -> Result<(), GgufExportError> {
        let planned = piece.planned;
        let scales = self.rows(piece, TensorId { role, ..planned.tensor })?;
        let (blocks, step) = (planned.slabs.columns / MXFP4_BLOCK_VALUES, planned.rows.step);
        for row in 0..piece.rows.len() {
            let at = row * step * blocks;
            let codes = codes[at * MXFP4_BLOCK_BYTES..][..blocks * MXFP4_BLOCK_BYTES].as_chunks().0;
            for (codes, &scale) in codes.iter().zip(&scales[at..][..blocks]) {
                out.extend_from_slice(&mxfp4_ggml::pack(codes, scale));
            }
        }
        Ok(())
    }

    /// Appends a row of BF16 values in the planned type.
    fn encode(&self, planned: &Planned, row: &[u8], out: &mut Vec<u8>) -> Result<(), GgufExportError> {
        let ggml_type = planned.info.ggml_type;
        if ggml_type == GgmlType::BF16 {
            out.extend_from_slice(row);
            return Ok(());
        }
        let values = row.as_chunks::<2>().0.iter().map(|pair| bf16::to_f32(u16::from_le_bytes(*pair)));
        let too_large = |found: f32| {
            let (path, name) = (self.contents.path.into(), planned.tensor.original_name());
            GgufExportError::TooLarge { path, name, ggml_type, found }
        };
        match ggml_type {
            GgmlType::F16 => {
                for value in values {
                    let half = f16::from_f32(value);
                    if half & 0x7fff >= 0x7c00 {
                        return Err(too_large(value));
                    }
                    out.extend_from_slice(&half.to_le_bytes());
                }
            }
            GgmlType::Q8_0 => {
                let values: Vec<f32> = values.collect();
                for block in values.as_chunks::<{ q8_0::VALUES }>().0 {
                    let amax = block.iter().fold(0f32, |amax, value| amax.max(value.abs()));
                    let encoded = q8_0::encode(block).map_err(|error| too_large(error.value))?;
                    if u16::from_le_bytes([encoded[0], encoded[1]]) >= 0x7c00 {
                        return Err(too_large(amax));
                    }
                    out.extend_from_slice(&encoded);
                }
            }
            _ => values.for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        }
        Ok(())
    }
}
