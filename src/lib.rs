//! GPT-OSS: checkpoints read, exported and verified.
//!
//! ```text
//! checkpoint ─► model_bin          the pipeline, in order: SafeTensors in, model.bin out
//!      └──► open ◄──┘              one way in for every format
//! quant                            byte arithmetic, under all of them
//! verify                           outside: feeds both sides, compares, and proves that it can fail
//! ```
//!
//! * **Invariant:** the runtime (everything but `verify` and `cli`) never imports `verify`.
//! * **Invariant:** readers never panic, hang, or allocate more than the input's size justifies; every failure is a
//!   typed error that names the file, the field or tensor, what was expected and what was found.
//! * **Invariant:** outputs appear whole or not at all ([`output`]).
//! * **Invariant:** experts stay packed: nothing decodes a whole expert.

pub mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
pub mod cli;
pub mod exit;
pub mod mapped;
pub mod model_bin;
pub mod open;
pub mod output;
pub mod quant;
pub mod telemetry;
pub mod verify;
