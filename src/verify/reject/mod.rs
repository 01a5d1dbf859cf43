//! Malformed inputs: recipes of damage, each with the typed error that the readers must give.
//!
//! A recipe starts from an honest artifact of the `small-vocab` fixture, from a small GGUF that is no model or from one that
//! is, edits it, and says how it is met (opened, its values read, its vocabulary compared, or exported) and which error that must be.  The files in `fixtures/rejects/` hold the recipes by topic.

mod edit;
mod model;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;
use serde::Deserialize;

pub use edit::Edit;
pub use model::honest as honest_model;

use super::cases::fixtures::{exported_bytes, small_tokenizer};
use super::check;
use super::fixture::{self, Recipe, gguf, in_memory};
use super::outcome::{Check, Level};
use super::sample::Sample;
use crate::checkpoint::Layout;
use crate::gguf::{Gguf, GgufError};
use crate::model_bin::export;
use crate::open::AnyCheckpoint;
use crate::telemetry::Silent;

/// Files of recipes: topic and text.
pub const FILES: [(&str, &str); 7] = [
    ("header", include_str!("../../../fixtures/rejects/header.json")),
    ("shards", include_str!("../../../fixtures/rejects/shards.json")),
    ("config", include_str!("../../../fixtures/rejects/config.json")),
    ("values", include_str!("../../../fixtures/rejects/values.json")),
    ("model-bin", include_str!("../../../fixtures/rejects/model-bin.json")),
    ("gguf", include_str!("../../../fixtures/rejects/gguf.json")),
    ("gguf-model", include_str!("../../../fixtures/rejects/gguf-model.json")),
];

/// The GGUF model that is damaged.
const MODEL: &str = "model.gguf";
/// The GGUF that is damaged and is no model.
const GGUF: &str = "sample.gguf";
/// Files of the split GGUF.
const GGUF_FILES: u16 = 3;

/// The fixture that is damaged.
const RECIPE: &str = "small-vocab";

/// The honest artifact that a recipe starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Original layout, one file.
    Original,
    /// Original layout, three shards and an index.
    OriginalShards,
    /// HF layout, one file.
    Hf,
    /// HF layout, three shards and an index.
    HfShards,
    /// A directory that holds only `model.bin`.
    ModelBin,
    /// A directory that holds only `sample.gguf`: [`gguf::sample`].
    Gguf,
    /// The same over three files.
    GgufSplit,
    /// A directory that holds only `model.gguf`: [`honest_model`], changed before it is written.
    GgufModel,
}

impl Base {
    const ALL: [Base; 8] = [
        Base::Original,
        Base::OriginalShards,
        Base::Hf,
        Base::HfShards,
        Base::ModelBin,
        Base::Gguf,
        Base::GgufSplit,
        Base::GgufModel,
    ];

    /// Whether it is a GGUF that holds no model.
    pub fn is_gguf(self) -> bool {
        matches!(self, Base::Gguf | Base::GgufSplit)
    }
}

/// How the damaged input is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// It is opened.
    #[default]
    Open,
    /// It opens; its values are read.
    Values,
    /// It opens; its vocabulary is compared with o200k_harmony.
    Tokenizer,
    /// It opens; it is exported to model.bin.
    Export,
}

/// One recipe of damage.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Name, unique over all files.
    pub name: String,
    /// Where it starts.
    pub base: Base,
    /// What is done to it, in order.
    pub edits: Vec<Edit>,
    /// How it is met.
    #[serde(default)]
    pub when: When,
    /// The typed error's name.
    pub error: String,
    /// Texts that the message must hold: the file, the tensor or field, what was found.
    pub mentions: Vec<String>,
}

/// Every recipe, in the order of the files.
///
/// # Panics
/// If a compiled-in file is no list of recipes, or a name is used twice.
pub fn all() -> Vec<Reject> {
    let mut rejects: Vec<Reject> = Vec::new();
    for (file, text) in FILES {
        let read: Vec<Reject> =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("fixtures/rejects/{file}.json: {e}"));
        for reject in read {
            assert!(rejects.iter().all(|r| r.name != reject.name), "fixtures/rejects: `{}` twice", reject.name);
            rejects.push(reject);
        }
    }
    rejects
}

/// Meets every recipe.
pub fn run() -> Vec<Check> {
    all().par_iter().map(check).collect()
}

impl Reject {
    /// Builds the damaged input in `directory`; the path to open.
    pub fn build(&self, directory: &Path) -> Result<PathBuf, String> {
        if self.base == Base::GgufModel {
            return self.build_model(directory);
        }
        for (name, bytes) in base_files(self.base) {
            std::fs::write(directory.join(name), bytes).map_err(|e| e.to_string())?;
        }
        for edit in &self.edits {
            edit.apply(directory).map_err(|why| format!("{edit:?} does not apply: {why}"))?;
        }
        Ok(match self.base {
            Base::ModelBin => directory.join("model.bin"),
            Base::Gguf => directory.join(GGUF),
            Base::GgufSplit => directory.join(gguf_split()[0].0.clone()),
            _ => directory.into(),
        })
    }

    fn build_model(&self, directory: &Path) -> Result<PathBuf, String> {
        let (mut file, path) = (honest_model(), directory.join(MODEL));
        for edit in &self.edits {
            edit.reshape(&mut file).map_err(|why| format!("{edit:?} does not apply: {why}"))?;
        }
        std::fs::write(&path, file.write().bytes).map_err(|e| e.to_string())?;
        Ok(path)
    }
}

fn check(reject: &Reject) -> Check {
    let name = format!("bytes/reject/{}", reject.name);
    let met = tempfile::tempdir().map_err(|e| e.to_string()).and_then(|directory| {
        let path = reject.build(directory.path())?;
        meet(reject, &path).ok_or_else(|| format!("accepted; expected {}", reject.error))
    });
    match met {
        Err(why) => Check::fail(name, Level::Bytes, why),
        Ok((error, _)) if error != reject.error => {
            Check::fail(name, Level::Bytes, format!("expected {}, found {error}", reject.error))
        }
        Ok((error, message)) => match reject.mentions.iter().find(|text| !message.contains(text.as_str())) {
            Some(text) => Check::fail(name, Level::Bytes, format!("{error}: `{message}` does not mention `{text}`")),
            None => Check::pass(name, Level::Bytes, error),
        },
    }
}

/// The error's name and message, if there is one.
fn meet(reject: &Reject, path: &Path) -> Option<(String, String)> {
    if reject.base.is_gguf() {
        let error = meet_gguf(reject, path).err()?;
        return Some((error.name().into(), error.to_string()));
    }
    let checkpoint = match AnyCheckpoint::open(path) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Some((error.name().into(), error.to_string())),
    };
    match reject.when {
        When::Open => None,
        When::Values => check::value_checks(checkpoint.source(), &Sample::All, &Silent)
            .checks
            .into_iter()
            .find_map(|check| Some((check.error?, check.detail))),
        When::Tokenizer => match &checkpoint {
            AnyCheckpoint::Gguf(model) => {
                let check = check::gguf_tokenizer(model);
                Some((check.error?, check.detail))
            }
            _ => Some(("no-gguf".into(), "only the tokenizer of a GGUF is compared".into())),
        },
        When::Export => {
            let to = path.join("exported.bin");
            let vocab = Recipe::built_in(RECIPE).vocab as usize;
            let error = export(checkpoint.source(), &small_tokenizer(vocab), &to, &Silent).err()?;
            assert!(!to.exists(), "a refused export left a file under its final name");
            Some((error.name().into(), error.to_string()))
        }
    }
}

/// A GGUF that is no model: opened, and for [`When::Values`] every tensor's data asked for.
fn meet_gguf(reject: &Reject, path: &Path) -> Result<(), GgufError> {
    let opened = Gguf::open(path)?;
    match reject.when {
        When::Values => opened.tensors().try_for_each(|tensor| tensor.bytes().map(drop)),
        _ => Ok(()),
    }
}

/// The files of the split GGUF.
fn gguf_split() -> Vec<(String, gguf::Written)> {
    let name = |number: u16| format!("sample-{number:05}-of-{GGUF_FILES:05}.gguf");
    (1..).map(name).zip(gguf::sample_split(GGUF_FILES).iter().map(gguf::File::write)).collect()
}

/// The GGUF of that name before any damage, for the places of its fields.
fn honest_gguf(file: &str) -> Option<gguf::Written> {
    let whole = (GGUF.to_string(), gguf::sample().write());
    gguf_split().into_iter().chain([whole]).find(|(name, _)| name == file).map(|(_, written)| written)
}

type Files = Vec<(String, Vec<u8>)>;

/// The files of an honest artifact, made once.
fn base_files(base: Base) -> &'static Files {
    static BASES: OnceLock<Vec<(Base, Files)>> = OnceLock::new();
    let bases = BASES.get_or_init(|| Base::ALL.map(|base| (base, honest_files(base))).into());
    &bases.iter().find(|(known, _)| *known == base).expect("every base is made").1
}

fn honest_files(base: Base) -> Files {
    let recipe = Recipe::built_in(RECIPE);
    let (layout, shards) = match base {
        Base::Original => (Layout::Original, 1),
        Base::OriginalShards => (Layout::Original, 3),
        Base::Hf => (Layout::Hf, 1),
        Base::HfShards => (Layout::Hf, 3),
        Base::Gguf => return vec![(GGUF.into(), gguf::sample().write().bytes)],
        Base::GgufModel => return vec![(MODEL.into(), honest_model().write().bytes)],
        Base::GgufSplit => return gguf_split().into_iter().map(|(name, written)| (name, written.bytes)).collect(),
        Base::ModelBin => {
            let source = in_memory(&recipe, Layout::Original, 1).expect("the recipe is valid");
            let section = small_tokenizer(recipe.vocab as usize);
            let bytes = exported_bytes(&source, &section).expect("the recipe can be exported");
            return vec![("model.bin".into(), bytes)];
        }
    };
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("checkpoint");
    fixture::write(&recipe, layout, shards, &path, &Silent).expect("the fixture can be written");
    let mut files = Files::new();
    for entry in std::fs::read_dir(&path).expect("the fixture was written") {
        let entry = entry.expect("the fixture can be listed");
        let bytes = std::fs::read(entry.path()).expect("the fixture can be read");
        files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
    }
    files
}
