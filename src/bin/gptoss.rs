//! Use a model.

use std::process::ExitCode;

fn main() -> ExitCode {
    gptoss::cli::main("gptoss", gptoss::cli::gptoss::run)
}
