//! Shards that are sound each for itself, against a config that they do not fit.

use gptoss::checkpoint::{Checkpoint, Dtype, Layout, ModelConfig};
use gptoss::verify::fixture::{HeaderWriter, StoredTensor, shard_plans};
use proptest::prelude::*;
use proptest::sample::Index;

use super::containers::{meet_as_checkpoint, open_shard};
use super::{deterministic, headers, tiny};

/// One thing that is not as the config has it.
#[derive(Debug, Clone)]
enum Twist {
    Drop(Index),
    Rename(Index, String),
    /// The tensor once more, in the next file.
    Repeat(Index),
    OtherDtype(Index),
    Reshape(Index),
    Layers(usize),
    Experts(usize),
    Vocab(usize),
}

fn twist() -> impl Strategy<Value = Twist> {
    let at = any::<Index>;
    let names = ["block.0.mlp.mlp1_weight", "model.layers.0.mlp.experts.down_proj", "lm_head.weight", "norm.scale"];
    let name = prop_oneof![prop::sample::select(names.to_vec()).prop_map(String::from), headers::name()];
    prop_oneof![
        at().prop_map(Twist::Drop),
        (at(), name).prop_map(|(at, name)| Twist::Rename(at, name)),
        at().prop_map(Twist::Repeat),
        at().prop_map(Twist::OtherDtype),
        at().prop_map(Twist::Reshape),
        prop::sample::select(vec![1, 2, 4096]).prop_map(Twist::Layers),
        prop::sample::select(vec![4, 5, 4096]).prop_map(Twist::Experts),
        prop::sample::select(vec![63, 65, 1 << 24]).prop_map(Twist::Vocab),
    ]
}

/// Layouts whose names a checkpoint may hold: one, the other, both.
const LAYOUTS: [&[Layout]; 3] = [&[Layout::Original], &[Layout::Hf], &[Layout::Hf, Layout::Original]];

/// The files of a checkpoint, before their bytes are made.
struct Parts {
    config: ModelConfig,
    files: Vec<Vec<StoredTensor>>,
}

impl Parts {
    fn new(layouts: &[Layout], shards: usize) -> Parts {
        let config = tiny::config();
        let plans = layouts.iter().flat_map(|&layout| shard_plans(&config, layout, shards));
        let files = plans.map(|plan| plan.tensors).collect();
        Parts { config, files }
    }

    fn apply(&mut self, twist: Twist) {
        match twist {
            Twist::Layers(layers) => self.config.layers = layers,
            Twist::Experts(experts) => self.config.experts = experts,
            Twist::Vocab(vocab) => self.config.vocab = vocab,
            Twist::Drop(at) => self.with_tensor(at, |file, index| drop(file.remove(index))),
            Twist::Rename(at, name) => self.with_tensor(at, |file, index| file[index].name = name),
            Twist::Repeat(at) => self.repeat(at),
            Twist::OtherDtype(at) => self.with_tensor(at, |file, index| other_dtype(&mut file[index])),
            Twist::Reshape(at) => self.with_tensor(at, |file, index| file[index].shape.push(1)),
        }
    }

    fn with_tensor(&mut self, at: Index, change: impl FnOnce(&mut Vec<StoredTensor>, usize)) {
        let file = at.index(self.files.len());
        if !self.files[file].is_empty() {
            let index = at.index(self.files[file].len());
            change(&mut self.files[file], index);
        }
    }

    fn repeat(&mut self, at: Index) {
        let file = at.index(self.files.len());
        let again = (!self.files[file].is_empty()).then(|| at.get(&self.files[file]).clone());
        let next = (file + 1) % self.files.len();
        self.files[next].extend(again);
    }

    fn meet(self) -> Option<Checkpoint> {
        let mut total = 0;
        let files = self.files.iter().enumerate().map(|(index, tensors)| {
            let mut file = HeaderWriter::bytes(tensors);
            file.resize(file.len() + tensors.iter().map(|tensor| tensor.bytes.len()).sum::<usize>(), 0);
            total += file.len();
            open_shard(&format!("model-{index}.safetensors"), file)
        });
        let shards = files.collect::<Option<Vec<_>>>()?;
        meet_as_checkpoint(self.config, shards, total)
    }
}

/// The same bytes under the other of the two dtypes.
fn other_dtype(tensor: &mut StoredTensor) {
    let last = tensor.shape.last_mut().expect("every tensor has a dimension");
    (tensor.dtype, *last) = match tensor.dtype {
        Dtype::U8 => (Dtype::Bf16, *last / 2),
        _ => (Dtype::U8, *last * 2),
    };
}

proptest! {
    #![proptest_config(deterministic(4_000))]

    #[test]
    fn sound_shards_are_read_or_refused_whatever_the_config_calls_for(
        layouts in prop::sample::select(LAYOUTS.to_vec()),
        shards in 1..4usize,
        twists in prop::collection::vec(twist(), 0..3),
    ) {
        let mut parts = Parts::new(layouts, shards);
        let honest = twists.is_empty();
        twists.into_iter().for_each(|twist| parts.apply(twist));
        let met = parts.meet();
        prop_assert!(met.is_some() || !honest, "an honest checkpoint was refused");
    }
}
