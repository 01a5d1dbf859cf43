//! Exit codes: a contract that scripts rely on.

/// What a process of this project says when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything held.
    Ok = 0,
    /// Verification failed.
    Failed = 1,
    /// The command line was wrong.
    Usage = 2,
    /// Input missing or malformed.
    Input = 3,
    /// Nothing was checked.
    NothingChecked = 4,
    /// No suitable adapter.
    NoAdapter = 5,
    /// A memory limit was passed.
    MemoryLimit = 6,
    /// A defect of this program, or of the machine under it.
    Internal = 70,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}
