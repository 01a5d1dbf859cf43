//! Every kernel on slices of a checkpoint's own weights, on random activations, against the oracle.
//!
//! A slice is a pair of layers with a few of their experts ([`super::excerpt`]), so that memory stays bounded whatever the size of
//! the model.  Two forms of every kernel run: tiles, for many tokens at once, and the decode form, for few.

use super::Found;
use super::excerpt::{cut, pairs};
use super::layers::Pass;
use super::logits::no_device;
use crate::open::AnyCheckpoint;
use crate::telemetry::Progress;
use crate::verify::bench::{all_stages, device, load, prompt, show};
use crate::verify::compare::stages::Finding;
use crate::verify::compare::verdict::verdict;
use crate::verify::outcome::{Check, Level};

/// Tokens, and how many of them a chunk has: tiles with a ragged end for most experts; the decode form, also with a rest.
const FORMS: [(&str, usize, usize); 2] = [("tiles", 24, 24), ("decode", 5, 3)];

/// Checks pairs of layers from the first to the last.
pub fn kernel_checks(checkpoint: &AnyCheckpoint, progress: &dyn Progress) -> Found {
    let compute = match device() {
        Ok(compute) => compute,
        Err(reason) => return no_device(Level::Kernels, reason),
    };
    let mut found = Found { checks: Vec::new(), notes: vec![format!("device: {}", compute.report().name)] };
    let pairs = pairs(checkpoint.source().config().layers);
    progress.begin("kernels", pairs.len() as u64);
    for pair in pairs {
        if progress.cancelled() {
            break;
        }
        let first = pair.start;
        let checks = cut(checkpoint, pair).and_then(|excerpt| slice_checks(first, excerpt, compute));
        found.checks.extend(
            checks.unwrap_or_else(|reason| vec![Check::fail(format!("kernels/block.{first}"), Level::Kernels, reason)]),
        );
        progress.advance(1);
    }
    progress.finish();
    found
}

/// Both forms of the kernels on one excerpt, whose layer 0 is layer `first` of the checkpoint.
fn slice_checks(first: usize, excerpt: AnyCheckpoint, compute: &crate::device::Compute) -> Result<Vec<Check>, String> {
    let excerpt = std::sync::Arc::new(excerpt);
    let source = excerpt.source();
    let model = load(excerpt.clone(), compute, None)?;
    let vocab: Vec<u32> = (0..source.vocab_rows() as u32).collect();
    let mut checks = Vec::new();
    for (form, count, chunk) in FORMS {
        let tokens = prompt(count, source.vocab_rows());
        let seen = show(&model, &tokens, &vocab, chunk, &all_stages())?;
        let pass = Pass { source, tokens: &tokens, vocab: &vocab, seen };
        let mut judge = |part: String, findings: Vec<Finding>| {
            let findings = numbered_from(first, findings);
            checks.push(verdict(format!("kernels/{part}/{form}"), Level::Kernels, &findings, count));
        };
        for layer in 0..source.config().layers {
            judge(format!("block.{}", first + layer), pass.layer(layer));
        }
        judge(format!("block.{first}/embedding"), pass.embedding());
        judge(format!("block.{first}/head"), pass.head());
    }
    Ok(checks)
}

/// Findings of an excerpt with the layers' numbers in the checkpoint.
fn numbered_from(first: usize, findings: Vec<Finding>) -> Vec<Finding> {
    let numbered = |finding: Finding| Finding { layer: finding.layer.map(|layer| first + layer), ..finding };
    findings.into_iter().map(numbered).collect()
}
