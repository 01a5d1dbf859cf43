//! Checkpoints on disk: a directory of files, an index, a model.bin, each in its turn damaged, absent or renamed.

use std::path::Path;

use gptoss::checkpoint::Layout;
use gptoss::open::AnyCheckpoint;
use gptoss::telemetry::Silent;
use gptoss::verify::check::digest_checks;
use gptoss::verify::manifest::Manifest;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{HEAP_BYTES, HEAP_OF_A_FILE, HEAP_OF_JSON, deterministic, heap_bytes_max, json, read, read_values, tiny};

type Files = Vec<(String, Vec<u8>)>;

/// One thing that happens to the files of a directory; an [`Index`] picks the file.
#[derive(Debug, Clone)]
enum Damage {
    Remove(Index),
    Rename(Index, String),
    Copy(Index, String),
    Truncate(Index, Index),
    SetByte(Index, Index, u8),
    Text(Index, Vec<u8>),
    /// Another index: the honest one, with changes.
    ShardIndex(Vec<u8>),
    /// A tensor of the index is said to be in another file.
    Listed(Index, String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let shard_index = tiny::directory(Layout::Hf, 3).pop().expect("a directory of shards ends with its index").1;
    let shard_index = String::from_utf8(shard_index).expect("an index is text");
    prop_oneof![
        at().prop_map(Damage::Remove),
        (at(), file_name()).prop_map(|(file, name)| Damage::Rename(file, name)),
        (at(), file_name()).prop_map(|(file, name)| Damage::Copy(file, name)),
        (at(), at()).prop_map(|(file, to)| Damage::Truncate(file, to)),
        (at(), at(), any::<u8>()).prop_map(|(file, at, byte)| Damage::SetByte(file, at, byte)),
        (at(), json::text()).prop_map(|(file, text)| Damage::Text(file, text)),
        json::twisted(&shard_index).prop_map(Damage::ShardIndex),
        (at(), listed_name()).prop_map(|(tensor, file)| Damage::Listed(tensor, file)),
    ]
}

/// Names that decide how a file is taken.
fn file_name() -> impl Strategy<Value = String> {
    let names = [
        "config.json",
        "model.safetensors",
        "model-00001-of-00003.safetensors",
        "a.safetensors",
        "model.bin",
        "a.safetensors.index.json",
        "original",
        ".safetensors",
    ];
    prop::sample::select(names.to_vec()).prop_map(String::from)
}

/// Names for an index to list: present, absent, outside, no name at all.
fn listed_name() -> impl Strategy<Value = String> {
    let names = ["", ".", "..", "../model.safetensors", "/", "a/b", "a\u{0}b", "config.json"];
    prop_oneof![prop::sample::select(names.to_vec()).prop_map(String::from), file_name(), any::<String>()]
}

fn apply(files: &mut Files, damage: Damage) {
    let pick = |at: Index, files: &Files| at.index(files.len().max(1)).min(files.len().saturating_sub(1));
    match damage {
        Damage::ShardIndex(text) => put(files, INDEX, text),
        Damage::Listed(tensor, file) => list(files, tensor, file),
        _ if files.is_empty() => {}
        Damage::Remove(at) => drop(files.remove(pick(at, files))),
        Damage::Rename(at, name) => {
            let (_, bytes) = files.remove(pick(at, files));
            put(files, &name, bytes);
        }
        Damage::Copy(at, name) => {
            let bytes = files[pick(at, files)].1.clone();
            put(files, &name, bytes);
        }
        Damage::Truncate(at, to) => {
            let file = pick(at, files);
            let bytes = &mut files[file].1;
            bytes.truncate(to.index(bytes.len() + 1));
        }
        Damage::SetByte(at, offset, byte) => {
            let file = pick(at, files);
            let bytes = files[file].1.len();
            if bytes > 0 {
                files[file].1[offset.index(bytes)] = byte;
            }
        }
        Damage::Text(at, text) => {
            let file = pick(at, files);
            files[file].1 = text;
        }
    }
}

const INDEX: &str = "model.safetensors.index.json";

fn put(files: &mut Files, name: &str, bytes: Vec<u8>) {
    files.retain(|(other, _)| other != name);
    files.push((name.into(), bytes));
}

fn list(files: &mut Files, tensor: Index, file: String) {
    let index = files.iter_mut().find(|(name, _)| name == INDEX);
    let Some((_, text)) = index else { return };
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(text) else { return };
    let Some(map) = value["weight_map"].as_object_mut().filter(|map| !map.is_empty()) else { return };
    let at = tensor.index(map.len());
    *map.values_mut().nth(at).expect("the index is below the length") = file.into();
    *text = value.to_string().into_bytes();
}

/// Heap that one of the files may take.
fn heap_bytes_of(name: &str, bytes: &[u8]) -> u64 {
    heap_bytes_max(bytes.len(), if name.ends_with(".json") { HEAP_OF_JSON } else { HEAP_OF_A_FILE })
}

/// Writes the files, opens the directory and then each of them, and judges by `manifest` what opens.
fn meet(files: &Files, manifest: &Manifest) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).expect("a temporary file can be written");
    }
    let heap_bytes_max = HEAP_BYTES + files.iter().map(|(name, bytes)| heap_bytes_of(name, bytes)).sum::<u64>();
    let open = |path: &Path| {
        if let Some(checkpoint) = read(directory.path(), heap_bytes_max, || AnyCheckpoint::open(path)) {
            read_values(checkpoint.source());
            assert!(!digest_checks(&checkpoint, Some(manifest), None, &Silent).is_empty());
        }
    };
    open(directory.path());
    files.iter().for_each(|(name, _)| open(&directory.path().join(name)));
}

proptest! {
    #![proptest_config(deterministic(400))]

    #[test]
    fn damaged_directories_are_read_or_refused(
        layout in prop::sample::select(vec![Layout::Original, Layout::Hf]),
        shards in prop::sample::select(vec![1usize, 3]),
        with_model_bin in any::<bool>(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let mut files = tiny::directory(layout, shards);
        if with_model_bin {
            put(&mut files, "model.bin", tiny::HONEST.model_bin.clone());
        }
        damages.into_iter().for_each(|damage| apply(&mut files, damage));
        meet(&files, &tiny::HONEST.manifest);
    }
}

#[test]
fn honest_directories_open() {
    for (layout, shards) in [(Layout::Original, 1), (Layout::Original, 3), (Layout::Hf, 1), (Layout::Hf, 3)] {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        for (name, bytes) in tiny::directory(layout, shards) {
            std::fs::write(directory.path().join(name), bytes).expect("a temporary file can be written");
        }
        let checkpoint = AnyCheckpoint::open(directory.path()).expect("the directory is honest");
        assert_eq!(checkpoint.source().layout(), layout);
        read_values(checkpoint.source());
    }
}
