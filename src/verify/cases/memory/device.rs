//! What a model takes of host and device: at the most, under a budget, with the prompt's length, while decoding.
//!
//! Each bound has a floor, so that a meter that sees nothing is red, and each can be shown a planted violation.

use std::cell::OnceCell;

use burn::tensor::Tensor;

use super::meter::{Place, Reading, Watched, probe, watch};
use super::scene::{CHUNK, Scene, long_model, session};
use crate::device::Compute;
use crate::models::gpt_oss::footprint::footprint;
use crate::nn::kv_cache::{CacheShape, KvCache, Reach};
use crate::verify::bench::{device, prompt};
use crate::verify::outcome::{Check, Level, Outcome};

const LEVEL: Level = Level::Memory;
const MIB: u64 = 1 << 20;

/// What a run may take besides weights and cache, whatever the model.
const REST_BYTES_MAX: u64 = 512 * MIB;
/// The same above what the process held before, for this small model: staging and scratch.
const OWN_REST_BYTES_MAX: u64 = 128 * MIB;
/// What a longer prompt may add besides its cache.
const FLAT_BYTES_MAX: u64 = 2 * MIB;
/// What the heap may waver by while tokens are decoded.
const DECODE_HEAP_BYTES_MAX: u64 = MIB;
/// What the smallest allocation takes of a device, once.
const POOL_PAGE_BYTES: u64 = 9 * MIB;
/// Tokens decoded under the meter.
const DECODED: usize = 64;
/// Prompts that must cost the same.
pub const LENGTHS: [usize; 2] = [128, 16_384];

/// What a test plants into the measured window, to see the bound turn red.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plant {
    /// Bytes on the device.
    pub device: usize,
    /// Bytes on the heap.
    pub host: usize,
}

/// A planted violation.
struct Planted {
    _device: Vec<Tensor<1>>,
    _host: Vec<u8>,
}

impl Plant {
    /// No violation.
    pub const NOTHING: Plant = Plant { device: 0, host: 0 };
    const BUFFER_BYTES: usize = 16 << 20;

    fn put(self, compute: &Compute) -> Planted {
        let buffers = self.device.div_ceil(Self::BUFFER_BYTES);
        let buffer = |_| compute.floats([Self::BUFFER_BYTES.min(self.device) / 4]);
        let planted = Planted { _device: (0..buffers).map(buffer).collect(), _host: vec![1; self.host] };
        std::hint::black_box(&planted._host);
        planted
    }
}

/// A number and where it must lie.
struct Rule {
    what: String,
    found: u64,
    min: u64,
    max: u64,
}

fn at_most(what: impl Into<String>, found: u64, max: u64) -> Rule {
    Rule { what: what.into(), found, min: 0, max }
}

fn at_least(what: impl Into<String>, found: u64, min: u64) -> Rule {
    Rule { what: what.into(), found, min, max: u64::MAX }
}

fn judged(name: &str, rules: &[Rule]) -> Check {
    let holds = |rule: &Rule| (rule.min..=rule.max).contains(&rule.found);
    let text = |rule: &Rule| {
        let bound = match (rule.min, rule.max) {
            (min, u64::MAX) => format!("at least {min}"),
            (0, max) => format!("at most {max}"),
            (min, max) => format!("{min} to {max}"),
        };
        format!("{}{} {} ({bound})", if holds(rule) { "" } else { "RED " }, rule.what, rule.found)
    };
    let detail = rules.iter().map(text).collect::<Vec<_>>().join("; ");
    match rules.iter().all(holds) && !rules.is_empty() {
        true => Check::pass(name, LEVEL, detail),
        false => Check::fail(name, LEVEL, detail),
    }
}

/// Where the bounds are measured.
struct Stage<'a> {
    compute: &'a Compute,
    place: Place,
    scene: OnceCell<Result<Scene, String>>,
}

impl<'a> Stage<'a> {
    fn new(compute: &'a Compute, place: Place) -> Self {
        Self { compute, place, scene: OnceCell::new() }
    }

    /// The large model, made by the first who asks.
    fn scene(&self) -> Result<&Scene, String> {
        self.scene.get_or_init(Scene::new).as_ref().map_err(Clone::clone)
    }
}

type Judge = fn(&Stage, &str, Plant) -> Result<Check, String>;

/// The budget first: its run with all experts resident compiles the kernels, whose size is the driver's affair.
const BOUNDS: [(&str, Judge); 5] = [
    ("memory/device/budget", budget),
    ("memory/device/peak", peak),
    ("memory/device/cache", cache),
    ("memory/device/flat", |stage, name, plant| flat(stage, name, LENGTHS, plant)),
    ("memory/device/decode", decode),
];

/// Every bound on the device of this process.
pub(in super::super) fn device_cases() -> Vec<Check> {
    let meter = "memory/device/meter";
    let compute = match device() {
        Ok(compute) => compute,
        Err(reason) => return vec![Check::new(meter, LEVEL, Outcome::NoDevice, reason)],
    };
    if Reading::now(compute).private == 0 {
        let reason = "this system does not report a process's memory";
        return vec![Check::new(meter, LEVEL, Outcome::Skip, reason)];
    }
    let probed = probe(compute);
    let mut checks = vec![probed.check(meter)];
    if let Ok(place) = probed.place() {
        let stage = Stage::new(compute, place);
        checks.extend(BOUNDS.map(|(name, judge)| ended(name, judge(&stage, name, Plant::NOTHING))));
    }
    checks
}

fn ended(name: &str, result: Result<Check, String>) -> Check {
    result.unwrap_or_else(|reason| Check::fail(name, LEVEL, reason))
}

/// The check of one bound with something planted; that of long prompts, with shorter ones.
pub fn planted(bound: &str, plant: Plant) -> Result<Check, String> {
    let compute = device()?;
    let stage = Stage::new(compute, probe(compute).place()?);
    let (name, judge) = BOUNDS.iter().find(|(name, _)| *name == bound).ok_or("no such bound")?;
    match *name {
        "memory/device/flat" => flat(&stage, name, [LENGTHS[0], 1024], plant),
        _ => judge(&stage, name, plant),
    }
}

/// Loading, a prompt and some tokens: host and device together.
fn peak(stage: &Stage, name: &str, plant: Plant) -> Result<Check, String> {
    let (compute, place, scene) = (stage.compute, stage.place, stage.scene()?);
    compute.release_unused();
    let mut held = None;
    let (Watched { before, peak }, run) =
        watch(compute, || scene.run(compute, None, &mut || held = Some(plant.put(compute))));
    drop(held);
    let run = run?;
    let whole = scene.file_bytes + scene.file_bytes / 10 + run.cache_bytes;
    let opened = scene.open()?;
    let (fixed, expert) = footprint(opened.source(), &Scene::options(None));
    let config = opened.source().config();
    let promised = fixed + expert * (config.layers * config.experts) as u64;
    let mut rules = vec![
        at_most("host + device", place.total(peak), whole + REST_BYTES_MAX),
        at_most(
            "above what the process held before",
            place.total(peak).saturating_sub(place.total(before)),
            whole + OWN_REST_BYTES_MAX,
        ),
        at_least("device in use", peak.in_use, scene.weight_bytes),
        at_most("device reserved, of what loading promised", peak.reserved, promised),
    ];
    if place == Place::Host {
        rules.push(at_least("resident with the device's", peak.private, scene.weight_bytes));
    }
    Ok(judged(name, &rules))
}

/// The same under a budget of half the file.
fn budget(stage: &Stage, name: &str, plant: Plant) -> Result<Check, String> {
    let (compute, place, scene) = (stage.compute, stage.place, stage.scene()?);
    let budget = scene.file_bytes / 2;
    let unpaged = scene.run(compute, None, &mut || ())?;
    compute.release_unused();
    let mut held = None;
    let (Watched { before, peak }, run) =
        watch(compute, || scene.run(compute, Some(budget), &mut || held = Some(plant.put(compute))));
    drop(held);
    let run = run?;
    let (paged, evictions) = run.paged.ok_or("nothing was paged")?;
    let differ = unpaged.logits.iter().zip(&run.logits).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let lengths = unpaged.logits.len().abs_diff(run.logits.len());
    Ok(judged(
        name,
        &[
            at_most("device reserved", peak.reserved, budget + budget * 3 / 100),
            at_least("device in use", peak.in_use, budget / 5 * 4),
            at_most(
                "host above what it held before",
                place.host(peak).saturating_sub(place.host(before)),
                OWN_REST_BYTES_MAX,
            ),
            at_least("bytes paged", paged, budget / 2),
            at_least("evictions", evictions, 1),
            at_least("logits", run.logits.len() as u64, 2),
            at_most("of them other than when all are resident", (differ + lengths) as u64, 0),
        ],
    ))
}

/// A cache that grows to the longest prompt: what it replaces goes back.
fn cache(stage: &Stage, name: &str, plant: Plant) -> Result<Check, String> {
    let compute = stage.compute;
    const WIDTH: usize = 256;
    let [_, positions] = LENGTHS;
    compute.release_unused();
    let mut held = None;
    let (Watched { before, peak }, cache) = watch(compute, || {
        let shape = CacheShape { width: WIDTH, lanes: 1, chunk: 512, context: positions, whole: false };
        let mut cache = KvCache::new(compute, [Reach::Full], shape);
        for _ in (0..positions).step_by(512) {
            cache.reserve(compute, 0, 512);
            cache.advance(0, 512);
            compute.wait();
        }
        // What the last step replaced goes back with the next allocation.
        let _next = compute.scratch([1]);
        held = Some(plant.put(compute));
        cache
    });
    drop(held);
    let (bytes, after) = (cache.bytes() as u64, Reading::now(compute));
    Ok(judged(
        name,
        &[
            at_least("bytes of keys and values", bytes, (2 * positions * WIDTH * 4) as u64),
            // Half of the keys, or of the values, while they are copied into what replaces them.
            at_most(
                "device reserved at the most",
                peak.reserved - before.reserved,
                bytes + bytes / 4 + POOL_PAGE_BYTES,
            ),
            Rule {
                what: "device reserved in the end".into(),
                found: after.reserved - before.reserved,
                min: bytes,
                max: bytes + POOL_PAGE_BYTES,
            },
        ],
    ))
}

/// Prompts of two lengths: the longer one takes its cache and nothing else.
fn flat(stage: &Stage, name: &str, lengths: [usize; 2], plant: Plant) -> Result<Check, String> {
    let (compute, place) = (stage.compute, stage.place);
    const CHUNK: usize = 128;
    let model = long_model(compute, CHUNK, LENGTHS[1])?;
    let mut rests = Vec::new();
    for length in lengths {
        compute.release_unused();
        let mut session = session(model.clone(), CHUNK, LENGTHS[1])?;
        let tokens = prompt(length, model.vocab_rows());
        // The kernels' compilers leave heap behind.
        session.prefill(&tokens[..1]).map_err(|e| e.to_string())?;
        let mut held = None;
        let (Watched { before, peak }, done) = watch(compute, || {
            if length == lengths[1] {
                held = Some(plant.put(compute));
            }
            session.prefill(&tokens[1..])
        });
        done.map_err(|e| e.to_string())?;
        drop(held);
        let cache = session.cache_bytes() as u64;
        let host = place.host(peak).saturating_sub(place.host(before));
        rests.push((peak.reserved.saturating_sub(cache), host, cache, peak));
    }
    let [(device, host, small, _), (device_long, host_long, large, peak)] = rests[..] else {
        return Err("two lengths".into());
    };
    let [short, long] = lengths;
    Ok(judged(
        name,
        &[
            at_most(
                format!("device besides the cache, {long} tokens over {short}"),
                device_long.saturating_sub(device),
                FLAT_BYTES_MAX,
            ),
            at_most("host above what it held before", host_long.saturating_sub(host), FLAT_BYTES_MAX),
            at_least("device in use", peak.in_use, large),
            at_least("cache", large, small + 1),
        ],
    ))
}

/// Tokens one by one: nothing is allocated.
fn decode(stage: &Stage, name: &str, plant: Plant) -> Result<Check, String> {
    let (compute, place) = (stage.compute, stage.place);
    let text = |e: crate::generate::session::SessionError| e.to_string();
    let context = 512;
    let model = long_model(compute, CHUNK, context)?;
    let mut session = session(model.clone(), CHUNK, context)?;
    let tokens = prompt(CHUNK + 2 * DECODED, model.vocab_rows());
    session.prefill(&tokens[..CHUNK]).map_err(text)?;
    // As many again first: pools and heap find their size.
    for &token in &tokens[CHUNK..CHUNK + DECODED] {
        session.decode(token).map_err(text)?;
    }
    compute.wait();
    let mut held = None;
    let (Watched { before, peak }, done) = watch(compute, || {
        tokens[CHUNK + DECODED..].iter().enumerate().try_for_each(|(i, &token)| {
            if i == DECODED / 2 {
                held = Some(plant.put(compute));
            }
            session.decode(token).map(drop)
        })
    });
    done.map_err(text)?;
    compute.wait();
    let after = Reading::now(compute);
    drop(held);
    Ok(judged(
        name,
        &[
            at_least("device in use", before.in_use, session.cache_bytes() as u64),
            at_most(format!("bytes in use more after {DECODED} tokens"), after.in_use.abs_diff(before.in_use), 0),
            at_most("reserved more", after.reserved.abs_diff(before.reserved), 0),
            at_most("reserved more at the most", peak.reserved - before.reserved, 0),
            at_most("heap at the most", place.host(peak).saturating_sub(place.host(before)), DECODE_HEAP_BYTES_MAX),
        ],
    ))
}
