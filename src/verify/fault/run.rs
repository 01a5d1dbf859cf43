//! Plants every fault, judges with the checks of the harness, and says which went red.

use std::path::Path;

use rayon::prelude::*;

use super::codec::{self, Codec};
use super::file::{self, Artifact, Damage};
use super::rope::{self, Angled};
#[cfg(not(target_arch = "wasm32"))]
use super::served;
use super::{block, converter, forward, gguf, gguf_model, nearest, seed, stored, text};
use crate::checkpoint::{Checkpoint, Layout, ModelConfig, Shard, TensorId, WeightSource};
use crate::mapped::FileBytes;
use crate::model_bin::{ModelBin, TokenizerSection};
use crate::open::{AnyCheckpoint, OpenError};
use crate::telemetry::Silent;
use crate::verify::cases::kernels::rope::{GGML_COMPAT, REFERENCE, angle_checks};
use crate::verify::cases::{codecs, fixtures, ggml, ggufs, headroom, with_golden};
use crate::verify::check::{self, Unit};
use crate::verify::fixture::{Recipe, in_memory, shard_bytes, shard_plans};
use crate::verify::manifest::Manifest;
use crate::verify::outcome::{Check, Level, Outcome};
use crate::verify::sample::Sample;

/// The recipe whose artifacts are sabotaged: every role, an even and an odd layer twice, square experts, small.
const RECIPE: &str = "small-vocab";

/// Parts of the random blocks that a wrong block codec must differ in: the first.
const FAULT_PARTS: usize = 1;

/// One fault of the catalogue and what became of it.
#[derive(Debug, Clone)]
pub struct Catalogued {
    /// Name, unique in the catalogue.
    pub name: &'static str,
    /// What is wrong.
    pub about: &'static str,
    /// The checks that must go red; a trailing `*` stands for any rest.
    pub named: Vec<String>,
    /// The checks that went red.
    pub red: Vec<Check>,
    /// What else had to hold and did not (the diagnosis, the typed error, the digests).
    pub objection: Option<String>,
    /// What the honest artifact's checks say where the fault strikes.
    pub exact: String,
    /// Why the fault was not judged, where it needs a device and there is none.
    pub no_device: Option<String>,
}

impl Catalogued {
    /// Whether exactly the named checks caught it.
    fn verdict(&self) -> Result<String, String> {
        if let Some(objection) = &self.objection {
            return Err(objection.clone());
        }
        let matches = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        };
        if let Some(blind) = self.named.iter().find(|named| !self.red.iter().any(|check| matches(named, &check.name))) {
            return Err(format!("not caught: {blind} stayed green"));
        }
        match self.red.iter().find(|check| !self.named.iter().any(|named| matches(named, &check.name))) {
            Some(stray) => Err(format!("caught by accident: {} went red too ({})", stray.name, stray.detail)),
            None => Ok(format!("caught by {}: {}", self.named.join(", "), self.red[0].detail)),
        }
    }

    /// The fault as a check: it passes when it was caught.
    pub fn check(&self) -> Check {
        if let Some(reason) = &self.no_device {
            return Check::new(format!("sabotage/{}", self.name), Level::Sabotage, Outcome::NoDevice, reason);
        }
        let (outcome, detail) = match self.verdict() {
            Ok(detail) => (Outcome::Pass, detail),
            Err(detail) => (Outcome::Fail, format!("{}: {detail}", self.about)),
        };
        Check::new(format!("sabotage/{}", self.name), Level::Sabotage, outcome, detail)
    }
}

/// Name of the golden that records the catalogue.
const GOLDEN: &str = "text/sabotage";

/// Plants every fault; each is a check that passes when its named check caught it.  Then one that holds the catalogue against the
/// recorded one, so that no fault can vanish unseen, and one that tells what room the honest run has.
pub fn run() -> Vec<Check> {
    let catalogue = catalogue();
    let mut checks: Vec<Check> = catalogue.iter().map(Catalogued::check).collect();
    let name = "sabotage/catalogue";
    checks.extend(with_golden(GOLDEN, name, Level::Sabotage, |golden| {
        let found: serde_json::Value = serde_json::from_str(&payload(&catalogue)).expect("the payload is JSON");
        let rows = |value: &serde_json::Value| value["faults"].as_array().cloned().unwrap_or_default();
        let (want, found) = (rows(golden), rows(&found));
        let wrong = want.iter().zip(&found).find(|(w, f)| w != f);
        vec![match wrong {
            Some((want, found)) => Check::fail(name, Level::Sabotage, format!("expected {want}, found {found}")),
            None => Check::equal(name, Level::Sabotage, want.len(), found.len()),
        }]
    }));
    checks.push(headroom::of_sabotage());
    checks
}

/// The golden's payload: every fault, what must catch it, and what was first seen.
pub fn payload(catalogue: &[Catalogued]) -> String {
    let row = |fault: &Catalogued| {
        serde_json::json!({
            "about": fault.about, "caught_by": fault.named, "fault": fault.name, "first_difference": fault.exact,
        })
    };
    let rows: Vec<serde_json::Value> = catalogue.iter().map(row).collect();
    serde_json::to_string_pretty(&serde_json::json!({ "faults": rows })).expect("a JSON value has a text") + "\n"
}

/// Every fault, planted and judged.
pub fn catalogue() -> Vec<Catalogued> {
    let bench = Bench::new();
    let mut all: Vec<Catalogued> = stored::FAULTS.par_iter().map(|fault| bench.stored(fault)).collect();
    all.par_extend(file::FAULTS.par_iter().map(|fault| bench.file(fault)));
    all.par_extend(codec::FAULTS.par_iter().chain(block::FAULTS).map(planted_codec));
    all.par_extend(rope::FAULTS.par_iter().map(planted_angles));
    all.par_extend(seed::FAULTS.par_iter().map(planted_generator));
    all.par_extend(gguf::FAULTS.par_iter().map(planted_reader));
    all.extend(gguf_model::planted());
    all.extend(converter::planted());
    all.extend(nearest::planted());
    #[cfg(not(target_arch = "wasm32"))]
    all.extend(served::FAULTS.iter().map(|fault| bench.served(fault)));
    all.extend(text::all().map(planted_text));
    all.extend(forward::planted());
    all
}

/// The table fault × check × what was seen, in Markdown.
pub fn table(catalogue: &[Catalogued]) -> String {
    let mut text = String::from(
        "| fault | what is wrong | caught by | first difference (bytes: no budget) |\n|---|---|---|---|\n",
    );
    for fault in catalogue {
        let seen = match fault.verdict() {
            Ok(_) => fault.exact.clone(),
            Err(objection) => format!("**{objection}**"),
        };
        let named = fault.named.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("| `{}` | {} | {named} | {} |\n", fault.name, cell(fault.about), cell(&seen)));
    }
    text
}

/// Text that stays inside one cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The honest artifacts, in memory.
struct Bench {
    recipe: Recipe,
    config: ModelConfig,
    source: Checkpoint,
    tokenizer: TokenizerSection,
    model: ModelBin,
    manifest: Manifest,
    hf: Vec<u8>,
}

impl Bench {
    fn new() -> Bench {
        let recipe = Recipe::built_in(RECIPE);
        let source = in_memory(&recipe, Layout::Original, 1).expect("the recipe is valid");
        let tokenizer = fixtures::small_tokenizer(recipe.vocab as usize);
        let model = fixtures::exported(&source, &tokenizer).expect("the recipe can be exported");
        let plans = shard_plans(&recipe.config(), Layout::Hf, 1);
        let hf = shard_bytes(&recipe, &plans[0]);
        let path = model.path().to_path_buf();
        let copy = ModelBin::from_bytes(&path, model.file().to_vec().into()).expect("the export is valid");
        let manifest = Manifest::of(&AnyCheckpoint::ModelBin(copy), &Silent);
        Bench { config: recipe.config(), recipe, source, tokenizer, model, manifest, hf }
    }

    /// Every check of a model.bin against its source, and whether the manifest alone would have seen a change.
    fn judge(&self, bytes: Vec<u8>) -> (Vec<Check>, bool) {
        let model = match ModelBin::from_bytes(self.model.path(), bytes.into()) {
            Ok(model) => model,
            Err(error) => return (vec![check::refused("structure/open", &error.into())], true),
        };
        let mut checks = vec![check::model_bin_tokenizer(&model, &self.tokenizer)];
        checks.extend(check::against_source(&model, &self.source));
        checks.extend(check::against(&model, &self.source, &Sample::All, &Silent).checks);
        let digests = check::digest_checks(&AnyCheckpoint::ModelBin(model), Some(&self.manifest), None, &Silent);
        (red(checks), !red(digests).is_empty())
    }

    fn stored(&self, fault: &'static stored::Fault) -> Catalogued {
        let (role, layer) = fault.strikes;
        let tensor = TensorId { role, layer };
        // The last unit: a middle expert or the whole tensor, so that "only the first is compared" shows.
        let unit = Unit::of(&self.config, tensor, self.config.vocab).pop().expect("every tensor has a unit");
        let canonical = unit.stored(&self.source).expect("a SafeTensors checkpoint holds its own bytes");
        let slab = stored::Slab { config: &self.config, tensor, layout: Layout::ModelBin, canonical: &canonical };
        let damaged = (fault.damage)(&slab).expect("a fault can strike what it says it strikes");
        let section = self.model.plan().sections().iter().rfind(|s| s.part.tensor() == Some(tensor));
        let mut bytes = self.model.file().to_vec();
        bytes[section.expect("the artifact holds the tensor").range()].copy_from_slice(&damaged);
        let (red, seen_by_manifest) = self.judge(bytes);
        let wanted = fault.looks_like;
        let told = red.first().and_then(|check| check.looks_like.clone()).unwrap_or_default();
        let objection = match (seen_by_manifest, told.starts_with(wanted)) {
            (false, _) => Some("the manifest did not see it".to_string()),
            (_, false) => Some(format!("diagnosed as `{told}`")),
            (true, true) => None,
        };
        caught(fault.name, fault.looks_like, vec![format!("tensors/{tensor}")], red, objection)
    }

    fn file(&self, fault: &'static file::Fault) -> Catalogued {
        let named = fault.caught_by.iter().map(|name| name.to_string()).collect();
        let (red, seen) = match fault.damage {
            Damage::ModelBin(damage) => {
                self.judge(damage(&Artifact { bytes: self.model.file(), plan: self.model.plan() }))
            }
            Damage::Hf(damage) => (self.judge_hf(damage(&self.hf)), true),
        };
        let error = red.first().and_then(|check| check.error.as_deref());
        let objection = match (seen, error == fault.error) {
            (false, _) => Some("the manifest did not see it".to_string()),
            (_, false) => Some(format!("expected the error {:?}, found {error:?}", fault.error)),
            (true, true) => None,
        };
        caught(fault.name, fault.about, named, red, objection)
    }

    /// What `gptoss-verify range` says of a server of the HF file that lies; of an honest one it must say nothing.
    #[cfg(not(target_arch = "wasm32"))]
    fn served(&self, fault: &'static served::Fault) -> Catalogued {
        use crate::verify::liar::Content;
        let hf = in_memory(&self.recipe, Layout::Hf, 1).expect("the recipe is valid");
        let manifest = Manifest::of(&AnyCheckpoint::SafeTensors(hf), &Silent);
        let file = std::sync::Arc::new(Content { bytes: self.hf.clone(), etag: "\"hf\"".into() });
        let named = fault.caught_by.iter().map(|name| name.to_string()).collect();
        let judged = |answer| served::judge(&file, &manifest, answer).map(red);
        let (red, objection) = match (judged(Content::honest), judged(fault.answer)) {
            (Ok(honest), Ok(red)) => {
                let error = red.first().and_then(|check| check.error.as_deref());
                let stray = honest.first().map(|check| format!("an honest server: {}: {}", check.name, check.detail));
                let wrong =
                    (error != fault.error).then(|| format!("expected the error {:?}, found {error:?}", fault.error));
                (red, stray.or(wrong))
            }
            (Err(error), _) | (_, Err(error)) => (Vec::new(), Some(format!("no server on loopback: {error}"))),
        };
        caught(fault.name, fault.about, named, red, objection)
    }

    /// Every check of an HF file against the original layout.
    fn judge_hf(&self, bytes: Vec<u8>) -> Vec<Check> {
        let path = Path::new("model.safetensors");
        let opened = Shard::from_bytes(path, FileBytes::from(bytes)).and_then(|shard| {
            let text = self.recipe.config_text(Layout::Hf);
            let config = ModelConfig::parse(text.as_bytes(), Path::new("config.json"))?;
            Checkpoint::from_parts(path, config, vec![shard], Vec::new())
        });
        match opened {
            Err(error) => vec![check::refused("structure/open", &OpenError::Checkpoint(error))],
            Ok(hf) => {
                let mut checks = check::against_source(&hf, &self.source);
                checks.extend(check::against(&hf, &self.source, &Sample::All, &Silent).checks);
                red(checks)
            }
        }
    }
}

fn planted_codec(fault: &'static codec::Fault) -> Catalogued {
    let checks = match fault.codec {
        Codec::Decode(decode) => codecs::decode_checks(decode),
        Codec::CodeAt(code_at) => codecs::order_checks(code_at),
        Codec::Encode(encode) => codecs::encode_checks(encode),
        Codec::Round(round) => codecs::round_checks(round),
        Codec::Scale(scale) => codecs::scale_checks(scale),
        Codec::Block(kind, decode) => ggml::decode_checks(kind, decode, FAULT_PARTS),
        Codec::BlockEncode(kind, encode) => ggml::encode_checks(kind, encode, FAULT_PARTS),
        Codec::Pack(pack) => ggml::pack_checks(pack),
    };
    let named = fault.caught_by.iter().map(|name| name.to_string()).collect();
    caught(fault.name, fault.about, named, red(checks), None)
}

fn planted_angles(fault: &'static rope::Fault) -> Catalogued {
    let checks = match fault.angles {
        Angled::Reference(angles) => angle_checks(angles, GGML_COMPAT),
        Angled::GgmlCompat(angles) => angle_checks(REFERENCE, angles),
    };
    let named = fault.caught_by.iter().map(|name| name.to_string()).collect();
    caught(fault.name, fault.about, named, red(checks), None)
}

fn planted_generator(fault: &'static seed::Fault) -> Catalogued {
    let recipe = Recipe::built_in(RECIPE);
    let checks = fixtures::tensor_digest_checks(&recipe, fault.generate);
    caught(fault.name, fault.about, vec![format!("bytes/fixture/{RECIPE}/tensors")], red(checks), None)
}

fn planted_reader(fault: &'static gguf::Fault) -> Catalogued {
    let named = fault.caught_by.iter().map(|name| name.to_string()).collect();
    caught(fault.name, fault.about, named, red(ggufs::checks(fault.reader)), None)
}

fn planted_text(fault: &'static text::Fault) -> Catalogued {
    let checks = fault.checks();
    let no_device = checks.iter().find(|check| check.outcome == Outcome::NoDevice).map(|check| check.detail.clone());
    let named = vec![fault.caught_by().to_string()];
    Catalogued { no_device, ..caught(fault.name, fault.about, named, red(checks), fault.objection()) }
}

pub(super) fn red(checks: Vec<Check>) -> Vec<Check> {
    checks.into_iter().filter(|check| check.outcome > Outcome::Skip).collect()
}

pub(super) fn caught(
    name: &'static str,
    about: &'static str,
    named: Vec<String>,
    red: Vec<Check>,
    objection: Option<String>,
) -> Catalogued {
    let exact = red.first().map(|check| check.detail.clone()).unwrap_or_default();
    Catalogued { name, about, named, red, objection, exact, no_device: None }
}
