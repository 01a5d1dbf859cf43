//! Checkpoints that are elsewhere, on the command line: how they are reached, and what is done with them.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::verify::{Output, finish};
use super::{Bar, Failure, Outcome, print};
use crate::exit::Exit;
use crate::manifest::Manifest;
use crate::range::{Cache, HttpOptions, Require, http};
use crate::remote::{self, Access};
use crate::verify::check::Options;
use crate::verify::outcome::Level;
use crate::verify::remote::{check, inspect, range};

/// How a server is asked, and what is kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "For http and https addresses")]
pub(super) struct AccessArgs {
    /// What must tell one version of a file from another; a weaker validator lets parts of two versions through
    #[arg(long, value_enum, default_value_t = Validator::Etag)]
    require: Validator,
    /// Certificates (PEM) to trust beside Mozilla's list
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    parallel: usize,
    /// Keep what was read, in blocks, in this directory
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Most that the cache keeps
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = size)]
    cache_size: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Validator {
    /// A strong ETag
    Etag,
    /// An unchanged Last-Modified date, where there is no strong ETag
    LastModified,
    /// An unchanged length, where there is neither
    Length,
}

fn size(text: &str) -> Result<u64, String> {
    crate::verify::sample::parse_size(text).ok_or_else(|| format!("expected a size like 16GiB, found `{text}`"))
}

impl AccessArgs {
    fn access(&self) -> Result<Access, Failure> {
        let usage = |message: String| Failure::new(Exit::Usage, message, "gptoss-verify range --help");
        let mut roots = Vec::new();
        if let Some(file) = &self.ca_file {
            let wrong = |error: &dyn std::fmt::Display| usage(format!("{}: {error}", file.display()));
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
                roots.push(certificate.map_err(|error| wrong(&error))?.to_vec());
            }
            if roots.is_empty() {
                return Err(wrong(&"holds no certificate"));
            }
        }
        let cache = self.cache.as_deref().map(|directory| Cache::open(directory, self.cache_size));
        let cache = cache.transpose().map_err(|error| usage(error.to_string()))?;
        let require = match self.require {
            Validator::Etag => Require::StrongEtag,
            Validator::LastModified => Require::LastModified,
            Validator::Length => Require::Length,
        };
        Ok(Access { http: HttpOptions { require, roots, parallel: self.parallel, ..HttpOptions::default() }, cache })
    }
}

/// A tensor, and what to hold it against.
#[derive(Debug, Args)]
pub(super) struct RangeArgs {
    /// A SafeTensors file, a model.bin or a GGUF, or a directory of SafeTensors (its address ends with /): a path or an http(s) address
    source: String,
    /// The tensor's name in the file
    #[arg(long, value_name = "NAME")]
    tensor: String,
    /// First byte, counted from the tensor's
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Bytes to read [default: to the tensor's end]
    #[arg(long, value_name = "N")]
    len: Option<u64>,
    /// How often to read it; every read must give the same SHA-256
    #[arg(long, value_name = "K", default_value_t = 2)]
    repeat: u32,
    /// Another source that must hold the same bytes under the same name
    #[arg(long, value_name = "SOURCE")]
    against: Option<String>,
    /// A manifest that must record the tensor's SHA-256
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    output: Output,
}

/// Runs `range`.
pub(super) fn run(args: &RangeArgs) -> Outcome {
    let start = Instant::now();
    let (access, manifest) = (args.access.access()?, manifest(args.manifest.as_deref())?);
    let (tensor, against) = (args.tensor.clone(), args.against.clone());
    let wanted = range::Wanted { tensor, offset: args.offset, len: args.len, repeat: args.repeat, against };
    // Nothing is written: an interrupt need not wait.
    let bar = Bar::default();
    let mut report = wait(range::run(&args.source, &wanted, manifest.as_ref(), &access, &bar))?;
    report.command = format!("gptoss-verify {}", report.command);
    finish(report, start, &args.output)
}

/// Runs `check` on an address.
pub(super) fn run_check(
    address: &str,
    options: &Options,
    is_sampled: bool,
    access: &AccessArgs,
    output: &Output,
) -> Outcome {
    let start = Instant::now();
    if options.against.is_some() || is_sampled {
        let message = "--against and --sample need the file here";
        return Err(Failure::new(Exit::Usage, message, "gptoss-verify range --help"));
    }
    let (access, manifest) = (access.access()?, manifest(options.manifest.as_deref())?);
    let level = options.level.unwrap_or(Level::Structure);
    if !matches!(level, Level::Structure | Level::Digests) {
        let message = format!("level {} needs the file here: an address has structure and digests", level.name());
        return Err(Failure::new(Exit::Usage, message, "gptoss-verify check --help"));
    }
    let bar = Bar::default();
    let mut report = wait(check::run(address, level, manifest.as_ref(), &access, &bar))?;
    report.command = format!("gptoss-verify {}", report.command);
    finish(report, start, output)
}

/// Runs `inspect` on an address.
pub(super) fn run_inspect(address: &str, tensors: bool, json: bool, access: &AccessArgs) -> Outcome {
    let access = access.access()?;
    let opened = wait(remote::open(address, &access))?;
    let remote = opened.map_err(|error| {
        let next = format!("gptoss-verify explain {}", error.name());
        Failure::new(Exit::Input, error, next)
    })?;
    print(|out| match json {
        true => writeln!(out, "{:#}", inspect::to_json(&remote, tensors)),
        false => inspect::write(&remote, tensors, out),
    })?;
    Ok(Exit::Ok)
}

fn manifest(file: Option<&Path>) -> Result<Option<Manifest>, Failure> {
    file.map(Manifest::read)
        .transpose()
        .map_err(|error| Failure::new(Exit::Input, error, "gptoss-verify manifest CHECKPOINT -o FILE"))
}

fn wait<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    http::wait(work).map_err(|error| Failure::new(Exit::Internal, error, "run the same command again"))
}
