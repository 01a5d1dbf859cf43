//! Sabotage: faults planted in the artifact, each with the check that must catch it.
//!
//! A fault damages what is judged (a stored tensor, the file, a codec, the fixture's values), never the judge, and
//! production code carries no hook for it.  The run of a fault is good only if exactly the named checks went red:
//! fewer is a blind harness, more is a check that fails by accident.
//!
//! Faults of stored tensors double as hypotheses: when a user's file differs, the ones that reproduce the found bytes
//! exactly are its likely cause ([`diagnose`]).
//!
//! | module     | damages                                           | judged by                              |
//! |------------|---------------------------------------------------|----------------------------------------|
//! | [`stored`] | how one tensor is written                         | comparison with the source             |
//! | [`mod@file`] | bytes of a model.bin or a SafeTensors file        | the readers, header and tokenizer      |
//! | [`gguf_model`] | a GGUF: names, packing, rows, metadata              | the reader, comparison with the source |
//! | [`converter`] | a GGUF as our exporter writes it                   | llama.cpp's converter's file           |
//! | [`codec`], [`block`] | a decoder, encoder or rounding          | goldens by other people's code         |
//! | [`nearest`] | blocks of ggml's quantisers                       | the rules that `check --against` has   |
//! | [`rope`]   | the frequencies of a RoPE variant                 | the oracle, and ggml's own angles      |
//! | [`served`] | what a server sends of a file                     | `gptoss-verify range`                  |
//! | [`seed`]   | the fixture generator                             | digests by the numpy witness           |
//! | [`gguf`]   | a reader of GGUF                                  | files that other programs wrote        |
//! | [`mod@text`] | ids, messages, draws, or the truth of a sequence      | goldens by other people's code, solo runs |
//! | [`forward`] | a decision of the oracle's forward pass           | an honest device, stage by stage       |

pub mod block;
pub mod codec;
pub mod converter;
pub mod file;
pub mod forward;
pub mod gguf;
pub mod gguf_model;
pub mod nearest;
pub mod rope;
pub mod run;
pub mod seed;
#[cfg(not(target_arch = "wasm32"))]
pub mod served;
pub mod stored;
pub mod text;

use std::borrow::Cow;

use super::check::Unit;
use crate::checkpoint::{Layout, WeightSource};

pub use run::{Catalogued, catalogue, run, table};
use stored::Slab;

/// Tensors up to this size are put together whole for a diagnosis; larger ones are judged by the differing piece.
const DIAGNOSED_BYTES_MAX: usize = 64 << 20;

/// The known fault that explains `found`, exactly, where `canonical` was expected (in `layout`'s form).
pub fn diagnose(
    want: &dyn WeightSource,
    layout: Layout,
    unit: &Unit,
    canonical: &[u8],
    found: &[u8],
) -> Option<String> {
    let config = want.config();
    let is_whole = unit.expert.is_some() || unit.range.len() == unit.tensor.bytes(config);
    let whole: Cow<[u8]> = match !is_whole && unit.tensor.bytes(config) <= DIAGNOSED_BYTES_MAX {
        true => want.read(unit.tensor, 0..unit.tensor.bytes(config)).ok()?,
        false => canonical.into(),
    };
    let slab = Slab { config, tensor: unit.tensor, layout, canonical: &whole };
    let piece = if whole.len() == found.len() { 0..found.len() } else { unit.range.clone() };
    let explains = |fault: &&stored::Fault| {
        (fault.applies)(unit.tensor.role)
            && (fault.damage)(&slab).is_some_and(|damaged| damaged.get(piece.clone()) == Some(found))
    };
    if let Some(fault) = stored::FAULTS.iter().find(explains) {
        return Some(fault.looks_like.to_string());
    }
    elsewhere(want, layout, unit, found)
}

/// Whether the found bytes belong to another expert or another layer.
fn elsewhere(want: &dyn WeightSource, layout: Layout, unit: &Unit, found: &[u8]) -> Option<String> {
    let config = want.config();
    if let Some(expert) = unit.expert {
        let row_bytes = unit.range.len();
        for other in (0..config.experts).filter(|&other| other != expert) {
            let moved = Unit { expert: Some(other), range: other * row_bytes..(other + 1) * row_bytes, ..unit.clone() };
            if stored_form(want, layout, &moved).as_deref() == Some(found) {
                return Some(format!("expert {expert} holds expert {other}"));
            }
        }
    }
    let layer = unit.tensor.layer?;
    for other in (0..config.layers).filter(|&other| other != layer) {
        let tensor = crate::checkpoint::TensorId { layer: Some(other), ..unit.tensor };
        if stored_form(want, layout, &Unit { tensor, ..unit.clone() }).as_deref() == Some(found) {
            return Some(format!("block {layer} holds the tensor of block {other}"));
        }
    }
    None
}

fn stored_form(want: &dyn WeightSource, layout: Layout, unit: &Unit) -> Option<Vec<u8>> {
    let canonical = unit.stored(want).ok()?;
    Some(Slab { config: want.config(), tensor: unit.tensor, layout, canonical: &canonical }.stored(&canonical))
}
