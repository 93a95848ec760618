//! Evaluation of poly graphs in f64: what every later form is compared with.

use std::collections::BTreeMap;

use super::{Evaluation, PolyGraph, PolyOp};
use crate::ir::graph::ValueId;
use crate::ir::product;
use crate::ir::shape::{Matrix, Shape};
use crate::ir::tensor::{Linear, RowMap};

/// What the evaluator could not do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// No values were given for an input.
    #[error("input `{name}`: no values given; give {expected} numbers, row by row")]
    MissingInput {
        /// The graph input.
        name: String,
        /// How many numbers it takes.
        expected: usize,
    },
    /// The wrong number of values.
    #[error("input `{name}`: expected {expected} numbers, found {found}")]
    InputLength {
        /// The graph input.
        name: String,
        /// How many numbers it takes.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// An operation met an operand of a form it has no meaning for; `verify` reports these first.
    #[error("value `%{value}`: {what}")]
    Form {
        /// The value.
        value: String,
        /// What was met.
        what: String,
    },
}

impl Evaluation {
    /// The output for input `u`.
    pub fn value(&self, u: f64) -> f64 {
        match self {
            Evaluation::Polynomial(p) => p.value(u),
            Evaluation::Reciprocal {
                squares, shifts, ..
            } => {
                let mut s = u;
                let mut product = s + shifts.first().copied().unwrap_or(0.0);
                for (step, shift) in squares.iter().zip(shifts.iter().skip(1)) {
                    s = f64::from(step.multiplier) * s * s + step.constant;
                    product *= s + shift;
                }
                product
            }
            Evaluation::InverseSqrt {
                mid,
                half,
                relaxation,
                output_factor,
            } => {
                let mut x = mid + half * u;
                let mut y = *output_factor;
                for k in relaxation {
                    let g = (3.0 - k * x) / 2.0;
                    y *= k.sqrt() * g;
                    x *= k * g * g;
                }
                y
            }
        }
    }
}

impl Linear {
    /// `y = Σ terms(x) + bias` for a row-major x of `rows` rows; the result has `out_rows × out_cols` values.
    pub fn apply(&self, x: &[f64], rows: usize, out_rows: usize, out_cols: usize) -> Vec<f64> {
        let mut y = vec![0.0; out_rows * out_cols];
        for term in &self.terms {
            let mut product = vec![0.0; rows * term.weight.cols()];
            term.weight.add_product(x, rows, &mut product);
            let mixed = match &term.rows {
                RowMap::Identity => product,
                RowMap::Mix(mix) => multiply(
                    &mix.data,
                    mix.rows,
                    mix.cols,
                    &Matrix {
                        rows,
                        cols: out_cols,
                        data: product,
                    },
                ),
            };
            for (i, value) in mixed.iter().enumerate() {
                y[i] += value * term.post.as_ref().map_or(1.0, |p| p.data[i]);
            }
        }
        if let Some(bias) = &self.bias {
            for (i, value) in y.iter_mut().enumerate() {
                *value += bias.data[if bias.rows == 1 { i % out_cols } else { i }];
            }
        }
        y
    }
}

/// Row-major (rows × cols) times a matrix.
pub(crate) fn multiply(x: &[f64], rows: usize, cols: usize, w: &Matrix) -> Vec<f64> {
    let mut y = vec![0.0; rows * w.cols];
    product::multiply_into(&x[..rows * cols], &w.data, cols, w.cols, &mut y);
    y
}

impl PolyGraph {
    /// All values for one input of the batch. `inputs` holds, per graph input, the prepared matrix row by row in the model's
    /// units (before the input's factor).
    pub fn evaluate(
        &self,
        inputs: &BTreeMap<String, Vec<f64>>,
    ) -> Result<BTreeMap<ValueId, Vec<f64>>, EvalError> {
        let mut values: BTreeMap<ValueId, Vec<f64>> = BTreeMap::new();
        self.visit(inputs, &mut |v, value| {
            values.insert(v, value.to_vec());
        })?;
        Ok(values)
    }

    /// Like [`PolyGraph::evaluate`], handing each value to `f` as it is made. A value is dropped after its last reader, so that
    /// large models need little memory.
    pub fn visit(
        &self,
        inputs: &BTreeMap<String, Vec<f64>>,
        f: &mut dyn FnMut(ValueId, &[f64]),
    ) -> Result<(), EvalError> {
        self.visit_changing(inputs, &mut |v, value| f(v, value))
    }

    /// As [`PolyGraph::visit`]; `f` may change every value before its readers see it, for instance to add noise.
    pub fn visit_changing(
        &self,
        inputs: &BTreeMap<String, Vec<f64>>,
        f: &mut dyn FnMut(ValueId, &mut [f64]),
    ) -> Result<(), EvalError> {
        let mut values: BTreeMap<ValueId, Vec<f64>> = BTreeMap::new();
        for (v, spent) in self.topological_with_last_uses() {
            let operands = self.operands(v);
            let get = |i: usize| -> Result<&Vec<f64>, EvalError> {
                operands
                    .get(i)
                    .and_then(|o| values.get(o))
                    .ok_or_else(|| self.form(v, format!("operand {i} is missing")))
            };
            let mut result = self.evaluate_one(v, &operands, inputs, &get)?;
            f(v, &mut result);
            values.insert(v, result);
            for o in spent {
                values.remove(&o);
            }
        }
        Ok(())
    }

    fn form(&self, v: ValueId, what: String) -> EvalError {
        EvalError::Form {
            value: self.node(v).name.clone(),
            what,
        }
    }

    fn evaluate_one<'a>(
        &self,
        v: ValueId,
        operands: &[ValueId],
        inputs: &BTreeMap<String, Vec<f64>>,
        get: &dyn Fn(usize) -> Result<&'a Vec<f64>, EvalError>,
    ) -> Result<Vec<f64>, EvalError> {
        let node = self.node(v);
        let shape_of = |i: usize| operands.get(i).map(|&o| self.node(o).shape);
        let unfit = || {
            self.form(
                v,
                format!(
                    "operands of shapes {:?} do not fit",
                    operands
                        .iter()
                        .map(|&o| self.node(o).shape)
                        .collect::<Vec<_>>()
                ),
            )
        };
        Ok(match &node.op {
            PolyOp::Input { name, factor, .. } => {
                let given = inputs.get(name).ok_or_else(|| EvalError::MissingInput {
                    name: name.clone(),
                    expected: node.shape.len(),
                })?;
                if given.len() != node.shape.len() {
                    return Err(EvalError::InputLength {
                        name: name.clone(),
                        expected: node.shape.len(),
                        found: given.len(),
                    });
                }
                given.iter().map(|x| x * factor).collect()
            }
            PolyOp::Linear(linear) => {
                let (
                    Some(Shape::Matrix { rows, .. }),
                    Shape::Matrix {
                        rows: out_rows,
                        cols: out_cols,
                    },
                ) = (shape_of(0), node.shape)
                else {
                    return Err(unfit());
                };
                linear.apply(get(0)?, rows, out_rows, out_cols)
            }
            PolyOp::Add => get(0)?.iter().zip(get(1)?).map(|(a, b)| a + b).collect(),
            PolyOp::Sub => get(0)?.iter().zip(get(1)?).map(|(a, b)| a - b).collect(),
            PolyOp::Multiply => get(0)?.iter().zip(get(1)?).map(|(a, b)| a * b).collect(),
            PolyOp::Affine { scale, shift } => get(0)?.iter().map(|a| a * scale + shift).collect(),
            PolyOp::Evaluate { evaluation, .. } => {
                get(0)?.iter().map(|&u| evaluation.value(u)).collect()
            }
            PolyOp::Scores { heads, mask } => {
                let Shape::Scores { rows, keys, .. } = node.shape else {
                    return Err(unfit());
                };
                scores(get(0)?, get(1)?, *heads, rows, keys, mask.as_ref())
            }
            PolyOp::Values { heads, weights } => {
                let (Some(Shape::Scores { rows, keys, .. }), Shape::Matrix { cols, .. }) =
                    (shape_of(0), node.shape)
                else {
                    return Err(unfit());
                };
                let weighted;
                let n = match weights {
                    None => get(0)?,
                    Some(w) => {
                        weighted = times(get(0)?, w);
                        &weighted
                    }
                };
                product::head_values(n, get(1)?, *heads, (rows, keys, cols))
            }
            PolyOp::KeySum {
                scale,
                shift,
                weights,
            } => {
                let Some(Shape::Scores { keys, .. }) = shape_of(0) else {
                    return Err(unfit());
                };
                let weighted;
                let n = match weights {
                    None => get(0)?,
                    Some(w) => {
                        weighted = times(get(0)?, w);
                        &weighted
                    }
                };
                n.chunks(keys)
                    .map(|row| shift + scale * row.iter().sum::<f64>())
                    .collect()
            }
            PolyOp::ColumnSum { scale, shift } => {
                let Some(Shape::Matrix { cols, .. }) = shape_of(0) else {
                    return Err(unfit());
                };
                get(0)?
                    .chunks(cols)
                    .map(|row| shift + scale * row.iter().sum::<f64>())
                    .collect()
            }
            PolyOp::ScaleRows => {
                let Some(Shape::Matrix { cols, .. }) = shape_of(0) else {
                    return Err(unfit());
                };
                let r = get(1)?;
                get(0)?
                    .iter()
                    .enumerate()
                    .map(|(i, x)| x * r[i / cols])
                    .collect()
            }
            PolyOp::ScaleHeads => {
                let r = get(1)?;
                match (shape_of(0), shape_of(1)) {
                    (Some(Shape::Matrix { rows, cols }), Some(Shape::PerHead { heads, .. })) => {
                        let h = cols / heads;
                        get(0)?
                            .iter()
                            .enumerate()
                            .map(|(i, x)| x * r[(i % cols) / h * rows + i / cols])
                            .collect()
                    }
                    (Some(Shape::Scores { keys, .. }), Some(Shape::PerHead { .. })) => get(0)?
                        .iter()
                        .enumerate()
                        .map(|(i, x)| x * r[i / keys])
                        .collect(),
                    _ => return Err(unfit()),
                }
            }
        })
    }
}

/// Scores times weights that are the same for every head.
fn times(scores: &[f64], weights: &Matrix) -> Vec<f64> {
    let all = weights.data.iter().cycle();
    scores.iter().zip(all).map(|(n, w)| n * w).collect()
}

fn scores(
    q: &[f64],
    k: &[f64],
    heads: usize,
    rows: usize,
    keys: usize,
    mask: Option<&Matrix>,
) -> Vec<f64> {
    let cols = q.len() / rows;
    let mut s = product::head_scores(q, k, heads, cols);
    if let Some(mask) = mask {
        for (i, x) in s.iter_mut().enumerate() {
            *x *= mask.at(i / keys % rows, i % keys);
        }
    }
    s
}
