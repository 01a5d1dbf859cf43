//! GGUF in: the index of a file, from a prefix of its bytes, and the mapped file or set of split files.
//!
//! ```text
//! prefix of bytes ─► Index (metadata, tensors, peculiarities) ─┐
//! mapped file(s) ────────────────────────────────────────────►─┴► Gguf ─► bytes of a tensor
//! ```
//!
//! | offset | bytes | field           | rule                                                                            |
//! |-------:|------:|-----------------|---------------------------------------------------------------------------------|
//! |      0 |     4 | magic           | `GGUF`                                                                          |
//! |      4 |     4 | version         | u32, 2 or 3 (1 had 32-bit lengths)                                              |
//! |      8 |     8 | tensor count    | u64, at most [`limits::TENSORS_MAX`], and what the file has room for            |
//! |     16 |     8 | metadata count  | u64, at most [`limits::METADATA_MAX`], likewise                                 |
//! |     24 |     … | metadata        | key string, u32 type, value; no key twice                                       |
//! |      … |     … | tensor infos    | name string, u32 dimensions, u64 each, u32 type, u64 offset; no name twice      |
//! |      … |     … | padding         | to a multiple of `general.alignment` (32 where it is not given)                 |
//! |      … |     … | data            | a tensor begins at an aligned offset from here; no two overlap                  |
//!
//! Little-endian.  A string is a u64 length and bytes.  `dims[0]` is the contiguous dimension: a row-major `[out, in]`
//! matrix has dims `{in, out}`.
//!
//! What the specification forbids is a [`GgufError`]; what it allows and ggml refuses, or is merely unusual, is a
//! [`Peculiarity`].  A type that is not known is indexed, and an error only when its data is asked for.
//!
//! This module knows GGUF, not gpt-oss: names and metadata keys mean nothing but in [`dialect`].
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
pub mod dialect;
mod error;
mod file;
mod ggml_type;
mod index;
mod metadata;
mod peculiarity;
pub mod split;
mod tensors;
mod value;

pub use dialect::{Dialect, DialectError, Encoding, GgufModel, StoredPart, export_gguf};
pub use error::GgufError;
pub use file::{Gguf, Located, Part, is_gguf};
pub use ggml_type::{Block, GgmlType};
pub use index::{Index, MAGIC, Parsed};
pub use metadata::Metadata;
pub use peculiarity::{Peculiarities, Peculiarity, PeculiarityKind};
pub use tensors::TensorInfo;
pub use value::{Array, Value, ValueType};

/// The most that a header may ask for.  ggml's own ceilings are higher; no published file comes near these.
pub mod limits {
    /// Bytes before the data: the vocabularies of gpt-oss take 13 MB.
    pub const HEADER_BYTES_MAX: u64 = 256 << 20;
    /// Metadata entries.
    pub const METADATA_MAX: u64 = 1 << 16;
    /// Tensors of one file.
    pub const TENSORS_MAX: u64 = 1 << 20;
    /// Bytes of a key: the specification's number.
    pub const KEY_BYTES_MAX: u64 = 65_535;
    /// Bytes of a tensor's name: the specification's number; ggml keeps one of them for a NUL.
    pub const NAME_BYTES_MAX: u64 = 64;
    /// Bytes of a string value.
    pub const STRING_BYTES_MAX: u64 = 1 << 26;
    /// Elements of an array.
    pub const ARRAY_MAX: u64 = 1 << 26;
    /// Arrays inside arrays.
    pub const ARRAY_DEPTH_MAX: usize = 4;
    /// Dimensions of a tensor: ggml's number.
    pub const DIMS_MAX: u32 = 4;
    /// Elements of a tensor: ggml counts them in an i64.
    pub const ELEMENTS_MAX: u64 = i64::MAX as u64;
    /// Files of a split: the name has five digits.
    pub const SPLITS_MAX: u64 = 99_999;
}

/// Alignment of a file that does not give one.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// The metadata key of the alignment.
pub const ALIGNMENT_KEY: &str = "general.alignment";
