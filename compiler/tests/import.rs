//! The imported graph computes what the ONNX model computes.

use std::path::{Path, PathBuf};

use heron_compiler::calibration::user_inputs;
use heron_compiler::npz;
use heron_compiler::onnx::{import_with_arrays, Imported, Shapes};
use heron_compiler::reference::Reference;
use heron_passes::calibrate_ranges::calibrate_ranges;

/// Largest difference relative to the largest output: f32 rounding of the reference, some hundred operations deep.
const BOUND: f64 = 1e-5;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// Imports a model and compares it with tract on its test inputs; returns the import.
fn agrees(model: &Path, tests: &Path, count: usize) -> Imported {
    let arrays = npz::read(tests).unwrap();
    let mut imported = import_with_arrays(model, &Shapes::default(), Some(&arrays)).unwrap();
    imported.graph.verify().unwrap();
    let inputs = user_inputs(&imported.inputs, &arrays).unwrap();
    let reference = Reference::load(model, &imported.all_inputs, &imported.outputs).unwrap();
    let (mut worst, mut largest) = (0f64, 0f64);
    for (i, input) in inputs.iter().take(count).enumerate() {
        let want = reference.run(i, input).unwrap();
        let got = imported.graph.outputs_for(input).unwrap();
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(&want) {
            assert_eq!(g.len(), w.len());
            for (x, y) in g.iter().zip(w) {
                worst = worst.max((x - y).abs());
                largest = largest.max(y.abs());
            }
        }
    }
    println!(
        "{}: measured {:.2e}, bound {BOUND:.0e}",
        model.display(),
        worst / largest
    );
    assert!(largest > 0.0 && worst <= BOUND * largest);
    calibrate_ranges(&mut imported.graph, &inputs).unwrap();
    imported.graph.verify_ranges().unwrap();
    println!("{}\n{:?}", imported.graph, imported.blocks);
    imported
}

fn blocks(imported: &Imported, name: &str) -> usize {
    imported.blocks.get(name).copied().unwrap_or(0)
}

#[test]
fn digits_vit_tiny_has_two_attention_layers_and_equals_the_reference() {
    let dir = models().join("digits-vit-tiny");
    let m = agrees(
        &dir.join("digits-vit-tiny.onnx"),
        &dir.join("digits-vit-tiny.test.npz"),
        50,
    );
    let found = ["power_softmax", "layer_norm", "gelu", "pool"].map(|b| blocks(&m, b));
    assert_eq!(found, [2, 5, 2, 1]);
}

#[test]
fn recall_gpt_tiny_has_rotary_causal_attention_and_equals_the_reference() {
    let dir = models().join("recall-gpt-tiny");
    let m = agrees(
        &dir.join("recall-gpt-tiny.onnx"),
        &dir.join("recall-gpt-tiny.test.npz"),
        50,
    );
    let found = ["power_softmax", "layer_norm", "gelu", "rotary"].map(|b| blocks(&m, b));
    assert_eq!(found, [2, 5, 2, 4]);
}

#[test]
fn digits_vit_equals_the_reference() {
    let dir = models().join("digits-vit");
    let m = agrees(&dir.join("digits-vit.onnx"), &dir.join("test.npz"), 50);
    let found = ["power_softmax", "layer_norm", "gelu"].map(|b| blocks(&m, b));
    assert_eq!(found, [2, 5, 2]);
}

#[test]
fn toy_models_in_three_spellings_equal_the_reference() {
    let dir = models().join("toy");
    for (name, want) in [
        ("toy-head", [1, 0, 0, 0]),
        ("toy-block", [1, 2, 1, 0]),
        ("toy-relu-cls", [2, 4, 0, 2]),
    ] {
        let m = agrees(
            &dir.join(format!("{name}.onnx")),
            &dir.join(format!("{name}.test.npz")),
            32,
        );
        let found = ["power_softmax", "layer_norm", "gelu", "relu"].map(|b| blocks(&m, b));
        assert_eq!(found, want, "{name}");
    }
}
