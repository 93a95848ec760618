//! Malformed and unsupported models are refused by kind and name, without a panic.

use std::path::PathBuf;

use heron_compiler::calibration::user_inputs;
use heron_compiler::npz::{self, Array, Arrays, NpzError};
use heron_compiler::onnx::{check, import, ErrorKind, InputSpec, Shapes};
use prost::Message;
use tempfile::TempDir;
use tract_onnx::pb::{
    attribute_proto::AttributeType, tensor_shape_proto::dimension::Value as D,
    tensor_shape_proto::Dimension, type_proto, AttributeProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
};

fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&d| Dimension {
            value: Some(D::DimValue(d)),
            ..Default::default()
        })
        .collect();
    let tensor = type_proto::Tensor {
        elem_type: 1,
        shape: Some(TensorShapeProto { dim }),
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn weight(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn node(op: &str, name: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: name.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

fn axis(mut n: NodeProto, value: i64) -> NodeProto {
    n.attribute.push(AttributeProto {
        name: "axis".into(),
        i: value,
        r#type: AttributeType::Int as i32,
        ..Default::default()
    });
    n
}

/// x [1,4,8] times w [8,8] is h.
fn model(mut nodes: Vec<NodeProto>, weights: Vec<TensorProto>) -> ModelProto {
    nodes.insert(0, node("MatMul", "proj", &["x", "w"], "h"));
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        graph: Some(GraphProto {
            name: "bad".into(),
            node: nodes,
            initializer: weights,
            input: vec![info("x", &[1, 4, 8])],
            output: vec![info("y", &[1, 4, 8])],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn square() -> TensorProto {
    let values: Vec<f32> = (0..64).map(|i| (i % 7) as f32 * 0.1).collect();
    weight("w", &[8, 8], &values)
}

fn save(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.onnx");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn refused(m: &ModelProto, kind: ErrorKind, mention: &str) {
    let (_dir, path) = save(&m.encode_to_vec());
    let error = import(&path, &Shapes::default()).expect_err(mention);
    println!("error[{}]: {error}", error.kind());
    assert_eq!(error.kind(), kind);
    assert!(error.to_string().contains(mention));
}

#[test]
fn a_sound_model_is_accepted() {
    let m = model(vec![node("Relu", "act", &["h"], "y")], vec![square()]);
    let (_dir, path) = save(&m.encode_to_vec());
    let imported = import(&path, &Shapes::default()).unwrap();
    assert_eq!(imported.blocks.get("relu"), Some(&1));
}

#[test]
fn empty_and_truncated_files_are_malformed() {
    let whole = model(vec![node("Relu", "act", &["h"], "y")], vec![square()]).encode_to_vec();
    for bytes in [&[][..], &whole[..whole.len() * 6 / 10]] {
        let (_dir, path) = save(bytes);
        let error = import(&path, &Shapes::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}

#[test]
fn every_truncation_and_every_changed_byte_gives_an_error_or_a_graph() {
    let whole = model(
        vec![
            axis(node("Softmax", "sm", &["h"], "s"), 1),
            node("Relu", "act", &["h"], "y"),
        ],
        vec![square()],
    )
    .encode_to_vec();
    for n in (0..whole.len()).step_by(3) {
        let (_dir, path) = save(&whole[..n]);
        let _ = import(&path, &Shapes::default());
        let mut changed = whole.clone();
        changed[n] ^= 0x55;
        let (_dir, path) = save(&changed);
        let _ = import(&path, &Shapes::default());
    }
}

#[test]
fn several_unsupported_operators_are_all_named() {
    let mut custom = node("FlashPower", "flash", &["h"], "f");
    custom.domain = "com.example".into();
    let m = model(
        vec![
            axis(node("ArgMax", "pick", &["h"], "i"), -1),
            custom,
            node("Mul", "", &["i", "f"], "y"),
        ],
        vec![square()],
    );
    let (_dir, path) = save(&m.encode_to_vec());
    let report = check(&path, &Shapes::default(), None).unwrap();
    assert!(!report.compiles);
    let names: Vec<&str> = report.obstacles.iter().map(|o| o.node.as_str()).collect();
    assert_eq!(names, ["pick", "flash"]);
    assert!(report
        .obstacles
        .iter()
        .all(|o| o.kind == ErrorKind::UnsupportedOp));
}

#[test]
fn shapes_that_do_not_fit_name_the_node() {
    let short = weight("w", &[7, 8], &[0.5; 56]);
    let m = model(vec![node("Relu", "act", &["h"], "y")], vec![short]);
    refused(&m, ErrorKind::Shape, "proj");
    let m = model(
        vec![axis(node("Softmax", "sm", &["h"], "y"), 9)],
        vec![square()],
    );
    refused(&m, ErrorKind::Shape, "sm");
}

#[test]
fn broken_weights_are_refused_by_name() {
    let relu = || vec![node("Relu", "act", &["h"], "y")];
    let mut values = [0.5f32; 64];
    values[5] = f32::NAN;
    refused(
        &model(relu(), vec![weight("w", &[8, 8], &values)]),
        ErrorKind::NonFinite,
        "w",
    );
    refused(
        &model(relu(), vec![weight("w", &[8, 9], &values)]),
        ErrorKind::Malformed,
        "w",
    );
    refused(
        &model(relu(), vec![weight("w", &[1 << 40, 1 << 12], &values[..4])]),
        ErrorKind::Size,
        "w",
    );
}

#[test]
fn external_data_stays_in_the_folder_and_is_long_enough() {
    let external = |place: &str| {
        let entry = |k: &str, v: &str| StringStringEntryProto {
            key: k.into(),
            value: v.into(),
        };
        TensorProto {
            name: "w".into(),
            dims: vec![8, 8],
            data_type: 1,
            data_location: Some(1),
            external_data: vec![entry("location", place), entry("length", "256")],
            ..Default::default()
        }
    };
    for place in [
        "../up.bin",
        "/etc/hostname",
        "missing.bin",
        "a/../../up.bin",
    ] {
        let m = model(
            vec![node("Relu", "act", &["h"], "y")],
            vec![external(place)],
        );
        refused(&m, ErrorKind::ExternalData, "w");
    }
    let m = model(
        vec![node("Relu", "act", &["h"], "y")],
        vec![external("w.bin")],
    );
    let (dir, path) = save(&m.encode_to_vec());
    std::fs::write(dir.path().join("w.bin"), [0u8; 100]).unwrap();
    let error = import(&path, &Shapes::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ExternalData);
    let bytes: Vec<u8> = (0..64).flat_map(|i| (i as f32).to_le_bytes()).collect();
    std::fs::write(dir.path().join("w.bin"), bytes).unwrap();
    import(&path, &Shapes::default()).unwrap();
}

#[test]
fn cycles_missing_outputs_and_unknown_operator_sets_are_refused() {
    let m = model(
        vec![
            node("Add", "n1", &["h", "b"], "a"),
            node("Relu", "n2", &["a"], "b"),
            node("Neg", "", &["b"], "y"),
        ],
        vec![square()],
    );
    refused(&m, ErrorKind::Graph, "n1");
    refused(&model(vec![], vec![square()]), ErrorKind::Graph, "y");
    let mut m = model(vec![node("Relu", "act", &["h"], "y")], vec![square()]);
    m.opset_import[0].version = 9999;
    refused(&m, ErrorKind::Opset, "9999");
}

#[test]
fn a_constant_too_large_to_compute_is_refused_before_it_is_made() {
    let mut shape = weight("s", &[1], &[]);
    shape.data_type = 7;
    shape.raw_data = (1i64 << 38).to_le_bytes().to_vec();
    let m = model(
        vec![
            node("ConstantOfShape", "cos", &["s"], "c"),
            node("Add", "", &["h", "c"], "y"),
        ],
        vec![square(), shape],
    );
    refused(&m, ErrorKind::Size, "cos");
}

#[test]
fn a_division_without_known_sign_is_a_range_error() {
    let m = model(vec![node("Div", "ratio", &["x", "h"], "y")], vec![square()]);
    refused(&m, ErrorKind::Range, "ratio");
}

#[test]
fn arrays_survive_writing_and_reading() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    let mut arrays = Arrays::default();
    let make = |shape: &[usize], integer| Array {
        shape: shape.to_vec(),
        data: (0..shape.iter().product::<usize>())
            .map(|i| i as f64 - 3.0)
            .collect(),
        integer,
    };
    arrays.0.insert("in_x".into(), make(&[2, 3, 4], false));
    arrays.0.insert("labels".into(), make(&[5], true));
    arrays.0.insert("scalar".into(), make(&[], false));
    npz::write(&path, &arrays).unwrap();
    let back = npz::read(&path).unwrap();
    assert_eq!(back, arrays);
    let spec = |shape: &[usize]| {
        vec![InputSpec {
            name: "x".into(),
            shape: shape.to_vec(),
            integer: false,
            batched: true,
        }]
    };
    assert_eq!(user_inputs(&spec(&[3, 4]), &back).unwrap().len(), 2);
    let wrong = user_inputs(&spec(&[4, 3]), &back).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Shape);
}

#[test]
fn fortran_order_is_transposed_and_short_arrays_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npy");
    let file = |shape: &str| {
        let mut text = format!("{{'descr': '<f8', 'fortran_order': True, 'shape': {shape}, }}");
        while (10 + text.len() + 1) % 64 != 0 {
            text.push(' ');
        }
        text.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(
            [1.0f64, 4.0, 2.0, 5.0, 3.0, 6.0]
                .iter()
                .flat_map(|v| v.to_le_bytes()),
        );
        bytes
    };
    std::fs::write(&path, file("(2, 3)")).unwrap();
    let arrays = npz::read(&path).unwrap();
    let array = arrays.input("anything").unwrap();
    assert_eq!(array.data, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    std::fs::write(&path, file("(2, 30000000000000)")).unwrap();
    assert!(matches!(npz::read(&path), Err(NpzError::Malformed { .. })));
}
