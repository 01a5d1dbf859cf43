//! Models that a GGUF holds, on a device: bit for bit as the checkpoint they hold without loss, and otherwise as the oracle,
//! which decodes the same file by itself.

use std::sync::Arc;

use super::device::{Case, case, checkpoint, failed, run};
use super::gguf::{early_file, early_split, model_of};
use crate::checkpoint::Layout;
use crate::device::Compute;
use crate::gguf::dialect::DenseType;
use crate::models::gpt_oss::probe::Seen;
use crate::models::gpt_oss::stage::Stage;
use crate::open::AnyCheckpoint;
use crate::quant::BlockType;
use crate::verify::bench::{all_stages, expected, footprint, judge, load, prompt, show};
use crate::verify::compare::verdict::verdict;
use crate::verify::fixture::gguf::Tensor;
use crate::verify::fixture::values::{fnv1a_64, squares32};
use crate::verify::fixture::{Recipe, gguf_bytes};
use crate::verify::oracle::{Request, Vocab};
use crate::verify::outcome::{Check, Level};

/// Small, and rows of attention's output are two super-blocks of the K types.
const RECIPE: &str = "small-vocab";
const POSITIONS: usize = 150;
/// Vocabulary ids whose logits are compared.
const VOCAB: [u32; 16] = [0, 1, 2, 63, 64, 65, 127, 200, 255, 256, 511, 512, 700, 900, 1022, 1023];

/// How a file holds the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As llama.cpp writes it.
    Dense(DenseType),
    /// As Ollama did.
    Early,
    /// Random blocks of every type in the place of dense matrices, queries, keys and values each in another.
    Mixed,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Dense(DenseType::Bf16) => "bf16",
            Form::Dense(DenseType::F16) => "f16",
            Form::Dense(DenseType::Q8_0) => "q8_0",
            Form::Early => "ollama",
            Form::Mixed => "mixed",
        }
    }

    fn open(self) -> Result<Arc<AnyCheckpoint>, String> {
        let recipe = Recipe::built_in(RECIPE);
        let bytes = match self {
            Form::Dense(dense) => gguf_bytes(&recipe, dense).map_err(|e| e.to_string())?,
            Form::Early => early_file(&recipe, early_split)?.write().bytes,
            Form::Mixed => {
                let mut file = early_file(&recipe, early_split)?;
                file.tensors.iter_mut().for_each(mix);
                file.write().bytes
            }
        };
        Ok(Arc::new(AnyCheckpoint::Gguf(model_of(bytes)?)))
    }
}

/// Every form, whole and paged.
pub(super) fn cases() -> Vec<Check> {
    let exact = [Form::Dense(DenseType::Bf16), Form::Early]
        .into_iter()
        .flat_map(|form| [1, 64].map(|chunk| exact_case(form, chunk)));
    let near = [Form::Dense(DenseType::Q8_0), Form::Dense(DenseType::F16), Form::Mixed];
    let near = near.into_iter().flat_map(|form| [3, 64].map(|chunk| near_case(form, chunk, false)));
    let paged = [Form::Dense(DenseType::Q8_0), Form::Mixed].map(|form| near_case(form, 64, true));
    run(exact.chain(near).chain(paged).collect())
}

/// The same bits as from SafeTensors: the device holds the same numbers, and sums them in the same order.
fn exact_case(form: Form, chunk: usize) -> Case<'static> {
    case(format!("logits/gguf/{}/chunk-{chunk}", form.name()), move |name, compute| {
        let run = |checkpoint: Arc<AnyCheckpoint>| {
            let tokens = prompt(POSITIONS, checkpoint.source().vocab_rows());
            show(&load(checkpoint, compute, None)?, &tokens, &VOCAB, chunk, &all_stages())
        };
        let want = checkpoint(&Recipe::built_in(RECIPE), Layout::Original).and_then(|source| run(Arc::new(source)));
        match (want, form.open().and_then(run)) {
            (Ok(want), Ok(found)) => same_bits(name, &want, &found),
            (Err(reason), _) | (_, Err(reason)) => failed(name, reason),
        }
    })
}

fn same_bits(name: String, want: &[Seen], found: &[Seen]) -> Check {
    let places = |seen: &[Seen]| seen.iter().map(|s| (s.stage, s.layer, s.values.len())).collect::<Vec<_>>();
    if want.is_empty() || places(want) != places(found) {
        return failed(name, "the runs show different stages");
    }
    let bits = |seen: &Seen| seen.values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    match want.iter().zip(found).find(|(want, found)| bits(want) != bits(found)) {
        None => {
            let values: usize = want.iter().map(|seen| seen.values.len()).sum();
            Check::pass(name, Level::Logits, format!("{values} values of {} stages bit for bit", want.len()))
        }
        Some((want, _)) => failed(name, format!("{} of layer {:?} differs", want.stage, want.layer)),
    }
}

/// Within budget of the oracle on the same file; `paged`: through three slots, the embedding in the file.
fn near_case(form: Form, chunk: usize, paged: bool) -> Case<'static> {
    let suffix = if paged { "/paged" } else { "" };
    case(format!("logits/gguf/{}/chunk-{chunk}{suffix}", form.name()), move |name, compute| {
        near_oracle(&name, form, chunk, paged, compute).unwrap_or_else(|reason| failed(name, reason))
    })
}

fn near_oracle(name: &str, form: Form, chunk: usize, paged: bool, compute: &Compute) -> Result<Check, String> {
    let checkpoint = form.open()?;
    let source = checkpoint.source();
    let tokens = prompt(POSITIONS, source.vocab_rows());
    let ask = Request { vocab: Vocab::These(&VOCAB), ..Request::default() };
    let (taps, noise) = expected(source, &tokens, &ask);
    let budget = paged.then(|| {
        let (fixed, expert) = footprint(&checkpoint);
        fixed + 3 * expert
    });
    let model = load(checkpoint.clone(), compute, budget)?;
    if paged != model.pager().is_some() {
        return Ok(failed(name, "the budget did not decide whether experts page"));
    }
    // Experts that page are computed in turns, each of which shows some rows of their activations.
    let stages: Vec<Stage> = all_stages().into_iter().filter(|stage| !paged || *stage != Stage::Swiglu).collect();
    let seen = show(&model, &tokens, &VOCAB, chunk, &stages)?;
    let findings = judge(source, &tokens, &ask, (&taps, &noise), &seen);
    Ok(verdict(name.to_string(), Level::Logits, &findings, tokens.len()))
}

/// Puts random blocks of another type in the place of a dense matrix's rows.
fn mix(tensor: &mut Tensor) {
    let name = String::from_utf8_lossy(&tensor.name).into_owned();
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok()).unwrap_or(0);
    let stem = name.rsplit_once(&format!("blk.{layer}.")).map_or(name.as_str(), |(_, stem)| stem);
    let (kind, id) = match (stem, layer % 4) {
        ("attn_q.weight", 0) => (BlockType::Q4_0, 2),
        ("attn_q.weight", _) => (BlockType::Q8_0, 8),
        ("attn_k.weight", _) => (BlockType::Q5_1, 7),
        ("attn_v.weight", 0) => (BlockType::Iq4Nl, 20),
        ("attn_v.weight", 1) => (BlockType::F16, 1),
        ("attn_out.weight", 0) => (BlockType::Q4K, 12),
        ("attn_out.weight", 1) => (BlockType::Q5K, 13),
        ("attn_out.weight", 2) => (BlockType::Q6K, 14),
        ("token_embd.weight", _) => (BlockType::Q5_0, 6),
        ("output.weight", _) => (BlockType::Q4_0, 2),
        _ => return,
    };
    let seed = fnv1a_64(name.bytes()) | 1;
    let count = tensor.dims.iter().product::<u64>() as usize / kind.values();
    tensor.data = (0..count as u64).flat_map(|index| block(kind, seed, index)).collect();
    tensor.ggml_type = id;
}

/// A random block under scales that leave weights of some tenths.
fn block(kind: BlockType, seed: u64, index: u64) -> Vec<u8> {
    let size = kind.bytes() as u64;
    let mut bytes: Vec<u8> = (0..size).map(|i| (squares32(index * size + i, seed) >> 8) as u8).collect();
    let places: &[(usize, u16)] = match kind {
        BlockType::Q4_0 => &[(0, 0x2400)],
        BlockType::Q5_0 => &[(0, 0x2000)],
        BlockType::Q5_1 => &[(0, 0x2000), (2, 0xb000)],
        BlockType::Q4K => &[(0, 0x0c00), (2, 0x1800)],
        BlockType::Q5K => &[(0, 0x0800), (2, 0x1800)],
        // A subnormal.
        BlockType::Q6K => &[(208, 0x0200)],
        BlockType::F16 => &[],
        _ => &[(0, 0x1400)],
    };
    places.iter().for_each(|&(at, bits)| bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes()));
    if kind == BlockType::F16 {
        bytes[1] = bytes[1] & 0x83 | (8 + bytes[1] % 3) << 2;
    }
    bytes
}
