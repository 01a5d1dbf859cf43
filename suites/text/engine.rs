//! The engine: many sequences at once, each as if alone; queues, cancellation, reuse.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gptoss::checkpoint::Layout;
use gptoss::generate::constraint::{Constraint, Form, Text};
use gptoss::generate::engine::{Engine, EngineError, EngineEvent, EngineOptions, Job, Sink, SubmitError};
use gptoss::generate::sampling::SamplingParams;
use gptoss::generate::session::{Session, SessionOptions};
use gptoss::generate::stop::FinishReason;
use gptoss::generate::tokenizer::Tokenizer;
use gptoss::generate::turn::Turn;
use gptoss::models::gpt_oss::GptOss;
use gptoss::open::AnyCheckpoint;
use gptoss::verify::bench::{device, load, prompt};
use gptoss::verify::fixture::{Recipe, in_memory};

pub(crate) fn model() -> Arc<GptOss> {
    static MODEL: OnceLock<Arc<GptOss>> = OnceLock::new();
    MODEL
        .get_or_init(|| {
            let checkpoint = in_memory(&Recipe::built_in("small-vocab"), Layout::Original, 1).expect("a recipe");
            load(AnyCheckpoint::SafeTensors(checkpoint), device().expect("a device"), None).expect("it loads")
        })
        .clone()
}

fn engine(lanes: usize, queue: usize) -> Engine {
    Engine::start(model(), EngineOptions { lanes, queue, context: 512, chunk: 64 }).expect("an engine")
}

/// Events into a channel, until told that nobody listens.
struct Listener(Sender<EngineEvent>, Arc<AtomicBool>);

impl Sink for Listener {
    fn event(&mut self, event: EngineEvent) {
        let _ = self.0.send(event);
    }

    fn is_open(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }
}

struct Stream {
    events: Receiver<EngineEvent>,
    open: Arc<AtomicBool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.open.store(false, Ordering::SeqCst);
    }
}

impl Stream {
    /// Its tokens, why it ended, and how much of the prompt was cached.
    fn whole(&self) -> (Vec<u32>, FinishReason, usize) {
        let mut ids = Vec::new();
        loop {
            match self.events.recv_timeout(Duration::from_secs(120)).expect("an event") {
                EngineEvent::Token { id, .. } => ids.push(id),
                EngineEvent::Done { reason, cached_prompt_tokens } => return (ids, reason, cached_prompt_tokens),
                EngineEvent::Failed(reason) => panic!("{reason}"),
            }
        }
    }
}

fn submit(engine: &Engine, prompt: &[u32], sampling: &SamplingParams, max: usize) -> Result<Stream, SubmitError> {
    let (sender, events) = channel();
    let open = Arc::new(AtomicBool::new(true));
    engine.submit(Job {
        prompt: prompt.to_vec(),
        sampling: sampling.clone(),
        max_tokens: max,
        stop_tokens: Vec::new(),
        constraint: None,
        sink: Box::new(Listener(sender, open.clone())),
    })?;
    Ok(Stream { events, open })
}

fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..SamplingParams::default() }
}

/// What a sequence gives alone.
fn solo(prompt: &[u32], sampling: &SamplingParams, count: usize) -> Vec<u32> {
    let mut session = Session::new(model(), SessionOptions { chunk: 64, context: 512 }).expect("a session");
    let mut turn = Turn::begin(&mut session, prompt, sampling).expect("a turn");
    (0..count).map(|_| turn.next_token().expect("a token").id).collect()
}

/// Prompts of different lengths and content.
fn prompts(count: usize) -> Vec<Vec<u32>> {
    let long = prompt(400, 1024);
    (0..count).map(|i| long[i * 7..i * 7 + 3 + (i * 37) % 150].to_vec()).collect()
}

fn settled(engine: &Engine) -> bool {
    let end = Instant::now() + Duration::from_secs(120);
    while Instant::now() < end {
        let status = engine.status();
        if status.active == 0 && status.queued == 0 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn each_of_many_is_as_if_alone() {
    let engine = engine(6, 64);
    let prompts = prompts(12);
    let sampling = |i: usize| match i % 3 {
        0 => greedy(),
        1 => SamplingParams { seed: i as u64, ..SamplingParams::default() },
        _ => SamplingParams { seed: i as u64, top_p: 0.9, frequency_penalty: 0.5, ..SamplingParams::default() },
    };
    let streams: Vec<Stream> =
        prompts.iter().enumerate().map(|(i, p)| submit(&engine, p, &sampling(i), 24).expect("room")).collect();
    for (i, stream) in streams.iter().enumerate() {
        let (ids, reason, _) = stream.whole();
        assert_eq!((ids, reason), (solo(&prompts[i], &sampling(i), 24), FinishReason::Length), "sequence {i}");
    }
    assert!(settled(&engine), "{engine:?}");
    let generated = engine.counters().generated_tokens.load(Ordering::SeqCst);
    assert_eq!(generated, 12 * 24);
}

#[test]
fn a_turn_that_goes_on_runs_only_what_is_new() {
    let engine = engine(2, 4);
    let mut tokens = prompt(100, 1024);
    let (answer, ..) = submit(&engine, &tokens, &greedy(), 8).expect("room").whole();
    tokens.extend(answer);
    tokens.extend([5, 6, 7]);
    let (ids, _, cached) = submit(&engine, &tokens, &greedy(), 8).expect("room").whole();
    // The last token of the answer was never run.
    assert_eq!(cached, 107);
    assert_eq!(ids, solo(&tokens, &greedy(), 8));
}

/// A lane's windows hold 320 positions: those before 133 are overwritten once 453 were there, also when the lane has since gone
/// back to 400.
#[test]
fn a_lane_that_goes_back_twice_reuses_nothing_that_was_overwritten() {
    let engine = engine(1, 4);
    let long = prompt(450, 1024);
    let parting = |at: usize, more: usize| {
        let others = long[at..at + more].iter().map(|id| (id + 1) % 1024);
        long[..at].iter().copied().chain(others).collect::<Vec<u32>>()
    };
    for (tokens, cached) in [(long.clone(), 0), (parting(400, 10), 400), (parting(230, 2), 0)] {
        let (ids, _, found) = submit(&engine, &tokens, &greedy(), 4).expect("room").whole();
        assert_eq!((found, ids), (cached, solo(&tokens, &greedy(), 4)), "of {} tokens", tokens.len());
    }
}

#[test]
fn a_full_queue_refuses_and_closed_streams_leave_nothing() {
    let engine = engine(1, 2);
    let prompts = prompts(8);
    let streams: Vec<_> = prompts.iter().map(|p| submit(&engine, p, &greedy(), 400)).collect();
    let refused = streams.iter().filter(|s| matches!(s, Err(SubmitError::Full { queued: 2 }))).count();
    assert!(refused >= 5, "{refused} of 8 refused");
    drop(streams);
    assert!(settled(&engine), "{engine:?}");
    for round in 0..200 {
        drop(submit(&engine, &prompts[round % 8], &greedy(), 300));
    }
    assert!(settled(&engine), "{engine:?}");
    let (ids, ..) = submit(&engine, &prompts[3], &greedy(), 5).expect("room").whole();
    assert_eq!(ids, solo(&prompts[3], &greedy(), 5));
}

#[test]
fn what_cannot_run_is_refused() {
    let engine = engine(1, 1);
    let refused = |prompt: &[u32], max, sampling: &SamplingParams| submit(&engine, prompt, sampling, max).err();
    assert_eq!(refused(&[], 5, &greedy()), Some(SubmitError::Empty));
    assert_eq!(refused(&[1], 0, &greedy()), Some(SubmitError::NoTokens));
    assert_eq!(refused(&[1; 512], 5, &greedy()), Some(SubmitError::TooLong { tokens: 512, context: 512 }));
    let far = SubmitError::TokenOutOfRange { id: 9999, position: 1, vocab: model().vocab_rows() };
    assert_eq!(refused(&[1, 9999], 5, &greedy()), Some(far));
    let hot = SamplingParams { temperature: 9.0, ..SamplingParams::default() };
    assert!(matches!(refused(&[1], 5, &hot), Some(SubmitError::Sampling(_))));
    // Its vocabulary lacks Harmony's tokens.
    let form = Form { answer: Some(Text::Free), calls: Vec::new() };
    let constraint = Constraint::new(form, Tokenizer::o200k_harmony()).ok();
    let (sender, _events) = channel();
    let sink = Box::new(Listener(sender, Arc::default()));
    let job = Job { prompt: vec![1], sampling: greedy(), max_tokens: 5, stop_tokens: Vec::new(), constraint, sink };
    assert_eq!(engine.submit(job), Err(SubmitError::Vocabulary { vocab: model().vocab_rows() }));
    // The context ends what would go on.
    let (ids, reason, _) = submit(&engine, &prompt(508, 1024), &greedy(), 100).expect("room").whole();
    assert_eq!((ids.len(), reason), (5, FinishReason::Length));
    let none = EngineOptions { lanes: 0, queue: 1, context: 512, chunk: 64 };
    assert!(matches!(Engine::start(model(), none), Err(EngineError::Option { field: "lanes", .. })));
}

#[test]
fn a_stopped_engine_tells_everybody() {
    let mut engine = engine(1, 8);
    let streams: Vec<_> = prompts(4).iter().map(|p| submit(&engine, p, &greedy(), 400).expect("room")).collect();
    engine.stop();
    for stream in &streams {
        let last = stream.events.iter().last();
        assert!(matches!(last, Some(EngineEvent::Failed(_))), "{last:?}");
    }
    assert!(matches!(submit(&engine, &[1], &greedy(), 1), Err(SubmitError::Stopped(_))));
}

#[test]
fn a_scheduler_that_fails_leaves_nobody_waiting() {
    /// A listener that is a defect.
    struct Broken;
    impl Sink for Broken {
        fn event(&mut self, _: EngineEvent) {
            panic!("this panic is wanted");
        }
        fn is_open(&self) -> bool {
            true
        }
    }
    let engine = engine(2, 8);
    let running = submit(&engine, &prompts(1)[0], &greedy(), 400).expect("room");
    let job = |sink: Box<dyn Sink>| Job {
        prompt: vec![1, 2, 3],
        sampling: greedy(),
        max_tokens: 4,
        stop_tokens: Vec::new(),
        constraint: None,
        sink,
    };
    engine.submit(job(Box::new(Broken))).expect("room");
    // The channel ends, whatever was in it.
    let events = running.events.iter().count();
    assert!(events < 400, "{events}");
    let end = Instant::now() + Duration::from_secs(120);
    while engine.stopped().is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(engine.stopped().as_deref(), Some("the scheduler failed"));
    assert!(matches!(submit(&engine, &[1], &greedy(), 1), Err(SubmitError::Stopped(_))));
    assert!(settled(&engine), "{engine:?}");
}
