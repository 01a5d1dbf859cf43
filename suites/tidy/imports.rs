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
    /// Why.
    why: &'static str,
}

/// What means a device.
const DEVICES: &[&str] = &["burn", "cubecl", "wgpu", "crate::device", "crate::kernels", "crate::nn"];

/// Every wall.  A glob of the root names everything, so that none could be seen through: it is a breach by itself.
const WALLS: [Wall; 5] = [
    Wall {
        room: "src/",
        but: &["src/verify/", "src/cli/", "src/bin/"],
        never: &["crate::verify", "crate::cli", "crate::*"],
        why: "the runtime ships without the harness and the command line",
    },
    Wall {
        room: "src/verify/oracle/",
        but: &[],
        never: &["crate::quant", "crate::model_bin", "crate::*"],
        why: "the oracle shares no code with what it judges",
    },
    Wall { room: "src/verify/oracle/", but: &[], never: DEVICES, why: "the oracle is plain arithmetic on the host" },
    Wall {
        room: "src/quant/",
        but: &[],
        never: &["std::fs", "std::path", "std::io", "crate::checkpoint", "crate::mapped", "crate::*"],
        why: "codecs are byte arithmetic: they know no files",
    },
    Wall { room: "src/quant/", but: &[], never: DEVICES, why: "codecs are byte arithmetic: they know no device" },
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
        let is_forbidden = |(_, path): &(usize, String)| self.never.iter().any(|never| is_within(path, never));
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
    let bad = [(1, "use burn::Tensor;"), (1, "use burn_wgpu::X;"), (1, "use crate::kernels::rope;")];
    tree::tells_apart(oracle, &bad, &["let burned = 1;"], |file, text| device.breaches(file, text));
    let bad = [(1, "use std::{fs::File, mem};"), (1, "use crate::checkpoint::Dtype;")];
    tree::tells_apart("src/quant/bf16.rs", &bad, &["/// [`crate::checkpoint`]\nuse std::mem;"], |file, text| {
        files.breaches(file, text)
    });
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
