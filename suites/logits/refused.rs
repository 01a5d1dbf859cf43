//! What the device cannot or will not run is refused with its own error, before anything is computed.

use std::path::Path;
use std::sync::Arc;

use cubecl::future::block_on;
use gptoss::checkpoint::{Checkpoint, Layout, Role, Shard, TensorId};
use gptoss::device::{Compute, DeviceError, DeviceRequest};
use gptoss::generate::session::{CHUNK_MAX, Session, SessionError, SessionOptions};
use gptoss::gguf::dialect::DenseType;
use gptoss::gguf::{GgufModel, Index};
use gptoss::kernels::codec::KvType;
use gptoss::models::gpt_oss::GptOss;
use gptoss::models::gpt_oss::footprint::footprint;
use gptoss::models::gpt_oss::load::{LoadError, LoadOptions};
use gptoss::nn::rope::RopeVariant;
use gptoss::open::AnyCheckpoint;
use gptoss::telemetry::{Progress, Silent};
use gptoss::verify::fixture::{Recipe, gguf_bytes, in_memory, shard_bytes, shard_plans};

const CONTEXT: usize = 256;
const OPTIONS: LoadOptions = LoadOptions {
    device_memory: None,
    context: CONTEXT,
    lanes: 1,
    chunk: 64,
    kv: KvType::F32,
    rope: RopeVariant::Reference,
};

/// Someone who changed their mind.
struct Impatient;

impl Progress for Impatient {
    fn begin(&self, _what: &str, _total_bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
    fn cancelled(&self) -> bool {
        true
    }
}

/// A device of this test's own, under WebGPU's default limits.
fn compute() -> Compute {
    let request = DeviceRequest { default_limits: true, ..DeviceRequest::default() };
    block_on(Compute::open(&request)).expect("a device opens")
}

fn fixture(recipe: &Recipe) -> Checkpoint {
    in_memory(recipe, Layout::Original, 1).expect("the recipe is valid")
}

fn load(checkpoint: Checkpoint, options: LoadOptions, progress: &dyn Progress) -> Result<GptOss, LoadError> {
    GptOss::load(Arc::new(AnyCheckpoint::SafeTensors(checkpoint)), &compute(), &options, progress)
}

fn session() -> Session {
    let model = load(fixture(&Recipe::built_in("small-vocab")), OPTIONS, &Silent).expect("the fixture loads");
    Session::new(Arc::new(model), SessionOptions { chunk: 64, context: CONTEXT }).expect("the options are valid")
}

#[test]
fn an_adapter_that_is_not_there_is_named() {
    let request = DeviceRequest { adapter: "no such adapter".into(), ..DeviceRequest::default() };
    match block_on(Compute::open(&request)) {
        Err(DeviceError::NoSuchAdapter { want, found }) => {
            assert_eq!(want, "no such adapter");
            assert!(found.contains('`'), "the adapters of the machine are named: {found}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn shapes_that_the_kernels_do_not_cover_are_refused() {
    let small = Recipe::built_in("small-vocab");
    let wide = Recipe { head_dim: 128, ..small.clone() };
    let crowded = Recipe { experts: 288, layers: 1, ..small };
    for (recipe, want) in [(wide, ("head_dim", 128)), (crowded, ("num_experts", 288))] {
        match load(fixture(&recipe), OPTIONS, &Silent) {
            Err(LoadError::Geometry { field, found, .. }) => assert_eq!((field, found), want),
            other => panic!("{other:?}"),
        }
    }
}

/// One matrix of 130 MiB; WebGPU's default limits bind 128.
#[test]
fn a_matrix_that_no_buffer_holds_is_refused() {
    let small = Recipe::built_in("one-layer");
    let recipe = Recipe { layers: 1, hidden: 16384, heads: 63, kv_heads: 1, head_dim: 64, vocab: 1024, ..small };
    match load(fixture(&recipe), OPTIONS, &Silent) {
        Err(LoadError::TooLargeForBuffer { what, bytes, max, .. }) => {
            assert_eq!(
                (what.as_str(), bytes, max),
                ("tensor `block.0.attn.qkv.weight`", 65 * 64 * 16384 * 2, 128 << 20)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_infinite_f16_is_refused() {
    let mut bytes = gguf_bytes(&Recipe::built_in("small-vocab"), DenseType::F16).expect("the recipe can be written");
    let path = Path::new("model.gguf");
    let index = Index::of_file(path, &bytes).expect("the file has an index");
    let tensor = index.tensors.iter().find(|tensor| tensor.name == "output.weight").expect("the file has the tensor");
    let row = 5 * 2 * tensor.dims[0];
    let at = (index.data_offset + tensor.offset + row) as usize;
    bytes[at..at + 2].copy_from_slice(&0x7c00u16.to_le_bytes());
    let model = GgufModel::from_bytes(path, bytes.into()).expect("the file is a model");
    match GptOss::load(Arc::new(AnyCheckpoint::Gguf(model)), &compute(), &OPTIONS, &Silent) {
        Err(LoadError::NotFinite { tensor, found, .. }) => {
            assert_eq!((tensor.as_str(), found.row), ("output.weight", 5))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_budget_without_room_for_an_expert_is_refused() {
    let options = LoadOptions { device_memory: Some(1 << 20), ..OPTIONS };
    match load(fixture(&Recipe::built_in("small-vocab")), options, &Silent) {
        Err(LoadError::BudgetTooSmall { budget, fixed, expert, .. }) => {
            assert!(budget == 1 << 20 && fixed + expert > budget, "{budget} {fixed} {expert}");
        }
        other => panic!("{other:?}"),
    }
}

/// Scale bytes above 252 have no finite factor on the device, whether experts stay there or page.
#[test]
fn a_scale_without_a_factor_is_refused() {
    let recipe = Recipe::built_in("small-vocab");
    let plan = &shard_plans(&recipe.config(), Layout::Original, 1)[0];
    let bytes = shard_bytes(&recipe, plan);
    let whole = |bytes: Vec<u8>| {
        let shard = Shard::from_bytes(Path::new(&plan.file), bytes.into()).expect("the file is valid");
        Checkpoint::from_parts(Path::new("scales"), recipe.config(), vec![shard], Vec::new())
            .expect("nothing is missing")
    };
    let tensor = TensorId::of_block(Role::Mlp2Scales, 1);
    let honest = whole(bytes.clone());
    let entry = honest.shards()[0].tensors().iter().find(|entry| entry.name == tensor.original_name());
    let range = entry.expect("the checkpoint holds the tensor").range.clone();
    let in_expert_3 = range.start as usize + 3 * (range.end - range.start) as usize / recipe.experts as usize;
    let (fixed, expert) = footprint(&honest, &OPTIONS);
    for (byte, device_memory) in [(253, None), (255, None), (255, Some(fixed + 5 * expert))] {
        let mut bytes = bytes.clone();
        bytes[in_expert_3] = byte;
        match load(whole(bytes), LoadOptions { device_memory, ..OPTIONS }, &Silent) {
            Err(LoadError::Scale { tensor: named, expert, found, max, .. }) => {
                assert_eq!((named, expert, found, max), (tensor.original_name(), 3, byte, 252));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_load_stops_when_asked() {
    let loaded = load(fixture(&Recipe::built_in("small-vocab")), OPTIONS, &Impatient);
    assert!(matches!(loaded, Err(LoadError::Cancelled)), "{loaded:?}");
}

#[test]
fn a_step_that_cannot_be_taken_leaves_the_session_as_it_was() {
    let mut session = session();
    session.prefill(&[1, 2, 3]).expect("three tokens run");
    let empty = session.prefill(&[]);
    assert!(matches!(empty, Err(SessionError::Empty)), "{empty:?}");
    let strange = session.prefill(&[5, 1024]);
    let is_told = matches!(strange, Err(SessionError::TokenOutOfRange { id: 1024, position: 4, vocab: 1024 }));
    assert!(is_told, "{strange:?}");
    let long = session.prefill(&[7; CONTEXT - 2]);
    let is_told = matches!(long, Err(SessionError::ContextPassed { tokens: 254, position: 3, context: CONTEXT }));
    assert!(is_told, "{long:?}");
    assert_eq!(session.tokens(), [1, 2, 3]);
    session.prefill(&[7; CONTEXT - 3]).expect("the context can be filled");
}

/// The keys of one position are 512 bytes; WebGPU's default limits bind 128 MiB.
#[test]
fn a_sequence_whose_cache_no_buffer_holds_is_refused() {
    let model = load(fixture(&Recipe::built_in("small-vocab")), OPTIONS, &Silent).expect("the fixture loads");
    let options = SessionOptions { chunk: 64, context: 1 << 20 };
    let mut session = Session::new(Arc::new(model), options).expect("the options are valid");
    match session.prefill(&[1; (1 << 18) + 1]) {
        Err(SessionError::CacheTooLarge { positions, bytes, max }) => {
            assert_eq!((positions, bytes, max), ((1 << 18) + 1, 512 << 19, 128 << 20));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chunk_out_of_range_is_refused() {
    let model = load(fixture(&Recipe::built_in("small-vocab")), OPTIONS, &Silent).expect("the fixture loads");
    let model = Arc::new(model);
    for chunk in [0, CHUNK_MAX + 1] {
        let session = Session::new(model.clone(), SessionOptions { chunk, context: CONTEXT });
        assert!(matches!(session, Err(SessionError::Chunk(found)) if found == chunk), "{session:?}");
    }
}

#[test]
fn a_lost_device_is_an_error_of_the_step() {
    let recipe = Recipe::built_in("small-vocab");
    let compute = compute();
    let checkpoint = Arc::new(AnyCheckpoint::SafeTensors(fixture(&recipe)));
    let model = GptOss::load(checkpoint, &compute, &OPTIONS, &Silent).expect("the fixture loads");
    let options = SessionOptions { chunk: 64, context: CONTEXT };
    let mut session = Session::new(Arc::new(model), options).expect("the options are valid");
    session.prefill(&[1, 2, 3]).expect("three tokens run");
    compute.destroy();
    let lost = session.decode(4);
    assert!(matches!(lost, Err(SessionError::Device(DeviceError::Lost { .. }))), "{lost:?}");
}
