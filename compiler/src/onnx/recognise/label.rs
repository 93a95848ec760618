//! Names of values and layers, from ONNX scopes.

use std::collections::BTreeSet;

use heron_passes::ir::shape::{Layer, LayerKind};
use heron_passes::ir::tensor::{TensorGraph, TensorOp};

use super::Lowerer;
use crate::onnx::proto::{self, Model};

/// A name of letters, digits, `_` and `.` only.
pub(super) fn clean(name: &str) -> String {
    let s: String = name
        .trim_matches('/')
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '.'
            }
        })
        .collect();
    if s.is_empty() {
        "value".into()
    } else {
        s
    }
}

pub(super) fn node_name(model: &Model, node: usize) -> String {
    model
        .graph
        .node
        .get(node)
        .map(proto::node_name)
        .unwrap_or_default()
}

pub(super) fn node_op(model: &Model, node: usize) -> String {
    model
        .graph
        .node
        .get(node)
        .map(|n| n.op_type.clone())
        .unwrap_or_default()
}

/// The scope of a node: its name without the operator at the end (`/a/b/MatMul_1` → `a.b`).
fn scope(model: &Model, node: usize) -> String {
    let name = clean(&node_name(model, node));
    let name = name.strip_prefix("node_").unwrap_or(&name).to_string();
    let op = node_op(model, node);
    if let Some((head, tail)) = name.rsplit_once('.') {
        let plain = tail == op
            || tail.strip_prefix(&op).is_some_and(|t| {
                t.strip_prefix('_')
                    .is_some_and(|n| n.parse::<u32>().is_ok())
            });
        if plain && !op.is_empty() {
            return head.to_string();
        }
    }
    name
}

impl Lowerer<'_> {
    /// The name of the value that an expression becomes.
    pub(super) fn value_name(&self, e: u32) -> String {
        scope(self.model, self.get(e).node)
    }

    /// A layer of its own for a block, from the expression that ends it and those inside it.
    pub(super) fn layer(&mut self, e: u32, suffix: &str, kind: LayerKind, inner: &[u32]) -> usize {
        let mut name = match &self.get(e).kind {
            crate::onnx::expr::Kind::Input { name, .. } => clean(name),
            _ => self.value_name(e),
        };
        if !suffix.is_empty() {
            name = format!("{name}.{suffix}");
        }
        let taken: BTreeSet<&str> = self.graph.layers.iter().map(|l| l.name.as_str()).collect();
        let mut unique = name.clone();
        let mut i = 1;
        while taken.contains(unique.as_str()) {
            unique = format!("{name}_{i}");
            i += 1;
        }
        let mut nodes: BTreeSet<usize> = inner.iter().map(|&x| self.get(x).node).collect();
        nodes.insert(self.get(e).node);
        let onnx_nodes = nodes
            .into_iter()
            .filter(|&n| n != usize::MAX)
            .map(|n| node_name(self.model, n))
            .collect();
        self.graph.add_layer(Layer {
            name: unique,
            kind,
            onnx_nodes,
        })
    }
}

/// Linear maps that are outputs are heads.
pub(super) fn mark_heads(graph: &mut TensorGraph) {
    for (_, v) in graph.outputs.clone() {
        let node = graph.node(v);
        let layer = node.layer;
        if matches!(node.op, TensorOp::Linear(_)) {
            if let Some(l) = graph.layers.get_mut(layer) {
                l.kind = LayerKind::Head;
            }
        }
    }
}
