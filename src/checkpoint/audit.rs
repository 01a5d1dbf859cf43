//! Places every stored tensor against the config: full, nothing unused, right dtypes and shapes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::names::{is_hf_name, is_original_name, is_unpacked_expert_name};
use super::{CheckpointError, Dtype, Layout, ModelConfig, Shard, TensorEntry, TensorId};

/// Where the rows of each tensor are: `(shard, tensor of that shard)`, in row order.
pub(super) type Placement = HashMap<TensorId, Vec<(usize, usize)>>;

/// Names shown in a message before "and N more".
const NAMES_SHOWN: usize = 8;

/// Decides the layout and finds each tensor of the config.
pub(super) fn place(
    path: &Path,
    config: &ModelConfig,
    shards: &[Shard],
    warnings: &mut Vec<String>,
) -> Result<(Layout, Placement), CheckpointError> {
    let mut stored = by_name(shards)?;
    let layout = settle_layout(path, &mut stored, warnings);
    refuse_unpacked_experts(path, shards, &stored)?;
    // Counted, and only what is shown is kept: a config of 300 bytes can call for 70 000 tensors.
    let (mut missing, mut missing_count) = (Vec::new(), 0);
    let mut placement = Placement::new();
    for tensor in TensorId::each(config) {
        let mut rows = Vec::new();
        for part in parts(tensor, layout, config) {
            match stored.remove(part.name.as_str()) {
                Some(at) => {
                    let entry = &shards[at.0].tensors()[at.1];
                    check_entry(shards[at.0].path(), config, tensor, entry, part.rows.len())?;
                    rows.push(at);
                }
                None => {
                    missing_count += 1;
                    missing.extend((missing.len() < NAMES_SHOWN).then_some(part.name));
                }
            }
        }
        if missing_count == 0 {
            placement.insert(tensor, rows);
        }
    }
    let layers = config.layers;
    // Missing before unknown: where a whole name is misspelt, both hold, and what is absent says more.
    if missing_count > 0 {
        let names = shown(missing.iter().map(String::as_str), missing_count);
        return Err(CheckpointError::TensorMissing { path: path.into(), layers, count: missing_count, names });
    }
    if !stored.is_empty() {
        let names = shown(stored.keys().copied(), stored.len());
        return Err(CheckpointError::TensorUnknown { path: path.into(), layers, count: stored.len(), names });
    }
    Ok((layout, placement))
}

fn parts(tensor: TensorId, layout: Layout, config: &ModelConfig) -> Vec<super::names::NamedRows> {
    match layout {
        Layout::Hf => tensor.hf_parts(config),
        _ => vec![super::names::NamedRows { name: tensor.original_name(), rows: 0..tensor.shape(config)[0] }],
    }
}

fn by_name(shards: &[Shard]) -> Result<BTreeMap<&str, (usize, usize)>, CheckpointError> {
    let mut stored = BTreeMap::new();
    for (s, shard) in shards.iter().enumerate() {
        for (t, tensor) in shard.tensors().iter().enumerate() {
            if let Some((other, _)) = stored.insert(tensor.name.as_str(), (s, t)) {
                let first = shards[other].path().into();
                let second = shard.path().into();
                return Err(CheckpointError::TensorDuplicate { name: tensor.name.clone(), first, second });
            }
        }
    }
    Ok(stored)
}

/// HF names win over original ones in the same directory; what is dropped is said.
fn settle_layout(path: &Path, stored: &mut BTreeMap<&str, (usize, usize)>, warnings: &mut Vec<String>) -> Layout {
    if !stored.keys().any(|name| is_hf_name(name)) {
        return Layout::Original;
    }
    let dropped: Vec<&str> = stored.keys().copied().filter(|name| is_original_name(name)).collect();
    if !dropped.is_empty() {
        stored.retain(|name, _| !is_original_name(name));
        warnings.push(format!(
            "{}: holds both HF and original names; the HF tensors are used, {} original one(s) dropped: {}",
            path.display(),
            dropped.len(),
            dropped.join(", ")
        ));
    }
    Layout::Hf
}

fn refuse_unpacked_experts(
    path: &Path,
    shards: &[Shard],
    stored: &BTreeMap<&str, (usize, usize)>,
) -> Result<(), CheckpointError> {
    let entry = |&(s, t): &(usize, usize)| &shards[s].tensors()[t];
    let unpacked = stored.iter().find(|(name, at)| {
        let packed_name = name.ends_with("_blocks") || name.ends_with(".blocks");
        is_unpacked_expert_name(name) || (packed_name && entry(at).dtype == Dtype::Bf16)
    });
    match unpacked {
        Some((name, at)) => Err(CheckpointError::UnpackedExperts {
            path: path.into(),
            name: name.to_string(),
            dtype: entry(at).dtype,
            shape: entry(at).shape.clone(),
        }),
        None => Ok(()),
    }
}

fn check_entry(
    path: &Path,
    config: &ModelConfig,
    tensor: TensorId,
    entry: &TensorEntry,
    rows: usize,
) -> Result<(), CheckpointError> {
    let (path, name) = (path.to_path_buf(), entry.name.clone());
    let want = tensor.role.dtype();
    if entry.dtype != want {
        return Err(CheckpointError::TensorDtype { path, name, want, found: entry.dtype });
    }
    let dims = tensor.role.dims(config);
    let mut want: Vec<u64> = dims.iter().map(|&(size, _)| size as u64).collect();
    want[0] = rows as u64;
    if entry.shape != want {
        let dim = want.iter().zip(&entry.shape).position(|(w, f)| w != f).unwrap_or(want.len().min(entry.shape.len()));
        let field = dims.get(dim).map_or("the number of dimensions", |d| d.1).to_string();
        return Err(CheckpointError::TensorShape { path, name, want, found: entry.shape.clone(), dim, field });
    }
    Ok(())
}

/// The first of `count` names.
fn shown<'a>(names: impl Iterator<Item = &'a str>, count: usize) -> String {
    let names: Vec<&str> = names.take(NAMES_SHOWN).collect();
    match count > names.len() {
        true => format!("{}, and {} more", names.join(", "), count - names.len()),
        false => names.join(", "),
    }
}
