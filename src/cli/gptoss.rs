//! `gptoss`: use a model.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use super::bench::{self, BenchArgs};
use super::chat::{self, ChatArgs};
use super::generate::{self, GenerateArgs};
use super::logits::{self, LogitsArgs};
use super::model::other_vocabulary;
use super::serve::{self, ServeArgs};
use super::serve_files::{self, ServeFilesArgs};
use super::text::{self, HarmonyCommand, TokenizeArgs};
use super::{Bar, Describe, Failure, Outcome, describe, devices, output_next, print};
use crate::exit::Exit;
use crate::gguf::dialect::{DenseType, GgufExportError, GgufOptions, TokenList, export_gguf};
use crate::model_bin::{ExportError, TokenizerSection, export};
use crate::open::AnyCheckpoint;

/// Use gpt-oss checkpoints: run them on a GPU, export them to model.bin or GGUF
///
/// CHECKPOINT is a SafeTensors directory (OpenAI's original layout or the HF one), one *.safetensors file with its
/// config.json beside it, a model.bin, or a GGUF; the content decides.
///
/// Exit codes: 0 ok, 2 usage, 3 input missing or malformed, 5 no suitable adapter, 6 memory limit passed, 70 internal
/// error, 130 interrupted. RUST_LOG=debug shows
/// what is written where.
#[derive(Debug, Parser)]
#[command(name = "gptoss", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a checkpoint as one file: a model.bin, byte for byte as OpenAI's converter does, or a GGUF
    Export {
        /// The checkpoint to read
        #[arg(long, value_name = "CHECKPOINT")]
        from: PathBuf,
        /// The file to write; it appears whole or not at all
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// What to write
        #[arg(long, value_enum, default_value_t = Format::ModelBin)]
        format: Format,
        /// The type of a GGUF's matrices outside the experts; bf16 loses nothing [default: bf16]
        #[arg(long, value_enum)]
        dense: Option<Dense>,
    },
    /// Compute the logits of a token list and write them as a SafeTensors file
    Logits(LogitsArgs),
    /// Go on from a prompt or a conversation, and stream what comes
    Generate(GenerateArgs),
    /// Talk with the model on the terminal
    Chat(ChatArgs),
    /// Serve the model over HTTP, as OpenAI's API speaks
    Serve(ServeArgs),
    /// Serve the files of a directory over HTTP, in ranges
    ServeFiles(ServeFilesArgs),
    /// Turn text into token ids (o200k_harmony), or ids into text
    Tokenize(TokenizeArgs),
    /// Turn conversations into token ids, or ids into messages
    #[command(subcommand)]
    Harmony(HarmonyCommand),
    /// List the adapters, their limits, and which kernels they would run
    Devices {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure prompt and decode rates, bytes read per token and the share of memory bandwidth
    Bench(BenchArgs),
    #[command(flatten)]
    Describe(Describe),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// OpenAI's Metal model.bin
    ModelBin,
    /// GGUF, as llama.cpp reads it
    Gguf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Dense {
    /// As the checkpoint has them
    Bf16,
    /// Rounded to halves
    F16,
    /// Quantised as ggml does
    #[value(name = "q8_0")]
    Q8_0,
}

/// Runs a parsed command line.
pub fn run(args: Args) -> Outcome {
    match args.command {
        Command::Export { from, to, format: Format::ModelBin, dense: None } => export_model_bin(&from, &to),
        Command::Export { format: Format::ModelBin, .. } => {
            Err(Failure::new(Exit::Usage, "--dense goes with --format gguf", "gptoss export --help"))
        }
        Command::Export { from, to, format: Format::Gguf, dense } => {
            let dense = match dense {
                None | Some(Dense::Bf16) => DenseType::Bf16,
                Some(Dense::F16) => DenseType::F16,
                Some(Dense::Q8_0) => DenseType::Q8_0,
            };
            export_to_gguf(&from, &to, dense)
        }
        Command::Logits(args) => logits::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::ServeFiles(args) => serve_files::run(&args),
        Command::Tokenize(args) => text::tokenize(&args),
        Command::Harmony(command) => text::harmony(&command),
        Command::Devices { json } => devices::run(json),
        Command::Bench(args) => bench::run(&args),
        Command::Describe(what) => describe(Args::command(), &what),
    }
}

fn open_source(from: &Path) -> Result<AnyCheckpoint, Failure> {
    let checkpoint = AnyCheckpoint::open(from).map_err(|error| {
        let next = format!("gptoss-verify explain structure/open, then gptoss-verify inspect {}", from.display());
        Failure::new(Exit::Input, error, next)
    })?;
    checkpoint.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    // Both formats are written with the bundled vocabulary: another one must not vanish.
    if let AnyCheckpoint::Gguf(model) = &checkpoint
        && let Some(difference) = other_vocabulary(model)
    {
        let message = format!("{}: its vocabulary is not o200k_harmony: {difference}", from.display());
        return Err(Failure::new(Exit::Input, message, format!("gptoss-verify check {}", from.display())));
    }
    Ok(checkpoint)
}

fn told(to: &Path, bytes: u64, start: Instant) -> Outcome {
    let seconds = start.elapsed().as_secs_f64();
    print(|out| {
        let rate = bytes as f64 / 1e6 / seconds;
        writeln!(out, "{}: {bytes} bytes in {seconds:.1} s ({rate:.0} MB/s)", to.display())
    })?;
    Ok(Exit::Ok)
}

fn export_model_bin(from: &Path, to: &Path) -> Outcome {
    let inspect = || format!("gptoss-verify inspect {}", from.display());
    let checkpoint = open_source(from)?;
    let (bar, start) = (Bar::new(), Instant::now());
    let tokenizer = TokenizerSection::o200k_harmony().map_err(ExportError::Vocabulary);
    let exported = tokenizer.and_then(|tokenizer| export(checkpoint.source(), &tokenizer, to, &bar));
    let exported = exported.map_err(|error| {
        let (exit, next) = match &error {
            ExportError::Source(_) | ExportError::NotExact(_) => {
                (Exit::Input, format!("gptoss-verify check {} --level tensors", from.display()))
            }
            ExportError::Unsupported { .. } | ExportError::VocabTooSmall { .. } => (Exit::Input, inspect()),
            ExportError::AlreadyModelBin { .. } | ExportError::OverSource { .. } => {
                (Exit::Usage, "gptoss export --help".into())
            }
            ExportError::Output(output) => output_next(output, "--to"),
            ExportError::Vocabulary(_) => (Exit::Internal, "gptoss-verify run bytes".into()),
            ExportError::Interrupted { .. } => (Exit::Interrupted, "run the same command again".into()),
        };
        Failure::new(exit, &error, next)
    })?;
    told(to, exported.bytes, start)
}

fn export_to_gguf(from: &Path, to: &Path, dense: DenseType) -> Outcome {
    let checkpoint = open_source(from)?;
    if let AnyCheckpoint::ModelBin(_) = checkpoint {
        eprintln!(
            "note: Q and K of a model.bin are rounded where they are subnormal; what is written has them as it has"
        );
    }
    let (bar, start) = (Bar::new(), Instant::now());
    let tokens = TokenList::o200k_harmony(checkpoint.source().vocab_rows())
        .map_err(|error| Failure::new(Exit::Internal, error, "gptoss-verify run bytes"))?;
    let stem = from.file_stem().or(from.file_name()).unwrap_or_default().to_string_lossy().into_owned();
    let options = GgufOptions { name: &stem, dense, tokens: Some(&tokens) };
    let bytes = export_gguf(checkpoint.source(), &options, to, &bar).map_err(|error| {
        let check = || format!("gptoss-verify check {} --level tensors", from.display());
        let (exit, next) = match &error {
            GgufExportError::Source(_) | GgufExportError::NotExact(_) => (Exit::Input, check()),
            GgufExportError::Unsupported { .. } => (Exit::Input, format!("gptoss-verify inspect {}", from.display())),
            GgufExportError::TooLarge { .. } => (Exit::Input, "gptoss export --dense bf16".into()),
            GgufExportError::OverSource { .. } => (Exit::Usage, "gptoss export --help".into()),
            GgufExportError::Output(output) => output_next(output, "--to"),
            GgufExportError::Interrupted { .. } => (Exit::Interrupted, "run the same command again".into()),
        };
        Failure::new(exit, &error, next)
    })?;
    told(to, bytes, start)
}
