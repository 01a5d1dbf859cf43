//! SafeTensors files and model.bins, as bytes.

use std::path::Path;

use gptoss::checkpoint::{Checkpoint, ModelConfig, Shard, TensorId, WeightSource};
use gptoss::model_bin::ModelBin;
use gptoss::model_bin::header::{Header, ModelHeader};
use gptoss::model_bin::layout::{HEADER_BYTES, Part, Plan};
use gptoss::verify::cases::fixtures::small_tokenizer;
use gptoss::verify::fixture::values::squares32;
use proptest::prelude::*;
use proptest::sample::Index;

use super::headers::{self, Bytes};
use super::{HEAP_OF_A_FILE, HEAP_OF_JSON, deterministic, heap_bytes_max, read, read_values, tiny};

/// Where the files seem to be: a name that no message holds by chance.
const PLACE: &str = "far/away";
/// Bytes of a file for each section of its plan, at least: the smallest expert has 1824 bytes in six sections.
const SECTION_BYTES_MIN: usize = 256;

pub(super) fn open_shard(name: &str, file: Vec<u8>) -> Option<Shard> {
    let (path, heap) = (Path::new(PLACE).join(name), heap_bytes_max(file.len(), HEAP_OF_A_FILE));
    read(&path, heap, || Shard::from_bytes(&path, file.into()))
}

/// A shard on its own, then as the checkpoint of the tiny model.
fn meet_as_safetensors(file: Vec<u8>) -> Option<Checkpoint> {
    let bytes = file.len();
    meet_as_checkpoint(tiny::config(), vec![open_shard("model.safetensors", file)?], bytes)
}

pub(super) fn meet_as_checkpoint(config: ModelConfig, shards: Vec<Shard>, bytes: usize) -> Option<Checkpoint> {
    let place = Path::new(PLACE);
    let open = || Checkpoint::from_parts(place, config, shards, Vec::new());
    let checkpoint = read(place, heap_bytes_max(bytes, HEAP_OF_A_FILE), open)?;
    read_values(&checkpoint);
    Some(checkpoint)
}

fn meet_as_model_bin(file: Vec<u8>) -> Option<ModelBin> {
    let (path, bytes) = (Path::new(PLACE).join("model.bin"), file.len());
    let model = read(&path, heap_bytes_max(bytes, HEAP_OF_A_FILE), || ModelBin::from_bytes(&path, file.into()))?;
    let sections = model.plan().sections().len();
    assert!(sections <= bytes / SECTION_BYTES_MIN, "{sections} sections in {bytes} bytes");
    read_values(&model);
    assert_eq!(model.tokenizer().text_tokens().count(), model.header().tokenizer.num_text_tokens as usize);
    Some(model)
}

fn meet_as_every_format(file: &[u8]) {
    meet_as_safetensors(file.to_vec());
    meet_as_model_bin(file.to_vec());
    let path = Path::new(PLACE).join("config.json");
    read(&path, heap_bytes_max(file.len(), HEAP_OF_JSON), || ModelConfig::parse(file, &path));
}

/// A change of an honest file.
#[derive(Debug, Clone)]
enum Edit {
    Truncate(Index),
    SetByte(Index, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<Index>().prop_map(Edit::Truncate),
        any::<(Index, u8)>().prop_map(|(at, byte)| Edit::SetByte(at, byte)),
    ]
}

fn edited(mut file: Vec<u8>, edit: &Edit) -> Vec<u8> {
    let bytes = file.len();
    match edit {
        Edit::Truncate(to) => file.truncate(to.index(bytes)),
        Edit::SetByte(at, byte) => file[at.index(bytes)] = *byte,
    }
    file
}

proptest! {
    #![proptest_config(deterministic(4_000))]

    #[test]
    fn any_bytes_are_read_or_refused(file in prop::collection::vec(any::<u8>(), 0..600)) {
        meet_as_every_format(&file);
    }

    #[test]
    fn any_bytes_behind_a_safetensors_length_are_read_or_refused(
        body in prop::collection::vec(any::<u8>(), 1..600),
        length in any::<Index>(),
        as_object in any::<bool>(),
    ) {
        let mut file = [&(length.index(body.len()) as u64).to_le_bytes(), body.as_slice()].concat();
        file[8] = if as_object { b'{' } else { file[8] };
        meet_as_every_format(&file);
    }

    #[test]
    fn any_bytes_behind_a_model_bin_header_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..40_000)) {
        let header = &tiny::HONEST.model_bin[..HEADER_BYTES as usize];
        meet_as_model_bin([header, &body].concat());
    }

    #[test]
    fn twisted_safetensors_headers_are_read_or_refused(Bytes(file) in headers::file()) {
        meet_as_every_format(&file);
    }

    #[test]
    fn a_truncation_or_a_changed_byte_is_read_or_refused(edit in edit()) {
        meet_as_model_bin(edited(tiny::HONEST.model_bin.clone(), &edit));
        meet_as_safetensors(edited(tiny::HONEST.original.clone(), &edit));
        meet_as_safetensors(edited(tiny::HONEST.hf.clone(), &edit));
    }
}

/// Numbers of a model.bin header: offsets of the 17 model fields and the four tokenizer sizes.
fn number_offset() -> impl Strategy<Value = usize> {
    prop_oneof![3 => (0..17usize).prop_map(|field| 32 + 4 * field), 1 => (0..4usize).prop_map(|size| 132 + 4 * size)]
}

fn number() -> impl Strategy<Value = u32> {
    let floats = [f32::NAN, f32::INFINITY, -0.0, -1.0, 1e-45, f32::MIN_POSITIVE, f32::MAX].map(f32::to_bits);
    let counts = [0, 1, 2, 3, 4, 5, 31, 32, 33, 48, 64, 96, 4096, 4097, 1 << 17, 1 << 24, 1 << 31, u32::MAX];
    prop_oneof![
        4 => prop::sample::select(counts.to_vec()),
        1 => prop::sample::select(floats.to_vec()),
        1 => any::<u32>(),
    ]
}

proptest! {
    #![proptest_config(deterministic(20_000))]

    #[test]
    fn model_bin_headers_of_any_numbers_are_read_or_refused(
        numbers in prop::collection::vec((number_offset(), number()), 1..5),
        bytes in prop_oneof![3 => Just(usize::MAX), 1 => 0..60_000usize],
    ) {
        let mut file = tiny::HONEST.model_bin.clone();
        for (offset, number) in numbers {
            file[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
        }
        file.truncate(bytes);
        meet_as_model_bin(file);
    }
}

/// Geometries whose files stay below some hundred kilobytes.
fn geometry() -> impl Strategy<Value = ModelConfig> {
    (1..4usize, 4..7usize, 1..3usize, 1..3usize, 1..3usize, 1..3usize, 17..40usize).prop_map(
        |(layers, experts, hidden, intermediate, kv_heads, group, vocab)| ModelConfig {
            layers,
            experts,
            hidden: 32 * hidden,
            intermediate: 32 * intermediate,
            heads: kv_heads * group,
            kv_heads,
            vocab,
            ..tiny::config()
        },
    )
}

proptest! {
    #![proptest_config(deterministic(200))]

    #[test]
    fn every_file_that_a_plan_describes_is_read_whatever_its_values(config in geometry(), key in any::<u64>()) {
        let section = small_tokenizer(config.vocab);
        let header = Header { model: ModelHeader::new(&config), tokenizer: section.header() };
        let plan = Plan::new(&config, config.vocab, header.tokenizer.part_bytes());
        let mut file = [header.to_bytes().as_slice(), &section.to_bytes()].concat();
        let prefix = file.len() as u64;
        file.extend((prefix..plan.file_bytes()).map(|at| squares32(at, key | 1) as u8));
        for padding in plan.sections().iter().filter(|section| section.part == Part::Padding) {
            file[padding.range()].fill(0);
        }
        let model = meet_as_model_bin(file).expect("the file is as its header says");
        prop_assert_eq!(model.config(), &config);
        for tensor in TensorId::all(&config) {
            prop_assert_eq!(model.restore(tensor).len(), tensor.bytes(&config));
        }
    }
}

/// The densest spellings: most to remember for the fewest bytes.
#[test]
fn a_long_header_takes_heap_in_proportion() {
    const COUNT: usize = 100_000;
    let numbered =
        |entry: &str| (0..COUNT).map(|i| entry.replace('N', &format!("{i:x}"))).collect::<Vec<_>>().join(",");
    let texts = [
        format!("{{{}}}", numbered(r#""N":["U8",[0],[0,0]]"#)),
        format!("{{{}}}", vec![r#""":["U8",[0],[0,0]]"#; COUNT].join(",")),
        format!(r#"{{"":["U8",[{}],[0,0]]}}"#, vec!["0"; COUNT].join(",")),
        format!(r#"{{"__metadata__":{{{}}}}}"#, numbered(r#""N":"""#)),
        format!(r#"{{"{}":["U8",[0],[0,0]]}}"#, "\\n".repeat(COUNT)),
    ];
    for text in texts {
        let file = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        meet_as_safetensors(file);
    }
}
