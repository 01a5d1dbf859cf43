//! Sequences among others, on a device: each gives what it gives alone, from the start or from where its lane's caches end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::{LEVEL, of_cases, same_ids};
use crate::checkpoint::Layout;
use crate::generate::engine::{Engine, EngineEvent, EngineOptions, Job, Sink};
use crate::generate::sampling::SamplingParams;
use crate::generate::turn::Turn;
use crate::models::gpt_oss::GptOss;
use crate::open::AnyCheckpoint;
use crate::verify::bench::{device, load, prompt, session};
use crate::verify::fixture::{Recipe, in_memory};
use crate::verify::outcome::{Check, Outcome};

/// The prompts of all sequences, and the number of the one that is asked for, to the prompt that it has alone.
pub type Alone<'a> = &'a dyn Fn(&[Vec<u32>], usize) -> Vec<u32>;

const NAME: &str = "text/engine/alone";
/// Tokens of an answer.
const ANSWER: usize = 24;
/// Longest wait for a token: a device that takes longer has hung.
const HUNG: Duration = Duration::from_secs(300);

/// Checks of ours.
pub fn run() -> Vec<Check> {
    engine_checks(&|prompts, which| prompts[which].clone())
}

/// Sequences of several lengths in three lanes, then the first of them going on: each as if `alone`.
pub fn engine_checks(alone: Alone<'_>) -> Vec<Check> {
    match device() {
        Err(reason) => vec![Check::new(NAME, LEVEL, Outcome::NoDevice, reason)],
        Ok(_) => vec![judged(alone).unwrap_or_else(|reason| Check::fail(NAME, LEVEL, reason))],
    }
}

fn judged(alone: Alone<'_>) -> Result<Check, String> {
    let checkpoint = in_memory(&Recipe::built_in("small-vocab"), Layout::Original, 1).map_err(|e| e.to_string())?;
    let model = load(AnyCheckpoint::SafeTensors(checkpoint), device()?, None)?;
    let options = EngineOptions { lanes: 3, queue: 8, context: 512, chunk: 64 };
    let engine = Engine::start(model.clone(), options).map_err(|e| e.to_string())?;
    let long = prompt(200, model.vocab_rows());
    let mut prompts: Vec<Vec<u32>> = [70, 9, 33].iter().map(|&count| long[count..2 * count].to_vec()).collect();
    let streams: Result<Vec<_>, String> = prompts.iter().map(|prompt| submit(&engine, prompt)).collect();
    let mut found = streams?.iter().map(answer).collect::<Result<Vec<_>, String>>()?;
    // The next turn of the first.
    prompts.push([&prompts[0][..], &found[0].0, &long[..5]].concat());
    found.push(answer(&submit(&engine, &prompts[3])?)?);
    if found[3].1 != prompts[0].len() + ANSWER - 1 {
        return Ok(Check::fail(NAME, LEVEL, format!("{} tokens of the caches were reused", found[3].1)));
    }
    let truths = (0..prompts.len()).map(|which| truth(&model, &alone(&prompts, which)));
    let truths = truths.collect::<Result<Vec<_>, String>>()?;
    let cases = truths.iter().zip(&found).enumerate();
    Ok(of_cases(
        NAME,
        cases.map(|(which, (want, (ids, _)))| match same_ids("", want, ids) {
            Ok(()) => Ok(()),
            Err(_) => Err(format!("sequence {which} is not what it is alone")),
        }),
    ))
}

/// The greedy answer to a prompt by a session of its own.
fn truth(model: &Arc<GptOss>, prompt: &[u32]) -> Result<Vec<u32>, String> {
    let mut session = session(model, 64)?;
    let mut turn = Turn::begin(&mut session, prompt, &greedy()).map_err(|e| e.to_string())?;
    (0..ANSWER).map(|_| turn.next_token().map(|chosen| chosen.id).map_err(|e| e.to_string())).collect()
}

fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..SamplingParams::default() }
}

struct Listener(Sender<EngineEvent>);

impl Sink for Listener {
    fn event(&mut self, event: EngineEvent) {
        // The receiver outlives the sequence, or nobody wants it.
        let _ = self.0.send(event);
    }

    fn is_open(&self) -> bool {
        true
    }
}

fn submit(engine: &Engine, prompt: &[u32]) -> Result<Receiver<EngineEvent>, String> {
    let (sender, events) = channel();
    let sink = Box::new(Listener(sender));
    let job = Job {
        prompt: prompt.to_vec(),
        sampling: greedy(),
        max_tokens: ANSWER,
        stop_tokens: Vec::new(),
        constraint: None,
        sink,
    };
    engine.submit(job).map(|()| events).map_err(|e| e.to_string())
}

/// A sequence's tokens, and how many of its prompt's were in the caches.
fn answer(events: &Receiver<EngineEvent>) -> Result<(Vec<u32>, usize), String> {
    let mut ids = Vec::new();
    loop {
        match events.recv_timeout(HUNG).map_err(|e| e.to_string())? {
            EngineEvent::Token { id, .. } => ids.push(id),
            EngineEvent::Done { cached_prompt_tokens, .. } => return Ok((ids, cached_prompt_tokens)),
            EngineEvent::Failed(reason) => return Err(reason),
        }
    }
}
