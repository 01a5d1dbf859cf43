//! What `gptoss-verify run` checks: groups of cases, each a promise with a name.
//!
//! A group's name is the start of its checks' names; its text is what `explain` prints.

pub mod codecs;
mod comparers;
mod exports;
pub mod fixtures;
mod memory;

use super::fault;
use super::golden::{self, Golden, GoldenError};
use super::outcome::{Check, Level, Outcome};
use super::reject;

/// A group of checks that are run together.
pub struct Group {
    /// Start of the checks' names.
    pub name: &'static str,
    /// What it is about.
    pub level: Level,
    /// The promise, its source, and what red usually means.
    pub about: &'static str,
    /// Runs the checks.
    pub run: fn() -> Vec<Check>,
}

/// Every group, in the order of a run.
///
/// Memory comes first, while the process's heap is fresh.
pub const GROUPS: &[Group] = &[
    Group {
        name: "memory/export",
        level: Level::Memory,
        about: "An export's heap stays below a fixed bound whatever the size of the model. The meter first proves that it \
                sees a known allocation come and go.",
        run: memory::export_cases,
    },
    Group {
        name: "bytes/golden",
        level: Level::Bytes,
        about: "Every golden's payload has the SHA-256 that its provenance records. Red: a golden was edited by hand, or \
                regenerated without its sidecar.",
        run: golden_checks,
    },
    Group {
        name: "bytes/comparer",
        level: Level::Bytes,
        about: "The comparers say no to every pair that must fail: each element flipped in turn, lengths, NaN, -0, planted \
                repeats. Red: every other green check is worth nothing until this is mended.",
        run: comparers::run,
    },
    Group {
        name: "bytes/config",
        level: Level::Bytes,
        about: "config.json of each fixture, byte for byte as Python's json.dumps writes the published keys, and both \
                dialects read into the same model.",
        run: fixtures::config_cases,
    },
    Group {
        name: "bytes/fixture",
        level: Level::Bytes,
        about: "Every tensor of each fixture, and the whole SafeTensors file, in both layouts, has the SHA-256 that the numpy \
                witness computed (scripts/witness/). Red: the integer recipe, the tensor table or the header changed.",
        run: fixtures::digest_cases,
    },
    Group {
        name: "bytes/prefix",
        level: Level::Bytes,
        about: "Header and tokenizer section of gpt-oss-20b and -120b have the digests of the upstream converter's output. \
                Red: a header number, the vocabulary, or the special-token table changed.",
        run: exports::prefix_cases,
    },
    Group {
        name: "bytes/export",
        level: Level::Bytes,
        about: "model.bin exported from the original layout, from three shards and from the HF layout has the SHA-256 of the \
                file that OpenAI's unmodified converter wrote from the same checkpoint. Red: find the section with \
                `gptoss-verify diff`, against a file known to be good.",
        run: exports::digest_cases,
    },
    Group {
        name: "bytes/read-back",
        level: Level::Bytes,
        about: "The strict reader opens the export; the oracle finds every tensor equal to its source; undoing the \
                transforms gives the source's bytes.",
        run: exports::read_back_cases,
    },
    Group {
        name: "bytes/reject",
        level: Level::Bytes,
        about: "Every malformed input of fixtures/rejects/ is refused with the typed error it must give, and a message that \
                names the file and the field. Red: a reader accepts, or blames the wrong thing.",
        run: reject::run,
    },
    Group {
        name: "tensors/mxfp4",
        level: Level::Tensors,
        about: "MXFP4 decoding of all 256 scales × 16 codes, nibble order, and encoding of edge and random blocks, bit for bit \
                as PyPI's ml_dtypes gives them.",
        run: codecs::mxfp4_cases,
    },
    Group {
        name: "tensors/bf16",
        level: Level::Tensors,
        about: "BF16 rounding, and × 0.5 and × 0.25 over all 65 536 patterns, bit for bit as PyPI's ml_dtypes gives them.",
        run: codecs::bf16_cases,
    },
    Group {
        name: "sabotage",
        level: Level::Sabotage,
        about: "Each fault of the catalogue, planted in an artifact, turns exactly the named checks red. Red: the harness is \
                blind to the fault, or another check fails by accident.",
        run: fault::run,
    },
];

/// Runs the groups of a level, or all of them.
pub fn run(level: Option<Level>) -> Vec<Check> {
    GROUPS
        .iter()
        .filter(|group| level.is_none_or(|level| group.level == level))
        .flat_map(|group| (group.run)())
        .collect()
}

/// Judges with a golden; without it the verdict is [`Outcome::MissingGolden`], with a damaged one a failure.
pub fn with_golden(
    golden: &str,
    check: &str,
    level: Level,
    judge: impl FnOnce(&serde_json::Value) -> Vec<Check>,
) -> Vec<Check> {
    match Golden::load(golden) {
        Ok(golden) => judge(&golden.payload),
        Err(error @ GoldenError::Missing(_)) => {
            vec![Check::new(check, level, Outcome::MissingGolden, error.to_string())]
        }
        Err(error) => vec![Check::fail(check, level, error.to_string())],
    }
}

fn golden_checks() -> Vec<Check> {
    let judge = |&(name, payload, provenance): &(&str, &str, &str)| {
        let check = format!("bytes/golden/{name}");
        match Golden::parse(name, payload, provenance) {
            Ok(golden) => Check::pass(check, Level::Bytes, golden.provenance.source),
            Err(error) => Check::fail(check, Level::Bytes, error.to_string()),
        }
    };
    golden::ALL.iter().map(judge).collect()
}
