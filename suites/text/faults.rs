//! The catalogue's faults of text that need no device: each is caught by its check alone, and no check is without a fault.
//!
//! The suite `bytes` plants all of them and records what was seen; here a change of the text says at once what it blinds.

use std::collections::BTreeSet;

use gptoss::verify::cases::GROUPS;
use gptoss::verify::fault::text::{Fault, Wrong, all};
use gptoss::verify::{Level, Outcome};

fn needs_device(fault: &Fault) -> bool {
    matches!(fault.wrong, Wrong::Alone(_))
}

#[test]
fn each_fault_is_caught_by_its_check_and_by_no_other() {
    for fault in all().filter(|fault| !needs_device(fault)) {
        let checks = fault.checks();
        let red: Vec<&str> =
            checks.iter().filter(|check| check.outcome != Outcome::Pass).map(|check| check.name.as_str()).collect();
        assert_eq!(red, [fault.caught_by()], "{}", fault.name);
        assert_eq!(fault.objection(), None, "{}", fault.name);
    }
}

#[test]
fn each_check_of_text_has_a_fault_that_it_must_catch() {
    let groups = GROUPS.iter().filter(|group| group.level == Level::Text && group.name != "text/engine");
    let checks: BTreeSet<String> = groups.flat_map(|group| (group.run)()).map(|check| check.name).collect();
    let without = all().filter(|fault| !needs_device(fault));
    let caught: BTreeSet<String> = without.map(|fault| fault.caught_by().to_string()).collect();
    assert_eq!(checks, caught);
}
