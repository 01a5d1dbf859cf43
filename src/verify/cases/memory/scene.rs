//! What is measured: a model large enough to mean something, on disk, and runs of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, Layout, TensorId};
use crate::device::Compute;
use crate::generate::session::{Session, SessionOptions};
use crate::kernels::codec::KvType;
use crate::model_bin::export;
use crate::models::gpt_oss::GptOss;
use crate::models::gpt_oss::load::LoadOptions;
use crate::nn::rope::RopeVariant;
use crate::open::AnyCheckpoint;
use crate::telemetry::Silent;
use crate::verify::bench::prompt;
use crate::verify::cases::fixtures::small_tokenizer;
use crate::verify::fixture::{self, Recipe, in_memory};

/// 128 experts of 1.7 MB, as a real model mostly experts.
const LARGE: &str = r#"{ "name": "large", "layers": 2, "experts": 64, "hidden": 1024, "intermediate": 1024, "heads": 8,
    "kv_heads": 2, "vocab": 2048, "note": "Large enough for a second copy of its weights to stand out." }"#;
/// Little to compute beside the attention of a long prompt.
const LONG: &str = r#"{ "name": "long", "layers": 2, "experts": 4, "hidden": 64, "intermediate": 64, "heads": 2,
    "kv_heads": 2, "head_dim": 16, "vocab": 512, "note": "A windowed and a full layer, small enough for 16384 tokens." }"#;

/// Tokens of a chunk of the large model's prompt.
pub(super) const CHUNK: usize = 64;
/// Its prompt: some chunks.
const PROMPT: usize = 3 * CHUNK;
/// Tokens decoded after it.
const DECODED: usize = 4;
/// Its context: the prompt and the decoded fit.
const CONTEXT: usize = 256;

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// The large model as a model.bin in a directory that goes with it.
pub(super) struct Scene {
    directory: tempfile::TempDir,
    /// Bytes of the file.
    pub(super) file_bytes: u64,
    /// Bytes of its tensors.
    pub(super) weight_bytes: u64,
}

/// One run of it.
pub(super) struct Run {
    /// Of the last prompt token and of each decoded one.
    pub(super) logits: Vec<f32>,
    /// Of the sequence's caches.
    pub(super) cache_bytes: u64,
    /// Bytes that experts were paged, and how many had to leave.
    pub(super) paged: Option<(u64, u64)>,
}

fn recipe(text: &str) -> Recipe {
    Recipe::parse(text.as_bytes(), Path::new("memory")).expect("the recipe is valid")
}

impl Scene {
    pub(super) fn new() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(text)?;
        let (source, target) = (directory.path().join("checkpoint"), directory.path().join("model.bin"));
        fixture::write(&recipe(LARGE), Layout::Original, 1, &source, &Silent).map_err(text)?;
        let checkpoint = Checkpoint::open(&source).map_err(text)?;
        let tokenizer = small_tokenizer(recipe(LARGE).vocab as usize);
        let file_bytes = export(&checkpoint, &tokenizer, &target, &Silent).map_err(text)?.bytes;
        drop(checkpoint);
        std::fs::remove_dir_all(&source).map_err(text)?;
        let mut scene = Self { directory, file_bytes, weight_bytes: 0 };
        let opened = scene.open()?;
        let stored = |tensor: TensorId| opened.source().segments(tensor).iter().map(|s| s.len() as u64).sum::<u64>();
        scene.weight_bytes = TensorId::each(opened.source().config()).map(stored).sum();
        Ok(scene)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("model.bin")
    }

    pub(super) fn open(&self) -> Result<AnyCheckpoint, String> {
        AnyCheckpoint::open(&self.path()).map_err(text)
    }

    pub(super) fn options(device_memory: Option<u64>) -> LoadOptions {
        LoadOptions {
            device_memory,
            context: CONTEXT,
            lanes: 1,
            chunk: CHUNK,
            kv: KvType::F32,
            rope: RopeVariant::Reference,
        }
    }

    /// Loads the model, enters the prompt and decodes; `before_decoding` happens in between.
    pub(super) fn run(
        &self,
        compute: &Compute,
        device_memory: Option<u64>,
        before_decoding: &mut dyn FnMut(),
    ) -> Result<Run, String> {
        let checkpoint = Arc::new(self.open()?);
        let model = GptOss::load(checkpoint, compute, &Self::options(device_memory), &Silent).map_err(text)?;
        let model = Arc::new(model);
        let mut session = session(model.clone(), CHUNK, CONTEXT)?;
        let tokens = prompt(PROMPT + DECODED, model.vocab_rows());
        let mut logits = session.prefill(&tokens[..PROMPT]).map_err(text)?;
        before_decoding();
        for &token in &tokens[PROMPT..] {
            logits.extend(session.decode(token).map_err(text)?);
        }
        let paged = model.pager().map(|pager| (pager.stats().bytes_paged, pager.stats().evictions));
        Ok(Run { logits, cache_bytes: session.cache_bytes() as u64, paged })
    }
}

/// The model of long prompts.
pub(super) fn long_model(compute: &Compute, chunk: usize, context: usize) -> Result<Arc<GptOss>, String> {
    let checkpoint = in_memory(&recipe(LONG), Layout::Original, 1).map_err(text)?;
    let options =
        LoadOptions { device_memory: None, context, lanes: 1, chunk, kv: KvType::F32, rope: RopeVariant::Reference };
    let checkpoint = Arc::new(AnyCheckpoint::SafeTensors(checkpoint));
    GptOss::load(checkpoint, compute, &options, &Silent).map(Arc::new).map_err(text)
}

pub(super) fn session(model: Arc<GptOss>, chunk: usize, context: usize) -> Result<Session, String> {
    Session::new(model, SessionOptions { chunk, context }).map_err(text)
}
