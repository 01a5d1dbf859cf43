//! GGUFs, as bytes: any, twisted, and a million edits of an honest one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::LazyLock;

use gptoss::gguf::Gguf;
use gptoss::verify::fixture::gguf::{File, Meta, Tensor, array, sample, string, value_type};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rayon::prelude::*;

use super::million::edit_of;
use super::{HEAP_OF_A_FILE, deterministic, heap, heap_bytes_max, read};
use crate::gguf::check_prefixes;

/// Where the file seems to be: a name that no message holds by chance.
const PATH: &str = "far/away.gguf";
/// Edits of the sample.
const EDITS: u64 = 1_000_000;

/// Reads a file, every value and every tensor of it; whether it was accepted.
fn meet(file: Vec<u8>) -> bool {
    let heap = heap_bytes_max(file.len(), HEAP_OF_A_FILE);
    let Some(gguf) = read(Path::new(PATH), heap, || Gguf::from_bytes(Path::new(PATH), file.into())) else {
        return false;
    };
    for (key, value) in gguf.metadata().iter() {
        assert_eq!(gguf.metadata().get(key).map(|again| again.value_type()), Some(value.value_type()));
        assert!(value.to_string().len() < 600);
        value.as_array().into_iter().flat_map(|array| array.iter()).for_each(drop);
    }
    for tensor in gguf.tensors() {
        match tensor.bytes() {
            Ok(bytes) => assert_eq!(Some(bytes.len() as u64), tensor.info.bytes),
            Err(error) => assert_eq!(error.name(), "type-unsupported"),
        }
    }
    gguf.padding();
    true
}

fn number() -> impl Strategy<Value = u64> {
    let edges =
        [0, 1, 2, 3, 7, 8, 31, 32, 33, 64, 255, 256, 1 << 20, 1 << 26, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX];
    prop_oneof![4 => select(edges.to_vec()), 1 => any::<u64>(), 4 => 0..100u64]
}

/// A value and its type: mostly one that fits the other.
fn value() -> impl Strategy<Value = (u32, Vec<u8>)> {
    let scalar = (0..14u32, any::<[u8; 8]>()).prop_map(|(kind, bytes)| {
        let length = [1, 1, 2, 2, 4, 4, 4, 1, 8, 4, 8, 8, 8].get(kind as usize).copied().unwrap_or(3);
        (kind, bytes[..length].to_vec())
    });
    let text = prop::collection::vec(any::<u8>(), 0..40).prop_map(|text| (value_type::STRING, string(&text)));
    let numbers = (0..13u32, 0..5u64, prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(element, count, bytes)| (value_type::ARRAY, array(element, count, &bytes)));
    let flags = prop::collection::vec(0..2u8, 0..9)
        .prop_map(|flags| (value_type::ARRAY, array(value_type::BOOL, flags.len() as u64, &flags)));
    let texts = prop::collection::vec("[a-z]{0,5}", 0..5).prop_map(|texts| {
        let elements: Vec<u8> = texts.iter().flat_map(|text| string(text.as_bytes())).collect();
        (value_type::ARRAY, array(value_type::STRING, texts.len() as u64, &elements))
    });
    let nested = (0..7usize, 0..13u32).prop_map(|(depth, element)| {
        let innermost = array(element, 0, &[]);
        (value_type::ARRAY, (0..depth).fold(innermost, |inner, _| array(value_type::ARRAY, 1, &inner)))
    });
    prop_oneof![2 => scalar, 2 => text, 1 => numbers, 1 => flags, 2 => texts, 1 => nested]
}

fn meta() -> impl Strategy<Value = Meta> {
    let keys = ["general.alignment", "split.count", "split.no", "split.tensors.count", "é", ""];
    let key = prop_oneof![1 => select(keys.to_vec()).prop_map(String::from), 4 => "[a-z]{1,6}\\.[a-z_]{1,6}"];
    (key, value()).prop_map(|(key, (kind, value))| Meta::new(&key, kind, value))
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let name = prop_oneof![4 => "[a-z]{1,4}\\.weight", 1 => "[a-z]{63,66}", 1 => Just(String::new())];
    let dims = prop_oneof![3 => prop::collection::vec(0..100u64, 0..5), 1 => prop::collection::vec(number(), 0..6)];
    let kind = prop_oneof![4 => select(vec![0, 1, 8, 24, 30, 39]), 1 => select(vec![4, 12, 40, 99, u32::MAX])];
    (name, dims, kind, any::<bool>(), 0..100usize).prop_map(|(name, mut dims, kind, fits, bytes)| {
        if let (true, Some(row), 8 | 39) = (fits, dims.first_mut(), kind) {
            *row = *row % 4 * 32;
        }
        let known = gptoss::gguf::GgmlType(kind).bytes_of(&dims).filter(|bytes| fits && *bytes < 4096);
        Tensor::counting(&name, &dims, kind, known.map_or(bytes, |bytes| bytes as usize))
    })
}

fn file() -> impl Strategy<Value = File> {
    let alignment = prop_oneof![4 => Just(32), 1 => select(vec![8usize, 16, 24, 64, 1])];
    let metadata = prop::collection::vec(meta(), 0..6);
    (alignment, metadata, prop::collection::vec(tensor(), 0..5), 1..5u32).prop_map(
        |(alignment, mut metadata, tensors, version)| {
            if alignment != 32 {
                metadata.push(Meta::u32("general.alignment", alignment as u32));
            }
            File { version: version.max(2), alignment, metadata, tensors }
        },
    )
}

proptest! {
    #![proptest_config(deterministic(20_000))]

    #[test]
    fn any_bytes_behind_a_gguf_header_are_read_or_refused(
        body in prop::collection::vec(prop_oneof![2 => Just(0u8), 1 => 0..16u8, 1 => any::<u8>()], 0..300),
        counts in (0..4u64, 0..4u64),
    ) {
        let (tensors, metadata) = (counts.0.to_le_bytes(), counts.1.to_le_bytes());
        meet([&b"GGUF\x03\0\0\0"[..], &tensors, &metadata, &body].concat());
        meet(body);
    }

    #[test]
    fn twisted_files_are_read_or_refused_and_every_prefix_agrees(
        file in file(),
        patch in prop::option::of((any::<Index>(), number())),
        cuts in prop::collection::vec(any::<Index>(), 4),
        cut_short in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let mut written = file.write();
        if let Some((field, number)) = patch {
            let (_, range) = field.get(&written.fields).clone();
            let bytes = number.to_le_bytes();
            let length = range.len().min(8);
            written.bytes[range.start..range.start + length].copy_from_slice(&bytes[..length]);
        }
        let mut bytes = written.bytes;
        if let Some(at) = cut_short {
            bytes.truncate(at.index(bytes.len()));
        }
        let lengths: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        check_prefixes(Path::new(PATH), &bytes, lengths.into_iter());
        meet(bytes);
    }
}

/// That the strategies are not all refused, nor all accepted.
#[test]
fn twisted_files_are_of_both_kinds() {
    let mut runner = proptest::test_runner::TestRunner::new(deterministic(2_000));
    let (accepted, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let count = |file: File| {
        let counter = if meet(file.write().bytes) { &accepted } else { &refused };
        counter.set(counter.get() + 1);
        Ok(())
    };
    runner.run(&file(), count).expect("no file is worth a panic");
    assert!(accepted.get() > 200 && refused.get() > 200, "{accepted:?} accepted, {refused:?} refused");
}

#[test]
fn every_prefix_of_edited_files_agrees() {
    let file = sample().write().bytes;
    for number in 0..2_000 {
        let (_, edited) = edit_of("prefix", &file, file.len(), number);
        let lengths = (0..edited.len()).step_by(37).chain([edited.len()]);
        check_prefixes(Path::new(PATH), &edited, lengths);
    }
}

static HONEST: LazyLock<Gguf> = LazyLock::new(|| open(sample().write().bytes).expect("the sample is sound"));

fn open(bytes: Vec<u8>) -> Result<Gguf, gptoss::gguf::GgufError> {
    Gguf::from_bytes(Path::new(PATH), bytes.into())
}

/// Whether an accepted file is told from the honest one: by its index, a tensor's data or its padding.
fn differs(gguf: &Gguf) -> bool {
    let data = |gguf: &Gguf| gguf.tensors().map(|tensor| tensor.bytes().ok().map(<[u8]>::to_vec)).collect::<Vec<_>>();
    gguf.index() != HONEST.index() || data(gguf) != data(&HONEST) || gguf.padding() != HONEST.padding()
}

/// Whether the file was refused; an error is what must not be.
fn judge(bytes: Vec<u8>) -> Result<bool, String> {
    let heap_max = heap_bytes_max(bytes.len(), HEAP_OF_A_FILE);
    let (opened, heap) = heap::peak_bytes_of(|| open(bytes));
    if heap > heap_max {
        return Err(format!("{heap} bytes of heap, at most {heap_max} are justified"));
    }
    match opened {
        Err(error) if error.to_string().contains(PATH) => Ok(true),
        Err(error) => Err(format!("`{error}` does not name the file")),
        Ok(gguf) if differs(&gguf) => Ok(false),
        Ok(_) => Err("undetected".into()),
    }
}

#[test]
fn a_million_random_edits_of_a_gguf_are_refused_or_change_what_is_read() {
    let (file, head_bytes) = (sample().write().bytes, HONEST.index().data_offset as usize);
    let refused: usize = (0..EDITS)
        .into_par_iter()
        .map(|number| {
            let (edit, edited) = edit_of(PATH, &file, head_bytes, number);
            let judged = catch_unwind(AssertUnwindSafe(|| judge(edited))).unwrap_or(Err("a panic".into()));
            judged.map(usize::from).unwrap_or_else(|why| panic!("edit {number}, {edit:?}: {why}"))
        })
        .sum();
    assert!((200_000..900_000).contains(&refused), "{refused} of {EDITS} were refused");
    assert_eq!(judge(file), Err("undetected".into()), "the search would report a file without an edit");
}

/// The densest headers: most to remember for the fewest bytes.
#[test]
fn a_long_gguf_header_takes_heap_in_proportion() {
    let empty = File { version: 3, alignment: 32, metadata: Vec::new(), tensors: Vec::new() };
    let key = |i: u32| format!("{i:x}");
    let entries = (0..60_000).map(|i| Meta::new(&key(i), value_type::U8, [0]));
    let tensors = (0..60_000).map(|i| Tensor { name: key(i).into(), dims: Vec::new(), ggml_type: 24, data: vec![0] });
    let strings = Meta::new("a", value_type::ARRAY, array(value_type::STRING, 100_000, &[0; 800_000]));
    for file in [
        File { metadata: entries.collect(), ..empty.clone() },
        File { tensors: tensors.collect(), ..empty.clone() },
        File { metadata: vec![strings], ..empty.clone() },
    ] {
        assert!(meet(file.write().bytes));
    }
}
