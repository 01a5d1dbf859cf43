//! `bench --streams`: what it says of several sequences; how fast they are is the machine's matter.

use crate::program::{Bench, gptoss};

#[test]
fn streams_are_measured_alone_and_beside_a_prompt() {
    let bench = Bench::new("small-vocab");
    let model = bench.path("original");
    let same = ["bench", "--model", &model, "--decode", "3", "--repeat", "1"];
    let of = |more: &[&str]| gptoss(&[&same[..], more].concat());
    let report = of(&["--streams", "3", "--beside", "40", "--context", "256", "--chunk", "16", "--json"]).json();
    let rows = report["streams"].as_array().expect("a list");
    assert_eq!(rows.iter().map(|row| row["streams"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(3)]);
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    for row in rows {
        assert!(number(&row["tokens_per_second"]["median"]) > 0.0, "{row}");
        let parts: Vec<_> = row["parts"].as_array().expect("a list").iter().map(|part| &part["part"]).collect();
        assert!(parts.iter().any(|part| *part == "unembedding") && parts.iter().any(|part| *part == "up"), "{row}");
    }
    // Every matrix is read once for all, experts by whoever is sent to them.
    let (one, three) = (number(&rows[0]["bytes_per_step"]), number(&rows[1]["bytes_per_step"]));
    assert!(one < three && three < 3.0 * one, "{one} and {three} bytes");
    assert!((number(&rows[1]["floor_over_one"]) - 3.0 * one / three).abs() < 1e-9, "{report}");
    assert!(number(&rows[0]["experts_per_step"]) <= number(&rows[1]["experts_per_step"]), "{report}");
    let beside = &report["beside"][0];
    assert_eq!((beside["streams"].as_u64(), beside["prompt_tokens"].as_u64()), (Some(3), Some(40)));
    assert!(number(&beside["ratio"]["median"]) > 0.0 && number(&beside["mean_ratio"]) > 0.0, "{beside}");
    for (wrong, code) in [(&["--streams", "0"][..], 2), (&["--beside", "40"][..], 2)] {
        assert_eq!(of(wrong).code, code, "{wrong:?}");
    }
}
