//! What a tensor graph promises: operands of the right number and shape, constants that fit, finite numbers.

use super::{ClientInput, Linear, RowMap, TensorGraph, TensorOp};
use crate::ir::graph::ValueId;
use crate::ir::shape::{Matrix, Shape};
use crate::ir::weight::Weight;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Values feed each other.
    #[error(
        "values feed each other in a cycle: {ordered} of {all} can be ordered; rebuild the graph"
    )]
    Cycle {
        /// Values that can be ordered.
        ordered: usize,
        /// Values there are.
        all: usize,
    },
    /// A value does not fit its operands or constants.
    #[error("value `%{value}` ({op}): expected {expected}, found {found}; correct the pass or front end that made it")]
    Misfit {
        /// The value.
        value: String,
        /// Its operation, as printed.
        op: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Calibration did not reach a value.
    #[error("value `%{value}` has no range; run `calibrate-ranges` first")]
    NoRange {
        /// The value.
        value: String,
    },
}

impl TensorGraph {
    /// Checks shapes, operands and constants; ranges only through [`TensorGraph::verify_ranges`].
    pub fn verify(&self) -> Result<(), VerifyError> {
        let order = self.topological();
        if order.len() != self.len() {
            return Err(VerifyError::Cycle {
                ordered: order.len(),
                all: self.len(),
            });
        }
        for v in order {
            self.check(v)
                .map_err(|(expected, found)| VerifyError::Misfit {
                    value: self.node(v).name.clone(),
                    op: self.text(v),
                    expected,
                    found,
                })?;
        }
        Ok(())
    }

    /// Checks that every value has a range with finite ends in order.
    pub fn verify_ranges(&self) -> Result<(), VerifyError> {
        for v in self.topological() {
            let node = self.node(v);
            let fine = node
                .range
                .is_some_and(|r| r.lo.is_finite() && r.hi.is_finite() && r.lo <= r.hi);
            if !fine {
                return Err(VerifyError::NoRange {
                    value: node.name.clone(),
                });
            }
        }
        Ok(())
    }

    fn check(&self, v: ValueId) -> Result<(), (String, String)> {
        let node = self.node(v);
        let shapes: Vec<Shape> = self
            .operands(v)
            .into_iter()
            .map(|o| self.node(o).shape)
            .collect();
        let arity = match &node.op {
            TensorOp::Input { .. } => 0,
            TensorOp::Add
            | TensorOp::Sub
            | TensorOp::Multiply
            | TensorOp::Scores { .. }
            | TensorOp::Values { .. } => 2,
            // The mask may be an operand.
            TensorOp::Softmax { .. } if shapes.len() == 2 => 2,
            _ => 1,
        };
        same(
            format!("{arity} operands"),
            format!("{} operands", shapes.len()),
        )?;
        let out = node.shape;
        match &node.op {
            TensorOp::Input { client, .. } => match client {
                ClientInput::Gather { user_shape, index } => {
                    if !matches!(out, Shape::Matrix { .. } | Shape::Scores { .. }) {
                        return Err(("a matrix or scores".into(), out.to_string()));
                    }
                    same(out.len(), index.len())?;
                    let n = user_shape.iter().product::<usize>() as i64;
                    match index.iter().find(|&&i| i < -1 || i >= n) {
                        Some(bad) => {
                            Err((format!("elements from -1 to {}", n - 1), bad.to_string()))
                        }
                        None => Ok(()),
                    }
                }
                ClientInput::Embedding { user_shape, table } => {
                    let Shape::Matrix { rows, cols } = out else {
                        return Err(("a matrix".into(), out.to_string()));
                    };
                    same(rows, user_shape.iter().product::<usize>())?;
                    same(cols, table.cols())?;
                    weight(table, (table.rows(), cols))
                }
            },
            TensorOp::Linear(linear) => check_linear(linear, shapes[0], out),
            TensorOp::Add | TensorOp::Sub | TensorOp::Multiply => {
                same(out, shapes[0])?;
                same(out, shapes[1])
            }
            TensorOp::Scores { heads, mask, .. } => {
                let (
                    Shape::Matrix { rows, cols },
                    Shape::Matrix {
                        rows: keys,
                        cols: c2,
                    },
                ) = (shapes[0], shapes[1])
                else {
                    return Err(("two matrices".into(), format!("{shapes:?}")));
                };
                same(cols, c2)?;
                same(0, cols.checked_rem(*heads).unwrap_or(1))?;
                same(
                    Shape::Scores {
                        heads: *heads,
                        rows,
                        keys,
                    },
                    out,
                )?;
                mask.as_ref().map_or(Ok(()), |m| constant(m, (rows, keys)))
            }
            TensorOp::PowerSoftmax { power, epsilon } => {
                same(out, shapes[0])?;
                if *power == 0 || power % 2 != 0 || !epsilon.is_finite() || *epsilon < 0.0 {
                    return Err((
                        "an even power and an epsilon of at least 0".into(),
                        format!("power {power}, epsilon {epsilon}"),
                    ));
                }
                scores_only(out)
            }
            TensorOp::Softmax { mask } => {
                for shape in &shapes {
                    same(out, *shape)?;
                }
                let Shape::Scores { rows, keys, .. } = out else {
                    return Err(("scores".into(), out.to_string()));
                };
                let Some(m) = mask else { return Ok(()) };
                constant(m, (rows, keys))?;
                match m.data.iter().find(|&&x| x != 0.0 && x != 1.0) {
                    Some(x) => Err(("a mask of 0 and 1".into(), x.to_string())),
                    None => Ok(()),
                }
            }
            TensorOp::Values { heads } => {
                let (
                    Shape::Scores {
                        heads: h,
                        rows,
                        keys,
                    },
                    Shape::Matrix { rows: r2, cols },
                ) = (shapes[0], shapes[1])
                else {
                    return Err(("scores and a matrix".into(), format!("{shapes:?}")));
                };
                same(*heads, h)?;
                same(keys, r2)?;
                same(0, cols.checked_rem(*heads).unwrap_or(1))?;
                same(Shape::Matrix { rows, cols }, out)
            }
            TensorOp::LayerNorm { gamma, beta, .. } => {
                same(out, shapes[0])?;
                let Shape::Matrix { cols, .. } = out else {
                    return Err(("a matrix".into(), out.to_string()));
                };
                same(cols, gamma.len())?;
                same(cols, beta.len())
            }
            TensorOp::Activation(_) => same(out, shapes[0]),
        }
    }
}

fn same<T: PartialEq + ToString>(expected: T, found: T) -> Result<(), (String, String)> {
    if expected == found {
        Ok(())
    } else {
        Err((expected.to_string(), found.to_string()))
    }
}

fn scores_only(shape: Shape) -> Result<(), (String, String)> {
    match shape {
        Shape::Scores { .. } => Ok(()),
        s => Err(("scores".into(), s.to_string())),
    }
}

fn constant(m: &Matrix, (rows, cols): (usize, usize)) -> Result<(), (String, String)> {
    same(format!("{rows}x{cols}"), format!("{}x{}", m.rows, m.cols))?;
    same(rows * cols, m.data.len())?;
    match m.data.iter().find(|x| !x.is_finite()) {
        Some(x) => Err(("finite constants".into(), x.to_string())),
        None => Ok(()),
    }
}

fn weight(w: &Weight, (rows, cols): (usize, usize)) -> Result<(), (String, String)> {
    if let Weight::Dense(m) = w {
        return constant(m, (rows, cols));
    }
    same(
        format!("{rows}x{cols}"),
        format!("{}x{}", w.rows(), w.cols()),
    )?;
    match w.well_formed() {
        true => Ok(()),
        false => Err(("a well formed matrix".into(), format!("{w:?}"))),
    }
}

fn check_linear(linear: &Linear, from: Shape, to: Shape) -> Result<(), (String, String)> {
    let (Shape::Matrix { rows: r, cols: c }, Shape::Matrix { rows, cols }) = (from, to) else {
        return Err(("matrices".into(), format!("{from} to {to}")));
    };
    if linear.terms.is_empty() {
        return Err(("a term".into(), "none".into()));
    }
    for t in &linear.terms {
        match &t.rows {
            RowMap::Identity => same(rows, r)?,
            RowMap::Mix(m) => constant(m, (rows, r))?,
        }
        weight(&t.weight, (c, cols))?;
        if let Some(p) = &t.post {
            constant(p, (rows, cols))?;
        }
    }
    match &linear.bias {
        Some(b) if b.rows == 1 => constant(b, (1, cols)),
        Some(b) => constant(b, (rows, cols)),
        None => Ok(()),
    }
}
