use std::path::Path;

use heron_compiler::calibration::user_inputs;
use heron_compiler::npz;
use heron_compiler::onnx::{import_with_arrays, Shapes};
use heron_passes::calibrate_ranges::{calibrate_ranges, CalibrateError};
use heron_passes::ir::tensor::TensorGraph;

use crate::support::snapshot;

/// A toy model as imported, and its calibration inputs.
fn imported(name: &str) -> (TensorGraph, Vec<heron_compiler::calibration::UserInput>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/toy");
    let arrays = npz::read(&folder.join(format!("{name}.calibration.npz"))).unwrap();
    let model = folder.join(format!("{name}.onnx"));
    let imported = import_with_arrays(&model, &Shapes::default(), Some(&arrays)).unwrap();
    let inputs = user_inputs(&imported.inputs, &arrays).unwrap();
    (imported.graph, inputs)
}

#[test]
fn gives_every_value_of_an_attention_head_its_range() {
    let (mut graph, inputs) = imported("toy-head");
    let before = graph.to_string();
    let sites = calibrate_ranges(&mut graph, &inputs).unwrap();
    let denominators: Vec<String> = sites
        .0
        .iter()
        .map(|(v, range)| format!("inside %{}: {range}", graph.node(*v).name))
        .collect();
    assert_ne!(before, graph.to_string());
    snapshot(
        "calibrate-ranges__toy_head",
        &format!("{graph}\n{}", denominators.join("\n")),
    );
}

#[test]
fn blocks_are_recognised_from_decomposed_operators() {
    let (graph, _) = imported("toy-block");
    snapshot("recognise-blocks__toy_block", &graph.to_string());
}

#[test]
fn blocks_are_recognised_behind_a_class_token_and_a_fused_projection() {
    let (graph, _) = imported("toy-relu-cls");
    snapshot("recognise-blocks__toy_relu_cls", &graph.to_string());
}

#[test]
fn calibrating_twice_changes_nothing_more() {
    let (mut graph, inputs) = imported("toy-head");
    calibrate_ranges(&mut graph, &inputs).unwrap();
    let once = graph.to_string();
    calibrate_ranges(&mut graph, &inputs).unwrap();
    assert_eq!(once, graph.to_string());
}

#[test]
fn refuses_an_empty_set() {
    let (mut graph, _) = imported("toy-head");
    let refused = calibrate_ranges(&mut graph, &[]).unwrap_err();
    assert_eq!(refused, CalibrateError::Empty);
    snapshot("calibrate-ranges__refuses", &refused.to_string());
}
