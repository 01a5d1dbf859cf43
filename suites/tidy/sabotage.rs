//! The fault catalogue: large enough, named once, recorded in its golden and shown in README.md.

use std::collections::BTreeSet;

use gptoss::models::gpt_oss::stage::Stage;
use gptoss::verify::fault::{self, Catalogued};
use gptoss::verify::golden::Golden;
use gptoss::verify::{Check, Level};
use serde_json::{Value, json};
use strum::IntoEnumIterator;

use crate::tree::{self, Violation, demand_none};

/// Faults that the catalogue holds at least.
const FAULTS_MIN: usize = 373;

/// What stands around the table in README.md.
const MARKERS: (&str, &str) = ("<!-- sabotage -->", "<!-- /sabotage -->");

/// What stands around the table of headroom, whose numbers are one adapter's.
const ROOM_MARKERS: (&str, &str) = ("<!-- headroom -->", "<!-- /headroom -->");

const GOLDEN: &str = "text/sabotage";
const PRINT: &str = "`gptoss-verify run sabotage --table` prints it";

fn faults() -> Vec<&'static str> {
    let stored = fault::stored::FAULTS.iter().map(|fault| fault.name);
    let file = fault::file::FAULTS.iter().map(|fault| fault.name);
    let codec = fault::codec::FAULTS.iter().chain(fault::block::FAULTS).map(|fault| fault.name);
    let rope = fault::rope::FAULTS.iter().map(|fault| fault.name);
    let served = fault::served::FAULTS.iter().map(|fault| fault.name);
    let seed = fault::seed::FAULTS.iter().map(|fault| fault.name);
    let gguf = fault::gguf::FAULTS.iter().map(|fault| fault.name);
    let gguf_model = fault::gguf_model::FAULTS.iter().map(|fault| fault.name);
    let converter = fault::converter::FAULTS.iter().map(|fault| fault.name);
    let nearest = fault::nearest::faults().into_iter().map(|fault| fault.name);
    let forward = fault::forward::FAULTS.iter().map(|fault| fault.name);
    let text = fault::text::all().map(|fault| fault.name);
    stored
        .chain(file)
        .chain(codec)
        .chain(rope)
        .chain(seed)
        .chain(gguf)
        .chain(gguf_model)
        .chain(converter)
        .chain(nearest)
        .chain(served)
        .chain(text)
        .chain(forward)
        .collect()
}

fn repeated(names: &[&str]) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    let twice = names.iter().filter(|name| !seen.insert(**name));
    twice.map(|name| Violation::new("src/verify/fault", 0, format!("two faults are called `{name}`"))).collect()
}

/// Faults that the golden lacks, and those that only the golden knows.
fn unrecorded(names: &[&str], golden: &Value) -> Vec<Violation> {
    let recorded: Vec<&str> = rows(golden).iter().filter_map(|row| row["fault"].as_str()).collect();
    let violation = |what: String| Violation::new("goldens/text/sabotage.json", 0, what);
    let lost = names.iter().filter(|name| !recorded.contains(name)).map(|name| format!("lacks `{name}`"));
    let gone = recorded.iter().filter(|name| !names.contains(name)).map(|name| format!("`{name}` is no fault"));
    lost.chain(gone).map(violation).collect()
}

fn rows(golden: &Value) -> &[Value] {
    golden["faults"].as_array().map_or(&[], Vec::as_slice)
}

/// The table of the golden, as [`fault::table`] writes the one of a run.
fn table(golden: &Value) -> String {
    let mut text = String::from(
        "| fault | what is wrong | caught by | first difference (bytes: no budget) |\n|---|---|---|---|\n",
    );
    for row in rows(golden) {
        let cell = |key: &str| row[key].as_str().unwrap_or_default().replace('|', "\\|");
        let named: Vec<String> =
            row["caught_by"].as_array().into_iter().flatten().filter_map(Value::as_str).map(code).collect();
        let (fault, about, seen) = (code(&cell("fault")), cell("about"), cell("first_difference"));
        text.push_str(&format!("| {fault} | {about} | {} | {seen} |\n", named.join(", ")));
    }
    text
}

/// Whether a document's table of headroom has a row for every stage, in order, and no headroom below 1.
fn rooms_shown(path: &str, text: &str) -> Vec<Violation> {
    let (open, close) = ROOM_MARKERS;
    let table = text.split_once(open).and_then(|(_, rest)| Some(rest.split_once(close)?.0)).unwrap_or_default();
    let rows: Vec<Vec<&str>> =
        table.lines().filter(|l| l.starts_with("| ")).skip(1).map(|l| l.split('|').map(str::trim).collect()).collect();
    let is_room = |cell: &&str| *cell == "exact" || cell.parse::<f64>().is_ok_and(|room| room >= 1.0);
    let fits = |(stage, row): (Stage, &Vec<&str>)| row[1] == stage.to_string() && row.get(2).is_some_and(is_room);
    match rows.len() == Stage::iter().count() && Stage::iter().zip(&rows).all(fits) {
        true => Vec::new(),
        false => vec![Violation::new(path, 0, format!("lacks the table between {open} and {close}: {PRINT}"))],
    }
}

fn code(name: &str) -> String {
    format!("`{name}`")
}

/// Whether a document shows exactly `table` between the markers.
fn shown(path: &str, text: &str, table: &str) -> Vec<Violation> {
    let (open, close) = MARKERS;
    let between = text.split_once(open).and_then(|(above, rest)| Some((above, rest.split_once(close)?.0)));
    let Some((above, found)) = between else {
        return vec![Violation::new(path, 0, format!("lacks the table between {open} and {close}: {PRINT}"))];
    };
    let (want, found) = (table.trim(), found.trim_end_matches('\n'));
    let start = above.lines().count().max(1);
    let lines = found.trim_start_matches('\n').lines();
    let wrong = lines.zip(want.lines()).position(|(found, want)| found != want);
    match (wrong, found.trim() == want) {
        (_, true) => Vec::new(),
        (row, false) => {
            let what = match row {
                Some(row) => format!("row {row} of the table is not the golden's: {PRINT}"),
                None => format!("the table has more or fewer rows than the golden: {PRINT}"),
            };
            vec![Violation::new(path, start, what)]
        }
    }
}

#[test]
fn a_repeated_or_unrecorded_fault_is_told() {
    assert_eq!(repeated(&["a", "b"]), []);
    assert_eq!(repeated(&["a", "b", "a"]).len(), 1);
    let golden = json!({ "faults": [{ "fault": "a" }, { "fault": "b" }] });
    assert_eq!(unrecorded(&["a", "b"], &golden), []);
    assert_eq!(unrecorded(&["a", "b", "c"], &golden).len(), 1, "c is not recorded");
    assert_eq!(unrecorded(&["a"], &golden).len(), 1, "b is no fault");
}

#[test]
fn the_table_of_the_golden_is_that_of_the_run() {
    let red = Check::fail("tensors/a", Level::Tensors, "expected 1 | 2");
    let fault = Catalogued {
        name: "a/b",
        about: "a for <|b|>",
        named: vec!["tensors/a".into(), "tensors/*".into()],
        exact: red.detail.clone(),
        red: vec![red],
        objection: None,
        no_device: None,
    };
    let golden = serde_json::from_str(&fault::run::payload(std::slice::from_ref(&fault))).expect("the payload is JSON");
    assert_eq!(table(&golden), fault::table(&[fault]));
}

#[test]
fn a_table_that_is_absent_or_old_is_told() {
    let (open, close) = MARKERS;
    let table = "| a |\n|---|\n| 1 |\n";
    let document = |body: &str| format!("# A\n{open}\n{body}\n{close}\n");
    let (good, old, short) = (document(table), document("| a |\n|---|\n| 2 |"), document("| a |\n|---|"));
    let rule = |path: &str, text: &str| shown(path, text, table);
    tree::tells_apart("README.md", &[(0, "# A\n"), (1, &old), (1, &short)], &[&good], rule);
    assert!(shown("README.md", "", table)[0].what.contains("gptoss-verify run sabotage --table"));
}

#[test]
fn the_catalogue_is_large_and_recorded() {
    let names = faults();
    assert!(names.len() >= FAULTS_MIN, "{} faults, at least {FAULTS_MIN}", names.len());
    let golden = Golden::load(GOLDEN).expect("the catalogue is recorded").payload;
    demand_none([repeated(&names), unrecorded(&names, &golden)].concat());
}

#[test]
fn a_headroom_below_1_or_a_stage_that_is_missing_is_told() {
    let row = |stage: Stage| format!("| {stage} | 2.5 | T3 | 3.0 | 4 | 0 | 0 |\n");
    let rows: String = Stage::iter().map(row).collect();
    let good = format!("<!-- headroom -->\n| stage | least |\n|---|--:|\n{rows}<!-- /headroom -->\n");
    let (below, short) = (good.replacen("2.5", "0.9", 1), good.replacen(&row(Stage::Query), "", 1));
    tree::tells_apart("README.md", &[(0, "# A\n"), (0, &below), (0, &short)], &[&good], rooms_shown);
}

#[test]
fn the_readme_shows_the_headroom() {
    demand_none(rooms_shown("README.md", &tree::text_of("README.md")));
}

#[test]
fn the_readme_shows_the_catalogue() {
    let golden = Golden::load(GOLDEN).expect("the catalogue is recorded").payload;
    assert!(!rows(&golden).is_empty(), "the golden holds no fault");
    demand_none(shown("README.md", &tree::text_of("README.md"), &table(&golden)));
}
