//! What every command that runs a model asks for: the checkpoint, the device, and how the sequence is run.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use cubecl::future::block_on;

use super::{Bar, Failure, output_exit};
use crate::device::{Compute, DeviceError, DeviceRequest};
use crate::exit::Exit;
use crate::generate::engine::EngineError;
use crate::generate::session::{CHUNK_DEFAULT, Session, SessionError, SessionOptions};
use crate::generate::tokenizer::{Tokenizer, compare_gguf_tokens, hf_vocabulary};
use crate::generate::warm::compile_kernels;
use crate::gguf::GgufModel;
use crate::kernels::codec::KvType;
use crate::kernels::family::Family;
use crate::models::gpt_oss::GptOss;
use crate::models::gpt_oss::load::{LoadError, LoadOptions};
use crate::models::gpt_oss::stored::widened_warnings;
use crate::nn::rope::RopeVariant;
use crate::open::AnyCheckpoint;
use crate::telemetry::events::JsonLines;

/// A model, a device, and how to run one on the other.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// The checkpoint to run
    #[arg(long, value_name = "CHECKPOINT")]
    pub(super) model: PathBuf,
    /// Part of the adapter's name (see `gptoss devices`); the fastest kind otherwise
    #[arg(long, visible_alias = "adapter", value_name = "NAME", default_value = "")]
    pub(super) device: String,
    /// Tokens of a prompt chunk: bounds scratch memory, changes no result
    #[arg(long, value_name = "N", default_value_t = CHUNK_DEFAULT)]
    pub(super) chunk: usize,
    /// Longest sequence in tokens; the model's own context otherwise
    #[arg(long, value_name = "N")]
    pub(super) context: Option<usize>,
    /// Device memory for weights, cache and scratch; experts page through what is left of it (for example 6GiB)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) device_memory: Option<u64>,
    /// How keys and values are cached
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    pub(super) kv: Kv,
    /// How far rotary frequencies are scaled: as gpt-oss was trained, or as llama.cpp has them
    #[arg(long, value_enum, default_value_t = Rope::Reference)]
    pub(super) rope: Rope,
    /// Kernels to use instead of those that suit the adapter
    #[arg(long, value_enum)]
    pub(super) kernels: Option<Kernels>,
    /// Hold the device to WebGPU's default limits, as a browser does
    #[arg(long)]
    pub(super) webgpu_limits: bool,
    /// Append what every layer and chunk costs as lines of JSON: experts, bytes, paging, scratch, kernel times.  Slower:
    /// every kernel is waited for
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
}

/// How keys and values are cached.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kv {
    /// As computed
    F32,
    /// Rounded to f16: half the memory
    F16,
}

/// The ends of YaRN's ramp.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Rope {
    /// As OpenAI's reference computes them
    Reference,
    /// Rounded outwards to whole pairs, as ggml does: to match or to explain llama.cpp
    GgmlCompat,
}

impl Rope {
    /// What the runtime calls it.
    pub(super) fn variant(self) -> RopeVariant {
        match self {
            Rope::Reference => RopeVariant::Reference,
            Rope::GgmlCompat => RopeVariant::GgmlCompat,
        }
    }
}

/// The kernels' shape.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kernels {
    /// Subgroups of the adapter's size
    Plane,
    /// Trees in workgroup memory
    Workgroup,
    /// No barriers, for software adapters
    Lane,
}

/// `6GiB`, `500MB`, `1024`.
fn size(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim() {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" | "K" => 1024.0,
        "MiB" | "M" => 1048576.0,
        "GiB" | "G" => 1073741824.0,
        other => return Err(format!("`{other}` is no unit: use B, KB, MB, GB, KiB, MiB or GiB")),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 => Ok((number * factor) as u64),
        _ => Err("a size is a number above 0 and a unit, for example 6GiB".into()),
    }
}

/// Where the vocabulary of a GGUF, if it has one, is not the bundled one (or a start of it, as small models have).
pub(super) fn other_vocabulary(model: &GgufModel) -> Option<String> {
    compare_gguf_tokens(model).err().map(|error| error.to_string())
}

/// Compares the tokenizer that comes with a checkpoint, if one does, with the bundled one.
fn check_tokenizer(checkpoint: &AnyCheckpoint, path: &Path) -> Result<(), Failure> {
    let ours = Tokenizer::o200k_harmony();
    let failed = |what: &Path, error: String| {
        let message = format!("{}: its tokenizer is not o200k_harmony: {error}", what.display());
        Failure::new(Exit::Input, message, "gptoss logits, which takes token ids")
    };
    if let AnyCheckpoint::ModelBin(model) = checkpoint {
        let tokens = (0..).zip(model.tokenizer().text_tokens());
        return ours.compare(tokens).map_err(|e| failed(path, e.to_string()));
    }
    if let AnyCheckpoint::Gguf(model) = checkpoint {
        return other_vocabulary(model).map_or(Ok(()), |difference| Err(failed(path, difference)));
    }
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let file = folder.join("tokenizer.json");
    match std::fs::read(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(&file, error.to_string())),
        Ok(json) => {
            let tokens = hf_vocabulary(&json).map_err(|e| failed(&file, e.to_string()))?;
            ours.compare(tokens).map_err(|e| failed(&file, e.to_string()))
        }
    }
}

impl ModelArgs {
    /// As [`ModelArgs::load`], for commands that speak in text: the checkpoint's tokenizer must be ours.
    pub(super) fn load_for_text(&self) -> Result<Arc<GptOss>, Failure> {
        self.open(None, 1, |checkpoint| check_tokenizer(checkpoint, &self.model)).map(|(model, _)| model)
    }

    /// The same for several sequences, of `context` tokens if nobody said otherwise; the model and their context.
    pub(super) fn load_for_lanes(&self, context: usize, lanes: usize) -> Result<(Arc<GptOss>, usize), Failure> {
        let (model, context) =
            self.open(Some(context), lanes, |checkpoint| check_tokenizer(checkpoint, &self.model))?;
        compile_kernels(&model, self.chunk.min(context)).map_err(session_failure)?;
        Ok((model, context))
    }

    /// Opens the device and puts the model on it.
    pub(super) fn load(&self) -> Result<Arc<GptOss>, Failure> {
        self.open(None, 1, |_| Ok(())).map(|(model, _)| model)
    }

    fn open(
        &self,
        context: Option<usize>,
        lanes: usize,
        check: impl FnOnce(&AnyCheckpoint) -> Result<(), Failure>,
    ) -> Result<(Arc<GptOss>, usize), Failure> {
        let inspect = format!("gptoss-verify inspect {}", self.model.display());
        let checkpoint = AnyCheckpoint::open(&self.model).map_err(|e| Failure::new(Exit::Input, e, &inspect))?;
        let widened = widened_warnings(checkpoint.source());
        checkpoint.warnings().iter().chain(&widened).for_each(|warning| eprintln!("warning: {warning}"));
        check(&checkpoint)?;
        let compute = self.open_device()?;
        let longest = checkpoint.source().config().rope.context_length();
        let context = self.context.or(context.map(|context| context.min(longest))).unwrap_or(longest);
        let kv = match self.kv {
            Kv::F32 => KvType::F32,
            Kv::F16 => KvType::F16,
        };
        let (device_memory, chunk, rope) = (self.device_memory, self.chunk, self.rope.variant());
        let options = LoadOptions { device_memory, context, lanes, chunk, kv, rope };
        let bar = Bar::new();
        GptOss::load(Arc::new(checkpoint), &compute, &options, &bar).map(|model| (Arc::new(model), context)).map_err(
            |error| match error {
                LoadError::Device(error) => device_failure(error),
                LoadError::Cancelled => Failure::new(Exit::Interrupted, error, "run the same command again"),
                LoadError::BudgetTooSmall { fixed, expert, .. } => {
                    let next = format!(
                        "--device-memory {}MiB or more, or a smaller --context or --chunk",
                        (fixed + expert).div_ceil(1 << 20)
                    );
                    Failure::new(Exit::MemoryLimit, error, next)
                }
                LoadError::TooLargeForBuffer { .. } => Failure::new(Exit::NoAdapter, error, "gptoss devices"),
                LoadError::Geometry { .. } | LoadError::Scale { .. } | LoadError::NotFinite { .. } => {
                    Failure::new(Exit::Input, error, &inspect)
                }
            },
        )
    }

    /// An empty session on the model.
    pub(super) fn session(&self, model: &Arc<GptOss>) -> Result<Session, Failure> {
        let context = self.context.unwrap_or(SessionOptions::of(model).context);
        let options = SessionOptions { chunk: self.chunk, context };
        let mut session = Session::new(model.clone(), options).map_err(session_failure)?;
        if let Some(path) = &self.trace {
            let file = OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
                Failure::new(output_exit(&error), format!("{}: {error}", path.display()), "choose another --trace")
            })?;
            session.observe(Box::new(JsonLines::new(file)));
        }
        Ok(session)
    }

    fn open_device(&self) -> Result<Compute, Failure> {
        let request =
            |family| DeviceRequest { adapter: self.device.clone(), default_limits: self.webgpu_limits, family };
        let compute = block_on(Compute::open(&request(None))).map_err(device_failure)?;
        Ok(match self.kernels {
            None => compute,
            Some(Kernels::Lane) => compute.with_family(compute.report().lane_family()),
            Some(Kernels::Workgroup) => compute.with_family(Family::Workgroup),
            Some(Kernels::Plane) => match compute.report().subgroup_sizes {
                (small, large) if small == large && small > 1 => compute.with_family(Family::Plane { size: small }),
                (small, large) => {
                    let message =
                        format!("the adapter's subgroups have {small} to {large} units, plane kernels need one size");
                    return Err(Failure::new(Exit::NoAdapter, message, "--kernels workgroup"));
                }
            },
        })
    }
}

/// What a device error means for the caller.
pub(super) fn device_failure(error: DeviceError) -> Failure {
    match error {
        DeviceError::Lost { .. } => {
            Failure::new(Exit::Internal, error, "run the same command again; then check the driver's log")
        }
        _ => Failure::new(Exit::NoAdapter, error, "gptoss devices"),
    }
}

/// Why an engine did not start; `smaller`: what to ask for if its caches are too large.
pub(super) fn engine_failure(error: EngineError, help: &str, smaller: &str) -> Failure {
    match error {
        EngineError::Option { .. } => Failure::new(Exit::Usage, error, help),
        EngineError::CacheTooLarge { .. } => Failure::new(Exit::MemoryLimit, error, smaller),
        EngineError::Thread(_) => Failure::new(Exit::Internal, error, "run the same command again"),
    }
}

/// What a session error means for the caller.
pub(super) fn session_failure(error: SessionError) -> Failure {
    match error {
        SessionError::Device(error) => device_failure(error),
        SessionError::Chunk(_) => Failure::new(Exit::Usage, error, "another --chunk"),
        SessionError::CacheTooLarge { .. } => Failure::new(Exit::MemoryLimit, error, "--kv f16, or a shorter prompt"),
        SessionError::Empty | SessionError::TokenOutOfRange { .. } | SessionError::ContextPassed { .. } => {
            Failure::new(Exit::Input, error, "other tokens, or a longer --context if the model allows it")
        }
    }
}
