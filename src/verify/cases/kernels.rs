//! Kernels against the oracle: every family, on the adapter at hand, and again under WebGPU's default limits.
//!
//! A kernel's cases are a table in the file of its name under `kernels/`; a row's name says why it is there.  Each file also
//! plants a wrong reference that its inputs must tell apart.

mod attention;
mod codec;
mod combine;
mod comparer;
mod dense;
mod embedding;
mod experts;
mod group;
mod half;
mod inputs;
mod linear;
mod packed;
mod qkv;
mod rms_norm;
pub mod rope;
mod route;
mod tile;
mod trial;

use std::sync::OnceLock;

use cubecl::future::block_on;

use crate::device::{Compute, DeviceRequest};
use crate::kernels::family::Family;
use crate::verify::bench::device;
use crate::verify::outcome::{Check, Level, Outcome};
use trial::{Trial, Where};

const LEVEL: Level = Level::Tensors;
/// Budget over error above which a budget says little.
const LOOSE_HEADROOM: f64 = 50.0;

/// A device in one family.
struct Setting {
    /// `lane`, `workgroup`, `plane`, and whether limits are the default ones.
    name: &'static str,
    family: Shape,
    default_limits: bool,
}

/// A family whose plane size the adapter decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Every lane loads all it needs.
    Lane,
    /// The lanes of a subgroup share what they load.
    Sharing,
    Workgroup,
    Plane,
}

const SETTINGS: [Setting; 7] = [
    Setting { name: "lane", family: Shape::Lane, default_limits: false },
    Setting { name: "lane-sharing", family: Shape::Sharing, default_limits: false },
    Setting { name: "workgroup", family: Shape::Workgroup, default_limits: false },
    Setting { name: "plane", family: Shape::Plane, default_limits: false },
    Setting { name: "lane-default-limits", family: Shape::Lane, default_limits: true },
    Setting { name: "workgroup-default-limits", family: Shape::Workgroup, default_limits: true },
    Setting { name: "plane-default-limits", family: Shape::Plane, default_limits: true },
];

impl Setting {
    fn runs(&self, on: Where) -> bool {
        match on {
            Where::FamiliesAndLimits => true,
            Where::FamiliesAndGroupLimits => !self.default_limits || self.is_of_groups(),
            Where::WorkgroupLimits => self.default_limits && self.family == Shape::Workgroup,
            Where::Families => !self.default_limits,
            Where::Groups => !self.default_limits && self.is_of_groups(),
            Where::Lane => !self.default_limits && !self.is_of_groups(),
            Where::Once => self.family == Shape::Lane,
        }
    }

    fn is_of_groups(&self) -> bool {
        matches!(self.family, Shape::Workgroup | Shape::Plane)
    }

    /// The device in this family; `Err` says why the family cannot run there.
    fn compute(&self, opened: &Compute) -> Result<Compute, String> {
        let family = match self.family {
            Shape::Lane => Family::lane(1),
            Shape::Sharing => match opened.report().lane_family() {
                Family::Lane { share: 1 } => {
                    return Err(format!("`{}` has no subgroups of one size", opened.report().name));
                }
                family => family,
            },
            Shape::Workgroup => Family::Workgroup,
            Shape::Plane => match opened.report().subgroup_sizes {
                (size, max)
                    if size == max && size.is_power_of_two() && opened.report().features.contains(&"subgroups") =>
                {
                    Family::Plane { size }
                }
                sizes => return Err(format!("`{}` has no subgroups of one size: {sizes:?}", opened.report().name)),
            },
        };
        Ok(opened.with_family(family))
    }
}

/// The device of this process, or the same adapter held to the default limits; opened once: compiled kernels are shared.
fn opened(default_limits: bool) -> Result<&'static Compute, &'static str> {
    static LIMITED: OnceLock<Result<Compute, String>> = OnceLock::new();
    let found = device()?;
    if !default_limits {
        return Ok(found);
    }
    let request = DeviceRequest { adapter: found.report().name.clone(), default_limits, family: None };
    LIMITED
        .get_or_init(|| block_on(Compute::open(&request)).map_err(|e| e.to_string()))
        .as_ref()
        .map_err(String::as_str)
}

/// Runs trials of a kernel, each where it belongs.
fn run(kernel: &str, trials: impl IntoIterator<Item = Trial>) -> Vec<Check> {
    let mut checks = Vec::new();
    for trial in trials {
        for setting in SETTINGS.iter().filter(|setting| setting.runs(trial.on)) {
            let name = format!("tensors/{kernel}/{}/{}", setting.name, trial.name.replace(' ', "-"));
            checks.push(match opened(setting.default_limits) {
                Err(reason) => Check::new(name, LEVEL, Outcome::NoDevice, reason),
                Ok(device) => match setting.compute(device) {
                    Err(reason) => Check::new(name, LEVEL, Outcome::Skip, reason),
                    Ok(compute) => check(name, &trial, &compute),
                },
            });
        }
    }
    checks
}

fn check(name: String, trial: &Trial, compute: &Compute) -> Check {
    let verdict = match trial.judge(compute) {
        Err(error) => return Check::fail(name, LEVEL, error.to_string()),
        Ok(verdict) => verdict,
    };
    let worst = match verdict.worst.as_str() {
        "" => String::new(),
        worst => format!("; worst: {worst}"),
    };
    let counts = format!("{} of {} words wrong", verdict.wrong, verdict.compared);
    match (trial.is_planted, verdict.holds()) {
        (true, true) => {
            Check::fail(name, LEVEL, format!("the planted fault was not seen in {} words", verdict.compared))
        }
        (true, false) => Check::pass(name, LEVEL, format!("seen at {:.1} budgets: {counts}{worst}", verdict.excess)),
        (false, false) => Check::fail(name, LEVEL, format!("{counts}{worst}")),
        (false, true) if verdict.excess == 0.0 => Check::pass(name, LEVEL, format!("{} words exact", verdict.compared)),
        (false, true) => {
            let headroom = 1.0 / verdict.excess;
            let loose = if headroom > LOOSE_HEADROOM { " (loose)" } else { "" };
            let detail = format!("{} words, headroom {headroom:.2}{loose}{worst}", verdict.compared);
            Check::pass(name, LEVEL, detail)
        }
    }
}

pub(super) fn comparer_cases() -> Vec<Check> {
    comparer::checks()
}
pub(super) fn codec_cases() -> Vec<Check> {
    run("codec", codec::trials())
}
pub(super) fn embedding_cases() -> Vec<Check> {
    run("embedding", embedding::trials())
}
pub(super) fn rms_norm_cases() -> Vec<Check> {
    run("rms_norm", rms_norm::trials())
}
pub(super) fn linear_cases() -> Vec<Check> {
    run("linear", linear::trials())
}
pub(super) fn qkv_cases() -> Vec<Check> {
    run("qkv", qkv::decode_trials())
}
pub(super) fn rope_cases() -> Vec<Check> {
    [rope::angle_checks(rope::REFERENCE, rope::GGML_COMPAT), rope::oracle_checks(), run("rope", qkv::prefill_trials())]
        .concat()
}
pub(super) fn attention_cases() -> Vec<Check> {
    run("attention", attention::trials())
}
pub(super) fn route_cases() -> Vec<Check> {
    run("route", route::trials())
}
pub(super) fn group_cases() -> Vec<Check> {
    run("group", group::trials())
}
pub(super) fn experts_cases() -> Vec<Check> {
    run("experts", experts::trials())
}
pub(super) fn tile_cases() -> Vec<Check> {
    run("tile", tile::trials())
}
pub(super) fn combine_cases() -> Vec<Check> {
    run("combine", combine::trials())
}
