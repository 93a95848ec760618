//! What must hold of every poly graph.

use super::{Evaluation, PolyGraph, PolyOp};
use crate::ir::graph::ValueId;
use crate::ir::shape::{Matrix, Shape};
use crate::ir::tensor::{Linear, RowMap};

/// A broken rule, with the value that breaks it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("poly graph `{graph}`, value `%{value}` ({text}): {what}")]
pub struct PolyVerifyError {
    /// Name of the graph.
    pub graph: String,
    /// Name of the value.
    pub value: String,
    /// Its operation as printed.
    pub text: String,
    /// What was expected and found.
    pub what: String,
}

impl PolyGraph {
    /// Checks operand counts, shapes and constants of every value, that there is no cycle and that there is an output.
    pub fn verify(&self) -> Result<(), PolyVerifyError> {
        let order = self.topological();
        let fail = |v: ValueId, what: String| PolyVerifyError {
            graph: self.name.clone(),
            value: self.node(v).name.clone(),
            text: self.text(v),
            what,
        };
        if order.len() != self.len() || self.outputs.is_empty() {
            return Err(PolyVerifyError {
                graph: self.name.clone(),
                value: String::new(),
                text: String::new(),
                what: if self.outputs.is_empty() {
                    "no output".into()
                } else {
                    "the values form a cycle".into()
                },
            });
        }
        for v in order {
            let shapes: Vec<Shape> = self
                .operands(v)
                .into_iter()
                .map(|o| self.node(o).shape)
                .collect();
            check(&self.node(v).op, &shapes, self.node(v).shape).map_err(|what| fail(v, what))?;
            if self.node(v).layer >= self.layers.len() {
                return Err(fail(
                    v,
                    format!("layer {} of {}", self.node(v).layer, self.layers.len()),
                ));
            }
        }
        Ok(())
    }
}

fn check(op: &PolyOp, shapes: &[Shape], out: Shape) -> Result<(), String> {
    let expected = match op {
        PolyOp::Input { .. } => 0,
        PolyOp::Linear(_)
        | PolyOp::Affine { .. }
        | PolyOp::KeySum { .. }
        | PolyOp::ColumnSum { .. }
        | PolyOp::Evaluate { .. } => 1,
        _ => 2,
    };
    if shapes.len() != expected {
        return Err(format!(
            "expected {expected} operands, found {}",
            shapes.len()
        ));
    }
    let unfit = || format!("operands {shapes:?} and result {out} do not fit");
    let ok = match (op, shapes, out) {
        (PolyOp::Input { .. }, _, Shape::Matrix { .. } | Shape::Scores { .. }) => true,
        (
            PolyOp::Linear(linear),
            [Shape::Matrix { rows, cols }],
            Shape::Matrix {
                rows: out_rows,
                cols: out_cols,
            },
        ) => {
            return check_linear(linear, (*rows, *cols), (out_rows, out_cols));
        }
        (PolyOp::Affine { .. } | PolyOp::Evaluate { .. }, [a], out) => *a == out,
        (PolyOp::Add | PolyOp::Sub | PolyOp::Multiply, [a, b], out) => a == b && *a == out,
        (
            PolyOp::Scores { heads, mask },
            [Shape::Matrix { rows: qr, cols: qc }, Shape::Matrix { rows: kr, cols: kc }],
            Shape::Scores {
                heads: h,
                rows,
                keys,
            },
        ) => {
            *heads > 0
                && qc == kc
                && qc % heads == 0
                && (*heads, *qr, *kr) == (h, rows, keys)
                && fits(mask.as_ref(), rows, keys)
        }
        (
            PolyOp::KeySum { weights, .. },
            [Shape::Scores { heads, rows, keys }],
            Shape::PerHead { heads: h, rows: r },
        ) => (*heads, *rows) == (h, r) && fits(weights.as_ref(), *rows, *keys),
        (
            PolyOp::Values {
                heads: count,
                weights,
            },
            [Shape::Scores {
                heads: h,
                rows,
                keys,
            }, Shape::Matrix { rows: vr, cols }],
            Shape::Matrix {
                rows: out_rows,
                cols: out_cols,
            },
        ) => {
            count == h
                && vr == keys
                && *rows == out_rows
                && *cols == out_cols
                && *count > 0
                && cols % count == 0
                && fits(weights.as_ref(), *rows, *keys)
        }
        (
            PolyOp::ScaleHeads,
            [Shape::Matrix { rows, cols }, Shape::PerHead { heads, rows: r }],
            out,
        ) => shapes[0] == out && rows == r && *heads > 0 && cols % heads == 0,
        (
            PolyOp::ScaleHeads,
            [Shape::Scores { heads, rows, .. }, Shape::PerHead { heads: h, rows: r }],
            out,
        ) => shapes[0] == out && heads == h && rows == r,
        (PolyOp::ColumnSum { .. }, [Shape::Matrix { rows, .. }], Shape::PerRow { rows: r }) => {
            *rows == r
        }
        (PolyOp::ScaleRows, [Shape::Matrix { rows, .. }, Shape::PerRow { rows: r }], out) => {
            shapes[0] == out && rows == r
        }
        _ => false,
    };
    if !ok {
        return Err(unfit());
    }
    if let PolyOp::Evaluate {
        evaluation: Evaluation::Reciprocal {
            squares, shifts, ..
        },
        ..
    } = op
    {
        if shifts.len() != squares.len() + 1
            || squares.iter().any(|s| !(1..=256).contains(&s.multiplier))
        {
            return Err(
                "a chain of n squares needs n + 1 shifts and multipliers of 1 to 256".into(),
            );
        }
    }
    Ok(())
}

fn fits(m: Option<&Matrix>, rows: usize, keys: usize) -> bool {
    m.is_none_or(|m| (m.rows, m.cols) == (rows, keys) && well_formed(m))
}

fn well_formed(m: &Matrix) -> bool {
    m.data.len() == m.rows * m.cols && m.data.iter().all(|x| x.is_finite())
}

fn check_linear(
    linear: &Linear,
    (rows, cols): (usize, usize),
    (out_rows, out_cols): (usize, usize),
) -> Result<(), String> {
    if linear.terms.is_empty() {
        return Err("a linear map without terms".into());
    }
    for (i, t) in linear.terms.iter().enumerate() {
        let mixed = match &t.rows {
            RowMap::Identity => (rows, rows),
            RowMap::Mix(m) if well_formed(m) => (m.cols, m.rows),
            RowMap::Mix(_) => return Err(format!("term {i}: malformed row matrix")),
        };
        if mixed != (rows, out_rows)
            || t.weight.size() != (cols, out_cols)
            || !t.weight.well_formed()
        {
            return Err(format!(
                "term {i}: expected a {cols}x{out_cols} weight taking {rows} rows to {out_rows}, found {}x{} taking {} to {}",
                t.weight.rows(), t.weight.cols(), mixed.0, mixed.1
            ));
        }
        if let Some(p) = &t.post {
            if (p.rows, p.cols) != (out_rows, out_cols) || !well_formed(p) {
                return Err(format!(
                    "term {i}: expected {out_rows}x{out_cols} factors, found {}x{}",
                    p.rows, p.cols
                ));
            }
        }
    }
    match &linear.bias {
        Some(b) if b.cols != out_cols || (b.rows != 1 && b.rows != out_rows) || !well_formed(b) => {
            Err(format!(
                "expected a bias of 1 or {out_rows} rows and {out_cols} columns, found {}x{}",
                b.rows, b.cols
            ))
        }
        _ => Ok(()),
    }
}
