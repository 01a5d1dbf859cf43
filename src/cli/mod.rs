//! The command lines: parse, call the library, map to an exit code.
//!
//! Results go to stdout, progress and logs to stderr; bars and colour appear on a terminal only.  Every failure ends
//! with the next command to run.  Exit codes are [`crate::exit::Exit`].

mod asked;
mod bench;
mod chat;
mod devices;
mod generate;
pub mod gptoss;
mod logits;
mod model;
mod oracle;
mod progress;
mod remote;
mod serve;
mod serve_files;
mod speaker;
mod text;
pub mod verify;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Command, Parser};

use crate::exit::Exit;
use crate::output::OutputError;

pub use progress::Bar;

/// A command that could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong.
    pub message: String,
    /// The next command to run.
    pub next: String,
}

impl Failure {
    /// A failure with its code, its message, and what to do next.
    pub fn new(exit: Exit, message: impl ToString, next: impl Into<String>) -> Failure {
        Failure { exit, message: message.to_string(), next: next.into() }
    }
}

/// What a subcommand gives back.
pub type Outcome = Result<Exit, Failure>;

/// Parses the command line, sets up logging, runs, and says what went wrong.
pub fn main<A: Parser>(program: &str, run: impl FnOnce(A) -> Outcome) -> ExitCode {
    let args = match A::try_parse() {
        Ok(args) => args,
        // Help and version are results, on stdout, with code 0; a wrong command line is on stderr, with code 2.
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = error.print();
            return exit.into();
        }
    };
    start_logging();
    progress::watch_interrupts();
    // A panic is a defect of this program: the hook has printed it, the code says whose fault it is.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(args))) {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => {
            eprintln!("{program}: {}", failure.message);
            eprintln!("next: {}", failure.next);
            failure.exit.into()
        }
        Err(_) => {
            eprintln!("{program}: internal error");
            eprintln!("next: report it, with what RUST_BACKTRACE=1 prints");
            Exit::Internal.into()
        }
    }
}

/// `RUST_LOG` chooses what is logged; warnings are by default.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
        .without_time()
        .try_init();
}

/// Writes a result to stdout; a reader that went away is no error.
pub fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, format!("stdout: {error}"), "check where the output goes"))
        }
        _ => Ok(()),
    }
}

/// The code of an output that could not be written: a wrong path is the command line's fault, the rest the machine's.
pub fn output_exit(error: &io::Error) -> Exit {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound | PermissionDenied | IsADirectory | NotADirectory => Exit::Usage,
        _ => Exit::Internal,
    }
}

/// The code of an output that was not written, and what to do: `flag` chooses another.
pub fn output_next(error: &OutputError, flag: &str) -> (Exit, String) {
    match error {
        OutputError::Io { source, .. } => (output_exit(source), format!("choose another {flag}")),
        OutputError::NoSpace { .. } => (Exit::Internal, format!("free some space, or choose another {flag}")),
    }
}

/// Prints shell completions or a man page made from the command's own definitions.
pub fn describe(mut command: Command, what: &Describe) -> Outcome {
    let name = command.get_name().to_string();
    print(|out| match what {
        Describe::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut command, name, &mut text);
            out.write_all(&text)
        }
        Describe::Man => man(&command, out),
    })?;
    Ok(Exit::Ok)
}

/// The command's page, then one for each subcommand.
fn man(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let mut command = command.clone();
    command.build(); // gives subcommands their full names
    let subs = command.get_subcommands().filter(|sub| sub.get_name() != "help").cloned();
    let mut text = Vec::new();
    for page in [command.clone()].into_iter().chain(subs) {
        clap_mangen::Man::new(page).render(&mut text)?;
    }
    out.write_all(&text)
}

/// Subcommands that describe the program itself.
#[derive(Debug, clap::Subcommand)]
pub enum Describe {
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man pages (roff)
    Man,
}
