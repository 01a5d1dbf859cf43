//! The house rules as tests: what may import what, how large things grow, what no file may hold.
//!
//! ```text
//! tree ──► rule (path, text) ──► violations ──► none, or the test fails and lists them all
//! ```
//!
//! **Invariants:** a rule is a pure function, and a test feeds it a bad sample that it must report and a good one that
//! it must not; a rule that looked at no file fails; an exception is listed by name and is an error once it is idle.

mod command_lines;
mod errors;
mod fixtures;
mod goldens;
mod imports;
mod manifest;
mod refused;
mod rust_paths;
mod rust_text;
mod sabotage;
mod sizes;
mod texts;
mod tree;
