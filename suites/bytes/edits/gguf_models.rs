//! A quarter of a million random edits of a small gpt-oss GGUF, each met as a model: refused by name, or open and readable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use gptoss::checkpoint::{TensorId, WeightSource};
use gptoss::gguf::GgufModel;
use gptoss::verify::Outcome;
use gptoss::verify::check::gguf_tokenizer;
use gptoss::verify::reject::honest_model;
use rayon::prelude::*;

use super::million::edit_of;
use super::{HEAP_OF_A_FILE, heap, heap_bytes_max, read_values};

const PATH: &str = "far/away/model.gguf";
const EDITS: u64 = 250_000;
/// One accepted file of so many has every value read: most of the time goes there.
const READ_WHOLE: u64 = 16;

fn open(bytes: Vec<u8>) -> Result<GgufModel, gptoss::gguf::DialectError> {
    GgufModel::from_bytes(Path::new(PATH), bytes.into())
}

/// Whether the file was refused; an error is what must not be.
fn judge(bytes: Vec<u8>, number: u64) -> Result<bool, String> {
    let heap_max = heap_bytes_max(bytes.len(), HEAP_OF_A_FILE);
    let (opened, heap) = heap::peak_bytes_of(|| open(bytes));
    if heap > heap_max {
        return Err(format!("{heap} bytes of heap, at most {heap_max} are justified"));
    }
    let model = match opened {
        Ok(model) => model,
        Err(error) if error.to_string().contains(PATH) => return Ok(true),
        Err(error) => return Err(format!("`{error}` does not name the file")),
    };
    model.tokens().into_iter().flatten().for_each(drop);
    model.merges().into_iter().flatten().for_each(drop);
    drop(model.token_kinds());
    for tensor in TensorId::all(model.config()) {
        let bytes: usize = model.parts(tensor).iter().map(|part| part.bytes.len()).sum();
        if bytes == 0 {
            return Err(format!("`{tensor}` is empty in a model that opened"));
        }
    }
    if number.is_multiple_of(READ_WHOLE) {
        read_values(&model);
    }
    Ok(false)
}

#[test]
fn a_quarter_of_a_million_edits_of_a_model_are_refused_or_read() {
    let file = honest_model().write().bytes;
    let head_bytes = open(file.clone()).expect("the model is honest").gguf().index().data_offset as usize;
    let refused: usize = (0..EDITS)
        .into_par_iter()
        .map(|number| {
            let (edit, edited) = edit_of(PATH, &file, head_bytes, number);
            let judged = catch_unwind(AssertUnwindSafe(|| judge(edited, number))).unwrap_or(Err("a panic".into()));
            judged.map(usize::from).unwrap_or_else(|why| panic!("edit {number}, {edit:?}: {why}"))
        })
        .sum();
    assert!((EDITS as usize / 5..EDITS as usize * 9 / 10).contains(&refused), "{refused} of {EDITS} were refused");
}

/// What the malformed models start from has nothing that could be refused.
#[test]
fn the_honest_model_opens_without_a_word() {
    let model = open(honest_model().write().bytes).expect("the model is honest");
    assert!(model.warnings().is_empty(), "{:?}", model.warnings());
    assert_eq!(gguf_tokenizer(&model).outcome, Outcome::Pass);
    read_values(&model);
    let found = gptoss::verify::check::value_checks(&model, &Default::default(), &gptoss::telemetry::Silent);
    assert!(found.checks.iter().all(|check| check.outcome == Outcome::Pass), "{:?}", found.checks);
}
