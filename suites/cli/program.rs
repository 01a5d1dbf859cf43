//! Runs the built programs and keeps what they said.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// What a finished program left.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The report on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e} in `{}`, stderr `{}`", self.stdout, self.stderr))
    }
}

/// `gptoss-verify` with these arguments.
pub(crate) fn verify(args: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_gptoss-verify")).args(args))
}

/// `gptoss` with these arguments.
pub(crate) fn gptoss(args: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_gptoss")).args(args))
}

/// A command, run to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("the program starts");
    Ran {
        code: output.status.code().expect("the program was not killed"),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

/// A temporary directory with a fixture of the recipe in it.
pub(crate) struct Bench {
    directory: TempDir,
}

impl Bench {
    /// Writes the recipe's original layout to `original/`.
    pub(crate) fn new(recipe: &str) -> Bench {
        let bench = Bench { directory: tempfile::tempdir().expect("a temporary directory") };
        bench.fixture(recipe, "original", &[]);
        bench
    }

    /// Writes a fixture to `name/`.
    pub(crate) fn fixture(&self, recipe: &str, name: &str, options: &[&str]) -> String {
        let out = self.path(name);
        let ran = verify(&[&["fixture", recipe, "--out", &out], options].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        out
    }

    /// Exports `original/` to `model.bin`.
    pub(crate) fn export(&self) -> String {
        let to = self.path("model.bin");
        let ran = gptoss(&["export", "--from", &self.path("original"), "--to", &to]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        to
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).to_str().expect("a temporary path is UTF-8").into()
    }

    /// A path in the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The names in the directory.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.directory.path())
    }
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory can be listed");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
