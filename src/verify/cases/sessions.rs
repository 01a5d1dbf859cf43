//! What sessions promise beyond one run: repetition, company, rewinding, reuse, and experts that page.
//!
//! The same chunks on the same model are the same numbers bit for bit; other chunks are within budget.

use std::sync::Arc;

use cubecl::future::block_on;

use super::device::{Case, RECIPE, Shared, case, checkpoint, failed, judged, run, whole};
use crate::checkpoint::Layout;
use crate::device::Compute;
use crate::generate::session::{Session, SessionError, Want};
use crate::models::gpt_oss::GptOss;
use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::verify::bench::{CHUNK, Truth, footprint, load, prompt, session, show};
use crate::verify::compare::stages::{budget, finding};
use crate::verify::compare::verdict::verdict;
use crate::verify::fixture::Recipe;
use crate::verify::oracle::noise::Tap;
use crate::verify::outcome::{Check, Level};

/// Experts that fit the budget of the paged case: fewer than a token is sent to.
const SLOTS: u64 = 3;
/// Where sessions turn back: the end of a chunk.
const FORK: usize = 2 * CHUNK;

/// A case of a model and its prompt.
type Promise = fn(&Arc<GptOss>, &[u32]) -> Result<Verdict, String>;

/// What a promise came to.
enum Verdict {
    /// Logits, wanted and found, that must be equal bit for bit.
    Bits(Vec<f32>, Vec<f32>),
    /// A number of positions, wanted and found.
    Positions(usize, usize),
}

const PROMISES: [(&str, Promise); 9] = [
    ("repeated", |model, tokens| Ok(Verdict::Bits(alone(model, tokens)?, alone(model, tokens)?))),
    ("side-by-side", side_by_side),
    ("extended", extended),
    ("rewound", |model, tokens| Ok(Verdict::Positions(FORK, astray(model, tokens, 8)?.rewind(FORK)))),
    ("rewound/logits", |model, tokens| back(model, tokens, 8)),
    ("rewound-past-the-window", |model, tokens| Ok(Verdict::Positions(0, astray(model, tokens, 300)?.rewind(FORK)))),
    ("rewound-past-the-window/logits", |model, tokens| back(model, tokens, 300)),
    ("rewound-in-a-wrapped-ring", |model, _| Ok(Verdict::Positions(384, wrapped(model)?.rewind(384)))),
    ("rewound-in-a-wrapped-ring/logits", wrapped_back),
];

/// Every promise, then runs that other chunks make within budget.
pub(super) fn session_cases() -> Vec<Check> {
    let model = Shared::new(RECIPE, Layout::Original);
    let promised = PROMISES.iter().map(|&(name, promise)| {
        let model = model.clone();
        case(format!("logits/sessions/{name}"), move |name, compute| {
            let tokens = &Truth::shared(RECIPE).tokens;
            match model.on(compute).and_then(|model| promise(&model, tokens)) {
                Ok(verdict) => verdict.check(name),
                Err(reason) => failed(name, reason),
            }
        })
    });
    let mut cases: Vec<Case> = promised.collect();
    let own = model.clone();
    cases.push(case("logits/sessions/rewound-inside-a-chunk".into(), move |name, compute| {
        own.on(compute).and_then(|model| inside_a_chunk(&name, &model)).unwrap_or_else(|reason| failed(&name, reason))
    }));
    cases.push(case("logits/sessions/paged".into(), |name, compute| {
        paged(&name, compute).unwrap_or_else(|reason| failed(&name, reason))
    }));
    run(cases)
}

impl Verdict {
    fn check(self, name: String) -> Check {
        match self {
            Verdict::Positions(want, found) => Check::equal(name, Level::Logits, want, found),
            Verdict::Bits(want, found) => match want.iter().zip(&found).position(|(a, b)| a.to_bits() != b.to_bits()) {
                None if want.len() == found.len() && !want.is_empty() => {
                    Check::pass(name, Level::Logits, format!("{} logits bit for bit", want.len()))
                }
                None => failed(name, format!("{} logits and {}", want.len(), found.len())),
                Some(i) => failed(name, format!("logit {i}: expected {:?}, found {:?}", want[i], found[i])),
            },
        }
    }
}

fn text(error: SessionError) -> String {
    error.to_string()
}

/// Logits of the last token, run alone.
fn alone(model: &Arc<GptOss>, tokens: &[u32]) -> Result<Vec<f32>, String> {
    session(model, CHUNK)?.prefill(tokens).map_err(text)
}

/// Two sequences on one model, chunk by chunk in turns: each as if alone.
fn side_by_side(model: &Arc<GptOss>, tokens: &[u32]) -> Result<Verdict, String> {
    let other: Vec<u32> = tokens.iter().rev().copied().collect();
    let (mut a, mut b) = (session(model, CHUNK)?, session(model, CHUNK)?);
    let mut last = [Vec::new(), Vec::new()];
    for (ours, theirs) in tokens.chunks(CHUNK).zip(other.chunks(CHUNK)) {
        last[1] = b.prefill(theirs).map_err(text)?;
        last[0] = a.prefill(ours).map_err(text)?;
    }
    Ok(Verdict::Bits([alone(model, tokens)?, alone(model, &other)?].concat(), last.concat()))
}

/// `replace` of a sequence by a longer one runs the new tokens only.
fn extended(model: &Arc<GptOss>, tokens: &[u32]) -> Result<Verdict, String> {
    let mut session = session(model, CHUNK)?;
    session.prefill(&tokens[..FORK]).map_err(text)?;
    let found = session.replace(tokens).map_err(text)?;
    Ok(Verdict::Bits(alone(model, tokens)?, found))
}

/// A session that left the prompt at [`FORK`] and went `count` tokens another way.
fn astray(model: &Arc<GptOss>, tokens: &[u32], count: usize) -> Result<Session, String> {
    let mut session = session(model, CHUNK)?;
    session.prefill(&tokens[..FORK]).map_err(text)?;
    let other: Vec<u32> = tokens.iter().rev().cycle().take(count).copied().collect();
    session.prefill(&other).map_err(text)?;
    Ok(session)
}

/// That session, back on the prompt.
fn back(model: &Arc<GptOss>, tokens: &[u32], count: usize) -> Result<Verdict, String> {
    let found = astray(model, tokens, count)?.replace(tokens).map_err(text)?;
    Ok(Verdict::Bits(alone(model, tokens)?, found))
}

/// A session of 424 tokens: a windowed layer's ring, of 2 windows and a chunk, has begun again.
fn wrapped(model: &Arc<GptOss>) -> Result<Session, String> {
    let mut session = session(model, CHUNK)?;
    session.prefill(&prompt(424, model.vocab_rows())).map_err(text)?;
    Ok(session)
}

/// That session, sent back to 384 and another way: as if it had gone there at once.
fn wrapped_back(model: &Arc<GptOss>, tokens: &[u32]) -> Result<Verdict, String> {
    let mut other = prompt(384, model.vocab_rows());
    other.extend(&tokens[..CHUNK]);
    let found = wrapped(model)?.replace(&other).map_err(text)?;
    Ok(Verdict::Bits(alone(model, &other)?, found))
}

/// Back to a position inside a chunk, and on from there: the rest has the truth's logits.
fn inside_a_chunk(name: &str, model: &Arc<GptOss>) -> Result<Check, String> {
    const POSITION: usize = 101;
    let truth = Truth::shared(RECIPE);
    let mut session = astray(model, &truth.tokens, 60)?;
    let kept = session.rewind(POSITION);
    if kept != POSITION {
        return Ok(failed(name, format!("expected {POSITION} positions kept, found {kept}")));
    }
    let mut found = Vec::new();
    let mut keep = |_, row: &[f32]| found.extend(truth.vocab.iter().map(|&id| row[id as usize]));
    block_on(session.run(&truth.tokens[POSITION..], Want::All, None, &mut keep)).map_err(text)?;
    let Some(tap) = truth.taps.iter().find(|tap| tap.stage == Stage::Logits) else {
        return Ok(failed(name, "the truth has no logits"));
    };
    let rest: Vec<usize> = (POSITION..truth.tokens.len()).collect();
    let tap = Tap { rows: tap.rows.select(&rest), ..*tap };
    let finding = finding(&tap, budget(truth.noise_at(Stage::Logits, None)), &found);
    Ok(verdict(name, Level::Logits, &[finding], rest.len()))
}

/// Experts that page through a few slots: routed as when all are resident, the same logits, and some had to leave.
fn paged(name: &str, compute: &Compute) -> Result<Check, String> {
    let (recipe, truth) = (Recipe::built_in(RECIPE), Truth::shared(RECIPE));
    let source = checkpoint(&recipe, Layout::Original)?;
    let (fixed, expert) = footprint(&source);
    let refused = load(checkpoint(&recipe, Layout::Original)?, compute, Some(fixed));
    if refused.is_ok() {
        return Ok(failed(name, format!("a budget of {fixed} bytes, without room for an expert, was accepted")));
    }
    let model = load(source, compute, Some(fixed + SLOTS * expert))?;
    let seen = show(&model, &truth.tokens, &truth.vocab, CHUNK, &[Stage::Experts, Stage::Logits])?;
    let stats = model.pager().map(|pager| (pager.slots(), pager.stats()));
    let ids = |seen: &[Seen]| -> Vec<f32> {
        seen.iter().filter(|s| s.stage == Stage::Experts).flat_map(|s| s.values.clone()).collect()
    };
    let same_routing = ids(&seen) == ids(&whole(RECIPE, compute)?.seen);
    let check = judged(name.into(), &truth, Ok::<_, String>(&seen));
    Ok(match stats {
        Some((slots, stats)) if slots as u64 == SLOTS && stats.evictions > 0 && same_routing => {
            Check { detail: format!("{}; {slots} slots, {} evictions", check.detail, stats.evictions), ..check }
        }
        other => failed(
            name,
            format!(
                "expected {SLOTS} slots, evictions and the same routing, found {other:?}, routing equal: {same_routing}"
            ),
        ),
    })
}
