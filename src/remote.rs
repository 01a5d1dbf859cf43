//! Checkpoints that are elsewhere: their headers, read through ranges, and where their tensors lie.
//!
//! ```text
//! address ─► RangeSource ─► header, read once ─► Skeleton ─► the strict readers of each format
//! ```
//!
//! A skeleton is as long as the file and holds its header; the rest are holes that no disk and no memory is spent on.  The
//! readers of local files judge it as they judge a file, and nobody else sees it: what lies in the holes is read as zeros.
//! Bytes of tensors come from the source.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::checkpoint::index::Index as ShardIndex;
use crate::checkpoint::shard::{HEADER_BYTES_MAX, LENGTH_BYTES};
use crate::checkpoint::{Checkpoint, CheckpointError, ModelConfig, Shard};
use crate::gguf::{GgufError, Index, Parsed, is_gguf, limits};
use crate::mapped::FileBytes;
use crate::model_bin::header::Header;
use crate::model_bin::layout::{HEADER_BYTES, Part, Plan};
use crate::model_bin::{ModelBin, ModelBinError};
use crate::open::{AnyCheckpoint, OpenError};
use crate::range::{Cache, Cached, FileSource, HttpOptions, HttpSource, Prefix, RangeError, RangeSource, Step, pieces};

/// Bytes of a model.bin's header and tokenizer at most; those of gpt-oss have 3 MB.
const TOKENIZER_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a file that says what a checkpoint is, such as `config.json`.
pub const TEXT_BYTES_MAX: u64 = 32 << 20;

/// The address in a path, if it is one.
pub fn address(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"))
}

/// How files that are elsewhere are reached.
#[derive(Debug, Default)]
pub struct Access {
    /// How servers are asked.
    pub http: HttpOptions,
    /// Where blocks are kept.
    pub cache: Option<Cache>,
}

impl Access {
    /// A file by its address or its path.
    ///
    /// # Errors
    /// Whatever opening a [`HttpSource`] or a [`FileSource`] can end in.
    pub async fn open(&self, place: &str) -> Result<Box<dyn RangeSource + '_>, RangeError> {
        if address(Path::new(place)).is_none() {
            return Ok(Box::new(FileSource::open(Path::new(place))?));
        }
        let source = HttpSource::open(place, self.http.clone()).await?;
        Ok(match &self.cache {
            Some(cache) => Box::new(Cached::new(source, cache)),
            None => Box::new(source),
        })
    }
}

/// Why a file elsewhere is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It could not be read.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// It was read and refused.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is a GGUF, and was refused.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

impl RemoteError {
    /// The stable name of the cause.
    pub fn name(&self) -> &'static str {
        match self {
            RemoteError::Range(error) => error.name(),
            RemoteError::Open(error) => error.name(),
            RemoteError::Gguf(error) => error.name(),
        }
    }
}

impl From<CheckpointError> for RemoteError {
    fn from(error: CheckpointError) -> Self {
        RemoteError::Open(error.into())
    }
}

impl From<ModelBinError> for RemoteError {
    fn from(error: ModelBinError) -> Self {
        RemoteError::Open(error.into())
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its name in the file.
    pub name: String,
    /// Its type, in the format's own words.
    pub dtype: String,
    /// Dimensions, in the format's own order.
    pub shape: Vec<u64>,
    /// Where it lies; `None` for a type whose size is not known.
    pub range: Option<Range<u64>>,
}

/// The header of one file, by its format.
#[derive(Debug)]
pub enum Skeleton {
    /// A SafeTensors file.
    SafeTensors(Shard),
    /// A model.bin.
    ModelBin(Box<ModelBin>),
    /// A GGUF.
    Gguf(Box<Index>),
}

impl Skeleton {
    /// Reads the header of what `source` holds; the content decides what that is.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn read(source: &dyn RangeSource) -> Result<Skeleton, RemoteError> {
        let path = Path::new(source.name());
        let start = source.read(0..source.total_bytes().min(16)).await?;
        let has_ending = |ending: &str| path.extension().is_some_and(|extension| extension == ending);
        if is_gguf(path, &start) {
            return Ok(Skeleton::Gguf(Box::new(gguf(source).await?)));
        }
        if start.starts_with(b"GPT-OSS") || has_ending("bin") {
            let bytes = model_bin(source).await?;
            return Ok(Skeleton::ModelBin(Box::new(ModelBin::from_bytes(path, bytes)?)));
        }
        if start.get(LENGTH_BYTES) == Some(&b'{') || has_ending("safetensors") {
            return Ok(Skeleton::SafeTensors(Shard::from_bytes(path, safetensors(source).await?)?));
        }
        let found = format!("a file that begins with `{}`", start.escape_ascii());
        Err(OpenError::UnknownFormat { path: path.into(), found }.into())
    }

    /// What a person calls the format.
    pub fn format(&self) -> &'static str {
        match self {
            Skeleton::SafeTensors(_) => "SafeTensors",
            Skeleton::ModelBin(_) => "model.bin",
            Skeleton::Gguf(_) => "GGUF",
        }
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> Vec<Placed> {
        match self {
            Skeleton::SafeTensors(shard) => shard
                .tensors()
                .iter()
                .map(|tensor| Placed {
                    name: tensor.name.clone(),
                    dtype: tensor.dtype.to_string(),
                    shape: tensor.shape.clone(),
                    range: Some(tensor.range.clone()),
                })
                .collect(),
            Skeleton::ModelBin(model) => model
                .plan()
                .sections()
                .iter()
                .filter_map(|section| {
                    let (tensor, skip) = match section.part {
                        Part::Dense(tensor) => (tensor, 0),
                        Part::Expert(tensor, _) => (tensor, 1),
                        _ => return None,
                    };
                    let shape = tensor.shape(crate::checkpoint::WeightSource::config(model.as_ref()));
                    Some(Placed {
                        name: section.part.to_string(),
                        dtype: tensor.role.dtype().to_string(),
                        shape: shape[skip..].iter().map(|&dim| dim as u64).collect(),
                        range: Some(section.offset..section.offset + section.bytes),
                    })
                })
                .collect(),
            Skeleton::Gguf(index) => index
                .tensors
                .iter()
                .map(|tensor| Placed {
                    name: tensor.name.clone(),
                    dtype: tensor.ggml_type.to_string(),
                    shape: tensor.dims.clone(),
                    range: index.range(tensor).ok(),
                })
                .collect(),
        }
    }
}

/// A small text, whole.
///
/// # Errors
/// [`RangeError::PrefixTooLong`] beyond [`TEXT_BYTES_MAX`], and the source's own.
pub async fn text(source: &dyn RangeSource) -> Result<Bytes, RangeError> {
    match source.total_bytes() {
        bytes if bytes > TEXT_BYTES_MAX => {
            Err(RangeError::PrefixTooLong { name: source.name().into(), max_bytes: TEXT_BYTES_MAX })
        }
        bytes => source.read(0..bytes).await,
    }
}

async fn gguf(source: &dyn RangeSource) -> Result<Index, RemoteError> {
    let (path, total) = (Path::new(source.name()), source.total_bytes());
    Prefix::new(source, limits::HEADER_BYTES_MAX)
        .parse(|bytes| {
            Ok(match Index::parse(path, bytes, Some(total))? {
                Parsed::Complete(index) => Step::Done(index),
                Parsed::NeedMore { at_least } => Step::More(at_least),
            })
        })
        .await
}

/// Length and header; lengths that cannot be are left to the reader, which says so.
async fn safetensors(source: &dyn RangeSource) -> Result<FileBytes, RangeError> {
    let total = source.total_bytes();
    let mut prefix = Prefix::new(source, LENGTH_BYTES as u64 + HEADER_BYTES_MAX);
    prefix.grow(total.min(LENGTH_BYTES as u64)).await?;
    if let Some(length) = prefix.bytes().first_chunk::<LENGTH_BYTES>() {
        let end = u64::from_le_bytes(*length).saturating_add(LENGTH_BYTES as u64);
        if end <= total && end <= LENGTH_BYTES as u64 + HEADER_BYTES_MAX {
            prefix.grow(end).await?;
        }
    }
    with_holes(source, &[(0, Bytes::copy_from_slice(prefix.bytes()))])
}

/// Header, tokenizer and padding, which must be zero; the reader says what is wrong with them.
async fn model_bin(source: &dyn RangeSource) -> Result<FileBytes, RangeError> {
    let total = source.total_bytes();
    let mut prefix = Prefix::new(source, TOKENIZER_BYTES_MAX);
    prefix.grow(total.min(HEADER_BYTES)).await?;
    let mut held: Vec<(u64, Bytes)> = Vec::new();
    if let Ok(header) = Header::parse(Path::new(source.name()), prefix.bytes()) {
        let tokenizer = header.tokenizer.part_bytes();
        let vocab = header.tokenizer.vocab_rows();
        if let Ok(plan) = Plan::within(&header.model.config(vocab), vocab, tokenizer, total) {
            let is_text = |part| matches!(part, Part::Header | Part::SpecialTokens | Part::Regex | Part::TextTokens);
            let texts = plan.sections().iter().filter(|section| is_text(section.part));
            prefix.grow(texts.map(|section| section.offset + section.bytes).max().unwrap_or(0).min(total)).await?;
            let padding = plan.sections().iter().filter(|section| section.part == Part::Padding);
            let ranges: Vec<Range<u64>> =
                padding.map(|section| section.offset..section.offset + section.bytes).collect();
            let read: Vec<Bytes> =
                pieces::in_order(source, ranges.iter().cloned(), pieces::AT_ONCE).try_collect().await?;
            held = ranges.iter().map(|range| range.start).zip(read).collect();
        }
    }
    held.push((0, Bytes::copy_from_slice(prefix.bytes())));
    with_holes(source, &held)
}

/// A file as long as the source that holds these pieces and nothing else.
fn with_holes(source: &dyn RangeSource, held: &[(u64, Bytes)]) -> Result<FileBytes, RangeError> {
    let made = || -> io::Result<FileBytes> {
        let file = tempfile::NamedTempFile::new()?;
        file.as_file().set_len(source.total_bytes())?;
        held.iter().try_for_each(|(offset, bytes)| crate::output::write_all_at(file.as_file(), bytes, *offset))?;
        FileBytes::map(file.path())
    };
    made().map_err(|source_error| RangeError::Io { name: source.name().into(), source: source_error })
}

/// A checkpoint that is elsewhere: its headers, judged whole, and its files.
pub struct Remote<'a> {
    /// The address it was opened with.
    pub address: String,
    /// What the headers say.
    pub contents: Contents,
    /// The files with tensors, in the checkpoint's order.
    pub files: Vec<Box<dyn RangeSource + 'a>>,
    /// Config and index, where there are any.
    pub texts: Vec<Box<dyn RangeSource + 'a>>,
}

/// What the headers of a checkpoint say.
#[derive(Debug)]
pub enum Contents {
    /// SafeTensors or model.bin: a skeleton, of which everything but tensors' bytes may be looked at.
    Model(Box<AnyCheckpoint>),
    /// One file of a GGUF.
    Gguf(Box<Index>),
}

/// Opens what is at an address: a file, or, where it ends in a slash, a directory of SafeTensors.
///
/// # Errors
/// [`RemoteError`].
pub async fn open<'a>(address: &str, access: &'a Access) -> Result<Remote<'a>, RemoteError> {
    let address = address.to_string();
    if address.ends_with('/') {
        let at = |name: &str| format!("{address}{name}");
        let mut texts = vec![access.open(&at("config.json")).await?];
        let index = match access.open(&at("model.safetensors.index.json")).await {
            Ok(source) => {
                let index = ShardIndex::parse(Path::new(source.name()), &text(source.as_ref()).await?)?;
                texts.push(source);
                Some(index)
            }
            // One file needs no index.
            Err(RangeError::Status { status: 404, .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let names = index.as_ref().map_or_else(|| vec!["model.safetensors".into()], ShardIndex::listed);
        let mut files = Vec::new();
        for name in names {
            files.push(access.open(&at(&name)).await?);
        }
        let contents = shards(&address, texts[0].as_ref(), index, &files).await?;
        return Ok(Remote { address, contents, files, texts });
    }
    let source = access.open(&address).await?;
    let (contents, texts) = match Skeleton::read(source.as_ref()).await? {
        Skeleton::Gguf(index) => (Contents::Gguf(index), Vec::new()),
        Skeleton::ModelBin(model) => (Contents::Model(Box::new(AnyCheckpoint::ModelBin(*model))), Vec::new()),
        Skeleton::SafeTensors(shard) => {
            let path = address.split(['?', '#']).next().unwrap_or_default();
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let config = access.open(&format!("{folder}/config.json")).await?;
            (assembled(&address, config.as_ref(), vec![shard]).await?, vec![config])
        }
    };
    Ok(Remote { address, contents, files: vec![source], texts })
}

/// A SafeTensors checkpoint of these files.
async fn shards(
    address: &str,
    config: &dyn RangeSource,
    index: Option<ShardIndex>,
    files: &[Box<dyn RangeSource + '_>],
) -> Result<Contents, RemoteError> {
    let mut shards = Vec::new();
    for source in files {
        shards.push(Shard::from_bytes(Path::new(source.name()), safetensors(source.as_ref()).await?)?);
    }
    if let Some(index) = index {
        index.check(&shards)?;
    }
    assembled(address, config, shards).await
}

async fn assembled(address: &str, config: &dyn RangeSource, shards: Vec<Shard>) -> Result<Contents, RemoteError> {
    let config = ModelConfig::parse(&text(config).await?, Path::new(config.name()))?;
    let checkpoint = Checkpoint::from_parts(Path::new(address), config, shards, Vec::new())?;
    Ok(Contents::Model(Box::new(AnyCheckpoint::SafeTensors(checkpoint))))
}
