//! GPT-OSS: checkpoints read, exported, run and verified.
//!
//! ```text
//! checkpoint ─► model_bin     gguf             SafeTensors in, model.bin out, GGUF in
//!      └──► open ◄──┘                          one way in for every format
//!            │
//! device     ▼                                 the adapter, its limits, and which kernels they suggest
//! kernels ─► nn ─► models ─► generate          packed weights to logits: kernels, parts, the model, a sequence on it
//! quant                                        byte arithmetic, under all of them
//! range ─► remote                              bytes of a checkpoint that is elsewhere, and what its headers say
//! serve                                        generate over HTTP, as OpenAI's API speaks
//! verify                                       outside: feeds both sides, compares, and proves that it can fail
//! ```
//!
//! * **Invariant:** the runtime (everything but `verify` and `cli`) never imports `verify`.
//! * **Invariant:** readers never panic, hang, or allocate more than the input's size justifies; every failure is a
//!   typed error that names the file, the field or tensor, what was expected and what was found.
//! * **Invariant:** outputs appear whole or not at all ([`output`]).
//! * **Invariant:** experts stay packed: nothing decodes a whole expert, on the host or on the device.
//! * **Invariant:** knowledge flows one way: readers know no device, [`kernels`] no checkpoint and no model, [`nn`] no
//!   tensor name; what a checkpoint's layout changes is decided once, where [`models`] load it.
//! * **Invariant:** no buffer is larger than the adapter reports to allow ([`device`]), and WebGPU's default limits do.
//! * **Invariant:** any chunking of a prompt chooses the same experts and gives the same logits, within the budget of f32
//!   sums in another order ([`generate`]).

pub mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
pub mod cli;
pub mod device;
pub mod exit;
pub mod generate;
pub mod gguf;
pub mod kernels;
pub mod manifest;
pub mod mapped;
pub mod model_bin;
pub mod models;
pub mod nn;
pub mod open;
pub mod output;
pub mod quant;
pub mod range;
#[cfg(not(target_arch = "wasm32"))]
pub mod remote;
#[cfg(not(target_arch = "wasm32"))]
pub mod serve;
pub mod telemetry;
pub mod verify;
