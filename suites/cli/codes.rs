//! Exit codes: 0 ok, 1 failed, 2 usage, 3 input, 4 nothing checked; and a next command after every failure.

use std::process::Command;

use crate::program::{Bench, Ran, gptoss, run, verify};

#[track_caller]
fn fails(ran: &Ran, code: i32, says: &str) {
    assert_eq!(ran.code, code, "stdout `{}`, stderr `{}`", ran.stdout, ran.stderr);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains(says), "`{said}` does not say `{says}`");
    assert!(said.contains("next: ") || said.contains("--help"), "`{said}` names no next command");
}

#[test]
fn a_wrong_command_line_is_2() {
    fails(&verify(&["check"]), 2, "CHECKPOINT");
    fails(&verify(&["run", "everything"]), 2, "everything");
    fails(&verify(&["check", "x", "--sample", "200%"]), 2, "percentage");
    fails(&verify(&["explain", "no/such/check"]), 2, "no/such/check");
    fails(&gptoss(&["export", "--from", "x"]), 2, "--to");
    assert_eq!(verify(&["--help"]).code, 0);
    assert_eq!(gptoss(&["--version"]).code, 0);
}

#[test]
fn a_missing_or_foreign_input_is_3() {
    let bench = Bench::new("small-vocab");
    std::fs::write(bench.file("notes.txt"), "not a model").expect("written");
    std::fs::write(bench.file("model.gguf"), b"GGUF\x03\0\0\0").expect("written");
    fails(&verify(&["check", &bench.path("absent")]), 3, "absent");
    fails(&verify(&["inspect", &bench.path("absent")]), 3, "absent");
    fails(&verify(&["check", &bench.path("notes.txt")]), 3, "begins with `not a model`");
    fails(&verify(&["check", &bench.path("model.gguf")]), 3, "tensor count");
    fails(&verify(&["diff", &bench.path("original"), &bench.path("absent")]), 3, "absent");
    fails(&verify(&["fixture", "no-such-recipe", "--out", &bench.path("x")]), 3, "small-vocab");
    let (from, to) = (bench.path("absent"), bench.path("model.bin"));
    fails(&gptoss(&["export", "--from", &from, "--to", &to]), 3, "absent");
    fails(&gptoss(&["export", "--from", &bench.path("original"), "--to", &to]), 3, "1024");
    let manifest = ["check", &bench.path("original"), "--manifest", &bench.path("notes.txt")];
    fails(&verify(&manifest), 3, "not a manifest");
}

/// The environment of a machine without any graphics driver.
const NO_DRIVER: [(&str, &str); 3] = [
    ("VK_DRIVER_FILES", "/no/driver"),
    ("VK_ICD_FILENAMES", "/no/driver"),
    ("__EGL_VENDOR_LIBRARY_FILENAMES", "/no/driver"),
];

#[test]
fn without_an_adapter_device_checks_and_commands_are_5() {
    let bench = Bench::new("one-layer");
    let with = |program: &str, args: &[&str]| run(std::process::Command::new(program).args(args).envs(NO_DRIVER));
    let checked = with(env!("CARGO_BIN_EXE_gptoss-verify"), &["run", "tensors"]);
    assert_eq!(checked.code, 5, "{}", checked.stdout);
    assert!(checked.stdout.contains("no-device"), "{}", checked.stdout);
    let out = bench.path("logits.safetensors");
    let logits = ["logits", "--model", &bench.path("original"), "--tokens", "1", "--out", &out];
    fails(&with(env!("CARGO_BIN_EXE_gptoss"), &logits), 5, "no graphics adapter");
    fails(&with(env!("CARGO_BIN_EXE_gptoss"), &["devices"]), 5, "no graphics adapter");
    assert!(!bench.file("logits.safetensors").exists(), "nothing is written");
}

#[test]
fn what_a_model_cannot_do_has_its_code_and_leaves_no_file() {
    let bench = Bench::new("one-layer");
    let (model, out) = (bench.path("original"), bench.path("logits.safetensors"));
    let logits = |more: &[&str]| gptoss(&[&["logits", "--model", &model, "--out", &out], more].concat());
    fails(&logits(&["--tokens", "1,99999999"]), 3, "99999999");
    fails(&logits(&["--tokens", "1,2,3", "--context", "2"]), 3, "context of 2");
    fails(&logits(&["--tokens", "1", "--positions", "4"]), 2, "position 4");
    fails(&logits(&["--tokens", "1", "--chunk", "0"]), 2, "chunk");
    fails(&logits(&["--tokens", "1", "--adapter", "no such adapter"]), 5, "no such adapter");
    fails(&logits(&["--tokens", "1", "--device-memory", "1MiB"]), 6, "too small");
    fails(&logits(&["--tokens-file", &bench.path("absent.json")]), 3, "absent.json");
    std::fs::write(bench.file("none.json"), "[]").expect("written");
    fails(&logits(&["--tokens", "1", "--vocab-ids", &bench.path("none.json")]), 3, "empty list");
    let oracle = |more: &[&str]| verify(&[&["oracle", "--model", &model, "--out", &out], more].concat());
    fails(&oracle(&["--tokens", "1,99999999"]), 3, "99999999");
    fails(&oracle(&["--tokens", "1", "--positions", "4"]), 2, "position 4");
    fails(&oracle(&["--tokens-file", &bench.path("none.json")]), 3, "no tokens");
    fails(&oracle(&["--tokens", "1", "--vocab-ids", &bench.path("none.json")]), 3, "empty list");
    assert!(!bench.file("logits.safetensors").exists(), "nothing is written");
}

#[test]
fn an_output_that_cannot_be_written_is_2_and_says_where() {
    let bench = Bench::new("T1");
    let from = bench.path("original");
    fails(&gptoss(&["export", "--from", &from, "--to", &bench.path("no/such/model.bin")]), 2, "no/such");
    fails(&gptoss(&["export", "--from", &from, "--to", &from]), 2, "source itself");
    std::fs::write(bench.file("original/thesis.txt"), "my only copy").expect("written");
    fails(&verify(&["fixture", "T1", "--out", &from]), 2, "thesis.txt");
    assert!(bench.file("original/thesis.txt").exists());
}

#[test]
fn honest_files_are_0_and_a_changed_one_is_1_with_its_likely_cause() {
    let bench = Bench::new("T3");
    let (original, model) = (bench.path("original"), bench.export());
    let hf = bench.fixture("T3", "hf", &["--layout", "hf", "--shards", "3"]);
    for (checkpoint, against) in [(&model, &original), (&model, &hf), (&hf, &original), (&original, &model)] {
        for level in ["structure", "digests", "tensors"] {
            let ran = verify(&["check", checkpoint, "--against", against, "--level", level]);
            assert_eq!(ran.code, 0, "{checkpoint} against {against} at {level}: {}", ran.stdout);
        }
        assert_eq!(verify(&["diff", checkpoint, against]).code, 0);
    }
    let mut bytes = std::fs::read(&model).expect("read");
    let section = section_of(&model, "block.2.mlp.mlp1_weight.blocks[5]");
    bytes[section].iter_mut().for_each(|byte| *byte = byte.rotate_left(4));
    std::fs::write(&model, bytes).expect("written");
    let ran = verify(&["check", &model, "--against", &original]);
    fails(&ran, 1, "looks like: expert blocks look nibble-swapped");
    assert!(ran.stdout.contains("tensors/block.2.mlp.mlp1_weight.blocks"), "{}", ran.stdout);
    fails(&verify(&["diff", &original, &model]), 1, "nibble-swapped");
}

/// Where a section of a model.bin lies.
fn section_of(model: &str, name: &str) -> std::ops::Range<usize> {
    let inspected = verify(&["inspect", model, "--tensors", "--json"]).json();
    let rows = inspected["tensors"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["name"] == name).expect("the section exists");
    let number = |key: &str| row[key].as_u64().expect("a number") as usize;
    number("offset")..number("offset") + number("bytes")
}

#[test]
fn a_manifest_sees_one_changed_byte_and_survives_a_renaming() {
    let bench = Bench::new("T1");
    let (model, manifest) = (bench.export(), bench.path("manifest.json"));
    assert_eq!(verify(&["manifest", &model, "-o", &manifest]).code, 0);
    let renamed = bench.path("renamed.bin");
    std::fs::rename(&model, &renamed).expect("renamed");
    assert_eq!(verify(&["check", &renamed, "--manifest", &manifest, "--level", "digests"]).code, 0);
    let mut bytes = std::fs::read(&renamed).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&renamed, bytes).expect("written");
    let ran = verify(&["check", &renamed, "--manifest", &manifest, "--level", "digests"]);
    fails(&ran, 1, "block.1.mlp.mlp2_bias[3]");
}

#[test]
fn every_name_that_explain_lists_can_be_explained() {
    let list = verify(&["explain", "all"]).stdout;
    let names: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert!(names.len() > 90, "{list}");
    for name in names {
        assert!(gptoss::verify::explain::text(name).is_some(), "{name}");
    }
    for name in ["tensor-out-of-bounds", "sabotage/qkv/q-scale-missing", "bytes/reject/file-empty", "digests/x"] {
        assert_eq!(verify(&["explain", name]).code, 0, "{name}");
    }
}

#[test]
fn completions_and_man_pages_come_from_the_definitions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = verify(&["completions", shell]);
        assert!(ran.code == 0 && ran.stdout.contains("regenerate"), "{shell}");
    }
    let man = verify(&["man"]);
    assert!(man.code == 0 && man.stdout.contains(".TH gptoss-verify") && man.stdout.contains("against"));
    assert!(gptoss(&["man"]).stdout.contains("from"));
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let bench = Bench::new("odd-experts");
    let files = |threads: &str| {
        let (out, to) = (bench.path(&format!("fixture-{threads}")), bench.path(&format!("{threads}.bin")));
        let with_threads = |program: &str, args: &[&str]| {
            let ran = run(Command::new(program).args(args).env("RAYON_NUM_THREADS", threads));
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        };
        with_threads(env!("CARGO_BIN_EXE_gptoss-verify"), &["fixture", "odd-experts", "--out", &out]);
        with_threads(env!("CARGO_BIN_EXE_gptoss"), &["export", "--from", &out, "--to", &to]);
        let read = |path: &str| std::fs::read(path).expect("read");
        (read(&format!("{out}/model.safetensors")), read(&to))
    };
    let one = files("1");
    assert!(one == files("2") && one == files("7"), "the bytes depend on the number of threads");
}

#[test]
fn a_sample_reads_less_and_says_how_much() {
    let bench = Bench::new("T1");
    let ran = verify(&["check", &bench.path("original"), "--sample", "30%", "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let notes = ran.json()["notes"].to_string();
    assert!(notes.contains("sampled"), "{notes}");
}
