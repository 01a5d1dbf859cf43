//! A short prompt on the device against the oracle, layer by layer, on a checkpoint as it is.
//!
//! Each layer is judged from the device's own input ([`super::layers`]): all layers of a small model, some of a large one.  A model
//! small enough is also judged as a whole, from the tokens on, and a failure there compared with the catalogue of faults.

use std::sync::Arc;

use super::Found;
use super::excerpt::spread;
use super::layers::Pass;
use crate::checkpoint::TensorId;
use crate::models::gpt_oss::GptOss;
use crate::open::AnyCheckpoint;
use crate::telemetry::Progress;
use crate::verify::bench::{all_stages, device, expected, judge, load_with, prompt, show};
use crate::verify::compare::stages::{Finding, first_divergence};
use crate::verify::compare::verdict::verdict;
use crate::verify::fault::forward;
use crate::verify::oracle::{Request, Vocab};
use crate::verify::outcome::{Check, Level, Outcome};

/// Tokens of the prompt.
const TOKENS: usize = 16;
/// Tokens of a chunk: the whole prompt in tiles, and the decode form with a rest.
const FORMS: [(&str, usize); 2] = [("prompt", TOKENS), ("decode", 3)];
/// Layers that are judged, at most.
const LAYERS_MAX: usize = 8;
/// Vocabulary ids whose logits are compared.
const VOCAB_SAMPLE: usize = 1024;
/// Weights of models that are also run as a whole by the oracle.
const WHOLE_BYTES_MAX: usize = 1 << 30;

/// Loads the model, runs the prompt in both forms, judges.
pub fn logit_checks(checkpoint: &Arc<AnyCheckpoint>, progress: &dyn Progress) -> Found {
    let compute = match device() {
        Ok(compute) => compute,
        Err(reason) => return no_device(Level::Logits, reason),
    };
    let mut found = Found { checks: Vec::new(), notes: vec![format!("device: {}", compute.report().name)] };
    let model = match load_with(checkpoint.clone(), compute, None, progress) {
        Ok(model) => model,
        Err(reason) => {
            found.checks.push(Check::fail("logits/load", Level::Logits, reason));
            return found;
        }
    };
    let layers = checkpoint.source().config().layers;
    if layers > LAYERS_MAX {
        found.notes.push(format!("{LAYERS_MAX} of {layers} layers were judged"));
    }
    progress.begin("layers", (FORMS.len() * layers.min(LAYERS_MAX)) as u64);
    for form in FORMS {
        let checks = form_checks(form, checkpoint, &model, progress);
        let failed = |reason| vec![Check::fail(format!("logits/{}", form.0), Level::Logits, reason)];
        found.checks.extend(checks.unwrap_or_else(failed));
    }
    progress.finish();
    found
}

/// The one check that says that there is no device.
pub(super) fn no_device(level: Level, reason: &str) -> Found {
    Found {
        checks: vec![Check::new(format!("{}/device", level.name()), level, Outcome::NoDevice, reason)],
        notes: Vec::new(),
    }
}

fn form_checks(
    (form, chunk): (&str, usize),
    checkpoint: &AnyCheckpoint,
    model: &Arc<GptOss>,
    progress: &dyn Progress,
) -> Result<Vec<Check>, String> {
    let source = checkpoint.source();
    let tokens = prompt(TOKENS, source.vocab_rows());
    let vocab: Vec<u32> = spread(VOCAB_SAMPLE, source.vocab_rows()).into_iter().map(|id| id as u32).collect();
    let seen = show(model, &tokens, &vocab, chunk, &all_stages())?;
    let pass = Pass { source, tokens: &tokens, vocab: &vocab, seen };
    let say = |part: String, findings: Vec<Finding>| {
        verdict(format!("logits/{form}/{part}"), Level::Logits, &findings, TOKENS)
    };
    let mut checks = vec![say("embedding".into(), pass.embedding())];
    for layer in spread(LAYERS_MAX, source.config().layers) {
        if progress.cancelled() {
            return Ok(checks);
        }
        checks.push(say(format!("block.{layer}"), pass.layer(layer)));
        progress.advance(1);
    }
    checks.push(say("head".into(), pass.head()));
    let bytes: usize = TensorId::each(source.config()).map(|tensor| tensor.bytes(source.config())).sum();
    if bytes <= WHOLE_BYTES_MAX {
        let ask = Request { vocab: Vocab::These(&vocab), ..Request::default() };
        let (taps, noise) = expected(source, &tokens, &ask);
        let findings = judge(source, &tokens, &ask, (&taps, &noise), &pass.seen);
        let cause = first_divergence(&findings)
            .and_then(|first| forward::looks_like(source, &tokens, &vocab, &noise, &pass.seen, first));
        checks.push(say("whole".into(), findings).with_looks_like(cause));
    }
    Ok(checks)
}
