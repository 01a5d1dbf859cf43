//! The command lines as scripts and people meet them: exit codes, reports, atomic outputs, bounded refusals.

mod atomic;
mod codes;
mod gguf;
mod measured;
mod oracle;
mod program;
mod refusals;
mod remote;
mod reports;
mod text;
