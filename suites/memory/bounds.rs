//! Every bound holds, and each turns red when something is planted that it must see.

use std::sync::{Mutex, PoisonError};

use gptoss::verify::cases::memory::device::{Plant, planted};
use gptoss::verify::{Level, Outcome, cases};

/// One at a time: the meters count the whole process.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;

#[test]
fn bounds_hold_and_the_meters_live() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let checks = cases::run(Some(Level::Memory));
    assert!(!checks.is_empty(), "nothing was checked");
    for check in &checks {
        // Only Linux reports anonymous memory; elsewhere the reason is stated.
        let allowed = if cfg!(target_os = "linux") { Outcome::Pass } else { Outcome::Skip };
        assert!(check.outcome <= allowed, "{}: {}", check.name, check.detail);
    }
}

/// The bound is red, for the rule that begins so.
fn turns_red(bound: &str, plant: Plant, rule: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let check = planted(bound, plant).expect("there is a device, and the run ends");
    assert_eq!(check.outcome, Outcome::Fail, "{plant:?} was not seen: {}", check.detail);
    assert!(check.detail.contains(&format!("RED {rule}")), "{plant:?} made another rule red: {}", check.detail);
}

fn device(bytes: usize) -> Plant {
    Plant { device: bytes, host: 0 }
}

fn host(bytes: usize) -> Plant {
    Plant { device: 0, host: bytes }
}

#[test]
fn a_second_copy_of_the_weights_on_the_host_is_seen() {
    turns_red("memory/device/peak", host(240 * MIB), "above what the process held before");
}

#[test]
fn a_second_copy_of_the_weights_on_the_device_is_seen() {
    turns_red("memory/device/peak", device(240 * MIB), "device reserved, of what loading promised");
}

#[test]
fn a_budget_overdrawn_by_a_tenth_is_seen() {
    turns_red("memory/device/budget", device(12 * MIB), "device reserved");
}

#[test]
fn experts_kept_on_the_host_are_seen() {
    turns_red("memory/device/budget", host(240 * MIB), "host above");
}

#[test]
fn a_cache_that_stays_where_it_grew_out_of_is_seen() {
    turns_red("memory/device/cache", device(16 * MIB), "device reserved at the most");
}

#[test]
fn what_grows_with_the_prompt_is_seen() {
    turns_red("memory/device/flat", device(4 * MIB), "device besides the cache");
    turns_red("memory/device/flat", host(8 * MIB), "host");
}

#[test]
fn what_grows_with_each_token_is_seen() {
    turns_red("memory/device/decode", device(64 << 10), "reserved more at the most");
    turns_red("memory/device/decode", host(4 * MIB), "heap");
}
