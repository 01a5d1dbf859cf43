//! Who may know whom: walls between the rooms of the house.

use crate::rust_paths::paths;
use crate::rust_text::{code, test_lines, tokens};
use crate::tree::{self, Violation};

/// A room, and what it never names.
struct Wall {
    /// The room: start of its files' paths.
    room: &'static str,
    /// Starts of paths inside it that belong to other rooms.
    but: &'static [&'static str],
    /// What it never names: paths from the crate's root, and outer crates with those named after them.
    never: &'static [&'static str],
    /// What it may name all the same: paths inside the former.
    yet: &'static [&'static str],
    /// Why.
    why: &'static str,
}

/// What means a device.
const DEVICES: &[&str] =
    &["burn", "cubecl", "wgpu", "crate::device", "crate::kernels", "crate::nn", "crate::models", "crate::generate"];

/// Names of the stages of the forward pass: plain words, in the model's own folder.
const STAGE: &str = "crate::models::gpt_oss::stage";

/// A room that knows no device.
const fn on_the_host(room: &'static str, yet: &'static [&'static str], why: &'static str) -> Wall {
    Wall { room, but: &[], never: DEVICES, yet, why }
}

/// Every wall.  A glob of the root names everything, so that none could be seen through: it is a breach by itself.
const WALLS: [Wall; 13] = [
    Wall {
        room: "src/",
        but: &["src/verify/", "src/cli/", "src/bin/"],
        never: &["crate::verify", "crate::cli", "crate::*"],
        yet: &[],
        why: "the runtime ships without the harness and the command line",
    },
    Wall {
        room: "src/verify/oracle/",
        but: &[],
        never: &["crate::quant", "crate::model_bin", "crate::open", "crate::*"],
        yet: &[],
        why: "the oracle shares no code with what it judges",
    },
    on_the_host("src/verify/oracle/", &[STAGE], "the oracle is plain arithmetic on the host"),
    Wall {
        room: "src/quant/",
        but: &[],
        never: &["std::fs", "std::path", "std::io", "crate::checkpoint", "crate::mapped", "crate::*"],
        yet: &[],
        why: "codecs are byte arithmetic: they know no files",
    },
    on_the_host("src/quant/", &[], "codecs are byte arithmetic: they know no device"),
    on_the_host("src/checkpoint/", &[], "readers know no device"),
    on_the_host("src/model_bin/", &[], "readers and writers know no device"),
    on_the_host("src/gguf/", &[], "readers and writers know no device"),
    on_the_host("src/open.rs", &[], "readers know no device"),
    on_the_host("src/models/gpt_oss/stage.rs", &[STAGE], "the oracle names the same stages"),
    Wall {
        room: "src/kernels/",
        but: &[],
        never: &["crate::checkpoint", "crate::model_bin", "crate::open", "crate::device", "crate::nn", "crate::models"],
        yet: &["crate::checkpoint::config::RMS_NORM_EPSILON"],
        why: "kernels take tensors and sizes: they know no checkpoint and no model",
    },
    Wall {
        room: "src/nn/",
        but: &[],
        never: &["crate::checkpoint", "crate::model_bin", "crate::open", "crate::models", "crate::generate"],
        yet: &["crate::checkpoint::RopeConfig"],
        why: "parts of models know no tensor names and no model",
    },
    Wall {
        room: "src/device.rs",
        but: &[],
        never: &[
            "crate::checkpoint",
            "crate::model_bin",
            "crate::open",
            "crate::nn",
            "crate::models",
            "crate::generate",
        ],
        yet: &[],
        why: "a device is there before any model",
    },
];

impl Wall {
    fn encloses(&self, path: &str) -> bool {
        path.starts_with(self.room) && !self.but.iter().any(|room| path.starts_with(room))
    }

    fn breaches(&self, file: &str, text: &str) -> Vec<Violation> {
        let blanked = code(text);
        let in_tests = test_lines(&tokens(&blanked));
        // `use super::*` of an inline test module means its own file.
        let is_own = |(line, path): &(usize, String)| {
            path.ends_with('*') && in_tests.iter().any(|(first, last)| (first..=last).contains(&line))
        };
        let is_any = |path: &str, items: &[&str]| items.iter().any(|item| is_within(path, item));
        let is_forbidden = |(_, path): &(usize, String)| is_any(path, self.never) && !is_any(path, self.yet);
        let found = paths(file, text).into_iter().filter(|found| is_forbidden(found) && !is_own(found));
        found.map(|(line, path)| Violation::new(file, line, format!("names {path}: {}", self.why))).collect()
    }
}

/// Whether a path is `item` or something in it; a crate's name alone stands for the crates named after it too.
fn is_within(path: &str, item: &str) -> bool {
    let is_root = !item.contains("::");
    path.strip_prefix(item)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || is_root && rest.starts_with('_'))
}

#[test]
fn walls_tell_a_breach_from_a_mention() {
    let runtime = |file: &str, text: &str| WALLS[0].breaches(file, text);
    let bad = [
        (1, "use crate::verify::Report;"),
        (2, "//! Doc.\nuse crate::{open, verify};"),
        (1, "fn f() -> super::verify::Report {}"),
        (1, "use gptoss::cli::Bar;"),
        (1, "use crate::*;"),
        (1, "use super::*;"),
    ];
    let good = [
        "//! See [`crate::verify`].\n/* crate::cli */ use crate::open::AnyCheckpoint;",
        "use crate::verify_less;",
        "#[cfg(test)]\nmod tests {\n    use super::*;\n}",
    ];
    tree::tells_apart("src/open.rs", &bad, &good, runtime);
    tree::tells_apart("src/a/b.rs", &[(1, "use super::super::verify;")], &["use super::verify;"], runtime);
}

#[test]
fn walls_of_the_oracle_and_the_codecs_tell_a_breach() {
    let (shared, device, files) = (&WALLS[1], &WALLS[2], &WALLS[3]);
    let oracle = "src/verify/oracle/mxfp4.rs";
    let bad = [(1, "use crate::quant::mxfp4;"), (1, "use crate::{model_bin::layout, checkpoint::Role};")];
    tree::tells_apart(oracle, &bad, &["use crate::checkpoint::Role;"], |file, text| shared.breaches(file, text));
    let bad = [
        (1, "use burn::Tensor;"),
        (1, "use burn_wgpu::X;"),
        (1, "use crate::kernels::rope;"),
        (1, "use crate::models::gpt_oss::{load::LoadOptions, stage::Stage};"),
    ];
    let good = ["let burned = 1;", "use crate::models::gpt_oss::stage::Stage;"];
    tree::tells_apart(oracle, &bad, &good, |file, text| device.breaches(file, text));
    let bad = [(1, "use std::{fs::File, mem};"), (1, "use crate::checkpoint::Dtype;")];
    tree::tells_apart("src/quant/bf16.rs", &bad, &["/// [`crate::checkpoint`]\nuse std::mem;"], |file, text| {
        files.breaches(file, text)
    });
}

#[test]
fn walls_of_the_device_layers_tell_a_breach() {
    let wall = |room: &str| WALLS.iter().rfind(|wall| wall.room == room).expect("the room has a wall");
    let breaches = |room: &'static str| move |file: &str, text: &str| wall(room).breaches(file, text);
    let bad = [(1, "use crate::checkpoint::config::ModelConfig;"), (1, "use crate::models::gpt_oss::GptOss;")];
    let good = ["use crate::checkpoint::config::RMS_NORM_EPSILON;", "use super::family::Family;"];
    tree::tells_apart("src/kernels/rope.rs", &bad, &good, breaches("src/kernels/"));
    let bad = [(1, "use crate::checkpoint::{RopeConfig, TensorId};"), (1, "use super::super::models;")];
    let good = ["use crate::checkpoint::RopeConfig;", "use crate::kernels::qkv::STEP_ANGLES;"];
    tree::tells_apart("src/nn/rope.rs", &bad, &good, breaches("src/nn/"));
    let bad = [(1, "use crate::models::gpt_oss::GptOss;")];
    tree::tells_apart("src/device.rs", &bad, &["use crate::kernels::family::Family;"], breaches("src/device.rs"));
}

#[test]
fn a_wall_stands_around_its_room_only() {
    assert!(WALLS[0].encloses("src/open.rs") && WALLS[0].encloses("src/lib.rs"));
    assert!(!WALLS[0].encloses("src/verify/mod.rs") && !WALLS[0].encloses("src/bin/gptoss.rs"));
    assert!(!WALLS[3].encloses("src/open.rs"));
}

#[test]
fn no_room_names_what_it_must_not_know() {
    for wall in &WALLS {
        let files: Vec<_> = tree::rust_files().into_iter().filter(|file| wall.encloses(&file.path)).collect();
        tree::apply(&files, |file, text| wall.breaches(file, text));
    }
}
