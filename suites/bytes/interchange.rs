//! The format's own crate reads what the fixtures write, is read in turn, and accepts whatever `Shard` accepts; a
//! model.bin gives back the tensors that were exported.
//!
//! `safetensors` shares no code with this project, so that an agreement is no echo.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use gptoss::checkpoint::{Layout, Role, Shard, TensorId, WeightSource};
use gptoss::model_bin::ModelBin;
use gptoss::verify::cases::fixtures::{exported_bytes, small_tokenizer};
use gptoss::verify::fixture::{Recipe, in_memory, shard_bytes, shard_plans};
use proptest::test_runner::{TestCaseError, TestRunner};
use proptest::{prop_assert_eq, prop_oneof};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::edits::deterministic;
use super::edits::headers::{self, Bytes};

/// A tensor as both readers can state it: dtype, shape, range in the file, bytes.
type Stated = (String, Vec<u64>, (usize, usize), Vec<u8>);

fn ours(shard: &Shard) -> BTreeMap<String, Stated> {
    let state = |tensor: &gptoss::checkpoint::TensorEntry| {
        let range = (tensor.range.start as usize, tensor.range.end as usize);
        (tensor.dtype.to_string(), tensor.shape.clone(), range, shard.data(tensor).to_vec())
    };
    shard.tensors().iter().map(|tensor| (tensor.name.clone(), state(tensor))).collect()
}

fn theirs(file: &[u8]) -> Result<BTreeMap<String, Stated>, safetensors::SafeTensorError> {
    let tensors = SafeTensors::deserialize(file)?;
    let state = |tensor: &TensorView| {
        let start = tensor.data().as_ptr() as usize - file.as_ptr() as usize;
        let shape = tensor.shape().iter().map(|&dim| dim as u64).collect();
        (tensor.dtype().to_string(), shape, (start, start + tensor.data().len()), tensor.data().to_vec())
    };
    Ok(tensors.iter().map(|(name, tensor)| (name.to_string(), state(&tensor))).collect())
}

fn shard(file: &[u8]) -> Shard {
    Shard::from_bytes(Path::new("model.safetensors"), file.to_vec().into()).expect("the file is valid")
}

/// The fixture's files in each layout, in one part and in three.
fn fixture_files() -> Vec<Vec<u8>> {
    let recipe = Recipe::built_in("small-vocab");
    [(Layout::Original, 1), (Layout::Original, 3), (Layout::Hf, 1), (Layout::Hf, 3)]
        .into_iter()
        .flat_map(|(layout, shards)| {
            let plans = shard_plans(&recipe.config(), layout, shards);
            assert_eq!(plans.len(), shards);
            plans.iter().map(|plan| shard_bytes(&recipe, plan)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_formats_crate_reads_what_the_fixtures_write() {
    for file in fixture_files() {
        let theirs = theirs(&file).expect("the crate reads the fixture");
        assert!(!theirs.is_empty());
        assert_eq!(ours(&shard(&file)), theirs);
    }
}

#[test]
fn the_formats_crate_writes_the_fixtures_bytes_and_shard_reads_them() {
    for file in fixture_files() {
        let tensors = SafeTensors::deserialize(&file).expect("the crate reads the fixture");
        let written = safetensors::serialize(tensors.iter(), None).expect("the crate writes what it read");
        assert_eq!(ours(&shard(&written)), theirs(&written).expect("the crate reads what it writes"));
        assert!(written == file, "the crate and the fixture lay {} tensors out differently", tensors.len());
    }
}

/// Ours may refuse more (unknown keys, repeated names, dtypes that no checkpoint here has), never less.
#[test]
fn the_formats_crate_accepts_whatever_shard_accepts() {
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let files = prop_oneof![headers::file(), headers::edited()];
    let verdict = TestRunner::new(deterministic(20_000)).run(&files, |Bytes(file)| {
        let Ok(shard) = Shard::from_bytes(Path::new("model.safetensors"), file.clone().into()) else {
            refused.update(|count| count + 1);
            return Ok(());
        };
        accepted.update(|count| count + 1);
        let theirs = theirs(&file).map_err(|error| TestCaseError::fail(format!("the crate refuses: {error}")))?;
        prop_assert_eq!(ours(&shard), theirs);
        Ok(())
    });
    verdict.unwrap_or_else(|failure| panic!("{failure}"));
    // Two readers that refuse everything would agree as well.
    let (accepted, refused) = (accepted.get(), refused.get());
    assert!(accepted > 2_000 && refused > 2_000, "{accepted} files were accepted, {refused} refused");
}

#[test]
fn a_model_bin_gives_back_every_tensor_that_was_exported() {
    let recipe = Recipe::built_in("small-vocab");
    let tokenizer = small_tokenizer(recipe.vocab as usize);
    for (layout, shards) in [(Layout::Original, 1), (Layout::Hf, 3)] {
        let source = in_memory(&recipe, layout, shards).expect("the recipe is valid");
        let file = exported_bytes(&source, &tokenizer).expect("the recipe can be exported");
        let model = ModelBin::from_bytes(Path::new("model.bin"), file.into()).expect("an export is a valid model.bin");
        let mut roles = std::collections::BTreeSet::new();
        for tensor in TensorId::all(source.config()) {
            assert!(model.restore(tensor) == source.segments(tensor).concat(), "{layout}: {tensor} is not what it was");
            roles.insert(tensor.role);
        }
        assert_eq!(roles.len(), Role::ALL.len());
    }
}
