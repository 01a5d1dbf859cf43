//! The store on disk: checking it against what is compiled in, and making goldens again, with a reason.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ALL, Provenance, TENSORS, checked, names};
use crate::verify::compare::digest::hex_sha256;
use crate::verify::fault;
use crate::verify::outcome::{Check, Level, Outcome};

/// Goldens that this program makes itself: snapshots of what the harness says, judged by nobody else.
const OWN: [&str; 1] = ["text/sabotage"];

/// A golden that was made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Its name.
    pub name: String,
    /// Whether the payload changed.
    pub changed: bool,
}

/// Why the store could not be worked on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error("no golden store: run inside a checkout of gptoss (a directory with goldens/ and Cargo.toml)")]
    NoStore,
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("no golden matches `{0}`")]
    NoMatch(String),
    #[error("a golden is made again only for a reason: --reason must say why")]
    NoReason,
    #[error("golden {name}: `{command}` failed: {why}")]
    Producer { name: String, command: String, why: String },
    #[error("golden {name}: {path} is no provenance: {source}", path = path.display())]
    Provenance { name: String, path: PathBuf, source: serde_json::Error },
}

/// The store's directory: `goldens/` of the checkout that holds `start`.
pub fn find(start: &Path) -> Result<PathBuf, StoreError> {
    start
        .ancestors()
        .find(|dir| dir.join("Cargo.toml").is_file() && dir.join("goldens").is_dir())
        .map(|dir| dir.join("goldens"))
        .ok_or(StoreError::NoStore)
}

/// Checks the store: digests, no stray files, and our own goldens made again and compared.
///
/// What was made again is left in `into` for a look at the difference.
pub fn check_store(store: &Path, into: &Path) -> Result<Vec<Check>, StoreError> {
    let texts = ALL.iter().map(|&(name, payload, sidecar)| on_disk(store, name, "json", payload.as_bytes(), sidecar));
    let tensors = TENSORS.iter().map(|&(name, payload, sidecar)| on_disk(store, name, "safetensors", payload, sidecar));
    let mut checks: Vec<Check> = texts.chain(tensors).collect();
    checks.extend(strays(store)?);
    for name in OWN {
        let path = into.join(format!("{name}.json"));
        let rebuilt = own_payload();
        write(&path, rebuilt.as_bytes())?;
        let check = format!("goldens/{name}/rebuilt");
        checks.push(match ALL.iter().any(|golden| golden.0 == name && golden.1 == rebuilt) {
            true => Check::pass(check, Level::Bytes, "made again, equal"),
            false => Check::fail(check, Level::Bytes, format!("differs from {}", path.display())),
        });
    }
    Ok(checks)
}

fn on_disk(store: &Path, name: &str, ending: &str, payload: &[u8], provenance: &str) -> Check {
    let check = format!("goldens/{name}");
    if let Err(error) = checked(name, payload, provenance) {
        return Check::fail(check, Level::Bytes, error.to_string());
    }
    match std::fs::read(store.join(format!("{name}.{ending}"))) {
        Err(_) => Check::new(check, Level::Bytes, Outcome::MissingGolden, "not in the store"),
        Ok(bytes) if bytes != payload => Check::fail(
            check,
            Level::Bytes,
            "the store's payload is not the one this program was built with: build again",
        ),
        Ok(bytes) => Check::pass(check, Level::Bytes, format!("{} bytes", bytes.len())),
    }
}

/// Files of the store that no golden accounts for.
fn strays(store: &Path) -> Result<Vec<Check>, StoreError> {
    let mut checks = Vec::new();
    for suite in entries(store)? {
        for file in entries(&suite)? {
            let name = file.strip_prefix(store).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            let belongs =
                |(golden, ending)| name == format!("{golden}.provenance.json") || name == format!("{golden}.{ending}");
            // A README says what the goldens of a suite are.
            if !name.ends_with("/README.md") && !names().any(belongs) {
                checks.push(Check::fail(format!("goldens/{name}"), Level::Bytes, "no check uses this file"));
            }
        }
    }
    Ok(checks)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let io = |source| StoreError::Io { path: directory.into(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Makes goldens again: our own in this process, the others by the command in their provenance.
pub fn regenerate(store: &Path, only: Option<&str>, reason: &str) -> Result<Vec<Rebuilt>, StoreError> {
    if reason.trim().is_empty() {
        return Err(StoreError::NoReason);
    }
    let pattern = only.unwrap_or("*");
    let wanted: Vec<_> = names().filter(|(name, _)| matches(pattern, name)).collect();
    if wanted.is_empty() {
        return Err(StoreError::NoMatch(pattern.into()));
    }
    wanted.into_iter().map(|(name, ending)| regenerate_one(store, name, ending, reason)).collect()
}

fn regenerate_one(store: &Path, name: &str, ending: &str, reason: &str) -> Result<Rebuilt, StoreError> {
    let payload_path = store.join(format!("{name}.{ending}"));
    let sidecar_path = store.join(format!("{name}.provenance.json"));
    let before = std::fs::read(&payload_path).unwrap_or_default();
    let provenance = read_provenance(name, &sidecar_path)?;
    if OWN.contains(&name) {
        write(&payload_path, own_payload().as_bytes())?;
    } else {
        run_producer(store, name, &provenance.command)?;
    }
    let after = std::fs::read(&payload_path).map_err(|source| StoreError::Io { path: payload_path, source })?;
    // The producer may have written new package versions: read its sidecar, keep all but reason and digest.
    let mut provenance = read_provenance(name, &sidecar_path)?;
    provenance.payload_sha256 = hex_sha256(&after);
    provenance.reason = reason.into();
    let text = serde_json::to_string_pretty(&provenance).expect("a provenance has a JSON form") + "\n";
    write(&sidecar_path, text.as_bytes())?;
    Ok(Rebuilt { name: name.into(), changed: before != after })
}

fn read_provenance(name: &str, path: &Path) -> Result<Provenance, StoreError> {
    let text = std::fs::read(path).map_err(|source| StoreError::Io { path: path.into(), source })?;
    serde_json::from_slice(&text).map_err(|source| StoreError::Provenance {
        name: name.into(),
        path: path.into(),
        source,
    })
}

fn run_producer(store: &Path, name: &str, command: &str) -> Result<(), StoreError> {
    let failed = |why: String| StoreError::Producer { name: name.into(), command: command.into(), why };
    let mut words = command.split_whitespace();
    let program = words.next().ok_or_else(|| failed("the command is empty".into()))?;
    let root = store.parent().unwrap_or(store);
    let status = Command::new(program).args(words).current_dir(root).status().map_err(|e| failed(e.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

fn own_payload() -> String {
    fault::run::payload(&fault::catalogue())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.into(), source };
    std::fs::create_dir_all(path.parent().unwrap_or(path)).map_err(io)?;
    crate::output::write(path, bytes).map_err(io)
}

/// Whether `name` fits a pattern in which `*` stands for anything.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => {
            let Some(tail) = name.strip_prefix(start) else { return false };
            (0..=tail.len()).any(|at| tail.is_char_boundary(at) && matches(rest, &tail[at..]))
        }
    }
}
