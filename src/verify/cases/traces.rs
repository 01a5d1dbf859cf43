//! Traces: watching a run changes no bit of it, and what is told adds up.

use std::sync::{Arc, Mutex};

use cubecl::future::block_on;

use super::device::{RECIPE, Shared, case, checkpoint, failed, run};
use crate::checkpoint::Layout;
use crate::device::Compute;
use crate::generate::session::Want;
use crate::models::gpt_oss::GptOss;
use crate::models::gpt_oss::probe::{Probe, Seen};
use crate::models::gpt_oss::stage::Stage;
use crate::telemetry::events::{ChunkEvent, Event, JsonLines, LayerEvent, Observer, Paging};
use crate::verify::bench::{Truth, footprint, load, session};
use crate::verify::fixture::Recipe;
use crate::verify::outcome::{Check, Level};

/// Tokens of a chunk: the last one is short.
const CHUNK: usize = 77;
/// Experts that fit the budget of the paged case.
const SLOTS: u64 = 3;

/// Keeps events.
#[derive(Default)]
struct Kept(Vec<Event>);

impl Observer for Kept {
    fn event(&mut self, event: &Event) {
        self.0.push(event.clone());
    }
}

/// A traced run of the recipe's prompt.
struct Traced {
    layers: Vec<LayerEvent>,
    chunks: Vec<ChunkEvent>,
    lines: String,
    routing: Vec<Seen>,
    logits: Vec<f32>,
}

/// Where JSON lines go.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn traced(model: &Arc<GptOss>, tokens: &[u32]) -> Result<Traced, String> {
    let (kept, text) = (Arc::new(Mutex::new(Kept::default())), Text::default());
    let mut session = session(model, CHUNK)?;
    session.observe(Box::new(kept.clone()));
    session.observe(Box::new(JsonLines::new(text.clone())));
    let (mut probe, mut logits) = (Probe::of([Stage::Experts]), Vec::new());
    block_on(session.run(tokens, Want::Last, Some(&mut probe), &mut |_, row| logits = row.to_vec()))
        .map_err(|e| e.to_string())?;
    let routing = block_on(probe.read(model.compute(), model.config())).map_err(|e| e.to_string())?;
    let events = std::mem::take(&mut kept.lock().map_err(|e| e.to_string())?.0);
    let (mut layers, mut chunks) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::Layer(layer) => layers.push(layer),
            Event::Chunk(chunk) => chunks.push(chunk),
        }
    }
    let lines = String::from_utf8_lossy(&text.0.lock().map_err(|e| e.to_string())?).into_owned();
    Ok(Traced { layers, chunks, lines, routing, logits })
}

/// Every promise of a trace.
pub(super) fn trace_cases() -> Vec<Check> {
    let model = Shared::new(RECIPE, Layout::ModelBin);
    run(vec![
        case("logits/traces/resident".into(), move |name, compute| {
            let model = model.on(compute);
            model.and_then(|model| resident(&name, &model)).unwrap_or_else(|reason| failed(&name, reason))
        }),
        case("logits/traces/paged".into(), |name, compute| {
            paged(&name, compute).unwrap_or_else(|reason| failed(&name, reason))
        }),
    ])
}

fn resident(name: &str, model: &Arc<GptOss>) -> Result<Check, String> {
    let tokens = &Truth::shared(RECIPE).tokens;
    let plain = session(model, CHUNK)?.prefill(tokens).map_err(|e| e.to_string())?;
    let seen = traced(model, tokens)?;
    if !plain.iter().map(|x| x.to_bits()).eq(seen.logits.iter().map(|x| x.to_bits())) {
        return Ok(failed(name, "the traced run has other logits"));
    }
    let told = sums(model, tokens.len(), &seen)?;
    if seen.chunks.iter().any(|chunk| chunk.paging != Paging::default()) {
        return Ok(failed(name, "experts that are all resident were paged"));
    }
    Ok(Check::pass(name, Level::Logits, format!("{} logits bit for bit; {told}", plain.len())))
}

fn paged(name: &str, compute: &Compute) -> Result<Check, String> {
    let source = checkpoint(&Recipe::built_in(RECIPE), Layout::Original)?;
    let (fixed, expert) = footprint(&source);
    let model = load(source, compute, Some(fixed + SLOTS * expert))?;
    let tokens = &Truth::shared(RECIPE).tokens;
    let seen = traced(&model, tokens)?;
    let told = sums(&model, tokens.len(), &seen)?;
    let total = seen.chunks.iter().fold(Paging::default(), |sum, chunk| sum + chunk.paging);
    let stats = model.pager().map(|pager| pager.stats());
    Ok(match total.evictions > 0 && Some(total) == stats && total.bytes_paged == total.misses * expert {
        true => Check::pass(name, Level::Logits, format!("{total:?}; {told}")),
        false => failed(name, format!("the chunks add up to {total:?}, the pager has {stats:?}")),
    })
}

/// Whether everything told adds up with what the run must have done.
fn sums(model: &GptOss, tokens: usize, seen: &Traced) -> Result<String, String> {
    let c = model.config();
    let chunks = tokens.div_ceil(CHUNK);
    let is = |what: &str, want: u64, found: u64| match want == found {
        true => Ok(()),
        false => Err(format!("{what}: expected {want}, found {found}")),
    };
    is("chunk events", chunks as u64, seen.chunks.len() as u64)?;
    is("layer events", (chunks * c.layers) as u64, seen.layers.len() as u64)?;
    is("tokens", tokens as u64, seen.chunks.iter().map(|chunk| chunk.tokens as u64).sum())?;
    is("lines", (seen.chunks.len() + seen.layers.len()) as u64, seen.lines.lines().count() as u64)?;
    for line in seen.lines.lines() {
        serde_json::from_str::<serde_json::Value>(line).map_err(|e| format!("line `{line}`: {e}"))?;
    }
    for layer in 0..c.layers {
        let mut told = vec![0u64; c.experts];
        for event in seen.layers.iter().filter(|event| event.layer == layer) {
            event.experts.iter().for_each(|e| told[e.expert as usize] += u64::from(e.rows));
        }
        let ids = seen.routing.iter().filter(|s| s.layer == Some(layer)).flat_map(|s| &s.values);
        let mut routed = vec![0u64; c.experts];
        ids.for_each(|&id| routed[id as usize] += 1);
        if told != routed || routed.iter().sum::<u64>() != (tokens * c.experts_per_token) as u64 {
            return Err(format!("layer {layer}: rows of experts: expected {routed:?}, found {told:?}"));
        }
    }
    let spans =
        || seen.layers.iter().flat_map(|event| &event.kernels).chain(seen.chunks.iter().flat_map(|c| &c.kernels));
    if let Some(span) = spans().find(|span| span.seconds.is_nan() || span.seconds <= 0.0) {
        return Err(format!("kernel {} took {} s", span.kernel, span.seconds));
    }
    let (timed, whole): (f64, f64) =
        (spans().map(|span| span.seconds).sum(), seen.chunks.iter().map(|chunk| chunk.seconds).sum());
    if timed.is_nan()
        || timed > whole
        || seen.chunks.iter().any(|c| c.launches == 0 || c.scratch_bytes == 0 || c.weight_bytes == 0)
    {
        return Err(format!("{timed} s of kernels in {whole} s; {:?}", seen.chunks));
    }
    Ok(format!("{} layers and {} chunks, {} spans", seen.layers.len(), seen.chunks.len(), spans().count()))
}
