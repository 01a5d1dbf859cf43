//! Prove a model right.

use std::process::ExitCode;

fn main() -> ExitCode {
    gptoss::cli::main("gptoss-verify", gptoss::cli::verify::run)
}
