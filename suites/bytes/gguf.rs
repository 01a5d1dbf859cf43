//! GGUF indexes: what is written is what is read, from the whole file as from any prefix of it; what is peculiar is told.

use std::path::Path;

use gptoss::gguf::{GgmlType, Gguf, GgufError, Index, Parsed, PeculiarityKind, Value, ValueType};
use gptoss::verify::fixture::gguf::{File, Meta, Tensor, Written, array, sample, sample_split, string, value_type};

const PATH: &str = "far/sample.gguf";

fn index(file: &[u8]) -> Index {
    Index::of_file(Path::new(PATH), file).unwrap_or_else(|error| panic!("{error}"))
}

fn kinds(index: &Index) -> Vec<PeculiarityKind> {
    index.peculiarities.iter().map(|peculiarity| peculiarity.kind).collect()
}

#[test]
fn what_is_written_is_what_is_read() {
    let written = sample().write();
    let index = index(&written.bytes);
    assert_eq!((index.version, index.alignment, index.metadata.len(), index.tensors.len()), (3, 32, 17, 4));
    assert_eq!(index.data_offset as usize, written.field("padding").expect("there is padding").end);
    for (tensor, stored) in sample().tensors.iter().zip(&index.tensors) {
        assert_eq!(stored.name.as_bytes(), tensor.name);
        assert_eq!((&stored.dims, stored.ggml_type.id()), (&tensor.dims, tensor.ggml_type));
        let range = index.range(stored).expect("the type is known");
        let data = written.field(&format!("tensor {} data", stored.name)).expect("the tensor has data");
        assert_eq!(range.start as usize..range.end as usize, data);
        assert_eq!(index.tensor(&stored.name), Some(stored));
    }
    assert_eq!(index.tensor("norm.bias"), None);
    assert_eq!(kinds(&index), [PeculiarityKind::NestedArray], "and nothing else is odd");
    let gguf = Gguf::from_bytes(Path::new(PATH), written.bytes.clone().into()).expect("the file is sound");
    let located = gguf.required_tensor("head.weight").expect("it is there");
    assert_eq!(located.bytes().expect("the type is known"), sample().tensors[1].data);
    assert!(gguf.padding().iter().next().is_none());
}

#[test]
fn every_value_type_is_read_as_written() {
    let written = sample().write();
    let index = index(&written.bytes);
    let get = |key: &str| index.metadata.get(key).expect("the key is there");
    let scalars = [
        ("sample.u8", Value::U8(200)),
        ("sample.i8", Value::I8(-1)),
        ("sample.u16", Value::U16(40_000)),
        ("sample.i16", Value::I16(-2)),
        ("sample.i32", Value::I32(-3)),
        ("sample.f32", Value::F32(1e-5)),
        ("sample.yes", Value::Bool(true)),
        ("sample.u64", Value::U64(1 << 40)),
        ("sample.i64", Value::I64(-4)),
        ("sample.f64", Value::F64(0.1)),
        ("general.alignment", Value::U32(32)),
        ("general.architecture", Value::String(b"sample")),
    ];
    for (key, want) in scalars {
        assert_eq!(get(key), want, "{key}");
        let offset = written.field(&format!("metadata {key} value")).expect("the builder knows").start as u64;
        assert_eq!(index.metadata.offset_of(key), Some(offset), "{key}");
    }
    let names = index.array("sample.names", ValueType::String).expect("strings").expect("there");
    let names: Vec<&[u8]> = names.strings().expect("strings").collect();
    assert_eq!(names, ["a", "", "Ġthe", "zebra"].map(str::as_bytes));
    let flags = get("sample.flags").as_array().expect("an array");
    assert!(flags.iter().eq([true, false, true].map(Value::Bool)) && flags.strings().is_none());
    assert_eq!(get("sample.numbers").as_array().and_then(|numbers| numbers.integers()), Some(vec![1, -1]));
    assert!(get("sample.empty").as_array().is_some_and(|empty| empty.is_empty()));
    let nested = get("sample.nested").as_array().expect("an array");
    let inner: Vec<_> = nested.iter().map(|value| value.as_array().and_then(|inner| inner.integers())).collect();
    assert_eq!(inner, [Some(vec![1, 2]), Some(vec![1, 2])]);
}

#[test]
fn an_integer_of_any_width_is_an_unsigned_one_if_it_fits() {
    let index = index(&sample().write().bytes);
    for (key, want) in [("sample.u8", 200), ("sample.u16", 40_000), ("sample.u64", 1 << 40), ("general.alignment", 32)]
    {
        assert_eq!(index.unsigned(key).expect(key), Some(want));
    }
    for key in ["sample.i8", "sample.i64", "sample.f32", "sample.yes", "sample.names"] {
        let error = index.unsigned(key).expect_err(key);
        assert!(error.name() == "metadata-type" && error.to_string().contains(key), "{error}");
    }
    assert_eq!(index.unsigned("sample.absent").expect("absence is no error"), None);
    let absent = index.required::<u64>("sample.absent", None).expect_err("it is required");
    assert_eq!(absent.name(), "metadata-missing");
    assert!(index.float("sample.f32").is_ok_and(|x| x == Some(f64::from(1e-5f32))));
    assert!(index.float("sample.f64").is_ok_and(|x| x == Some(0.1)));
    assert!(index.text("general.architecture").is_ok_and(|text| text == Some("sample")));
    assert!(index.boolean("sample.yes").is_ok_and(|yes| yes == Some(true)));
    assert!(index.array("sample.names", ValueType::F32).is_err());
}

/// What every prefix of a file gives, against what the whole file gives.
pub(super) fn check_prefixes(path: &Path, file: &[u8], lengths: impl Iterator<Item = usize>) {
    let whole = Index::parse(path, file, Some(file.len() as u64));
    for length in lengths {
        match (Index::parse(path, &file[..length], Some(file.len() as u64)), &whole) {
            (Ok(Parsed::NeedMore { at_least }), _) => {
                assert!(at_least > length as u64 && at_least <= file.len() as u64, "{at_least} after {length}");
            }
            (Ok(parsed), Ok(whole)) => assert_eq!(parsed, *whole, "prefix of {length}"),
            (Err(error), Err(whole)) => assert_eq!(error.to_string(), whole.to_string(), "prefix of {length}"),
            (parsed, whole) => panic!("prefix of {length}: {parsed:?}, the whole file {whole:?}"),
        }
    }
}

#[test]
fn every_prefix_asks_for_more_until_it_gives_the_index() {
    let written = sample().write();
    check_prefixes(Path::new(PATH), &written.bytes, 0..=written.bytes.len());
    let data = index(&written.bytes).data_offset as usize;
    let at = |length: usize| Index::parse(Path::new(PATH), &written.bytes[..length], None).expect("sound");
    assert!(matches!(at(data - 1), Parsed::NeedMore { at_least } if at_least as usize == data));
    let Parsed::Complete(without_length) = at(data) else { panic!("the header is whole") };
    let known = without_length.clone().check_end(written.bytes.len() as u64).expect("all tensors are in the file");
    assert_eq!(known, index(&written.bytes));
    let short = without_length.check_end(written.bytes.len() as u64 - 33).expect_err("the last tensor is cut");
    assert_eq!(short.name(), "tensor-past-end");
}

/// A growing prefix, as a reader over a network grows it: each step asks for at least what is missing.
#[test]
fn a_reader_that_follows_at_least_gets_there() {
    let file = sample().write().bytes;
    let (mut length, mut steps) = (0, 0);
    loop {
        match Index::parse(Path::new(PATH), &file[..length], None).expect("sound") {
            Parsed::Complete(index) => break assert_eq!(index.tensors.len(), 4),
            Parsed::NeedMore { at_least } => length = at_least as usize,
        }
        steps += 1;
        assert!(steps < 200);
    }
}

fn odd(change: impl FnOnce(&mut File)) -> Index {
    let mut file = sample();
    file.metadata.retain(|meta| meta.key != b"sample.nested");
    change(&mut file);
    index(&file.write().bytes)
}

#[test]
fn what_is_allowed_and_odd_is_told() {
    use PeculiarityKind::*;
    assert_eq!(kinds(&odd(|_| ())), []);
    assert_eq!(kinds(&odd(|file| file.version = 2)), [OldVersion]);
    assert_eq!(kinds(&odd(|file| file.metadata.push(Meta::u32("Sample.Key", 1)))), [KeySpelling]);
    let latin = |file: &mut File| {
        file.metadata.push(Meta::new("sample.latin", value_type::STRING, string(b"caf\xe9")));
        file.metadata.push(Meta::array("sample.latins", value_type::STRING, 1, &string(b"\xff")));
    };
    assert_eq!(kinds(&odd(latin)), [StringNotUtf8]);
    assert_eq!(
        odd(latin).peculiarities.of(StringNotUtf8).map(|p| (p.count, p.first.as_str())),
        Some((2, "sample.latin"))
    );
    let alignment = |to: u32| {
        move |file: &mut File| {
            file.alignment = to as usize;
            file.metadata[1] = Meta::u32("general.alignment", to);
        }
    };
    assert_eq!(kinds(&odd(alignment(24))), [AlignmentNoPowerOfTwo]);
    assert_eq!(kinds(&odd(alignment(8))), []);
    assert_eq!(odd(alignment(4096)).alignment, 4096);
    let tensor = |name: &str, dims: &[u64], ty: u32, bytes: usize| {
        let tensor = Tensor::counting(name, dims, ty, bytes);
        move |file: &mut File| file.tensors.push(tensor)
    };
    assert_eq!(kinds(&odd(tensor(&"n".repeat(64), &[1], 0, 4))), [NameLength]);
    assert_eq!(kinds(&odd(tensor("empty", &[0, 7], 0, 0))), [EmptyTensor]);
    assert_eq!(kinds(&odd(tensor("new", &[32], 99, 32))), [UnknownType]);
    assert_eq!(kinds(&odd(tensor("old", &[32], 4, 17))), [RemovedType]);
    assert_eq!(kinds(&odd(tensor("scalar", &[], 0, 4))), []);
}

/// The sample with some of its bytes overwritten or added.
fn patched(patch: impl FnOnce(&mut Written)) -> Index {
    let mut file = sample();
    file.metadata.retain(|meta| meta.key != b"sample.nested");
    let mut written = file.write();
    patch(&mut written);
    index(&written.bytes)
}

fn set(written: &mut Written, field: &str, bytes: &[u8]) {
    let at = written.field(field).expect("the field is there").start;
    written.bytes[at..at + bytes.len()].copy_from_slice(bytes);
}

#[test]
fn where_data_lies_oddly_is_told() {
    use PeculiarityKind::*;
    let offset = |tensor: &'static str, to: u64| {
        move |written: &mut Written| {
            set(written, &format!("tensor {tensor} offset"), &to.to_le_bytes());
        }
    };
    // The last tensor of 20 bytes moves 32 bytes on, and the file with it.
    let gap = |written: &mut Written| {
        offset("bf16.weight", 352)(written);
        written.bytes.extend([0; 32]);
    };
    assert_eq!(kinds(&patched(gap)), [Gap]);
    assert_eq!(kinds(&patched(|written| written.bytes.push(0))), [TrailingBytes]);
    assert_eq!(kinds(&patched(|written| written.bytes.truncate(written.bytes.len() - 1))), [EndNotPadded]);
    assert_eq!(kinds(&patched(|written| set(written, "padding", &[1]))), [PaddingNotZero]);
    let exchanged = |written: &mut Written| {
        // 102 bytes and 136 take one unit of 32 less in the other order.
        offset("experts.weight", 32)(written);
        offset("head.weight", 192)(written);
        offset("bf16.weight", 320)(written);
    };
    assert_eq!(kinds(&patched(exchanged)), [Reordered]);
}

#[test]
fn padding_between_tensors_is_looked_at_when_asked() {
    let mut written = sample().write();
    set(&mut written, "tensor head.weight padding", &[0, 7]);
    let gguf = Gguf::from_bytes(Path::new(PATH), written.bytes.clone().into()).expect("padding is not judged");
    let offset = written.field("tensor head.weight padding").expect("there").start as u64 + 1;
    let found = gguf.padding();
    let found: Vec<_> = found.iter().map(|p| (p.kind, p.first.as_str(), p.offset)).collect();
    assert_eq!(found, [(PeculiarityKind::PaddingNotZero, "head.weight", offset)]);
}

#[test]
fn data_of_an_unknown_type_is_refused_only_when_it_is_asked_for() {
    let mut file = sample();
    file.tensors.push(Tensor::counting("legacy", &[64], 4, 34));
    let gguf = Gguf::from_bytes(Path::new(PATH), file.write().bytes.into()).expect("the file is sound");
    let legacy = gguf.required_tensor("legacy").expect("it is indexed");
    let error = legacy.bytes().expect_err("4 was removed");
    assert!(error.name() == "type-unsupported" && error.to_string().contains("`legacy` is of type 4:removed-Q4_2"));
    assert_eq!(legacy.bytes_as(GgmlType::MXFP4).expect("there is room"), file.tensors[4].data);
    assert_eq!(legacy.bytes_as(GgmlType::F32).expect_err("256 bytes").name(), "tensor-past-end");
    assert_eq!(legacy.bytes_as(GgmlType(99)).expect_err("no type").name(), "type-unsupported");
    assert_eq!(gguf.required_tensor("absent").expect_err("absent").name(), "no-such-tensor");
}

/// Names and bytes.
type Files = Vec<(String, Vec<u8>)>;

fn open_split(files: &[(String, Vec<u8>)], first: &str) -> Result<Gguf, GgufError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).expect("written");
    }
    Gguf::open(&directory.path().join(first))
}

fn named(files: &[File]) -> Files {
    let name = |number: usize| format!("m-{:05}-of-{:05}.gguf", number + 1, files.len());
    files.iter().enumerate().map(|(number, file)| (name(number), file.write().bytes)).collect()
}

#[test]
fn a_split_is_opened_from_any_of_its_files() {
    let files = named(&sample_split(4));
    for first in 0..4 {
        let gguf = open_split(&files, &files[first].0).expect("the set is whole");
        assert_eq!(gguf.parts().len(), 4);
        assert_eq!(gguf.index().text("general.architecture").expect("a string"), Some("sample"));
        for tensor in &sample().tensors[..3] {
            let name = std::str::from_utf8(&tensor.name).expect("UTF-8");
            let bytes = gguf.required_tensor(name).expect("it is there").bytes().expect("the type is known");
            assert_eq!(bytes, tensor.data, "{name}");
        }
        assert_eq!(gguf.tensors().count(), 3);
    }
}

#[test]
fn a_split_that_is_no_set_is_refused() {
    let error = |change: &dyn Fn(&mut Files), files: Vec<File>| {
        let mut files = named(&files);
        let first = files[0].0.clone();
        change(&mut files);
        let error = open_split(&files, &first).expect_err("the set is damaged");
        (error.name(), error.to_string())
    };
    let (name, message) = error(&|files| drop(files.remove(2)), sample_split(4));
    assert!(name == "split-missing" && message.contains("m-00003-of-00004.gguf: file 3 of 4"), "{message}");
    let exchange = |files: &mut Files| {
        let second = files[1].1.clone();
        files[1].1 = std::mem::replace(&mut files[2].1, second);
    };
    let (name, message) = error(&exchange, sample_split(4));
    assert!(name == "split-field" && message.contains("`split.no`: expected 1"), "{message}");
    let mut files = sample_split(3);
    files[2].metadata[1] = Meta::new("split.count", value_type::U16, 4u16.to_le_bytes());
    let (name, message) = error(&|_| (), files);
    assert!(name == "split-field" && message.contains("`split.count`: expected 3"), "{message}");
    let mut files = sample_split(3);
    files[2].tensors.push(sample().tensors[3].clone());
    let (name, message) = error(&|_| (), files);
    assert!(name == "split-field" && message.contains("`split.tensors.count`: expected 3"), "{message}");
    let mut files = sample_split(3);
    files[2].tensors = files[1].tensors.clone();
    let (name, message) = error(&|_| (), files);
    assert!(name == "split-tensor-twice" && message.contains("norm.weight"), "{message}");
}

#[test]
fn one_file_of_a_split_alone_is_named() {
    let file = sample_split(2).remove(1).write().bytes;
    let error = Gguf::from_bytes(Path::new(PATH), file.clone().into()).expect_err("its sibling is not there");
    assert!(error.name() == "split-missing" && error.to_string().contains("file 1 of 2"), "{error}");
    let error = open_split(&[("m.gguf".into(), file)], "m.gguf").expect_err("the name has no number");
    assert!(error.name() == "split-name" && error.to_string().contains("-00002-of-00002.gguf"), "{error}");
}

/// 200 000 strings: one copy of the bytes, no table and no string of its own for each.
#[test]
fn a_long_array_is_a_view() {
    let texts: Vec<String> = (0..200_000).map(|i| format!("token {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut file = sample();
    file.metadata.push(Meta::strings("tokenizer.ggml.tokens", &texts));
    let index = index(&file.write().bytes);
    let tokens = index.array("tokenizer.ggml.tokens", ValueType::String).expect("strings").expect("there");
    assert_eq!(tokens.len(), 200_000);
    assert!(tokens.strings().expect("strings").eq(texts.iter().map(|text| text.as_bytes())));
    assert_eq!(tokens.bytes().len(), texts.iter().map(|text| 8 + text.len()).sum::<usize>());
}

#[test]
fn arrays_nest_only_so_deep() {
    let nested = |depth: usize| {
        let innermost = array(value_type::U8, 1, &[7]);
        (1..depth).fold(innermost, |inner, _| array(value_type::ARRAY, 1, &inner))
    };
    let mut file = sample();
    file.metadata.push(Meta::new("sample.deep", value_type::ARRAY, nested(4)));
    let _accepted = index(&file.write().bytes);
    file.metadata.push(Meta::new("sample.deeper", value_type::ARRAY, nested(5)));
    let error = Index::of_file(Path::new(PATH), &file.write().bytes).expect_err("too deep");
    assert_eq!(error.name(), "array-too-deep");
}
