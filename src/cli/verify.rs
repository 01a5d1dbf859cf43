//! `gptoss-verify`: prove a model right.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use super::oracle::{self, OracleArgs};
use super::remote::{self as elsewhere, AccessArgs, RangeArgs};
use super::{Bar, Describe, Failure, Outcome, describe, output_exit, output_next, print};
use crate::checkpoint::Layout;
use crate::device::DeviceRequest;
use crate::exit::Exit;
use crate::gguf::dialect::GgufExportError;
use crate::gguf::{Gguf, is_gguf};
use crate::mapped::FileBytes;
use crate::open::AnyCheckpoint;
use crate::remote::address;
use crate::telemetry::Progress;
use crate::verify::check::{self, CheckError, Options};
use crate::verify::fixture::{self, FixtureError, Recipe};
use crate::verify::golden::{self, StoreError};
use crate::verify::manifest::Manifest;
use crate::verify::outcome::Level;
use crate::verify::report::Format;
use crate::verify::resources::Resources;
use crate::verify::sample::Sample;
use crate::verify::{Report, bench, cases, diff, doctor, explain, fault, inspect};

/// Prove gpt-oss checkpoints, exports and this program itself right
///
/// CHECKPOINT is a SafeTensors directory (OpenAI's original layout or the HF one), one *.safetensors file with its
/// config.json beside it, a model.bin, or a GGUF; the content decides. `check` and `inspect` also take the http or https address of a file,
/// or of a directory (it ends with /), and read no more of it than they need.
///
/// Exit codes: 0 ok, 1 verification failed, 2 usage, 3 input missing or malformed, 4 nothing was checked, 5 no suitable
/// adapter, 6 memory limit passed, 70 internal error, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "gptoss-verify", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the checks of this program on itself: fixtures, exporter, readers, codecs, kernels, logits, text, memory, faults
    Run {
        /// Which checks
        #[arg(value_enum, default_value_t = RunLevel::All)]
        level: RunLevel,
        #[command(flatten)]
        output: Output,
        /// Adapter to run device checks on: a part of its name [default: the fastest kind]
        #[arg(long, value_name = "SUBSTRING")]
        adapter: Option<String>,
        /// With `sabotage`: print the catalogue and the headroom of honest runs as the Markdown tables of the README
        #[arg(long)]
        table: bool,
    },
    /// Check one checkpoint, alone, against a manifest, or against another checkpoint of any layout
    Check {
        /// The checkpoint
        checkpoint: PathBuf,
        /// A checkpoint that must hold the same model
        #[arg(long, value_name = "CHECKPOINT")]
        against: Option<PathBuf>,
        /// How deep to look: structure, digests, tensors, or, on a device, kernels or logits [default: tensors]
        #[arg(long, value_enum, value_name = "LEVEL")]
        level: Option<Level>,
        /// Adapter for kernels and logits: a part of its name [default: the fastest kind]
        #[arg(long, value_name = "SUBSTRING")]
        adapter: Option<String>,
        /// A manifest that the files must match
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// Read only a part of the tensors: a percentage (5%) or a size (256MiB)
        #[arg(long, value_name = "N%|SIZE")]
        sample: Option<Sample>,
        #[command(flatten)]
        access: AccessArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Show what a checkpoint is; of a GGUF, whatever model it holds: metadata, types, tensors, peculiarities
    Inspect {
        /// The checkpoint, or any GGUF
        checkpoint: PathBuf,
        /// List every tensor and section
        #[arg(long)]
        tensors: bool,
        /// Of a GGUF: say what it is, what is unusual, and what will go wrong where; reads every MXFP4 tensor
        #[arg(long)]
        doctor: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: AccessArgs,
    },
    /// Read one tensor through ranges of a file or an address, again and again, and compare its SHA-256
    Range(RangeArgs),
    /// Show the first place where two checkpoints differ
    Diff {
        /// The checkpoint taken as right
        a: PathBuf,
        /// The checkpoint in question
        b: PathBuf,
    },
    /// Write the SHA-256 of every section and tensor of a checkpoint
    Manifest {
        /// The checkpoint
        checkpoint: PathBuf,
        /// Where to write it [default: stdout]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Compute the logits of a token list by the f64 oracle and write them as a SafeTensors file
    Oracle(OracleArgs),
    /// Say what a check, a fault or an error means
    Explain {
        /// Its name, as a report shows it; `all` lists what there is
        check: String,
    },
    /// Write the synthetic checkpoint of a recipe
    Fixture {
        /// A built-in recipe (T1, T2, T3, small-vocab, full-20b, ...) or the path of one
        recipe: String,
        /// The directory to write; it appears whole or not at all
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The layout
        #[arg(long, value_enum, default_value_t = FixtureLayout::Original)]
        layout: FixtureLayout,
        /// Number of SafeTensors files
        #[arg(long, default_value_t = 1)]
        shards: usize,
    },
    /// Check, list or make again the recorded truths that checks compare with
    Goldens {
        #[command(subcommand)]
        action: Goldens,
    },
    #[command(flatten)]
    Describe(Describe),
}

#[derive(Debug, Subcommand)]
enum Goldens {
    /// Check every golden's digest, and make again those that this program makes
    Check {
        #[command(flatten)]
        output: Output,
    },
    /// List the goldens, their producers and sources
    List,
    /// Make goldens again, by the command in their provenance
    Regenerate {
        /// Only those whose name fits; `*` stands for anything
        #[arg(long, value_name = "GLOB")]
        only: Option<String>,
        /// Why; it is recorded
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Output {
    /// How the report is written
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Write the report to this file, in that format, and a summary for a person to stdout
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum RunLevel {
    Bytes,
    Tensors,
    Logits,
    Text,
    Memory,
    Sabotage,
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FixtureLayout {
    /// OpenAI's: block.N.*
    Original,
    /// Hugging Face's: model.layers.N.*
    Hf,
    /// DIR/model.gguf, as llama.cpp names and packs tensors; dense ones BF16
    Gguf,
}

/// Runs a parsed command line.
pub fn run(args: Args) -> Outcome {
    match args.command {
        Command::Run { level: RunLevel::Sabotage, table: true, .. } => {
            let faults = fault::table(&fault::catalogue());
            print(|out| write!(out, "{faults}\n{}", cases::headroom::markdown()))?;
            Ok(Exit::Ok)
        }
        Command::Run { table: true, .. } => {
            Err(Failure::new(Exit::Usage, "--table goes with `sabotage`", "gptoss-verify run sabotage --table"))
        }
        Command::Run { level, output, adapter, table: false } => {
            choose_adapter(adapter);
            run_cases(level, &output)
        }
        Command::Check { checkpoint, against, level, adapter, manifest, sample, access, output } => {
            let is_sampled = sample.is_some();
            let options = Options { level, against, manifest, sample: sample.unwrap_or_default() };
            if let Some(address) = address(&checkpoint) {
                return elsewhere::run_check(address, &options, is_sampled, &access, &output);
            }
            choose_adapter(adapter);
            run_check(&checkpoint, &options, &output)
        }
        Command::Range(args) => elsewhere::run(&args),
        Command::Inspect { checkpoint, tensors, doctor, json, access } => match address(&checkpoint) {
            Some(_) if doctor => {
                let next = format!("gptoss-verify inspect {}", checkpoint.display());
                Err(Failure::new(Exit::Usage, "--doctor reads whole tensors: it wants a file, not an address", next))
            }
            Some(address) => elsewhere::run_inspect(address, tensors, json, &access),
            None => run_inspect(&checkpoint, tensors, doctor, json),
        },
        Command::Diff { a, b } => run_diff(&a, &b),
        Command::Manifest { checkpoint, output } => write_manifest(&checkpoint, output.as_deref()),
        Command::Oracle(args) => oracle::run(&args),
        Command::Explain { check } => match explain::text(&check) {
            Some(text) => print(|out| out.write_all(text.as_bytes())).map(|()| Exit::Ok),
            None => {
                let message = format!("no check, fault or error is called `{check}`");
                Err(Failure::new(Exit::Usage, message, "gptoss-verify explain all"))
            }
        },
        Command::Fixture { recipe, out, layout, shards } => write_fixture(&recipe, layout, shards, &out),
        Command::Goldens { action } => run_goldens(&action),
        Command::Describe(what) => describe(Args::command(), &what),
    }
}

/// Before the first check opens a device.
fn choose_adapter(adapter: Option<String>) {
    if let Some(adapter) = adapter {
        bench::choose_device(DeviceRequest { adapter, ..DeviceRequest::default() });
    }
}

fn run_cases(level: RunLevel, output: &Output) -> Outcome {
    let start = Instant::now();
    let (name, level) = match level {
        RunLevel::Bytes => ("bytes", Some(Level::Bytes)),
        RunLevel::Tensors => ("tensors", Some(Level::Tensors)),
        RunLevel::Logits => ("logits", Some(Level::Logits)),
        RunLevel::Text => ("text", Some(Level::Text)),
        RunLevel::Memory => ("memory", Some(Level::Memory)),
        RunLevel::Sabotage => ("sabotage", Some(Level::Sabotage)),
        RunLevel::All => ("all", None),
    };
    let report = Report::new(format!("gptoss-verify run {name}"), cases::run(level));
    finish(report, start, output)
}

fn run_check(path: &Path, options: &Options, output: &Output) -> Outcome {
    let start = Instant::now();
    let bar = Bar::new();
    let mut report = check::run(path, options, &bar).map_err(|error| match error {
        CheckError::Interrupted => Failure::new(Exit::Interrupted, error, "run the same command again"),
        CheckError::Level(_) => Failure::new(Exit::Usage, error, "gptoss-verify check --help"),
        CheckError::Manifest(_) => {
            let next = format!("gptoss-verify manifest {} -o FILE", path.display());
            Failure::new(Exit::Input, error, next)
        }
    })?;
    report.command = format!("gptoss-verify {}", report.command);
    finish(report, start, output)
}

/// Writes the report where it was asked for; its outcome is the exit code.
pub(super) fn finish(mut report: Report, start: Instant, output: &Output) -> Outcome {
    report.resources = Some(Resources::since(start));
    match &output.report {
        None => print(|out| report.write(output.format, out))?,
        Some(path) => {
            let mut text = anstream::StripStream::new(Vec::new());
            let written = report.write(output.format, &mut text);
            written.and_then(|()| crate::output::write(path, &text.into_inner())).map_err(|error| {
                let message = format!("{}: {error}", path.display());
                Failure::new(output_exit(&error), message, "choose another --report")
            })?;
            print(|out| report.write(Format::Human, out))?;
        }
    }
    Ok(report.exit())
}

fn open(path: &Path) -> Result<AnyCheckpoint, Failure> {
    AnyCheckpoint::open(path).map_err(|error| {
        let next = format!("gptoss-verify explain {}", error.name());
        Failure::new(Exit::Input, error, next)
    })
}

/// A GGUF is shown whatever model it holds; everything else is opened as a checkpoint.
fn run_inspect(path: &Path, tensors: bool, doctor: bool, json: bool) -> Outcome {
    if !is_gguf_file(path) {
        if doctor {
            let next = format!("gptoss-verify check {}", path.display());
            return Err(Failure::new(Exit::Usage, "--doctor looks at GGUFs", next));
        }
        let checkpoint = open(path)?;
        print(|out| match json {
            true => writeln!(out, "{:#}", inspect::to_json(&checkpoint, tensors)),
            false => inspect::write(&checkpoint, tensors, out),
        })?;
        return Ok(Exit::Ok);
    }
    let gguf = Gguf::open(path).map_err(|error| {
        let next = format!("gptoss-verify explain {}", error.name());
        Failure::new(Exit::Input, error, next)
    })?;
    let findings = doctor.then(|| doctor::examine(&gguf));
    print(|out| match json {
        true => writeln!(out, "{:#}", inspect::gguf::to_json(&gguf, tensors, findings.as_deref())),
        false => inspect::gguf::write(&gguf, tensors, findings.as_deref(), out),
    })?;
    Ok(Exit::Ok)
}

/// By its first bytes, or by its name where they are damaged or cannot be read.
fn is_gguf_file(path: &Path) -> bool {
    let start = FileBytes::map(path).map_or_else(|_| Vec::new(), |bytes| bytes[..bytes.len().min(4)].to_vec());
    is_gguf(path, &start)
}

fn run_diff(a: &Path, b: &Path) -> Outcome {
    let (a, b) = (open(a)?, open(b)?);
    match diff::first_difference(&a, &b) {
        None => {
            print(|out| writeln!(out, "equal: every tensor, modulo the documented transforms"))?;
            Ok(Exit::Ok)
        }
        Some(difference) => {
            print(|out| difference.write(out))?;
            eprintln!(
                "next: gptoss-verify check {} --against {}",
                b.source().path().display(),
                a.source().path().display()
            );
            Ok(Exit::Failed)
        }
    }
}

fn write_manifest(path: &Path, output: Option<&Path>) -> Outcome {
    let checkpoint = open(path)?;
    let bar = Bar::new();
    let manifest = Manifest::of(&checkpoint, &bar);
    if bar.cancelled() {
        return Err(Failure::new(
            Exit::Interrupted,
            "interrupted; no manifest was written",
            "run the same command again",
        ));
    }
    let text = manifest.to_json();
    match output {
        None => print(|out| out.write_all(text.as_bytes()))?,
        Some(file) => crate::output::write(file, text.as_bytes()).map_err(|error: io::Error| {
            Failure::new(output_exit(&error), format!("{}: {error}", file.display()), "choose another --output")
        })?,
    }
    Ok(Exit::Ok)
}

fn write_fixture(recipe: &str, layout: FixtureLayout, shards: usize, out: &Path) -> Outcome {
    let recipe =
        Recipe::load(recipe).map_err(|error| Failure::new(Exit::Input, error, "gptoss-verify fixture --help"))?;
    let layout = match layout {
        FixtureLayout::Original => Layout::Original,
        FixtureLayout::Hf => Layout::Hf,
        FixtureLayout::Gguf => Layout::Gguf,
    };
    let bar = Bar::new();
    fixture::write(&recipe, layout, shards, out, &bar).map_err(|error| {
        let (exit, next) = match &error {
            FixtureError::Interrupted { .. } => (Exit::Interrupted, "run the same command again".into()),
            FixtureError::Shards { .. } => (Exit::Usage, "gptoss-verify fixture --help".into()),
            FixtureError::ForeignDirectory { .. } => (Exit::Usage, "choose another --out".into()),
            FixtureError::Output(output) | FixtureError::Gguf(GgufExportError::Output(output)) => {
                output_next(output, "--out")
            }
            FixtureError::Gguf(_) => (Exit::Input, "choose another recipe, or another --layout".into()),
        };
        Failure::new(exit, &error, next)
    })?;
    print(|stdout| writeln!(stdout, "{}: {layout}, {} file(s) of recipe {}", out.display(), shards, recipe.name))?;
    Ok(Exit::Ok)
}

fn run_goldens(action: &Goldens) -> Outcome {
    let start = Instant::now();
    match action {
        Goldens::List => {
            print(|out| {
                let texts = golden::ALL.iter().map(|&(name, payload, sidecar)| (name, payload.as_bytes(), sidecar));
                texts.chain(golden::TENSORS.iter().copied()).try_for_each(|(name, payload, sidecar)| {
                    let checked = golden::checked(name, payload, sidecar);
                    let source = checked.map_or_else(|e| e.to_string(), |provenance| provenance.source);
                    writeln!(out, "{name:<28} {:>7} bytes  {source}", payload.len())
                })
            })?;
            Ok(Exit::Ok)
        }
        Goldens::Check { output } => {
            let store = find_store()?;
            let into = store.with_file_name("target").join("goldens");
            let checks = golden::check_store(&store, &into).map_err(store_failure)?;
            finish(Report::new("gptoss-verify goldens check", checks), start, output)
        }
        Goldens::Regenerate { only, reason } => {
            let rebuilt = golden::regenerate(&find_store()?, only.as_deref(), reason).map_err(store_failure)?;
            print(|out| {
                rebuilt.iter().try_for_each(|golden| {
                    let what = if golden.changed { "changed" } else { "same payload" };
                    writeln!(out, "{}: {what}", golden.name)
                })
            })?;
            Ok(Exit::Ok)
        }
    }
}

fn find_store() -> Result<PathBuf, Failure> {
    let here = std::env::current_dir().unwrap_or_default();
    golden::find(&here).map_err(store_failure)
}

fn store_failure(error: StoreError) -> Failure {
    let (exit, next) = match &error {
        StoreError::NoStore => (Exit::Usage, "cd into a checkout of gptoss"),
        StoreError::NoMatch(_) => (Exit::Usage, "gptoss-verify goldens list"),
        StoreError::NoReason => (Exit::Usage, "gptoss-verify goldens regenerate --reason TEXT"),
        StoreError::Producer { .. } => (Exit::Failed, "see scripts/witness/README.md for what the producer needs"),
        StoreError::Io { .. } | StoreError::Provenance { .. } => (Exit::Input, "gptoss-verify goldens check"),
    };
    Failure::new(exit, &error, next)
}
