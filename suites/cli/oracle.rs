//! The oracle as a command, and both RoPE variants by oracle and device.

use gptoss::verify::golden::tensors::Tensors;
use serde_json::{Value, json};

use crate::program::{Bench, gptoss, verify};

const GOLDEN: &str = "logits/small-vocab.torch";
/// Largest |oracle − PyTorch|, both in f64.
const F64_ERROR_MAX: f64 = 1e-9;
/// Largest |device − oracle| of this model's logits in f32; twenty times as much is another computation.
const F32_ERROR_MAX: f64 = 5e-4;

/// The rows of a file's one tensor `logits`, and its dtype.
fn logits(path: &str) -> (String, Vec<Vec<f64>>) {
    let bytes = std::fs::read(path).expect("the file is there");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let tensor = serde_json::from_slice::<Value>(&bytes[8..header]).expect("a header")["logits"].take();
    let dtype = tensor["dtype"].as_str().expect("a dtype").to_string();
    let width = tensor["shape"][1].as_u64().expect("a width") as usize;
    let values: Vec<f64> = match dtype.as_str() {
        "F64" => bytes[header..].as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        _ => bytes[header..].as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
    };
    assert_eq!(Some(values.len() / width), tensor["shape"][0].as_u64().map(|rows| rows as usize));
    (dtype, values.chunks_exact(width).map(<[f64]>::to_vec).collect())
}

/// The largest difference at each position.
fn differences(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<f64> {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    a.iter().zip(b).map(row).collect()
}

fn largest(differences: &[f64]) -> f64 {
    differences.iter().copied().fold(0.0, f64::max)
}

#[test]
fn the_oracle_is_a_command_and_the_variants_are_told_apart() {
    let bench = Bench::new("small-vocab");
    let golden = Tensors::open(GOLDEN).expect("the golden is there");
    let ids = |tensor: &str| json!(golden.values(tensor).expect("ids").iter().map(|id| *id as u32).collect::<Vec<_>>());
    std::fs::write(bench.file("tokens.json"), ids("tokens").to_string()).expect("written");
    std::fs::write(bench.file("vocab.json"), ids("vocab_ids").to_string()).expect("written");
    let (model, tokens, vocab) = (bench.path("original"), bench.path("tokens.json"), bench.path("vocab.json"));
    let run = |program: fn(&[&str]) -> crate::program::Ran, command: &str, rope: &str| {
        let out = bench.path(&format!("{command}-{rope}.safetensors"));
        let asked = ["--tokens-file", &tokens, "--vocab-ids", &vocab, "--positions", "all", "--out", &out];
        let ran = program(&[&[command, "--model", &model, "--rope", rope][..], &asked].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        logits(&out)
    };
    let (dtype, reference) = run(verify, "oracle", "reference");
    assert_eq!((dtype.as_str(), reference.len(), reference[0].len()), ("F64", 200, 24));
    let torch: Vec<Vec<f64>> = golden.values("logits").expect("logits").chunks_exact(24).map(<[f64]>::to_vec).collect();
    let error = largest(&differences(&reference, &torch));
    assert!(error <= F64_ERROR_MAX, "the oracle is {error:e} from PyTorch");

    let (_, compat) = run(verify, "oracle", "ggml-compat");
    let apart = differences(&reference, &compat);
    assert_eq!(apart[0], 0.0, "position 0 is not turned");
    assert!(largest(&apart) > 20.0 * F32_ERROR_MAX, "the variants differ by {:e}", largest(&apart));

    for (rope, right) in [("reference", &reference), ("ggml-compat", &compat)] {
        let (dtype, found) = run(gptoss, "logits", rope);
        let error = largest(&differences(&found, right));
        assert!(dtype == "F32" && error <= F32_ERROR_MAX, "--rope {rope}: {error:e} from the oracle");
    }
}
