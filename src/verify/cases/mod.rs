//! What `gptoss-verify run` checks: groups of cases, each a promise with a name.
//!
//! A group's name is the start of its checks' names; its text is what `explain` prints.

mod batches;
mod caches;
pub mod codecs;
mod comparers;
pub mod converter;
pub mod device;
mod exports;
pub mod fixtures;
pub mod ggml;
pub mod gguf;
pub mod gguf_runs;
pub mod ggufs;
pub mod headroom;
pub mod kernels;
pub mod memory;
mod quantised;
mod ropes;
mod sessions;
pub mod text;
mod traces;
mod witness;

use super::fault;
use super::golden::{self, Golden, GoldenError};
use super::outcome::{Check, Level, Outcome};
use super::reject;

/// A group of checks that are run together.
pub struct Group {
    /// Start of the checks' names.
    pub name: &'static str,
    /// What it is about.
    pub level: Level,
    /// The promise, its source, and what red usually means.
    pub about: &'static str,
    /// Runs the checks.
    pub run: fn() -> Vec<Check>,
}

/// Every group, in the order of a run.
///
/// Memory comes first, while the process's heap is fresh.
pub const GROUPS: &[Group] = &[
    Group {
        name: "memory/export",
        level: Level::Memory,
        about: "An export's heap stays below a fixed bound whatever the size of the model. The meter first proves that it \
                sees a known allocation come and go.",
        run: memory::export::export_cases,
    },
    Group {
        name: "memory/device",
        level: Level::Memory,
        about: "Host and device together stay below 1.10 × model.bin + cache + 512 MiB; under a budget the device stays within it and \
                pages; longer prompts cost their cache only; decoding allocates nothing. Floors keep a dead meter from passing. \
                Red: `suites/memory` shows what each bound sees.",
        run: memory::device::device_cases,
    },
    Group {
        name: "bytes/golden",
        level: Level::Bytes,
        about: "Every golden's payload has the SHA-256 that its provenance records. Red: a golden was edited by hand, or \
                regenerated without its sidecar.",
        run: golden_checks,
    },
    Group {
        name: "bytes/comparer",
        level: Level::Bytes,
        about: "The comparers say no to every pair that must fail: each element flipped in turn, lengths, NaN, -0, planted \
                repeats. Red: every other green check is worth nothing until this is mended.",
        run: comparers::run,
    },
    Group {
        name: "bytes/config",
        level: Level::Bytes,
        about: "config.json of each fixture, byte for byte as Python's json.dumps writes the published keys, and both \
                dialects read into the same model.",
        run: fixtures::config_cases,
    },
    Group {
        name: "bytes/fixture",
        level: Level::Bytes,
        about: "Every tensor of each fixture, and the whole SafeTensors file, in both layouts, has the SHA-256 that the numpy \
                witness computed (scripts/witness/). Red: the integer recipe, the tensor table or the header changed.",
        run: fixtures::digest_cases,
    },
    Group {
        name: "bytes/prefix",
        level: Level::Bytes,
        about: "Header and tokenizer section of gpt-oss-20b and -120b have the digests of the upstream converter's output. \
                Red: a header number, the vocabulary, or the special-token table changed.",
        run: exports::prefix_cases,
    },
    Group {
        name: "bytes/export",
        level: Level::Bytes,
        about: "model.bin exported from the original layout, from three shards and from the HF layout has the SHA-256 of the \
                file that OpenAI's unmodified converter wrote from the same checkpoint. Red: find the section with \
                `gptoss-verify diff`, against a file known to be good.",
        run: exports::digest_cases,
    },
    Group {
        name: "bytes/read-back",
        level: Level::Bytes,
        about: "The strict reader opens the export; the oracle finds every tensor equal to its source; undoing the \
                transforms gives the source's bytes.",
        run: exports::read_back_cases,
    },
    Group {
        name: "bytes/gguf",
        level: Level::Bytes,
        about: "GGUFs by PyPI's gguf and by llama.cpp's converter: metadata, tensors, offsets and payload digests as gguf's own \
                reader has them, one file or split; a big-endian one is refused by name. Red: the first cell that differs is named.",
        run: ggufs::run,
    },
    Group {
        name: "bytes/gguf-export",
        level: Level::Bytes,
        about: "GGUF files exported from both SafeTensors layouts, from model.bin and from GGUF hold the tensors that PyPI's gguf writes \
                of the same recipe: names, dimensions, types and the SHA-256 of each. Red: a name, a repacking, a rounding or the \
                order of rows changed.",
        run: gguf::export_cases,
    },
    Group {
        name: "bytes/gguf-converter",
        level: Level::Bytes,
        about: "Our GGUF of a checkpoint against llama.cpp's own converter's of the same: every tensor's name, type, dimensions and \
                data, every metadata key's type and value. What differs on purpose is a list with reasons; anything else is red, and \
                so is an entry of the list that no longer differs.",
        run: converter::run,
    },
    Group {
        name: "bytes/gguf-read",
        level: Level::Bytes,
        about: "A model read from a GGUF, in llama.cpp's dialect and in Ollama's early one, holds its source's tensors: bit for bit, or \
                where it is quantised as its type must be, in every type that ggml's own quantisers wrote. Its model.bin is the one that OpenAI's converter writes; a file that lost \
                something has none. Red: the tensor that differs is named.",
        run: gguf::read_cases,
    },
    Group {
        name: "bytes/reject",
        level: Level::Bytes,
        about: "Every malformed input of fixtures/rejects/ is refused with the typed error it must give, and a message that \
                names the file and the field. Red: a reader accepts, or blames the wrong thing.",
        run: reject::run,
    },
    Group {
        name: "tensors/mxfp4",
        level: Level::Tensors,
        about: "MXFP4 decoding of all 256 scales × 16 codes, nibble order, and encoding of edge and random blocks, bit for bit \
                as PyPI's ml_dtypes gives them.",
        run: codecs::mxfp4_cases,
    },
    Group {
        name: "tensors/bf16",
        level: Level::Tensors,
        about: "BF16 rounding, and × 0.5 and × 0.25 over all 65 536 patterns, bit for bit as PyPI's ml_dtypes gives them.",
        run: codecs::bf16_cases,
    },
    Group {
        name: "tensors/ggml",
        level: Level::Tensors,
        about: "ggml's block types bit for bit as ggml's own C code decodes them: edge blocks, every scale, a million random blocks of \
                each; Q8_0 and MXFP4 encoded as its reference does; MXFP4 repacked as llama.cpp's converter does; the codes of \
                its quantisers of other types are the nearest, which is what `check --against` demands.",
        run: ggml::cases,
    },
    Group {
        name: "tensors/comparer",
        level: Level::Tensors,
        about: "The comparer of kernel checks says no to every word changed in turn, to NaN, lengths and zeros, and the audit to \
                inputs that hide faults. Red: no green kernel check is worth anything until this is mended.",
        run: kernels::comparer_cases,
    },
    Group {
        name: "tensors/codec",
        level: Level::Tensors,
        about: "Packed weights as the kernels decode them, bit for bit: every scale and code of MXFP4 with both offsets, every finite \
                BF16, Q8_0, Q4_K, F16 and F32 under scales of every exponent, each picked by a one-hot activation. Red: a shift, a mask or the scale's bias is wrong.",
        run: kernels::codec_cases,
    },
    Group {
        name: "tensors/embedding",
        level: Level::Tensors,
        about: "Rows of a table of each codec, bit for bit, and none that another chunk holds.",
        run: kernels::embedding_cases,
    },
    Group {
        name: "tensors/rms_norm",
        level: Level::Tensors,
        about: "RMSNorm in every family against the oracle's, within 3 × the noise of f32, also where epsilon or one value dominates.",
        run: kernels::rms_norm_cases,
    },
    Group {
        name: "tensors/linear",
        level: Level::Tensors,
        about: "Dense projections in every family and both forms (up to 4 tokens, tiles above) around every group and tile size; what \
                lies beside the output is untouched.",
        run: kernels::linear_cases,
    },
    Group {
        name: "tensors/qkv",
        level: Level::Tensors,
        about: "Query, key and value of up to 4 tokens: projection, bias, rotation, cache slots, from both layouts of the rows. Red in \
                one layout only: its order or its scales.",
        run: kernels::qkv_cases,
    },
    Group {
        name: "tensors/rope",
        level: Level::Tensors,
        about: "The runtime's YaRN angles within one rounding of the oracle's, in both variants; ggml's own within the rounding of its \
                f32 angles, by runtime and oracle; and the prefill form of the projection.",
        run: kernels::rope_cases,
    },
    Group {
        name: "tensors/attention",
        level: Level::Tensors,
        about: "Attention with sinks around the edges of windows, rings and key steps, with extreme sinks and scores; slots that \
                no visible position lies in hold NaN.",
        run: kernels::attention_cases,
    },
    Group {
        name: "tensors/route",
        level: Level::Tensors,
        about: "Router logits, weights and ids: ids exact, ties to the lowest, in every family.",
        run: kernels::route_cases,
    },
    Group {
        name: "tensors/group",
        level: Level::Tensors,
        about: "The order of assignments by expert and their tiles, exact, with experts that have no rows or are elsewhere.",
        run: kernels::group_cases,
    },
    Group {
        name: "tensors/experts",
        level: Level::Tensors,
        about: "The chosen experts of up to 4 tokens from packed weights: SwiGLU at and beyond its clamps, experts split over buffers, \
                absent experts passed over.",
        run: kernels::experts_cases,
    },
    Group {
        name: "tensors/tile",
        level: Level::Tensors,
        about: "The experts over tiles of many tokens: the same promises as `tensors/experts`, around every tile size.",
        run: kernels::tile_cases,
    },
    Group {
        name: "tensors/combine",
        level: Level::Tensors,
        about: "The weighted sum of the experts' outputs, in slot order, onto the residual stream.",
        run: kernels::combine_cases,
    },
    Group {
        name: "logits/witness",
        level: Level::Logits,
        about: "The f64 oracle against OpenAI's PyTorch model (run in f64) and transformers (f32) at 200 positions: routing exact, \
                weights, residuals and logits to 1e-9. Red: the oracle is wrong, and with it every verdict of this level.",
        run: witness::oracle_cases,
    },
    Group {
        name: "logits/device-witness",
        level: Level::Logits,
        about: "The device against OpenAI's PyTorch model (run in f64): routing exact, logits within 3 × the noise that model \
                itself has in f32.",
        run: witness::device_cases,
    },
    Group {
        name: "logits/stages",
        level: Level::Logits,
        about: "Every stage of every layer at 200 positions, within 3 × the f32 noise of the f64 oracle; expert ids exact. The \
                margins say whether exact ids may be asked for. Red: the table names the first stage that diverges, and \
                the fault of the catalogue that would do it.",
        run: device::stage_cases,
    },
    Group {
        name: "logits/headroom",
        level: Level::Logits,
        about: "Budget over error of the honest runs of `logits/stages`, for each stage the least and the median over all layers and \
                recipes. Below 1 a run is red; above 50 a budget is loose, which is said, not failed.",
        run: headroom::headroom_cases,
    },
    Group {
        name: "logits/formats",
        level: Level::Logits,
        about: "The same routing and logits from the original layout, HF and model.bin, with prompts in chunks of 1, 7, 64 and \
                200. Red in one format: its loader; in one chunking: the cache, or one form of a kernel.",
        run: device::format_cases,
    },
    Group {
        name: "logits/gguf",
        level: Level::Logits,
        about: "Models from GGUF: BF16 dense in both dialects bit for bit as from SafeTensors; Q8_0, F16, and random blocks of every \
                type within budget of the oracle, which decodes the same file by itself; the same through three slots. Red: the \
                loader puts rows, scales or experts in the wrong place.",
        run: gguf_runs::cases,
    },
    Group {
        name: "logits/families",
        level: Level::Logits,
        about: "Every stage by each family of kernels (lanes, workgroup trees, subgroups), in tiles and in the decode form, and \
                under WebGPU's default limits.",
        run: device::family_cases,
    },
    Group {
        name: "logits/kv-f16",
        level: Level::Logits,
        about: "Keys and values kept as f16: each is what a value within budget is rounded to, every other stage is within 3 × the f32 \
                noise of the f64 oracle that reads the same cache, and the residual stream near that of the oracle that rounds by \
                itself. Red: the cache rounds in another way, or attention reads something else than it holds.",
        run: caches::cache_cases,
    },
    Group {
        name: "logits/rope",
        level: Level::Logits,
        about: "The model with --rope ggml-compat: every stage of every layer within 3 × the f32 noise of the f64 oracle that rounds \
                YaRN's range as ggml does; each variant judged as the other is red at the first query.",
        run: ropes::rope_cases,
    },
    Group {
        name: "logits/sessions",
        level: Level::Logits,
        about: "Repeated, interleaved and rewound sessions give the same logits bit for bit; experts that page through three \
                slots give the same routing, and logits within budget.",
        run: sessions::session_cases,
    },
    Group {
        name: "logits/batches",
        level: Level::Logits,
        about: "Five sequences in one pass, prompts in pieces of several sizes beside single tokens: each has the logits of its \
                own truth at all positions.  Red: lanes of the cache mix, or a form of a kernel depends on its neighbours.",
        run: batches::batch_cases,
    },
    Group {
        name: "logits/traces",
        level: Level::Logits,
        about: "A watched run has the same logits bit for bit; the rows of experts that its trace tells are those routed, its \
                paging is the pager's, and every line is JSON.",
        run: traces::trace_cases,
    },
    Group {
        name: "text/tokenizer",
        level: Level::Text,
        about: "More than 300 strings have openai-harmony's ids, and a stream of ids shows whole characters only. Red: another \
                vocabulary, another pattern, or half a character shown.",
        run: text::tokens::run,
    },
    Group {
        name: "text/harmony",
        level: Level::Text,
        about: "Conversations have openai-harmony's ids in every mode, streams its messages or its refusal, and a turn ends where \
                it ends there. Red: the message names the conversation or the stream.",
        run: text::harmony::run,
    },
    Group {
        name: "text/sampling",
        level: Level::Text,
        about: "Distributions are those of transformers' processors with OpenAI's penalties, token for token and to eleven digits; \
                seeds draw what RFC 8439 says; stop strings end a text wherever it is cut. Red: the message names the case.",
        run: text::sampling::run,
    },
    Group {
        name: "text/constraint",
        level: Level::Text,
        about: "An answer that must be of a form: streams may be written as far as they are, texts exactly if a JSON Schema validator \
                accepts them, reserved ids nowhere, and draws take what is left. Red: the message names the stream or the text.",
        run: text::constraint::run,
    },
    Group {
        name: "text/engine",
        level: Level::Text,
        about: "Sequences in three lanes, and one that goes on from its caches: each gives what it gives alone. Red: lanes mix, or a \
                prefix is reused that is not there.",
        run: text::engine::run,
    },
    Group {
        name: "sabotage",
        level: Level::Sabotage,
        about: "Each fault of the catalogue, planted in an artifact, turns exactly the named checks red. Red: the harness is \
                blind to the fault, or another check fails by accident.",
        run: fault::run,
    },
];

/// Runs the groups of a level, or all of them.
pub fn run(level: Option<Level>) -> Vec<Check> {
    GROUPS
        .iter()
        .filter(|group| level.is_none_or(|level| group.level == level))
        .flat_map(|group| (group.run)())
        .collect()
}

/// Judges with a golden; without it the verdict is [`Outcome::MissingGolden`], with a damaged one a failure.
pub fn with_golden(
    golden: &str,
    check: &str,
    level: Level,
    judge: impl FnOnce(&serde_json::Value) -> Vec<Check>,
) -> Vec<Check> {
    match Golden::load(golden) {
        Ok(golden) => judge(&golden.payload),
        Err(error @ GoldenError::Missing(_)) => {
            vec![Check::new(check, level, Outcome::MissingGolden, error.to_string())]
        }
        Err(error) => vec![Check::fail(check, level, error.to_string())],
    }
}

fn golden_checks() -> Vec<Check> {
    let judge = |&(name, payload, provenance): &(&str, &str, &str)| {
        let check = format!("bytes/golden/{name}");
        match Golden::parse(name, payload, provenance) {
            Ok(golden) => Check::pass(check, Level::Bytes, golden.provenance.source),
            Err(error) => Check::fail(check, Level::Bytes, error.to_string()),
        }
    };
    let judge_tensors = |&(name, payload, provenance): &(&str, &[u8], &str)| {
        let check = format!("bytes/golden/{name}");
        match golden::checked(name, payload, provenance) {
            Ok(provenance) => Check::pass(check, Level::Bytes, provenance.source),
            Err(error) => Check::fail(check, Level::Bytes, error.to_string()),
        }
    };
    golden::ALL.iter().map(judge).chain(golden::TENSORS.iter().map(judge_tensors)).collect()
}
