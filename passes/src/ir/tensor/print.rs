//! Text of tensor graphs: one line a value, in topological order; numbers rounded for reading.

use std::fmt;

use super::{ClientInput, Linear, RowMap, TensorGraph, TensorOp};
use crate::ir::graph::ValueId;

impl fmt::Display for TensorGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "tensor", |v| self.text(v))
    }
}

/// How terms and bias of a linear map are printed.
fn linear_text(linear: &Linear) -> String {
    let terms: Vec<String> = linear
        .terms
        .iter()
        .map(|t| {
            let rows = match &t.rows {
                RowMap::Identity => String::new(),
                RowMap::Mix(m) => format!("rows {}x{} ", m.rows, m.cols),
            };
            let post = if t.post.is_some() { " post" } else { "" };
            format!("{rows}{}x{}{post}", t.weight.rows, t.weight.cols)
        })
        .collect();
    let bias = match &linear.bias {
        Some(b) if b.rows == 1 => ", bias".to_string(),
        Some(b) => format!(", bias {}x{}", b.rows, b.cols),
        None => String::new(),
    };
    format!("{}{bias}", terms.join(" + "))
}

impl TensorGraph {
    /// The operation of `v` with its operands, as printed.
    pub fn text(&self, v: ValueId) -> String {
        let o: Vec<String> = self
            .operands(v)
            .into_iter()
            .map(|o| format!("%{}", self.node(o).name))
            .collect();
        let list = o.join(", ");
        match &self.node(v).op {
            TensorOp::Input { name, client } => match client {
                ClientInput::Gather { user_shape, index } => {
                    let plain = index.iter().enumerate().all(|(i, &k)| k == i as i64);
                    let how = if plain { "as given" } else { "gathered" };
                    format!("input {name} {user_shape:?} {how}")
                }
                ClientInput::Embedding { user_shape, table } => {
                    format!(
                        "input {name} {user_shape:?} embedded by {}x{}",
                        table.rows, table.cols
                    )
                }
            },
            TensorOp::Linear(linear) => format!("linear {list}, {}", linear_text(linear)),
            TensorOp::Add => format!("add {list}"),
            TensorOp::Sub => format!("sub {list}"),
            TensorOp::Multiply => format!("multiply {list}"),
            TensorOp::Scores { heads, scale, mask } => {
                let masked = if mask.is_some() { ", masked" } else { "" };
                format!("scores {list}, heads {heads}, scale {scale:.4}{masked}")
            }
            TensorOp::PowerSoftmax { power, epsilon } => {
                format!("power_softmax {list}, p {power}, epsilon {epsilon:.3e}")
            }
            TensorOp::Softmax { mask } => {
                let masked = if mask.is_some() { ", masked" } else { "" };
                format!("softmax {list}{masked}")
            }
            TensorOp::Values { heads } => format!("values {list}, heads {heads}"),
            TensorOp::LayerNorm {
                epsilon, centre, ..
            } => {
                let name = if *centre { "layer_norm" } else { "rms_norm" };
                format!("{name} {list}, epsilon {epsilon:.3e}")
            }
            TensorOp::Activation(function) => format!("{} {list}", function.name()),
        }
    }
}

impl crate::pass::Ir for TensorGraph {
    const STAGE: &'static str = "tensor";

    fn print(&self) -> String {
        self.to_string()
    }

    fn verify(&self) -> Result<(), String> {
        TensorGraph::verify(self).map_err(|e| e.to_string())
    }
}
