//! `gptoss bench --streams`: several sequences over one set of weights, through the engine that serves them.
//!
//! * **Throughput**: N sequences decode together, 1 and every other N in turns, so that ratios are of one run.
//! * **Floor**: what the ratio would be if only bytes of weights and caches cost time.  A step of N reads every matrix once
//!   and of the experts those that somebody was sent to, counted in a pass that is traced; so is the time of each kernel.
//! * **Gaps**: how long a stream waits for its next token while a long prompt enters beside it, over how long it waits at the
//!   same positions without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::arrivals::{Arrival, Gaps, rate};
use super::layers::{Step, step_of};
use super::report::{Beside, Row, StreamsReport};
use super::{BenchArgs, Spread, show};
use crate::cli::model::engine_failure;
use crate::cli::{Failure, Outcome};
use crate::exit::Exit;
use crate::generate::engine::{Engine, EngineEvent, EngineOptions, Job, Sink};
use crate::generate::sampling::SamplingParams;

/// Tokens of each stream's own prompt.
pub(super) const PROMPT: usize = 8;
/// How long nothing may come from an engine that works.
const PATIENCE: Duration = Duration::from_secs(600);

/// Tokens of `stream`: no two streams begin alike.
pub(super) fn prompt_of(stream: usize, count: usize, vocab: usize) -> Vec<u32> {
    let modulus = vocab.min(199_998) as u64;
    (0..count as u64).map(|i| ((7919 * i + 104_729 * stream as u64 + 13) % modulus) as u32).collect()
}

/// Runs the command.
pub(super) fn run(args: &BenchArgs) -> Outcome {
    let mut counts = args.streams.clone();
    counts.push(1);
    counts.sort_unstable();
    counts.dedup();
    if counts[0] == 0 || args.beside.contains(&0) {
        return Err(Failure::new(Exit::Usage, "--streams and --beside must be above 0", "gptoss bench --help"));
    }
    let most = counts[counts.len() - 1];
    let start = Instant::now();
    // While prompts enter, streams go on: a token a step, and of four steps at least three take some of a prompt.  The same
    // positions serve the steps without.
    let entering = args.beside.iter().copied().max().unwrap_or(0) + PROMPT * most;
    let room = PROMPT + args.decode + 2 + entering.div_ceil(3) * 4;
    let (model, context) = args.model.load_for_lanes(room, most + 1)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let steps = counts.iter().map(|&n| step_of(&model, n)).collect::<Result<Vec<Step>, _>>()?;
    let options = EngineOptions { lanes: most + 1, queue: most + 1, context, chunk: args.model.chunk };
    let engine = Engine::start(model.clone(), options)
        .map_err(|error| engine_failure(error, "gptoss bench --help", "--kv f16, fewer --streams"))?;
    let rows = throughput(args, &engine, &counts, &steps)?;
    let beside =
        args.beside.iter().map(|&tokens| long_prompt(args, &engine, most, tokens)).collect::<Result<_, _>>()?;
    let report = StreamsReport {
        schema: 1,
        command: "bench",
        device: model.compute().report().name.clone(),
        kernels: format!("{:?}", model.compute().family()),
        layers: model.config().layers,
        load_seconds,
        prompt_tokens: PROMPT,
        decoded_tokens: args.decode,
        streams: rows,
        beside,
    };
    show(args, &report, |out, report| report.table(out))
}

/// Each number of streams in turns, after a round that compiles the kernels.
fn throughput(args: &BenchArgs, engine: &Engine, counts: &[usize], steps: &[Step]) -> Result<Vec<Row>, Failure> {
    let (mut rates, mut gaps) = (vec![Vec::new(); counts.len()], vec![Vec::new(); counts.len()]);
    for round in 0..=args.repeat {
        for (i, &n) in counts.iter().enumerate() {
            eprintln!("round {round} of {}: {n} streams", args.repeat);
            let mut streams = Streams::start(engine, n)?;
            let arrivals = streams.decode(args.decode)?;
            drop(streams);
            settle(engine);
            if round > 0 {
                rates[i].push(rate(&arrivals).unwrap_or(f64::NAN));
                gaps[i].extend(Gaps::of(&arrivals));
            }
        }
    }
    let one = &rates[0];
    let row = |(i, step): (usize, &Step)| {
        let ratios: Vec<f64> = rates[i].iter().zip(one).map(|(n, one)| n / one).collect();
        Row::new(counts[i], Spread::of(rates[i].clone()), Spread::of(ratios), &gaps[i], step, &steps[0])
    };
    Ok(steps.iter().enumerate().map(row).collect())
}

/// Streams decode; then a prompt enters beside them, until its first token; then as many steps of the same streams without.
fn long_prompt(args: &BenchArgs, engine: &Engine, n: usize, tokens: usize) -> Result<Beside, Failure> {
    eprintln!("a prompt of {tokens} tokens beside {n} streams");
    let mut streams = Streams::start(engine, n)?;
    streams.decode(args.decode)?;
    let start = Instant::now();
    let during = streams.beside(tokens)?;
    let seconds = start.elapsed().as_secs_f64();
    drop(streams);
    settle(engine);
    let steps = during.len() / n - 1;
    eprintln!("{steps} steps without it");
    let mut streams = Streams::start(engine, n)?;
    streams.decode(args.decode)?;
    let alone = streams.decode(steps)?;
    drop(streams);
    settle(engine);
    let none = || Failure::new(Exit::Usage, "no stream made two tokens meanwhile", "a longer --beside");
    Beside::of(n, tokens, seconds, &alone, &during).ok_or_else(none)
}

/// Closed streams leave their lanes one step later.
fn settle(engine: &Engine) {
    while engine.status().active > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a stream's sink says: which, when, and whether it was a token.
type Said = (usize, Instant, Result<bool, String>);

/// A sink that notes the time.
struct Clocked {
    stream: usize,
    to: Sender<Said>,
    open: Arc<AtomicBool>,
}

impl Sink for Clocked {
    fn event(&mut self, event: EngineEvent) {
        let said = match event {
            EngineEvent::Token { .. } => Ok(true),
            EngineEvent::Done { .. } => Ok(false),
            EngineEvent::Failed(reason) => Err(reason),
        };
        let _ = self.to.send((self.stream, Instant::now(), said));
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}

/// Sequences under way; dropping them closes their sinks.
struct Streams<'a> {
    engine: &'a Engine,
    count: usize,
    start: Instant,
    events: Receiver<Said>,
    to: Sender<Said>,
    open: Arc<AtomicBool>,
    /// The last token of each stream.
    last: Vec<Option<Arrival>>,
}

impl Drop for Streams<'_> {
    fn drop(&mut self) {
        self.open.store(false, Ordering::Relaxed);
    }
}

impl<'a> Streams<'a> {
    /// `count` sequences, all of which have made a token.
    fn start(engine: &'a Engine, count: usize) -> Result<Self, Failure> {
        let (to, events) = channel();
        let open = Arc::new(AtomicBool::new(true));
        let mut streams = Self { engine, count, start: Instant::now(), events, to, open, last: vec![None; count] };
        let vocab = engine.model().vocab_rows();
        for stream in 0..count {
            streams.submit(stream, prompt_of(stream, PROMPT, vocab), usize::MAX)?;
        }
        let mut waited = vec![true; count];
        while waited.contains(&true) {
            waited[streams.token()?.stream] = false;
        }
        Ok(streams)
    }

    fn submit(&self, stream: usize, prompt: Vec<u32>, max_tokens: usize) -> Result<(), Failure> {
        let sink = Clocked { stream, to: self.to.clone(), open: self.open.clone() };
        let sampling = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let job = Job { prompt, sampling, max_tokens, stop_tokens: Vec::new(), constraint: None, sink: Box::new(sink) };
        self.engine.submit(job).map_err(|e| Failure::new(Exit::Input, e, "a longer --context"))
    }

    /// The next token of any stream.
    fn token(&mut self) -> Result<Arrival, Failure> {
        loop {
            let failed = |reason: String| Failure::new(Exit::Internal, reason, "run the same command again");
            let (stream, at, said) = self.events.recv_timeout(PATIENCE).map_err(|e| failed(e.to_string()))?;
            match said.map_err(failed)? {
                true => {
                    let arrival = Arrival { stream, at: at - self.start };
                    if let Some(last) = self.last.get_mut(stream) {
                        *last = Some(arrival);
                    }
                    return Ok(arrival);
                }
                // The prompt beside has its one token; a stream that ends has no room left.
                false if stream < self.count => {
                    let message = format!("stream {stream} reached the end of its context");
                    return Err(Failure::new(Exit::Input, message, "a longer --context"));
                }
                false => {}
            }
        }
    }

    /// The last token of each stream, and what arrives until every stream has made `tokens` more.
    fn decode(&mut self, tokens: usize) -> Result<Vec<Arrival>, Failure> {
        let (mut made, mut arrivals) = (vec![0; self.count], self.last());
        while made.iter().any(|&made| made < tokens) {
            let arrival = self.token()?;
            made[arrival.stream] += 1;
            arrivals.push(arrival);
        }
        Ok(arrivals)
    }

    fn last(&self) -> Vec<Arrival> {
        self.last.iter().flatten().copied().collect()
    }

    /// The last token of each stream, and what arrives while a prompt of `tokens` tokens enters; its own token is not among
    /// it.
    fn beside(&mut self, tokens: usize) -> Result<Vec<Arrival>, Failure> {
        let prompt = prompt_of(self.count, tokens, self.engine.model().vocab_rows());
        self.submit(self.count, prompt, 1)?;
        let mut arrivals = self.last();
        loop {
            match self.token()? {
                arrival if arrival.stream == self.count => return Ok(arrivals),
                arrival => arrivals.push(arrival),
            }
        }
    }
}
