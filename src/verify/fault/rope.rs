//! Wrong rotary frequencies, put in the place of one of the runtime's variants: judged by the oracle, and by ggml's own angles.

use crate::checkpoint::RopeConfig;
use crate::nn::rope::{RopeVariant, Yarn};
use crate::verify::cases::kernels::rope::{Angles, GGML_COMPAT, REFERENCE};

/// The variant whose place is taken.
pub enum Angled {
    /// That of OpenAI's reference.
    Reference(Angles),
    /// That of ggml.
    GgmlCompat(Angles),
}

/// One wrong set of frequencies.
pub struct Fault {
    /// Name in the catalogue.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// The checks that must catch it, all and only these.
    pub caught_by: &'static [&'static str],
    /// The frequencies.
    pub angles: Angled,
}

/// What a wrong range turns red wherever neither end is held.
const OF_GGML_COMPAT: &[&str] = &[
    "tensors/rope/ggml-compat/T3",
    "tensors/rope/ggml-compat/wide-heads",
    "tensors/rope/ggml/gpt-oss",
    "tensors/rope/ggml/high-at-the-last-value",
    "tensors/rope/ggml/llama-like",
    "tensors/rope/ggml/low-at-the-first-pair",
];

/// Every wrong set.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "rope/reference-rounded",
        about: "YaRN's range rounded to whole pairs in the reference variant, as ggml and transformers' default do",
        caught_by: &["tensors/rope/angles/T3", "tensors/rope/angles/wide-heads"],
        angles: Angled::Reference(GGML_COMPAT),
    },
    Fault {
        name: "rope/ggml-compat-not-rounded",
        about: "YaRN's range not rounded where ggml's frequencies are asked for",
        caught_by: OF_GGML_COMPAT,
        angles: Angled::GgmlCompat(REFERENCE),
    },
    Fault {
        name: "rope/ggml-compat-rounded-inwards",
        about: "YaRN's range rounded inwards: first pair up, last pair down",
        caught_by: OF_GGML_COMPAT,
        angles: Angled::GgmlCompat(|rope, head_dim| ranged(rope, head_dim, |low, high| (low.ceil(), high.floor()))),
    },
    Fault {
        name: "rope/ggml-compat-rounded-to-nearest",
        about: "YaRN's range rounded to the nearest pairs",
        caught_by: OF_GGML_COMPAT,
        angles: Angled::GgmlCompat(|rope, head_dim| ranged(rope, head_dim, |low, high| (low.round(), high.round()))),
    },
    Fault {
        name: "rope/ggml-compat-not-held",
        about: "YaRN's rounded range not held inside the head",
        caught_by: &["tensors/rope/ggml/high-at-the-last-value", "tensors/rope/ggml/low-at-the-first-pair"],
        angles: Angled::GgmlCompat(|rope, head_dim| ranged(rope, head_dim, |low, high| (low.floor(), high.ceil()))),
    },
];

/// The reference's frequencies of constants whose range is what `change` makes of the right one.
fn ranged(rope: &RopeConfig, head_dim: usize, change: fn(f64, f64) -> (f64, f64)) -> Yarn {
    let (low, high) = rope.correction_range(head_dim);
    let (low, high) = change(low, high);
    // The rotations at which a pair's wavelength ends the range: the formula of the range, solved for them.
    let rotations = |pair: f64| {
        rope.initial_context_length as f64
            / (2.0 * std::f64::consts::PI * rope.theta.powf(2.0 * pair / head_dim as f64))
    };
    let changed = RopeConfig { ntk_beta: rotations(low), ntk_alpha: rotations(high), ..*rope };
    Yarn::new(&changed, head_dim, RopeVariant::Reference)
}
