//! A million random edits of two small files, none of which may pass: each is refused with a typed error, or opens and
//! differs from the honest file's manifest.
//!
//! An edit is a function of its number, so a failure that names a number can be met again.  Half of the edits begin in
//! the file's head, where a byte means most; the rest anywhere.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use gptoss::checkpoint::{Checkpoint, Shard};
use gptoss::model_bin::ModelBin;
use gptoss::model_bin::layout::HEADER_BYTES;
use gptoss::open::{AnyCheckpoint, OpenError};
use gptoss::telemetry::Silent;
use gptoss::verify::Outcome;
use gptoss::verify::check::digest_checks;
use gptoss::verify::fixture::values::{fnv1a_64, squares32};
use gptoss::verify::manifest::Manifest;
use rayon::prelude::*;

use super::{HEAP_OF_A_FILE, heap, heap_bytes_max, tiny};

/// Edits of each file.
const EDITS: u64 = 500_000;
/// Longest run that an edit writes, inserts, deletes or exchanges.
const RUN_BYTES_MAX: usize = 16;
/// Draws until one changes the file: a run of equal bytes may be exchanged with another several times, not this often.
const DRAWS_MAX: u64 = 64;

/// One change of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Edit {
    FlipBit { at: usize, bit: u32 },
    SetByte { at: usize, xor: u8 },
    Overwrite { at: usize, with: Vec<u8> },
    Truncate { to: usize },
    Insert { at: usize, bytes: Vec<u8> },
    Delete { range: Range<usize> },
    Exchange { first: usize, second: usize, bytes: usize },
}

impl Edit {
    const KINDS: usize = 7;

    fn kind(&self) -> usize {
        match self {
            Edit::FlipBit { .. } => 0,
            Edit::SetByte { .. } => 1,
            Edit::Overwrite { .. } => 2,
            Edit::Truncate { .. } => 3,
            Edit::Insert { .. } => 4,
            Edit::Delete { .. } => 5,
            Edit::Exchange { .. } => 6,
        }
    }

    fn draw(draw: &mut Draw, file_bytes: usize, head_bytes: usize) -> Edit {
        let kind = draw.below(Edit::KINDS);
        let run = 1 + draw.below(RUN_BYTES_MAX);
        let reach = if draw.below(2) == 0 { head_bytes } else { file_bytes };
        // A run fits behind `at`, so that every kind may start there.
        let at = draw.below(reach.min(file_bytes - run));
        match kind {
            0 => Edit::FlipBit { at, bit: draw.below(8) as u32 },
            1 => Edit::SetByte { at, xor: 1 + draw.below(255) as u8 },
            2 => Edit::Overwrite { at, with: draw.bytes(run) },
            3 => Edit::Truncate { to: at },
            4 => Edit::Insert { at, bytes: draw.bytes(run) },
            5 => Edit::Delete { range: at..at + run },
            _ => Edit::Exchange { first: at, second: draw.below(file_bytes - run), bytes: run },
        }
    }

    fn apply(&self, file: &[u8]) -> Vec<u8> {
        let mut edited = file.to_vec();
        match self {
            Edit::FlipBit { at, bit } => edited[*at] ^= 1 << bit,
            Edit::SetByte { at, xor } => edited[*at] ^= xor,
            Edit::Overwrite { at, with } => edited[*at..at + with.len()].copy_from_slice(with),
            Edit::Truncate { to } => edited.truncate(*to),
            Edit::Insert { at, bytes } => drop(edited.splice(at..at, bytes.iter().copied())),
            Edit::Delete { range } => drop(edited.drain(range.clone())),
            Edit::Exchange { first, second, bytes } => {
                edited[*second..second + bytes].copy_from_slice(&file[*first..first + bytes]);
                edited[*first..first + bytes].copy_from_slice(&file[*second..second + bytes]);
            }
        }
        edited
    }
}

/// Numbers that follow from a key.
struct Draw {
    key: u64,
    counter: u64,
}

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.counter += 1;
        squares32(self.counter, self.key) as usize % bound
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// The edit of a file that has that number: the first of its draws that changes the file.
pub(super) fn edit_of(name: &str, file: &[u8], head_bytes: usize, number: u64) -> (Edit, Vec<u8>) {
    let key = |again: u64| fnv1a_64(name.bytes().chain(number.to_le_bytes()).chain(again.to_le_bytes())) | 1;
    (0..DRAWS_MAX)
        .map(|again| {
            let mut draw = Draw { key: key(again), counter: 0 };
            let edit = Edit::draw(&mut draw, file.len(), head_bytes);
            let edited = edit.apply(file);
            (edit, edited)
        })
        .find(|(_, edited)| edited != file)
        .unwrap_or_else(|| panic!("{name} edit {number}: no draw changes the file"))
}

/// What became of an edit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Met {
    Refused,
    Detected,
}

/// An honest file under attack.
struct Target {
    /// Its path, which every message must hold.
    name: &'static str,
    file: Vec<u8>,
    head_bytes: usize,
    open: fn(Vec<u8>) -> Result<AnyCheckpoint, OpenError>,
    manifest: Manifest,
}

impl Target {
    fn new(name: &'static str, file: Vec<u8>, open: fn(Vec<u8>) -> Result<AnyCheckpoint, OpenError>) -> Target {
        let honest = open(file.clone()).expect("the honest file opens");
        let head_bytes = match &honest {
            AnyCheckpoint::ModelBin(model) => HEADER_BYTES as usize + model.tokenizer().bytes().len(),
            AnyCheckpoint::SafeTensors(checkpoint) => checkpoint.shards()[0].data_start() as usize,
            AnyCheckpoint::Gguf(model) => model.gguf().index().data_offset as usize,
        };
        let manifest = Manifest::of(&honest, &Silent);
        Target { name, file, head_bytes, open, manifest }
    }

    /// The edit of that number: the first of its draws that changes the file.
    fn edit(&self, number: u64) -> (Edit, Vec<u8>) {
        edit_of(self.name, &self.file, self.head_bytes, number)
    }

    /// Meets the edit of that number; its kind and fate, or a description of what went undetected.
    fn meet(&self, number: u64) -> Result<(usize, Met), String> {
        let (edit, edited) = self.edit(number);
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge(edited))).unwrap_or(Err("a panic".into()));
        judged.map(|met| (edit.kind(), met)).map_err(|why| format!("{} edit {number}, {edit:?}: {why}", self.name))
    }

    fn judge(&self, bytes: Vec<u8>) -> Result<Met, String> {
        let heap_max = heap_bytes_max(bytes.len(), HEAP_OF_A_FILE);
        let (opened, heap) = heap::peak_bytes_of(|| (self.open)(bytes));
        if heap > heap_max {
            return Err(format!("{heap} bytes of heap, at most {heap_max} are justified"));
        }
        let checkpoint = match opened {
            Ok(checkpoint) => checkpoint,
            Err(error) if error.to_string().contains(self.name) => return Ok(Met::Refused),
            Err(error) => return Err(format!("`{error}` does not name the file")),
        };
        let checks = digest_checks(&checkpoint, Some(&self.manifest), None, &Silent);
        match checks.iter().any(|check| check.outcome == Outcome::Fail) {
            true => Ok(Met::Detected),
            false => Err("undetected".into()),
        }
    }

    fn meet_all(&self) {
        let met: Vec<(usize, Met)> = (0..EDITS)
            .into_par_iter()
            .map(|number| self.meet(number))
            .collect::<Result<_, String>>()
            .unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(met.len() as u64, EDITS);
        for kind in 0..Edit::KINDS {
            let of_kind = met.iter().filter(|(k, _)| *k == kind).count();
            assert!(of_kind > EDITS as usize / 10, "{}: kind {kind} was drawn {of_kind} times", self.name);
        }
        for fate in [Met::Refused, Met::Detected] {
            let count = met.iter().filter(|(_, met)| *met == fate).count();
            assert!(count > EDITS as usize / 10, "{}: only {count} edits were {fate:?}", self.name);
        }
    }
}

fn model_bin() -> Target {
    let open = |bytes: Vec<u8>| {
        let model = ModelBin::from_bytes(Path::new("absent/model.bin"), bytes.into())?;
        Ok(AnyCheckpoint::ModelBin(model))
    };
    Target::new("absent/model.bin", tiny::HONEST.model_bin.clone(), open)
}

fn safetensors() -> Target {
    let open = |bytes: Vec<u8>| {
        // In a directory that is not there: only the shard's own bytes are in the manifest.
        let path = Path::new("absent/model.safetensors");
        let shard = Shard::from_bytes(path, bytes.into())?;
        let checkpoint = Checkpoint::from_parts(path, tiny::config(), vec![shard], Vec::new())?;
        Ok(AnyCheckpoint::SafeTensors(checkpoint))
    };
    Target::new("absent/model.safetensors", tiny::HONEST.original.clone(), open)
}

#[test]
fn a_million_random_edits_are_refused_or_change_a_digest() {
    model_bin().meet_all();
    safetensors().meet_all();
}

#[test]
fn the_search_would_report_a_file_without_an_edit() {
    for target in [model_bin(), safetensors()] {
        assert_eq!(target.judge(target.file.clone()), Err("undetected".into()), "{}", target.name);
    }
}

#[test]
fn an_edit_is_a_function_of_its_number_and_changes_the_file() {
    let target = safetensors();
    for number in 0..1000 {
        let (edit, edited) = target.edit(number);
        assert_ne!(edited, target.file, "edit {number}");
        assert_eq!(target.edit(number), (edit, edited), "edit {number}");
    }
}
