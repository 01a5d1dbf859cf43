//! Every group of kernel checks; `--nocapture` shows the headroom of each kernel in each family.

use std::collections::BTreeMap;

use gptoss::verify::cases::GROUPS;
use gptoss::verify::{Check, Level, Outcome};

/// Kernel and setting of a check: `tensors/<kernel>/<setting>/<case>`.
fn place(check: &Check) -> Option<(&str, &str)> {
    let mut parts = check.name.split('/').skip(1);
    Some((parts.next()?, parts.next()?))
}

fn headroom(check: &Check) -> Option<f64> {
    let (_, said) = check.detail.split_once("headroom ")?;
    said.split([' ', ';']).next()?.parse().ok()
}

/// The smallest headroom of each kernel in each setting, and how many checks it has.
fn table(checks: &[Check]) -> String {
    let mut rows: BTreeMap<(&str, &str), (usize, f64, &str)> = BTreeMap::new();
    for check in checks {
        let Some(place) = place(check) else { continue };
        let row = rows.entry(place).or_insert((0, f64::INFINITY, ""));
        row.0 += 1;
        if let Some(headroom) = headroom(check).filter(|headroom| *headroom < row.1) {
            (row.1, row.2) = (headroom, &check.name);
        }
    }
    let line = |((kernel, setting), (count, headroom, name)): (&(&str, &str), &(usize, f64, &str))| {
        format!("{kernel:10} {setting:26} {count:3} checks, headroom {headroom:7.2}  {name}\n")
    };
    rows.iter().map(line).collect()
}

#[test]
fn every_kernel_is_right_in_every_family() {
    let mut checks = Vec::new();
    for group in GROUPS.iter().filter(|group| group.level == Level::Tensors) {
        let start = std::time::Instant::now();
        let found = (group.run)();
        println!("{:24} {:4} checks {:6.2} s", group.name, found.len(), start.elapsed().as_secs_f64());
        assert!(!found.is_empty(), "{} checked nothing", group.name);
        checks.extend(found);
    }
    println!("{}", table(&checks));
    let red: Vec<String> = checks
        .iter()
        .filter(|check| check.outcome != Outcome::Pass)
        .map(|check| format!("{} {}: {}", check.outcome, check.name, check.detail))
        .collect();
    assert!(red.is_empty(), "{} of {} checks:\n{}", red.len(), checks.len(), red.join("\n"));
}
