//! `--positions last`: next-token models whose last position alone is computed and compared.

use crate::support::{repository, Folder};

/// Tolerance of INTERFACE.md.
const TOLERANCE: f64 = 1e-2;

fn file(path: &str) -> String {
    let path = repository(path);
    path.to_str().expect("a path in UTF-8").to_string()
}

/// Runs `model` on its test inputs, with `more` arguments, in the clear.
fn infer(folder: &Folder, model: &str, more: &[&str]) -> serde_json::Value {
    let (onnx, test) = (
        file(&format!("{model}.onnx")),
        file(&format!("{model}.test.npz")),
    );
    let mut arguments = vec!["infer", &onnx, "--input", &test, "--limit", "8"];
    arguments.extend(["--backend", "clear", "--profile", "toy", "--format", "json"]);
    arguments.extend(["--positions", "last", "--output", "out.npz"]);
    arguments.extend(more);
    folder.heron(&arguments).ok().json()
}

fn relative(result: &serde_json::Value) -> f64 {
    result["error"]["relative"]
        .as_f64()
        .unwrap_or(f64::INFINITY)
}

#[test]
fn the_last_position_agrees_with_the_end_of_what_onnxruntime_gives() {
    let folder = Folder::new();
    let model = "models/families/gpt_neox.eager.dynamo.power";
    let test = file(&format!("{model}.test.npz"));
    let result = infer(&folder, model, &["--expect", &test]);
    assert!(relative(&result) <= TOLERANCE, "{}", relative(&result));
    assert_eq!(folder.read("out.npz", "logits").shape, [8, 1, 100]);
}

#[test]
fn the_last_position_agrees_with_that_of_the_plaintext_model() {
    let folder = Folder::new();
    let model = "models/recall-gpt-tiny/recall-gpt-tiny";
    let result = infer(&folder, model, &[]);
    assert!(relative(&result) <= TOLERANCE, "{}", relative(&result));
    assert_eq!(result["top1_agreement"], 1.0);
    let logits = folder.read("out.npz", "logits");
    assert_eq!(logits.shape[..2], [8, 1]);
}

#[test]
fn a_model_that_pools_its_positions_is_refused_with_the_shape_it_has() {
    let folder = Folder::new();
    let model = file("models/toy/toy-block.onnx");
    let arguments = ["compile", &model, "-o", "x.heron", "--positions", "last"];
    let error = folder.heron(&arguments).refused("shape");
    assert!(error.contains("[positions, features]"), "{error}");
    assert!(error.contains("`output` [3]"), "{error}");
    assert!(error.contains("--positions all"), "{error}");
}
