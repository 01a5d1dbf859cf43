//! Outputs appear whole or not at all, whenever the process dies.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::program::{Bench, names, verify};

/// Moments at which a process is stopped: before, during and after the writing of a 166 MB file.
const MOMENTS_MS: [u64; 8] = [1, 20, 60, 120, 200, 300, 450, 700];

fn start_export(bench: &Bench) -> Child {
    let (from, to) = (bench.path("original"), bench.path("model.bin"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_gptoss"));
    command.args(["export", "--from", &from, "--to", &to]).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program starts")
}

#[test]
fn a_killed_export_leaves_nothing_under_the_final_name() {
    let bench = Bench::new("T2");
    let mut cut_short = 0;
    for moment in MOMENTS_MS {
        let mut child = start_export(&bench);
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().expect("killed"); // SIGKILL: no handler runs
        let completed = child.wait().expect("waited").success();
        let model = bench.file("model.bin");
        cut_short += u32::from(!completed);
        match model.exists() {
            // Only the rename gives the name, and it comes last: what has the name is complete.
            true => assert_eq!(model.metadata().expect("metadata").len(), 166_379_520, "after {moment} ms"),
            false => assert!(!completed, "after {moment} ms"),
        }
        if cfg!(target_os = "linux") && !model.exists() {
            assert_eq!(bench.names(), ["original"], "a pending file has no name: nothing is left after {moment} ms");
        }
        let _ = std::fs::remove_file(model);
    }
    assert!(cut_short > 0, "no export was cut short: nothing was tested");
}

#[test]
fn a_previous_export_survives_a_killed_one() {
    let bench = Bench::new("T2");
    std::fs::write(bench.file("model.bin"), "the previous export").expect("written");
    let mut child = start_export(&bench);
    std::thread::sleep(Duration::from_millis(30));
    child.kill().expect("killed");
    if !child.wait().expect("waited").success() {
        let kept = std::fs::read(bench.file("model.bin")).expect("still there");
        assert!(kept == b"the previous export" || kept.len() == 166_379_520);
    }
}

#[test]
#[cfg(unix)]
fn an_interrupted_export_is_130_and_cleans_up() {
    let bench = Bench::new("T2");
    let mut interrupted = 0;
    for moment in MOMENTS_MS {
        let mut child = start_export(&bench);
        std::thread::sleep(Duration::from_millis(moment));
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
        let code = child.wait().expect("waited").code();
        // At the first moment the handler may not be set yet: then the signal itself ends the process.
        if kill.success() && code == Some(130) {
            interrupted += 1;
            assert!(!bench.names().iter().any(|name| name.contains("partial")), "{:?}", bench.names());
            assert!(!bench.file("model.bin").exists());
        }
        for leftover in bench.names().iter().filter(|name| *name != "original") {
            std::fs::remove_file(bench.file(leftover)).expect("removed");
        }
    }
    assert!(interrupted > 0, "no export was interrupted: nothing was tested");
}

#[test]
fn a_fixture_replaces_a_checkpoint_only_when_complete() {
    let bench = Bench::new("small-vocab");
    bench.fixture("small-vocab", "original", &["--shards", "3"]);
    let files = names(&bench.file("original"));
    assert_eq!(files.iter().filter(|name| name.ends_with(".safetensors")).count(), 3, "{files:?}");
    assert_eq!(bench.names(), ["original"], "nothing is left beside it");
    assert_eq!(verify(&["check", &bench.path("original")]).code, 0);
}
