//! `gptoss-verify explain NAME`: what a check promises, what red means, and how to run it again.

use super::cases::GROUPS;
use super::fault::{block, codec, converter, file, gguf, gguf_model, nearest, rope, seed, stored, text as texts};
use super::golden::matches;
use super::reject;

/// Checks of a user's checkpoint: pattern, and what they are about.
const CHECKPOINT_CHECKS: &[(&str, &str)] = &[
    (
        "structure/open*",
        "The checkpoint opens: its headers are well-formed, its files whole, every tensor the config calls for is there once \
         with its dtype and shape, and nothing else is. Red: the message names file, field or tensor, what was expected and \
         what was found; the error's own name can be explained too.",
    ),
    (
        "structure/tokenizer",
        "The tokenizer section of a model.bin is o200k_harmony, byte for byte as OpenAI's converter writes it. Red: the first \
         slot or token id that differs is named; the file was made for another vocabulary, or by a converter that fills the \
         special-token slots differently. The tokens of a GGUF are o200k_harmony's, or a small model's a start of them. \
         Skipped: a GGUF without tokens.",
    ),
    (
        "structure/config",
        "Both checkpoints describe the same model. Against a model.bin, its header must be what the other side's config \
         gives, to the last bit of each float. Red: the fields that differ are listed.",
    ),
    (
        "digests/*",
        "The SHA-256 of a section or tensor is the recorded one. Red: the bytes changed since the manifest was made (or the \
         other checkpoint holds something else): `gptoss-verify diff` against a good copy shows where. Skipped: there was \
         nothing to compare with.",
    ),
    (
        "range/open",
        "The source answers as it must (206, the range asked for, one strong ETag, no encoding) and its header is that of a \
         checkpoint. Red: the message says what was expected of the answer and what came; the error's name is stable.",
    ),
    ("range/tensor", "The tensor is in the file, and the bytes that were asked for are in the tensor."),
    (
        "range/read",
        "A read, or the other source, ended in an error after the header had been read: the server changed its mind, its file or \
         its ETag, or broke off too often.",
    ),
    (
        "range/repeat",
        "Every read of the range gives the SHA-256 of the first. Red: the server sends different bytes under one ETag. Skipped: it \
         was read once.",
    ),
    (
        "range/manifest",
        "The tensor has the SHA-256 that the manifest records. Red: what arrives is not what was recorded: the file is another one, \
         or the server sends other bytes than it says.",
    ),
    ("range/against", "The other source holds the same bytes under the same name."),
    (
        "tensors/*",
        "A tensor of a checkpoint: alone, it holds no NaN and no scale out of range; with --against, it equals the other \
         checkpoint's tensor bit for bit, modulo model.bin's documented transforms (Q and K rows interleaved and scaled, \
         scales + 14), which an independent oracle applies. Red: the first differing element is shown with both values, and \
         the fault of the catalogue that gives exactly this difference, if one does. A quantised tensor of a GGUF is \
         held against the other side by its type's rule: the scale that its values give, where the type has one, and for every value \
         the nearest code. Skipped: Q4_0, Q5_0 and Q5_1 of a file that was quantised under an importance matrix; their error is told.",
    ),
    (
        "kernels*",
        "Every kernel on slices of the checkpoint's own weights: pairs of layers from the first to the last with some of their \
         experts, on random activations, in tiles and in the decode form, within 3 × the f32 noise of the f64 oracle. Red: the \
         table ends at the first stage that differs. No device: install a driver, or choose one with --adapter.",
    ),
    (
        "logits/prompt*",
        "A prompt of 16 tokens on a device, as one chunk: each layer from the device's own input, within 3 × the f32 noise of the \
         f64 oracle, expert ids exact but for close calls; small models also as a whole. Red: the first layer that is red is the \
         one to look at; `--level kernels` says whether other activations show it too.",
    ),
    ("logits/decode*", "The same prompt in chunks of three, which the decode form of every kernel computes."),
    (
        "logits/device",
        "A device to run the model on. No device: install a driver (without a GPU, Mesa's lavapipe), or name another --adapter.",
    ),
    ("logits/load", "The model fits the kernels and the device. Red: the message names what does not, and its limit."),
];

/// The text for a name; `None` where nothing is called so.
pub fn text(name: &str) -> Option<String> {
    if name == "all" {
        return Some(list());
    }
    let name = name.trim_end_matches('/');
    let mut text = group(name)
        .or_else(|| fault(name.strip_prefix("sabotage/").unwrap_or(name)))
        .or_else(|| reject(name.strip_prefix("bytes/reject/").unwrap_or(name)))
        .or_else(|| checkpoint_check(name))
        .or_else(|| error(name))?;
    text.push('\n');
    Some(text)
}

fn group(name: &str) -> Option<String> {
    let is_fault = name.starts_with("sabotage/") && !["sabotage/catalogue", "sabotage/headroom"].contains(&name);
    let is_reject = name.starts_with("bytes/reject/");
    let group = GROUPS
        .iter()
        .find(|g| !is_fault && !is_reject && (name == g.name || name.starts_with(&format!("{}/", g.name))))?;
    let again = group.level.name();
    Some(format!("{}\n\n{}\n\nagain: gptoss-verify run {again}", group.name, group.about))
}

fn fault(name: &str) -> Option<String> {
    let (_, about, caught_by) = faults().into_iter().find(|(known, ..)| *known == name)?;
    Some(format!(
        "fault {name}\n\n{about}\n\nIt is planted in an artifact and must turn exactly these checks red: {caught_by}\n\n\
         again: gptoss-verify run sabotage"
    ))
}

/// Faults by name: what is wrong, and the checks that must see it.
fn faults() -> Vec<(&'static str, &'static str, String)> {
    let stored = stored::FAULTS.iter().map(|f| {
        let tensor = crate::checkpoint::TensorId { role: f.strikes.0, layer: f.strikes.1 };
        (f.name, f.looks_like, format!("tensors/{tensor}"))
    });
    let of_many = (file::FAULTS.iter().map(|f| (f.name, f.about, f.caught_by)))
        .chain(codec::FAULTS.iter().chain(block::FAULTS).map(|f| (f.name, f.about, f.caught_by)))
        .chain(rope::FAULTS.iter().map(|f| (f.name, f.about, f.caught_by)))
        .chain(gguf::FAULTS.iter().map(|f| (f.name, f.about, f.caught_by)))
        .chain(gguf_model::FAULTS.iter().map(|f| (f.name, f.about, f.caught_by)))
        .chain(servers());
    let of_one = (converter::FAULTS.iter().map(|f| (f.name, f.about, f.caught_by)))
        .chain(nearest::faults().into_iter().map(|f| (f.name, f.about, f.caught_by)))
        .chain(seed::FAULTS.iter().map(|f| (f.name, f.about, "bytes/fixture/*")))
        .chain(texts::all().map(|f| (f.name, f.about, f.caught_by())));
    stored
        .chain(of_many.map(|(name, about, by)| (name, about, by.join(", "))))
        .chain(of_one.map(|(name, about, by)| (name, about, by.to_string())))
        .collect()
}

/// Servers that lie: name, what is wrong, and what must catch it; in a browser there are none.
fn servers() -> Vec<(&'static str, &'static str, &'static [&'static str])> {
    #[cfg(not(target_arch = "wasm32"))]
    let servers = super::fault::served::FAULTS.iter().map(|f| (f.name, f.about, f.caught_by)).collect();
    #[cfg(target_arch = "wasm32")]
    let servers = Vec::new();
    servers
}

fn reject(name: &str) -> Option<String> {
    let reject = reject::all().into_iter().find(|reject| reject.name == name)?;
    Some(format!(
        "malformed input {name}\n\nIt must be refused with `{}` and a message that mentions {:?}.\n\nagain: gptoss-verify run bytes",
        reject.error, reject.mentions
    ))
}

fn checkpoint_check(name: &str) -> Option<String> {
    let (pattern, about) = CHECKPOINT_CHECKS.iter().find(|(pattern, _)| matches(pattern, name))?;
    let again = match pattern.starts_with("range/") {
        true => "range SOURCE --tensor NAME",
        false => "check CHECKPOINT [--against CHECKPOINT]",
    };
    Some(format!("{pattern}\n\n{about}\n\nagain: gptoss-verify {again}"))
}

/// A typed error: the malformed inputs of the collection that give it show what it is about.
fn error(name: &str) -> Option<String> {
    let examples: Vec<String> =
        reject::all().into_iter().filter(|reject| reject.error == name).map(|reject| reject.name).collect();
    (!examples.is_empty()).then(|| {
        format!(
            "error {name}\n\nThese malformed inputs of fixtures/rejects/ give it: {}\n\n\
             again: gptoss-verify check CHECKPOINT --level structure",
            examples.join(", ")
        )
    })
}

fn list() -> String {
    let mut text = String::from("checks of `gptoss-verify run`:\n");
    GROUPS.iter().for_each(|group| text.push_str(&format!("  {}\n", group.name)));
    text.push_str("checks of `gptoss-verify check`:\n");
    CHECKPOINT_CHECKS.iter().for_each(|(pattern, _)| text.push_str(&format!("  {pattern}\n")));
    text.push_str("faults:\n");
    faults().iter().for_each(|(name, ..)| text.push_str(&format!("  {name}\n")));
    text
}
