//! Wrong readers of GGUF, judged by files that other programs wrote.

use crate::verify::cases::ggufs::{Reader, Reading, Seen, read};

/// One wrong reader.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// The checks that must catch it, all and only these.  A trailing `*` stands for any rest of the name.
    pub caught_by: &'static [&'static str],
    /// The reader.
    pub reader: Reader,
}

/// Our reading with every tensor changed.
fn each(parts: &[Vec<u8>], change: impl Fn(&mut Seen)) -> Result<Reading, String> {
    let mut reading = read(parts)?;
    reading.tensors.iter_mut().for_each(change);
    Ok(reading)
}

/// Where the data of each file begins: its first tensor has offset 0.
fn data_start(reading: &Reading, part: usize) -> u64 {
    reading.tensors.iter().filter(|seen| seen.part == part).map(|seen| seen.offset).min().unwrap_or(0)
}

/// Checks of every file that has tensors.
const ALL_TENSORS: &[&str] = &[
    "bytes/gguf/all-types/tensors",
    "bytes/gguf/alignment-64/tensors",
    "bytes/gguf/split/tensors",
    "bytes/gguf/split-small-first/tensors",
    "bytes/gguf/converter/tensors",
];
const SPLIT_TENSORS: &[&str] = &["bytes/gguf/split/tensors", "bytes/gguf/split-small-first/tensors"];

/// Every wrong reader.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "gguf/dims-reversed",
        about: "dimensions in row-major order, the contiguous one last",
        caught_by: ALL_TENSORS,
        reader: |parts| each(parts, |seen| seen.dims.reverse()),
    },
    Fault {
        name: "gguf/data-not-aligned",
        about: "data begins one alignment early, where the infos end rounded down",
        caught_by: ALL_TENSORS,
        reader: |parts| each(parts, |seen| seen.offset -= 32),
    },
    Fault {
        name: "gguf/offsets-from-the-file",
        about: "a tensor's offset taken from the start of the file, not of the data",
        caught_by: ALL_TENSORS,
        reader: |parts| {
            let honest = read(parts)?;
            each(parts, |seen| seen.offset -= data_start(&honest, seen.part))
        },
    },
    Fault {
        name: "gguf/alignment-ignored",
        about: "general.alignment not read: 32 whatever it says",
        caught_by: &["bytes/gguf/alignment-64/tensors"],
        reader: |parts| {
            let honest = read(parts)?;
            let told = honest.metadata.iter().any(|(key, ..)| key == "general.alignment");
            // The infos of that file end 32 bytes before a multiple of 64.
            each(parts, |seen| seen.offset -= if told { 32 } else { 0 })
        },
    },
    Fault {
        name: "gguf/padding-of-tensors-forgotten",
        about: "tensors taken to lie back to back, without padding",
        // In `split` every file has one tensor.
        caught_by: &[
            "bytes/gguf/all-types/tensors",
            "bytes/gguf/alignment-64/tensors",
            "bytes/gguf/split-small-first/tensors",
            "bytes/gguf/converter/tensors",
        ],
        reader: |parts| {
            let honest = read(parts)?;
            let (mut part, mut end) = (usize::MAX, 0);
            let mut reading = honest.clone();
            for seen in &mut reading.tensors {
                if seen.part != part {
                    (part, end) = (seen.part, data_start(&honest, seen.part));
                }
                (seen.offset, end) = (end, end + seen.bytes);
            }
            Ok(reading)
        },
    },
    Fault {
        name: "gguf/first-file-only",
        about: "the other files of a split are not opened",
        caught_by: SPLIT_TENSORS,
        reader: |parts| {
            let mut reading = read(parts)?;
            reading.tensors.retain(|seen| seen.part == 0);
            Ok(reading)
        },
    },
    Fault {
        name: "gguf/files-exchanged",
        about: "the files of a split in the opposite order",
        caught_by: SPLIT_TENSORS,
        reader: |parts| each(parts, |seen| seen.part = parts.len() - 1 - seen.part),
    },
    Fault {
        name: "gguf/f16-for-bf16",
        about: "type 30 taken for F16: the same size, other values",
        caught_by: &["bytes/gguf/all-types/tensors"],
        reader: |parts| {
            each(parts, |seen| {
                if seen.ggml_type == "BF16" {
                    seen.ggml_type = "F16".into();
                }
            })
        },
    },
    Fault {
        name: "gguf/signed-for-unsigned",
        about: "a u64 read as an i64",
        caught_by: &["bytes/gguf/all-types/metadata"],
        reader: |parts| {
            let mut reading = read(parts)?;
            for (_, kind, value) in &mut reading.metadata {
                let signed = value.as_str().and_then(|text| text.parse::<u64>().ok()).map(|n| n as i64);
                if let Some(n) = signed.filter(|_| kind == "UINT64") {
                    *value = n.to_string().into();
                }
            }
            Ok(reading)
        },
    },
];
