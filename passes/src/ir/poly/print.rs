//! Text of poly graphs: one line a value, in topological order; numbers rounded for reading.

use std::fmt;

use super::{Evaluation, PolyGraph, PolyOp};
use crate::ir::graph::ValueId;
use crate::ir::tensor::RowMap;

impl fmt::Display for PolyGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "poly", |v| self.text(v))
    }
}

impl PolyGraph {
    /// The operation of `v` with its operands, as printed.
    pub fn text(&self, v: ValueId) -> String {
        let o: Vec<String> = self
            .operands(v)
            .into_iter()
            .map(|o| format!("%{}", self.node(o).name))
            .collect();
        let list = o.join(", ");
        match &self.node(v).op {
            PolyOp::Input { name, factor, .. } => format!("input {name}, factor {factor:.4}"),
            PolyOp::Linear(linear) => {
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
                let bias = if linear.bias.is_some() { ", bias" } else { "" };
                format!("linear {list}, {}{bias}", terms.join(" + "))
            }
            PolyOp::Add => format!("add {list}"),
            PolyOp::Sub => format!("sub {list}"),
            PolyOp::Affine { scale, shift } => {
                format!("affine {list}, scale {scale:.4}, shift {shift:.4}")
            }
            PolyOp::Multiply if o.len() == 2 && o[0] == o[1] => format!("square {}", o[0]),
            PolyOp::Multiply => format!("multiply {list}"),
            PolyOp::Scores { heads, mask } => {
                format!(
                    "scores {list}, heads {heads}{}",
                    if mask.is_some() { ", masked" } else { "" }
                )
            }
            PolyOp::KeySum {
                scale,
                shift,
                weights,
            } => {
                let weighted = if weights.is_some() { ", weighted" } else { "" };
                format!("key_sum {list}, scale {scale:.4}, shift {shift:.4}{weighted}")
            }
            PolyOp::Values { heads, weights } => {
                let weighted = if weights.is_some() { ", weighted" } else { "" };
                format!("values {list}, heads {heads}{weighted}")
            }
            PolyOp::ScaleHeads => format!("scale_heads {list}"),
            PolyOp::ColumnSum { scale, shift } => {
                format!("column_sum {list}, scale {scale:.4}, shift {shift:.4}")
            }
            PolyOp::ScaleRows => format!("scale_rows {list}"),
            PolyOp::Evaluate {
                evaluation,
                approximation,
            } => {
                let how = match evaluation {
                    Evaluation::Polynomial(p) => format!("degree {}", p.degree()),
                    Evaluation::Reciprocal { shifts, .. } => format!("{} factors", shifts.len()),
                    Evaluation::InverseSqrt { relaxation, .. } => {
                        format!("{} iterations", relaxation.len())
                    }
                };
                format!(
                    "evaluate {list}, {}, {how}, error {:.1e}",
                    approximation.function, approximation.max_error
                )
            }
        }
    }
}

impl crate::pass::Ir for PolyGraph {
    const STAGE: &'static str = "poly";

    fn print(&self) -> String {
        self.to_string()
    }

    fn verify(&self) -> Result<(), String> {
        PolyGraph::verify(self).map_err(|e| e.to_string())
    }
}
