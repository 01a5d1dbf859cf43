//! `check --against` on GGUFs of every quantised type: one tensor holds what ggml's own quantisers made of the other side's
//! values, the rest is lossless.

use std::path::Path;

use serde_json::Value;

use super::ggml::nearest::{GOLDEN, KINDS, ggml_type, inputs, is_searched, stored};
use super::gguf::{early_file, early_split, model_of};
use super::with_golden;
use crate::checkpoint::{Checkpoint, Layout, Role, Shard, TensorId, WeightSource};
use crate::gguf::GgufModel;
use crate::quant::BlockType;
use crate::telemetry::Silent;
use crate::verify::check;
use crate::verify::check::nearest::Scales;
use crate::verify::fixture::gguf::Meta;
use crate::verify::fixture::{Recipe, shard_bytes, shard_plans};
use crate::verify::outcome::{Check, Level, Outcome};
use crate::verify::sample::Sample;

const RECIPE: &str = "small-vocab";
/// Its rows are two super-blocks: the first four hold the golden's inputs, the others zeros.
const TENSOR: TensorId = TensorId { role: Role::OutWeight, layer: Some(0) };
/// Its name in the GGUF.
const STORED: &[u8] = b"blk.0.attn_out.weight";

/// Every type, of a file that says nothing of an importance matrix and of one that does.
pub(super) fn cases() -> Vec<Check> {
    let both = |kind| [(kind, Scales::Plain), (kind, Scales::Weighted)];
    KINDS.into_iter().flat_map(both).flat_map(|(kind, scales)| case(kind, scales)).collect()
}

fn case(kind: BlockType, scales: Scales) -> Vec<Check> {
    let suffix = if scales == Scales::Plain { "" } else { "-weighted" };
    let name = format!("bytes/gguf-read/{}{suffix}", <&str>::from(kind).to_lowercase());
    with_golden(GOLDEN, &name, Level::Bytes, |golden| {
        let sides = source().and_then(|source| Ok((source, model(golden, kind, scales)?)));
        vec![match sides {
            Err(why) => Check::fail(name.clone(), Level::Bytes, why),
            Ok((source, model)) => judge(&name, kind, scales, &source, &model),
        }]
    })
}

/// The one tensor has its type's verdict, told the same way round by either side; all others are equal.
fn judge(name: &str, kind: BlockType, scales: Scales, source: &Checkpoint, model: &GgufModel) -> Check {
    let wanted = if scales == Scales::Weighted && is_searched(kind) { Outcome::Skip } else { Outcome::Pass };
    let against = |a: &dyn WeightSource, b: &dyn WeightSource| check::against(a, b, &Sample::All, &Silent).checks;
    let tensor = format!("tensors/{TENSOR}");
    let mut told = String::new();
    for check in [against(model, source), against(source, model)].concat() {
        let is_it = check.name == tensor;
        let want = if is_it { wanted } else { Outcome::Pass };
        if check.outcome != want || is_it && !check.detail.contains(<&str>::from(kind)) {
            let why = format!("{}: expected {want:?}, found {:?}: {}", check.name, check.outcome, check.detail);
            return Check::fail(name, Level::Bytes, why);
        }
        if is_it {
            told = check.detail;
        }
    }
    match told.is_empty() {
        true => Check::fail(name, Level::Bytes, format!("{tensor} was not compared")),
        false => Check::pass(name, Level::Bytes, told),
    }
}

/// The recipe's checkpoint with the golden's inputs in [`TENSOR`].
fn source() -> Result<Checkpoint, String> {
    let (recipe, text) = (Recipe::built_in(RECIPE), |error: crate::checkpoint::CheckpointError| error.to_string());
    let (config, path) = (recipe.config(), Path::new(RECIPE));
    let plan = &shard_plans(&config, Layout::Original, 1)[0];
    let mut bytes = shard_bytes(&recipe, plan);
    let shard = Shard::from_bytes(path, bytes.clone().into()).map_err(text)?;
    let entry = shard.tensors().iter().find(|entry| entry.name == TENSOR.original_name()).ok_or("no such tensor")?;
    let data = &mut bytes[entry.range.start as usize..entry.range.end as usize];
    data.fill(0);
    for (pair, value) in data.as_chunks_mut::<2>().0.iter_mut().zip(inputs().concat()) {
        pair.copy_from_slice(&((value.to_bits() >> 16) as u16).to_le_bytes());
    }
    Checkpoint::from_parts(path, config, vec![Shard::from_bytes(path, bytes.into()).map_err(text)?], Vec::new())
        .map_err(text)
}

/// The same model as a GGUF, [`TENSOR`] as ggml quantised it.
fn model(golden: &Value, kind: BlockType, scales: Scales) -> Result<GgufModel, String> {
    let mut file = early_file(&Recipe::built_in(RECIPE), early_split)?;
    let tensor = file.tensors.iter_mut().find(|tensor| tensor.name == STORED).ok_or("no such tensor")?;
    let count = tensor.dims.iter().product::<u64>() as usize / kind.values();
    // Zeros are zeros in every type.
    tensor.data = stored(golden, kind, scales).concat();
    tensor.data.resize(count * kind.bytes(), 0);
    tensor.ggml_type = ggml_type(kind).id();
    if scales == Scales::Weighted {
        file.metadata.push(Meta::string("quantize.imatrix.file", "imatrix.gguf"));
    }
    model_of(file.write().bytes)
}
