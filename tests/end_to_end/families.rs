//! Exports of transformer libraries from file to result: masks and position ids as a user gives them.

use crate::support::{repository, Folder};

/// Tolerance of INTERFACE.md.
const TOLERANCE: f64 = 1e-2;

fn infer(folder: &Folder, model: &str) -> serde_json::Value {
    let file = |tail: &str| {
        let path = repository(&format!("models/families/{model}.{tail}"));
        path.to_str().expect("a path in UTF-8").to_string()
    };
    let (onnx, test) = (file("onnx"), file("test.npz"));
    let arguments = [
        "infer",
        onnx.as_str(),
        "--input",
        test.as_str(),
        "--expect",
        test.as_str(),
        "--backend",
        "clear",
        "--profile",
        "toy",
        "--format",
        "json",
    ];
    folder.heron(&arguments).ok().json()
}

/// Compiles a model and insists that running the schedule in the clear gives onnxruntime's output.
fn reproduces(model: &str) {
    let result = infer(&Folder::new(), model);
    let error = result["error"]["relative"]
        .as_f64()
        .unwrap_or(f64::INFINITY);
    println!("{model}: measured {error:.1e}, tolerance {TOLERANCE:.0e}");
    assert!(error <= TOLERANCE, "{model}: {error}");
}

#[test]
fn a_masked_encoder_reproduces_onnxruntime() {
    reproduces("bert.eager.torchscript.power");
}

#[test]
fn position_ids_by_running_sums_reproduce_onnxruntime() {
    reproduces("roberta.eager.dynamo.power");
}

#[test]
fn a_causal_decoder_with_rotary_positions_reproduces_onnxruntime() {
    reproduces("gpt_neox.eager.dynamo.power");
}

#[test]
fn masks_go_through_files_and_the_signature_is_the_users() {
    let folder = Folder::new();
    let model = repository("models/families/bert.eager.torchscript.power.onnx");
    let model = model.to_str().expect("a path in UTF-8");
    folder
        .heron(&["compile", model, "-o", "x.heron", "--profile", "toy"])
        .ok();
    let report = folder
        .heron(&["report", "x.heron", "--format", "json"])
        .ok()
        .json();
    let mut names: Vec<&str> = report["model"]["inputs"]
        .as_array()
        .expect("inputs")
        .iter()
        .filter_map(|i| i["name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["attention_mask", "input_ids"]);
}
