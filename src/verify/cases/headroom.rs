//! How much room the device of this process has where it is honest: a check for each stage, over every recipe.

use super::device::{RECIPE, RECIPES, failed, whole};
use crate::verify::bench::{Truth, device};
use crate::verify::compare::headroom::{Room, rooms, table};
use crate::verify::compare::stages::Finding;
use crate::verify::outcome::{Check, Level, Outcome};

/// The stages of some recipes, run honestly; without a device, why.
fn measured(recipes: &[&'static str]) -> Result<Vec<Room>, (Outcome, String)> {
    let compute = device().map_err(|reason| (Outcome::NoDevice, reason.to_string()))?;
    let run = |&recipe: &&'static str| {
        let findings = whole(recipe, compute).map(|whole| Truth::shared(recipe).judge(&whole.seen));
        findings.map(|findings| (recipe, findings)).map_err(|reason| (Outcome::Fail, reason))
    };
    let runs: Vec<(&str, Vec<Finding>)> = recipes.iter().map(run).collect::<Result<_, _>>()?;
    Ok(rooms(runs.iter().map(|(recipe, findings)| (*recipe, &findings[..]))))
}

/// A check for each stage.
pub(super) fn headroom_cases() -> Vec<Check> {
    let name = "logits/headroom";
    let check = |room: &Room| {
        let name = format!("{name}/{}", room.stage);
        if room.holds() { Check::pass(name, Level::Logits, room.text()) } else { failed(name, room.text()) }
    };
    match measured(&RECIPES) {
        Ok(rooms) => rooms.iter().map(check).collect(),
        Err((outcome, reason)) => vec![Check::new(name, Level::Logits, outcome, reason)],
    }
}

/// The stages of the run that the faults of the forward pass are judged by, in one line.
pub fn of_sabotage() -> Check {
    let name = "sabotage/headroom";
    let rooms = match measured(&[RECIPE]) {
        Ok(rooms) => rooms,
        Err((outcome, reason)) => return Check::new(name, Level::Sabotage, outcome, reason),
    };
    let texts: Vec<String> = rooms.iter().map(|room| format!("{}: {}", room.stage, room.text())).collect();
    let outcome = if rooms.iter().all(Room::holds) { Outcome::Pass } else { Outcome::Fail };
    Check::new(name, Level::Sabotage, outcome, texts.join("; "))
}

/// Every stage over every recipe as a Markdown table that names the adapter; without a device, why there is none.
pub fn markdown() -> String {
    match (measured(&RECIPES), device()) {
        (Ok(rooms), Ok(compute)) => format!("Adapter: {}.\n\n{}", compute.report().name, table(&rooms)),
        (Err((_, reason)), _) => format!("{reason}\n"),
        (_, Err(reason)) => format!("{reason}\n"),
    }
}
