//! How much room honest runs have: budget over error, stage by stage over all layers and models.
//!
//! Below 1 a run would be red.  Far above, the budget says little: f32 noise of the oracle itself is then larger than the device's.

use std::collections::BTreeMap;

use super::stages::Finding;
use super::verdict::LOOSE_HEADROOM;
use crate::models::gpt_oss::stage::Stage;

/// One stage of some runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// Which.
    pub stage: Stage,
    /// Probes that are exact: ids, and those without any error.
    pub exact: usize,
    /// Headroom of the others, and where, least first.
    pub probes: Vec<(f64, String)>,
}

/// The stages of some runs, each with its name, in the order of the pass.
pub fn rooms<'a>(runs: impl IntoIterator<Item = (&'a str, &'a [Finding])>) -> Vec<Room> {
    let mut rooms: BTreeMap<Stage, Room> = BTreeMap::new();
    for (name, finding) in runs.into_iter().flat_map(|(name, findings)| findings.iter().map(move |f| (name, f))) {
        let stage = finding.stage;
        let room = rooms.entry(stage).or_insert(Room { stage, exact: 0, probes: Vec::new() });
        match finding.error == 0.0 {
            true => room.exact += 1,
            false => room.probes.push((room_of(finding), place(name, finding))),
        }
    }
    let mut rooms: Vec<Room> = rooms.into_values().collect();
    rooms.iter_mut().for_each(|room| room.probes.sort_by(|a, b| a.0.total_cmp(&b.0)));
    rooms
}

/// Its headroom; an error that is NaN has none.
fn room_of(finding: &Finding) -> f64 {
    if finding.error.is_nan() { 0.0 } else { finding.headroom() }
}

fn place(name: &str, finding: &Finding) -> String {
    finding.layer.map_or_else(|| name.to_string(), |layer| format!("{name} layer {layer}"))
}

impl Room {
    /// Whether every probe is within its budget.
    pub fn holds(&self) -> bool {
        self.probes.iter().all(|(headroom, _)| *headroom >= 1.0)
    }

    /// The least headroom, and where; `None` where all is exact.
    pub fn least(&self) -> Option<&(f64, String)> {
        self.probes.first()
    }

    /// The middle one; of an even number the lower.
    pub fn median(&self) -> f64 {
        self.probes.get(self.probes.len().saturating_sub(1) / 2).map_or(f64::INFINITY, |probe| probe.0)
    }

    /// Probes whose budget says little.
    pub fn loose(&self) -> usize {
        self.probes.iter().filter(|probe| probe.0 > LOOSE_HEADROOM).count()
    }

    /// As a report says it.
    pub fn text(&self) -> String {
        let Some((least, at)) = self.least() else { return format!("all {} probes exact", self.exact) };
        let mut text = format!("least {least:.1} at {at}, median {:.1} of {} probes", self.median(), self.probes.len());
        if self.exact > 0 {
            text += &format!(", {} exact", self.exact);
        }
        match self.loose() {
            0 => text,
            loose => text + &format!(", {loose} loose"),
        }
    }
}

/// The stages as a Markdown table.
pub fn table(rooms: &[Room]) -> String {
    let mut text = format!(
        "| stage | least headroom | at | median | probes | exact | loose (above {LOOSE_HEADROOM:.0}) |\n|---|--:|---|--:|--:|--:|--:|\n"
    );
    for room in rooms {
        let (stage, probes, exact, loose) = (room.stage, room.probes.len(), room.exact, room.loose());
        text += &match room.least() {
            Some((least, at)) => {
                format!("| {stage} | {least:.1} | {at} | {:.1} | {probes} | {exact} | {loose} |\n", room.median())
            }
            None => format!("| {stage} | exact | | exact | 0 | {exact} | 0 |\n"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(stage: Stage, layer: usize, error: f64) -> Finding {
        Finding { stage, layer: Some(layer), error, budget: 6.0, at: (0, 0), expected: 0.0, found: error }
    }

    #[test]
    fn least_median_exact_and_loose_are_told() {
        let a = [finding(Stage::Query, 0, 2.0), finding(Stage::Query, 1, 0.0), finding(Stage::Key, 0, 0.0)];
        let b = [finding(Stage::Query, 0, 0.1), finding(Stage::Query, 1, 3.0)];
        let rooms = rooms([("a", &a[..]), ("b", &b[..])]);
        let texts: Vec<String> = rooms.iter().map(Room::text).collect();
        assert_eq!(texts, ["least 2.0 at b layer 1, median 3.0 of 3 probes, 1 exact, 1 loose", "all 1 probes exact"]);
        assert!(rooms.iter().all(Room::holds));
        assert!(
            table(&rooms)
                .ends_with("| query | 2.0 | b layer 1 | 3.0 | 3 | 1 | 1 |\n| key | exact | | exact | 0 | 1 | 0 |\n")
        );
    }

    #[test]
    fn what_is_over_budget_or_nan_does_not_hold() {
        for error in [6.1, f64::INFINITY, f64::NAN] {
            let findings = [finding(Stage::Query, 0, 1.0), finding(Stage::Query, 1, error)];
            let rooms = rooms([("a", &findings[..])]);
            assert!(!rooms[0].holds(), "{error}");
            assert_eq!(rooms[0].least().expect("a probe").1, "a layer 1", "{error}");
        }
    }
}
