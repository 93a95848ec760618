//! Small ONNX files made in memory (not secure, not trained: only shapes and spellings matter).

use std::path::PathBuf;

use prost::Message;
use tempfile::TempDir;
use tract_onnx::pb::{
    attribute_proto::AttributeType, tensor_shape_proto::dimension::Value as D,
    tensor_shape_proto::Dimension, type_proto, AttributeProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

/// A graph from input `x` to output `y`.
pub struct Spelled {
    pub nodes: Vec<NodeProto>,
    pub weights: Vec<TensorProto>,
    pub input: Vec<i64>,
}

fn info(name: &str, dims: &[i64], elem_type: i32) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&d| Dimension {
            value: Some(D::DimValue(d)),
            ..Default::default()
        })
        .collect();
    let shape = (!dims.is_empty()).then_some(TensorShapeProto { dim });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type,
                shape,
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

pub fn ints(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 7,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// Numbers in [-0.5, 0.5] that depend on the seed alone.
pub fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (s >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
        .collect()
}

pub fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: format!("{output}.node"),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

/// Adds an attribute of integers; those that ONNX has as single ones are single ones.
pub fn attribute(mut n: NodeProto, name: &str, values: &[i64]) -> NodeProto {
    let single = matches!(
        name,
        "keepdims"
            | "axis"
            | "to"
            | "is_causal"
            | "q_num_heads"
            | "kv_num_heads"
            | "num_heads"
            | "interleaved"
    );
    n.attribute.push(AttributeProto {
        name: name.into(),
        i: if single { values[0] } else { 0 },
        ints: if single { vec![] } else { values.to_vec() },
        r#type: if single {
            AttributeType::Int as i32
        } else {
            AttributeType::Ints as i32
        },
        ..Default::default()
    });
    n
}

pub fn model(spelled: Spelled) -> (TempDir, PathBuf) {
    graph(
        spelled.nodes,
        spelled.weights,
        &[("x", &spelled.input, 1)],
        17,
    )
}

/// A graph from inputs (name, shape, element type) to output `y`.
pub fn graph(
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    inputs: &[(&str, &[i64], i32)],
    opset: i64,
) -> (TempDir, PathBuf) {
    let proto = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: opset,
        }],
        graph: Some(GraphProto {
            name: "spelled".into(),
            node: nodes,
            initializer: weights,
            input: inputs.iter().map(|(n, d, e)| info(n, d, *e)).collect(),
            output: vec![info("y", &[], 1)],
            ..Default::default()
        }),
        ..Default::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spelled.onnx");
    std::fs::write(&path, proto.encode_to_vec()).unwrap();
    (dir, path)
}
