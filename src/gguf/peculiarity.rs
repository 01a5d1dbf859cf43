//! What a file may hold by the specification and yet is worth telling: ggml refuses some of it.

use std::fmt;

/// A kind of peculiarity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, serde::Serialize)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub enum PeculiarityKind {
    /// Version 2, not 3.
    OldVersion,
    /// A key that is not `lower_snake.dotted`.
    KeySpelling,
    /// A string value that is not UTF-8.
    StringNotUtf8,
    /// An array of arrays.
    NestedArray,
    /// An alignment that is a multiple of 8, as the specification asks, and no power of two, as ggml asks.
    AlignmentNoPowerOfTwo,
    /// A tensor name of 64 bytes: ggml has room for 63.
    NameLength,
    /// A tensor with a dimension of 0.
    EmptyTensor,
    /// A type that this version does not know.
    UnknownType,
    /// A type that ggml took back.
    RemovedType,
    /// Tensors whose data is in another order than their infos.
    Reordered,
    /// Data bytes between two tensors beyond the padding.
    Gap,
    /// Bytes behind the last tensor and its padding.
    TrailingBytes,
    /// The last tensor is not padded to the alignment.
    EndNotPadded,
    /// Padding that is not zero.
    PaddingNotZero,
}

impl PeculiarityKind {
    /// Its stable kebab-case name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether ggml's reader refuses such a file.
    pub fn refused_by_ggml(self) -> bool {
        use PeculiarityKind::*;
        matches!(self, NestedArray | AlignmentNoPowerOfTwo | NameLength | UnknownType | RemovedType | Reordered | Gap)
    }

    /// What it is, in a sentence without the place.
    pub fn about(self) -> &'static str {
        match self {
            PeculiarityKind::OldVersion => "the file is of GGUF version 2",
            PeculiarityKind::KeySpelling => "a metadata key is not lower_snake.dotted ASCII",
            PeculiarityKind::StringNotUtf8 => "a string is not UTF-8",
            PeculiarityKind::NestedArray => "an array holds arrays",
            PeculiarityKind::AlignmentNoPowerOfTwo => "the alignment is no power of two",
            PeculiarityKind::NameLength => "a tensor's name has 64 bytes, ggml has room for 63",
            PeculiarityKind::EmptyTensor => "a tensor has no elements",
            PeculiarityKind::UnknownType => "a tensor's type is not known to this version",
            PeculiarityKind::RemovedType => "a tensor's type was removed from ggml",
            PeculiarityKind::Reordered => "tensor data is in another order than the tensor infos",
            PeculiarityKind::Gap => "data bytes between tensors belong to none",
            PeculiarityKind::TrailingBytes => "bytes behind the last tensor belong to none",
            PeculiarityKind::EndNotPadded => "the last tensor is not padded to the alignment",
            PeculiarityKind::PaddingNotZero => "padding is not zero",
        }
    }
}

/// Something peculiar, and where it was first seen.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Peculiarity {
    /// What.
    pub kind: PeculiarityKind,
    /// How many places show it.
    pub count: u64,
    /// The first place's metadata key, tensor or field.
    pub first: String,
    /// The first place's offset in the file.
    pub offset: u64,
}

impl fmt::Display for Peculiarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peculiarity { kind, count, first, offset } = self;
        write!(f, "{}: {}: `{first}` at offset {offset}", kind.name(), kind.about())?;
        if *count > 1 {
            write!(f, " and {} more", count - 1)?;
        }
        Ok(())
    }
}

/// The peculiarities of a file, one entry a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peculiarities(Vec<Peculiarity>);

impl Peculiarities {
    /// All, in the order in which they were met.
    pub fn iter(&self) -> impl Iterator<Item = &Peculiarity> {
        self.0.iter()
    }

    /// The one of that kind.
    pub fn of(&self, kind: PeculiarityKind) -> Option<&Peculiarity> {
        self.0.iter().find(|peculiarity| peculiarity.kind == kind)
    }

    pub(super) fn note(&mut self, kind: PeculiarityKind, first: &str, offset: u64) {
        match self.0.iter_mut().find(|peculiarity| peculiarity.kind == kind) {
            Some(known) => known.count += 1,
            None => self.0.push(Peculiarity { kind, count: 1, first: first.into(), offset }),
        }
    }
}
