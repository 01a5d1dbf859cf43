//! The harness: checks that can fail, and proof that they do.
//!
//! ```text
//! fixture ─► artifact ─┐                        case: one named promise        outcome: worst wins
//! golden ──────────────┼─► compare ─► Check ─► report (human, JSON, JUnit, Markdown)
//! oracle ──────────────┘                        fault: breaks the artifact; the named check must go red
//! ```
//!
//! **Invariants:** only an independent source blesses a golden; the [`oracle`] shares no code with what it judges;
//! a comparer says "equal" and nothing else passes; a run that checked nothing fails.

pub mod bench;
pub mod cases;
pub mod check;
pub mod compare;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod fault;
pub mod fixture;
pub mod golden;
pub mod inspect;
#[cfg(not(target_arch = "wasm32"))]
pub mod liar;
pub mod manifest;
pub mod oracle;
pub mod outcome;
pub mod reject;
#[cfg(not(target_arch = "wasm32"))]
pub mod remote;
pub mod report;
pub mod resources;
pub mod sample;

pub use outcome::{Check, Level, Outcome};
pub use report::Report;
