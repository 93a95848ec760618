//! ONNX nodes under construction.

use super::build::{attribute, floats, ints, node};
use super::draw::Draws;
use prost::Message;
use std::path::Path;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{dimension::Value, Dimension};
use tract_onnx::pb::{
    type_proto, AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};

/// Nodes and weights so far; values are named by counting.
pub struct Onnx {
    pub draws: Draws,
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    count: usize,
}

impl Onnx {
    pub fn new(draws: Draws) -> Onnx {
        Onnx {
            draws,
            nodes: Vec::new(),
            weights: Vec::new(),
            count: 0,
        }
    }

    fn name(&mut self, stem: &str) -> String {
        self.count += 1;
        format!("{}_{}", stem.to_lowercase(), self.count)
    }

    /// A node with one result.
    pub fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.with(op, inputs, &[])
    }

    /// A node with attributes of integers.
    pub fn with(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, &[i64])]) -> String {
        let name = self.name(op);
        let mut made = node(op, inputs, &name);
        for (key, values) in attributes {
            made = attribute(made, key, values);
        }
        self.nodes.push(made);
        name
    }

    /// LayerNormalization over the last axis.
    pub fn layer_norm(&mut self, x: &str, gamma: &str, beta: &str, epsilon: f64) -> String {
        let name = self.name("LayerNormalization");
        let mut made = attribute(
            node("LayerNormalization", &[x, gamma, beta], &name),
            "axis",
            &[-1],
        );
        made.attribute.push(AttributeProto {
            name: "epsilon".into(),
            f: epsilon as f32,
            r#type: AttributeType::Float as i32,
            ..Default::default()
        });
        self.nodes.push(made);
        name
    }

    /// Split along the last axis into equal parts.
    pub fn split(&mut self, x: &str, parts: usize, each: usize) -> Vec<String> {
        let sizes = self.ints(&vec![each as i64; parts]);
        let names: Vec<String> = (0..parts).map(|_| self.name("split")).collect();
        let mut made = attribute(node("Split", &[x, &sizes], &names[0]), "axis", &[-1]);
        made.output = names.clone();
        self.nodes.push(made);
        names
    }

    /// A constant tensor.
    pub fn constant(&mut self, dims: &[usize], values: &[f64]) -> String {
        let name = self.name("c");
        let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        self.weights.push(floats(&name, &dims, &values));
        name
    }

    pub fn scalar(&mut self, value: f64) -> String {
        self.constant(&[], &[value])
    }

    pub fn ints(&mut self, values: &[i64]) -> String {
        let name = self.name("i");
        self.weights
            .push(ints(&name, &[values.len() as i64], values));
        name
    }

    /// Normal numbers of this deviation.
    pub fn random(&mut self, dims: &[usize], deviation: f64, mean: f64) -> String {
        let n = dims.iter().product();
        let values: Vec<f64> = (0..n)
            .map(|_| mean + deviation * self.draws.normal())
            .collect();
        self.constant(dims, &values)
    }

    /// x · W + b with results of about `gain` times the size of x.
    pub fn dense(&mut self, x: &str, from: usize, to: usize, gain: f64) -> String {
        let w = self.random(&[from, to], gain / (from as f64).sqrt(), 0.0);
        let b = self.random(&[to], 0.1 * gain, 0.0);
        let product = self.op("MatMul", &[x, &w]);
        self.op("Add", &[&product, &b])
    }

    /// Writes the model: input `x` (ids when `integer`), output `y`.
    pub fn save(mut self, path: &Path, input: &[usize], integer: bool, output: &str, rank: usize) {
        self.nodes.push(node("Identity", &[output], "y"));
        let info = |name: &str, elem_type: i32, dims: Vec<Dimension>| ValueInfoProto {
            name: name.into(),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                    elem_type,
                    shape: Some(TensorShapeProto { dim: dims }),
                })),
                ..Default::default()
            }),
            ..Default::default()
        };
        let fixed = |d: &usize| Dimension {
            value: Some(Value::DimValue(*d as i64)),
            ..Default::default()
        };
        let free = |k: usize| Dimension {
            value: Some(Value::DimParam(format!("d{k}"))),
            ..Default::default()
        };
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 17,
            }],
            graph: Some(GraphProto {
                name: "random".into(),
                node: self.nodes,
                initializer: self.weights,
                input: vec![info(
                    "x",
                    if integer { 7 } else { 1 },
                    input.iter().map(fixed).collect(),
                )],
                output: vec![info("y", 1, (0..rank).map(free).collect())],
                ..Default::default()
            }),
            ..Default::default()
        };
        std::fs::write(path, proto.encode_to_vec()).expect("writes the model");
    }
}
