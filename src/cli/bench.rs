//! `gptoss bench`: rates, bytes and launches of a model on a device.  Timings are medians of one run on one machine.

mod arrivals;
mod layers;
mod report;
mod streams;

use std::io::Write;
use std::time::Instant;

use clap::Args;
use cubecl::future::block_on;
use serde::Serialize;

use super::model::{ModelArgs, device_failure, session_failure};
use super::{Failure, Outcome, print};
use crate::exit::Exit;
use crate::generate::session::Want;
use crate::kernels::gauge::read;
use crate::kernels::launches;
use crate::models::gpt_oss::GptOss;
use crate::verify::resources::Resources;

/// What to measure.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Prompt lengths, tokens
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "128,512")]
    prompt_lengths: Vec<usize>,
    /// Tokens decoded after each prompt
    #[arg(long, value_name = "N", default_value_t = 16)]
    decode: usize,
    /// Times each is measured, after one run that compiles the kernels
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: usize,
    /// Sequences that decode at once over one set of weights, instead of prompt lengths: throughput over that of one
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    streams: Vec<usize>,
    /// With --streams: prompts of so many tokens enter beside the most streams; how much longer these wait for a token
    #[arg(long, value_name = "N,…", value_delimiter = ',', requires = "streams")]
    beside: Vec<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lowest, median and highest of some measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { min: values[0], median: values[values.len() / 2], max: values[values.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:.2} ({:.2}-{:.2})", self.median, self.min, self.max))
    }
}

#[derive(Debug, Serialize)]
struct Length {
    prompt_tokens: usize,
    first_run_seconds: f64,
    prompt_tokens_per_second: Spread,
    decode_tokens_per_second: Spread,
    bytes_per_token: u64,
    share_of_bandwidth: f64,
    launches_per_token: u64,
    host_seconds_per_token: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    command: &'static str,
    device: String,
    kernels: String,
    layers: usize,
    load_seconds: f64,
    read_bytes_per_second: f64,
    packed_over_expanded: Option<f64>,
    device_bytes: (u64, u64),
    host_peak_bytes: Option<u64>,
    lengths: Vec<Length>,
}

/// Runs the command.
pub(super) fn run(args: &BenchArgs) -> Outcome {
    if args.repeat == 0 || args.decode == 0 || args.prompt_lengths.contains(&0) {
        return Err(Failure::new(Exit::Usage, "lengths, --decode and --repeat must be above 0", "gptoss bench --help"));
    }
    if !args.streams.is_empty() {
        return streams::run(args);
    }
    let start = Instant::now();
    let model = args.model.load()?;
    let load_seconds = start.elapsed().as_secs_f64();
    let bandwidth = bandwidth(&model)?;
    let packed_over_expanded = packed_over_expanded(&model, args.repeat)?;
    let mut lengths = Vec::new();
    for &tokens in &args.prompt_lengths {
        lengths.push(measure(args, &model, tokens, bandwidth)?);
    }
    let report = Report {
        schema: 1,
        command: "bench",
        device: model.compute().report().name.clone(),
        kernels: format!("{:?}", model.compute().family()),
        layers: model.config().layers,
        load_seconds,
        read_bytes_per_second: bandwidth,
        packed_over_expanded,
        device_bytes: model.compute().memory_bytes(),
        host_peak_bytes: Resources::since(start).peak_resident_bytes,
        lengths,
    };
    show(args, &report, table)
}

/// Prints a report, as JSON or as the table that a person reads.
fn show<R: Serialize>(
    args: &BenchArgs,
    report: &R,
    table: impl Fn(&mut dyn Write, &R) -> std::io::Result<()>,
) -> Outcome {
    print(
        |out| if args.json { writeln!(out, "{}", serde_json::to_string_pretty(report)?) } else { table(out, report) },
    )?;
    Ok(Exit::Ok)
}

/// Bytes per second at which the adapter reads a large buffer: the best of five.
fn bandwidth(model: &GptOss) -> Result<f64, Failure> {
    let buffer = model.large_buffer();
    let bytes = buffer.dims().iter().product::<usize>() * 4;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        block_on(model.compute().read_words(read(&buffer))).map_err(device_failure)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(bytes as f64 / best)
}

/// How many times as long the experts of a token take by way of BF16; `None` where experts are paged.
fn packed_over_expanded(model: &GptOss, repeat: usize) -> Result<Option<f64>, Failure> {
    let (mut packed, mut expanded) = (Vec::new(), Vec::new());
    for _ in 0..=repeat {
        let start = Instant::now();
        let ran = block_on(model.gauge_packed()).map_err(device_failure)?;
        packed.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        block_on(model.gauge_expanded()).map_err(device_failure)?;
        expanded.push(start.elapsed().as_secs_f64());
        if !ran {
            return Ok(None);
        }
    }
    Ok(Some(Spread::of(expanded.split_off(1)).median / Spread::of(packed.split_off(1)).median))
}

fn measure(args: &BenchArgs, model: &std::sync::Arc<GptOss>, tokens: usize, bandwidth: f64) -> Result<Length, Failure> {
    let vocab = model.vocab_rows().min(199_998) as u64;
    let prompt: Vec<u32> = (0..tokens as u64).map(|i| ((7919 * i + 13) % vocab) as u32).collect();
    let (mut prompt_rates, mut decode_rates, mut first) = (Vec::new(), Vec::new(), 0.0);
    let (mut counted, mut host) = (0, 0.0);
    for round in 0..=args.repeat {
        let mut session = args.model.session(model)?;
        let start = Instant::now();
        session.prefill(&prompt).map_err(session_failure)?;
        let prefill = start.elapsed().as_secs_f64();
        let before = launches();
        let start = Instant::now();
        for i in 0..args.decode {
            session.decode(prompt[i % tokens]).map_err(session_failure)?;
        }
        let decode = start.elapsed().as_secs_f64();
        counted = (launches() - before) / args.decode as u64;
        // Without a read nothing waits for the device: what is left is recording.
        let start = Instant::now();
        block_on(session.run(&prompt[..1], Want::Nothing, None, &mut |_, _| ())).map_err(session_failure)?;
        host = start.elapsed().as_secs_f64();
        model.compute().wait();
        if round == 0 {
            first = prefill + decode;
        } else {
            prompt_rates.push(tokens as f64 / prefill);
            decode_rates.push(args.decode as f64 / decode);
        }
    }
    let bytes_per_token = model.weight_bytes_per_token() + model.cache_bytes_per_token(tokens);
    let decode = Spread::of(decode_rates);
    Ok(Length {
        prompt_tokens: tokens,
        first_run_seconds: first,
        prompt_tokens_per_second: Spread::of(prompt_rates),
        decode_tokens_per_second: decode,
        bytes_per_token,
        share_of_bandwidth: decode.median * bytes_per_token as f64 / bandwidth,
        launches_per_token: counted,
        host_seconds_per_token: host,
    })
}

fn table(out: &mut dyn Write, r: &Report) -> std::io::Result<()> {
    writeln!(out, "{}, {} kernels; loaded in {:.1} s", r.device, r.kernels, r.load_seconds)?;
    writeln!(
        out,
        "reads {:.2} GB/s; device memory {} MB, host peak {} MB",
        r.read_bytes_per_second / 1e9,
        r.device_bytes.0 / 1_000_000,
        r.host_peak_bytes.unwrap_or(0) / 1_000_000
    )?;
    if let Some(ratio) = r.packed_over_expanded {
        writeln!(out, "experts of a token from packed blocks: {ratio:.1} × as fast as by way of BF16")?;
    }
    writeln!(
        out,
        "{:>8} {:>22} {:>22} {:>12} {:>9} {:>9} {:>8}",
        "prompt", "prompt tok/s", "decode tok/s", "MB/token", "of reads", "launches", "host ms"
    )?;
    for l in &r.lengths {
        writeln!(
            out,
            "{:>8} {:>22} {:>22} {:>12.1} {:>8.0}% {:>9} {:>8.2}",
            l.prompt_tokens,
            l.prompt_tokens_per_second,
            l.decode_tokens_per_second,
            l.bytes_per_token as f64 / 1e6,
            100.0 * l.share_of_bandwidth,
            l.launches_per_token,
            1e3 * l.host_seconds_per_token
        )?;
    }
    Ok(())
}
