//! `gptoss`: use a model.

use std::path::PathBuf;
use std::time::Instant;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use super::bench::{self, BenchArgs};
use super::chat::{self, ChatArgs};
use super::generate::{self, GenerateArgs};
use super::logits::{self, LogitsArgs};
use super::serve::{self, ServeArgs};
use super::serve_files::{self, ServeFilesArgs};
use super::text::{self, HarmonyCommand, TokenizeArgs};
use super::{Bar, Describe, Failure, Outcome, describe, devices, output_exit, print};
use crate::exit::Exit;
use crate::model_bin::{ExportError, TokenizerSection, export};
use crate::open::AnyCheckpoint;

/// Use gpt-oss checkpoints: run them on a GPU, export them to model.bin
///
/// CHECKPOINT is a SafeTensors directory (OpenAI's original layout or the HF one), one *.safetensors file with its
/// config.json beside it, or a model.bin; the content decides.
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
    /// Write a SafeTensors checkpoint as one file, byte for byte as OpenAI's converter does
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
}

/// Runs a parsed command line.
pub fn run(args: Args) -> Outcome {
    match args.command {
        Command::Export { from, to, format: Format::ModelBin } => export_model_bin(&from, &to),
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

fn export_model_bin(from: &std::path::Path, to: &std::path::Path) -> Outcome {
    let inspect = || format!("gptoss-verify inspect {}", from.display());
    let checkpoint = AnyCheckpoint::open(from).map_err(|error| {
        Failure::new(Exit::Input, error, format!("gptoss-verify explain structure/open, then {}", inspect()))
    })?;
    checkpoint.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let bar = Bar::new();
    let start = Instant::now();
    let tokenizer = TokenizerSection::o200k_harmony().map_err(ExportError::Vocabulary);
    let exported = tokenizer.and_then(|tokenizer| export(checkpoint.source(), &tokenizer, to, &bar));
    let exported = exported.map_err(|error| {
        let (exit, next) = match &error {
            ExportError::Source(_) => (Exit::Input, format!("gptoss-verify check {} --level tensors", from.display())),
            ExportError::Unsupported { .. } | ExportError::VocabTooSmall { .. } => (Exit::Input, inspect()),
            ExportError::AlreadyModelBin { .. } | ExportError::OverSource { .. } => {
                (Exit::Usage, "gptoss export --help".into())
            }
            ExportError::Output { source, .. } => (output_exit(source), "choose another --to".into()),
            ExportError::NoSpace { .. } => (Exit::Internal, "free some space, or choose another --to".into()),
            ExportError::Vocabulary(_) => (Exit::Internal, "gptoss-verify run bytes".into()),
            ExportError::Interrupted { .. } => (Exit::Interrupted, "run the same command again".into()),
        };
        Failure::new(exit, &error, next)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    print(|out| {
        let rate = exported.bytes as f64 / 1e6 / seconds;
        writeln!(out, "{}: {} bytes in {seconds:.1} s ({rate:.0} MB/s)", to.display(), exported.bytes)
    })?;
    Ok(Exit::Ok)
}
