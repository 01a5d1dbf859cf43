//! Manifests: the SHA-256 of every section and tensor of a checkpoint, taken on all cores.
//!
//! Parts cover every byte of every file, padding and headers too, so that no change can hide between them.  A section
//! of several parts is identified by the SHA-256 of its parts' digests: hashing nothing twice keeps this at the speed
//! of the cores or the disk.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, Shard};
use crate::manifest::{SCHEMA, hex};
use crate::mapped::FileBytes;
use crate::model_bin::ModelBin;
use crate::model_bin::layout::{Part, Section};
use crate::open::AnyCheckpoint;
use crate::telemetry::Progress;

pub use crate::manifest::{FileDigests, Manifest, ManifestError, PartDigest, SectionDigest};

/// Bytes hashed between two looks at progress and read-ahead.
const CHUNK_BYTES: usize = 8 << 20;

/// A named run of bytes that gets one digest.
struct Piece<'a> {
    section: String,
    name: String,
    offset: u64,
    bytes: &'a [u8],
}

impl Manifest {
    /// Hashes a checkpoint.
    pub fn of(checkpoint: &AnyCheckpoint, progress: &dyn Progress) -> Manifest {
        let layout = checkpoint.source().layout();
        let files = match checkpoint {
            AnyCheckpoint::ModelBin(model) => vec![model_bin_file(model, progress)],
            AnyCheckpoint::SafeTensors(checkpoint) => safetensors_files(checkpoint, progress),
            AnyCheckpoint::Gguf(model) => model.gguf().parts().iter().map(|part| gguf_file(part, progress)).collect(),
        };
        Manifest { schema: SCHEMA, layout, files }
    }
}

fn model_bin_file(model: &ModelBin, progress: &dyn Progress) -> FileDigests {
    let name = model_file_name(model);
    let pieces = model.plan().sections().iter().scan(String::from("prefix"), |section, stored| {
        // Padding belongs to the section before it.
        if stored.part != Part::Padding {
            *section = section_of(stored);
        }
        let (name, offset) = (stored.part.to_string(), stored.offset);
        Some(Piece { section: section.clone(), name, offset, bytes: model.data(stored) })
    });
    file_digests(name, model.file(), pieces.collect(), progress)
}

fn model_file_name(model: &ModelBin) -> String {
    use crate::checkpoint::WeightSource;
    model.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn section_of(section: &Section) -> String {
    match section.part {
        Part::Header => "header".into(),
        Part::SpecialTokens | Part::Regex | Part::TextTokens => "tokenizer".into(),
        Part::Expert(tensor, _) => format!("block.{}.experts", tensor.layer.expect("experts are in blocks")),
        Part::Dense(tensor) => match tensor.layer {
            Some(layer) => format!("block.{layer}.shared"),
            None => tensor.to_string(),
        },
        Part::Padding => unreachable!("padding is given its predecessor's section"),
    }
}

/// Header, tensors in the order of their data, and what lies between them.
fn gguf_file(part: &crate::gguf::Part, progress: &dyn Progress) -> FileDigests {
    let (index, file) = (&part.index, &part.file);
    let name = index.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut tensors: Vec<(usize, &str, Option<u64>)> = (index.tensors.iter())
        .map(|info| ((index.data_offset + info.offset) as usize, info.name.as_str(), info.bytes))
        .collect();
    tensors.sort_unstable();
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    let mut push = |section: &str, name: &str, end: usize| {
        if end > at {
            let (section, name) = (section.to_string(), name.to_string());
            pieces.push(Piece { section, name, offset: at as u64, bytes: &file[at..end] });
            at = end;
        }
    };
    let starts = tensors.iter().skip(1).map(|tensor| tensor.0).chain([file.len()]);
    push("header", "header", tensors.first().map_or(file.len(), |first| first.0));
    for (&(start, name, bytes), next) in tensors.iter().zip(starts) {
        // A tensor of unknown type reaches to the next.
        push(name, name, bytes.map_or(next, |bytes| start + bytes as usize));
        push(name, "padding", next);
    }
    file_digests(name, file, pieces, progress)
}

fn safetensors_files(checkpoint: &Checkpoint, progress: &dyn Progress) -> Vec<FileDigests> {
    let mut files: Vec<FileDigests> =
        checkpoint.shards().iter().map(|shard| safetensors_file(shard, progress)).collect();
    files.extend(text_files(checkpoint).into_iter().map(|(name, bytes)| {
        let piece = Piece { section: "text".into(), name: "text".into(), offset: 0, bytes: &bytes };
        file_digests(name, &bytes, vec![piece], progress)
    }));
    files
}

/// `config.json` and the shard index, where the checkpoint is a directory that has them.
fn text_files(checkpoint: &Checkpoint) -> Vec<(String, FileBytes)> {
    let directory = checkpoint.shards().first().and_then(|shard| shard.path().parent());
    let Some(directory) = directory else { return Vec::new() };
    ["config.json", "model.safetensors.index.json"]
        .into_iter()
        .filter_map(|name| Some((name.to_string(), FileBytes::map(&directory.join(name)).ok()?)))
        .collect()
}

fn safetensors_file(shard: &Shard, progress: &dyn Progress) -> FileDigests {
    let name = shard.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let header = Piece {
        section: "header".into(),
        name: "header".into(),
        offset: 0,
        bytes: &shard.file()[..shard.data_start() as usize],
    };
    let tensors = shard.tensors().iter().map(|tensor| Piece {
        section: tensor.name.clone(),
        name: tensor.name.clone(),
        offset: tensor.range.start,
        bytes: shard.data(tensor),
    });
    file_digests(name, shard.file(), [header].into_iter().chain(tensors).collect(), progress)
}

fn file_digests(file: String, whole: &FileBytes, pieces: Vec<Piece>, progress: &dyn Progress) -> FileDigests {
    let covered: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
    assert_eq!(covered, whole.len(), "the pieces of {file} cover it");
    progress.begin("digests", whole.len() as u64);
    let digests: Vec<[u8; 32]> =
        pieces.par_iter().with_max_len(1).map(|piece| digest(whole, piece, progress)).collect();
    progress.finish();
    let mut sections: Vec<SectionDigest> = Vec::new();
    let pieces: Vec<(Piece, [u8; 32])> = pieces.into_iter().zip(digests).collect();
    for group in pieces.chunk_by(|a, b| a.0.section == b.0.section) {
        sections.push(section_digest(group));
    }
    FileDigests { file, bytes: whole.len() as u64, sections }
}

fn section_digest(pieces: &[(Piece, [u8; 32])]) -> SectionDigest {
    let (name, offset) = (pieces[0].0.section.clone(), pieces[0].0.offset);
    let bytes = pieces.iter().map(|(piece, _)| piece.bytes.len() as u64).sum();
    if let [(_, digest)] = pieces {
        return SectionDigest { name, offset, bytes, sha256: hex(digest), parts: Vec::new() };
    }
    let joined: Vec<u8> = pieces.iter().flat_map(|(_, digest)| *digest).collect();
    let part = |(piece, digest): &(Piece, [u8; 32])| PartDigest {
        name: piece.name.clone(),
        offset: piece.offset,
        bytes: piece.bytes.len() as u64,
        sha256: hex(digest),
    };
    let parts = pieces.iter().map(part).collect();
    SectionDigest { name, offset, bytes, sha256: hex(&Sha256::digest(&joined)), parts }
}

fn digest(whole: &FileBytes, piece: &Piece, progress: &dyn Progress) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let start = piece.offset as usize;
    for (index, chunk) in piece.bytes.chunks(CHUNK_BYTES).enumerate() {
        if progress.cancelled() {
            break;
        }
        // Ask for the next chunk while this one is hashed.
        let next = start + (index + 1) * CHUNK_BYTES;
        whole.will_read(next..next + CHUNK_BYTES);
        hasher.update(chunk);
        progress.advance(chunk.len() as u64);
    }
    hasher.finalize().into()
}
