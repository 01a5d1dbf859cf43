//! `gptoss-verify inspect` of GGUFs, for a person and as JSON, and the doctor.

use gptoss::verify::fixture::gguf::{File, model, sample, sample_split};

use crate::program::verify;

fn written(directory: &tempfile::TempDir, name: &str, file: &File) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, file.write().bytes).expect("written");
    path.to_str().expect("UTF-8").into()
}

#[test]
fn any_gguf_is_shown() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = written(&directory, "sample", &sample());
    let ran = verify(&["inspect", &path, "--tensors"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for line in [
        "4 tensors, 290 bytes, alignment 32",
        "Q8_0                  1 tensors            102 bytes",
        "sample.names                                     array  [string; 4] \"a\" \"\" \"Ġthe\" \"zebra\"",
        "sample.f32                                       f32    1e-5",
        "peculiar: nested-array: an array holds arrays: `sample.nested` at offset",
        "ggml refuses it",
        "1024          136  MXFP4    64×2×2               experts.weight",
    ] {
        assert!(ran.stdout.contains(line), "`{line}` is not in {}", ran.stdout);
    }
    let object = verify(&["inspect", &path, "--tensors", "--json"]).json();
    assert_eq!(object["metadata"]["sample.u64"]["value"], 1u64 << 40);
    assert_eq!(object["metadata"]["sample.names"]["value"]["count"], 4);
    assert_eq!(object["types"]["MXFP4"]["bytes"], 136);
    assert_eq!(object["tensors"][2]["dims"], serde_json::json!([64, 2, 2]));
    assert_eq!(object["peculiarities"][0]["refused_by_ggml"], true);
    assert!(object["findings"].is_null(), "the doctor was not asked");
}

#[test]
fn a_split_is_shown_as_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let name = |number: usize| format!("m-{:05}-of-00003.gguf", number + 1);
    let paths: Vec<String> =
        sample_split(3).iter().enumerate().map(|(number, file)| written(&directory, &name(number), file)).collect();
    let object = verify(&["inspect", &paths[1], "--json"]).json();
    assert_eq!((&object["tensor_count"], object["files"].as_array().map(Vec::len)), (&2.into(), Some(3)));
    assert_eq!(object["metadata"]["general.architecture"]["value"], "sample", "of the first file");
}

#[test]
fn the_doctor_tells_what_it_is_and_what_goes_wrong() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut file = model();
    file.metadata.retain(|meta| meta.key != b"gpt-oss.attention.key_length");
    let path = written(&directory, "model.gguf", &file);
    let ran = verify(&["inspect", &path, "--doctor"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("  is: dialect: gpt-oss in llama.cpp's names and keys\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("  trouble: head-size: `gpt-oss.attention.key_length` is missing"), "{}", ran.stdout);
    let findings = verify(&["inspect", &path, "--doctor", "--json"]).json()["findings"].take();
    let names: Vec<&str> = findings.as_array().expect("a list").iter().filter_map(|f| f["name"].as_str()).collect();
    assert_eq!(names, ["dialect", "tensors", "types", "scales", "head-size", "yarn-rounded-by-ggml"]);
    let other = verify(&["inspect", env!("CARGO_MANIFEST_DIR"), "--doctor"]);
    assert!(other.code == 2 && other.stderr.contains("--doctor looks at GGUFs"), "{}", other.stderr);
}
