//! Evaluation of tensor graphs in f64, one input of the batch at a time, in a fixed order of operations.

use std::collections::BTreeMap;

use crate::approx::softmax_rows::quantities;

use super::{ClientInput, Linear, RowMap, TensorGraph, TensorOp};
use crate::ir::graph::ValueId;
use crate::ir::product::{self, multiply_into};
use crate::ir::shape::{Matrix, Shape};

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
    /// A token id outside the table.
    #[error("input `{name}`: token id {id} is not in the table of {rows} rows")]
    TokenId {
        /// The graph input.
        name: String,
        /// The id given.
        id: f64,
        /// Rows of the table.
        rows: usize,
    },
    /// An operation met an operand it has no meaning for; `verify` reports these first.
    #[error("value `%{value}`: {what}")]
    Form {
        /// The value.
        value: String,
        /// What was met.
        what: String,
    },
}

/// All values of one evaluation, and the arguments of non-polynomial functions inside blocks.
#[derive(Clone, Debug, Default)]
pub struct Evaluated {
    /// Per value its numbers: Matrix row by row; Scores head by head, row by row.
    pub values: BTreeMap<ValueId, Vec<f64>>,
    /// For LayerNorm per row variance + ε, for PowerSoftmax per head and row ε + Σ s^p, for softmax per head and row
    /// with keys [`crate::approx::softmax_rows::QUANTITIES`] numbers.
    pub statistics: BTreeMap<ValueId, Vec<f64>>,
}

impl ClientInput {
    /// What the client encrypts for what the user gives, row-major. Also used for calibration.
    pub fn prepare(&self, name: &str, user: &[f64]) -> Result<Vec<f64>, EvalError> {
        let length = |shape: &[usize]| -> Result<(), EvalError> {
            let expected = shape.iter().product();
            if user.len() == expected {
                return Ok(());
            }
            Err(EvalError::InputLength {
                name: name.to_string(),
                expected,
                found: user.len(),
            })
        };
        match self {
            ClientInput::Gather { user_shape, index } => {
                length(user_shape)?;
                Ok(index
                    .iter()
                    .map(|&i| {
                        usize::try_from(i)
                            .ok()
                            .and_then(|i| user.get(i))
                            .copied()
                            .unwrap_or(0.0)
                    })
                    .collect())
            }
            ClientInput::Embedding { user_shape, table } => {
                length(user_shape)?;
                let mut out = Vec::with_capacity(user.len() * table.cols());
                for &id in user {
                    // ONNX's Gather counts negative ids from the end.
                    let row = if id < 0.0 {
                        id + table.rows() as f64
                    } else {
                        id
                    };
                    if row != row.trunc() || row < 0.0 || row >= table.rows() as f64 {
                        return Err(EvalError::TokenId {
                            name: name.to_string(),
                            id,
                            rows: table.rows(),
                        });
                    }
                    let r = row as usize;
                    out.extend(table.panel(r..r + 1));
                }
                Ok(out)
            }
        }
    }
}

fn linear(l: &Linear, x: &[f64], in_cols: usize, rows: usize, cols: usize) -> Vec<f64> {
    let mut total = vec![0.0; rows * cols];
    if let Some(b) = &l.bias {
        for r in 0..rows {
            let from = if b.rows == 1 { 0 } else { r * cols };
            total[r * cols..(r + 1) * cols].copy_from_slice(&b.data[from..from + cols]);
        }
    }
    for t in &l.terms {
        let mixed;
        let source = match &t.rows {
            RowMap::Identity => x,
            RowMap::Mix(m) => {
                let mut y = vec![0.0; rows * in_cols];
                multiply_into(&m.data, x, m.cols, in_cols, &mut y);
                mixed = y;
                &mixed
            }
        };
        match &t.post {
            None => t.weight.add_product(source, rows, &mut total),
            Some(post) => {
                let mut y = vec![0.0; rows * cols];
                t.weight.add_product(source, rows, &mut y);
                for ((o, v), p) in total.iter_mut().zip(&y).zip(&post.data) {
                    *o += v * p;
                }
            }
        }
    }
    total
}

fn scores(
    q: &[f64],
    k: &[f64],
    heads: usize,
    cols: usize,
    scale: f64,
    mask: Option<&Matrix>,
) -> Vec<f64> {
    let (rows, keys) = (q.len() / cols, k.len() / cols);
    let mut out = product::head_scores(q, k, heads, cols);
    for (i, x) in out.iter_mut().enumerate() {
        *x *= scale * mask.map_or(1.0, |m| m.at(i / keys % rows, i % keys));
    }
    out
}

/// e^s · factor over its sum in rows of `keys`; the largest score of a row that counts is taken off first, so that nothing overflows.
/// A row without keys gives 0.
fn softmax(scores: &[f64], keys: usize, factor: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(scores.len());
    for (r, row) in scores.chunks_exact(keys).enumerate() {
        let factors: Vec<f64> = (0..keys).map(|j| factor(r * keys + j)).collect();
        let top = row
            .iter()
            .zip(&factors)
            .filter(|(_, &f)| f != 0.0)
            .map(|(&s, _)| s)
            .fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = row
            .iter()
            .zip(&factors)
            .map(|(s, f)| {
                if *f == 0.0 {
                    0.0
                } else {
                    f * libm::exp(s - top)
                }
            })
            .collect();
        let sum: f64 = powers.iter().sum();
        out.extend(powers.iter().map(|p| if *p == 0.0 { 0.0 } else { p / sum }));
    }
    out
}

/// Receives each value as it is made, with its statistic where its operation has one.
pub type Visitor<'a> = dyn FnMut(ValueId, &[f64], Option<&[f64]>) + 'a;

impl TensorGraph {
    /// Evaluates every value for one input: `inputs` holds, per graph input, the user's numbers without batch axis.
    ///
    /// The graph must verify. Fails on missing inputs and token ids outside the table.
    pub fn evaluate(&self, inputs: &BTreeMap<String, Vec<f64>>) -> Result<Evaluated, EvalError> {
        let mut all = Evaluated::default();
        self.visit(inputs, &mut |v, value, statistic| {
            all.values.insert(v, value.to_vec());
            if let Some(s) = statistic {
                all.statistics.insert(v, s.to_vec());
            }
        })?;
        Ok(all)
    }

    /// Like [`TensorGraph::evaluate`], handing each value and its statistic to `f` as it is made. A value is dropped after its last
    /// reader, so that large models need little memory.
    pub fn visit(
        &self,
        inputs: &BTreeMap<String, Vec<f64>>,
        f: &mut Visitor<'_>,
    ) -> Result<(), EvalError> {
        let mut done = BTreeMap::new();
        for (v, spent) in self.topological_with_last_uses() {
            let (value, statistic) = self.evaluate_one(v, inputs, &done)?;
            f(v, &value, statistic.as_deref());
            done.insert(v, value);
            for o in spent {
                done.remove(&o);
            }
        }
        Ok(())
    }

    /// The outputs for one input, in order.
    pub fn outputs_for(
        &self,
        inputs: &BTreeMap<String, Vec<f64>>,
    ) -> Result<Vec<Vec<f64>>, EvalError> {
        let mut all = self.evaluate(inputs)?;
        Ok(self
            .outputs
            .iter()
            .map(|(_, v)| all.values.remove(v).unwrap_or_default())
            .collect())
    }

    fn evaluate_one(
        &self,
        v: ValueId,
        inputs: &BTreeMap<String, Vec<f64>>,
        done: &BTreeMap<ValueId, Vec<f64>>,
    ) -> Result<(Vec<f64>, Option<Vec<f64>>), EvalError> {
        let node = self.node(v);
        let operands = self.operands(v);
        let form = |what: &str| EvalError::Form {
            value: node.name.clone(),
            what: what.to_string(),
        };
        let get = |i: usize| -> Result<&Vec<f64>, EvalError> {
            operands
                .get(i)
                .and_then(|o| done.get(o))
                .ok_or_else(|| form("an operand is missing"))
        };
        let matrix = |i: usize| -> Result<(usize, usize), EvalError> {
            match operands.get(i).map(|o| self.node(*o).shape) {
                Some(Shape::Matrix { rows, cols }) => Ok((rows, cols)),
                _ => Err(form("a matrix is expected")),
            }
        };
        let both = |f: fn(f64, f64) -> f64| -> Result<Vec<f64>, EvalError> {
            Ok(get(0)?
                .iter()
                .zip(get(1)?)
                .map(|(&a, &b)| f(a, b))
                .collect())
        };
        let value = match &node.op {
            TensorOp::Input { name, client } => {
                let user = inputs.get(name).ok_or_else(|| EvalError::MissingInput {
                    name: name.clone(),
                    expected: match client {
                        ClientInput::Gather { user_shape, .. }
                        | ClientInput::Embedding { user_shape, .. } => user_shape.iter().product(),
                    },
                })?;
                client.prepare(name, user)?
            }
            TensorOp::Linear(l) => {
                let Shape::Matrix { rows, cols } = node.shape else {
                    return Err(form("a matrix is expected"));
                };
                linear(l, get(0)?, matrix(0)?.1, rows, cols)
            }
            TensorOp::Add => both(|a, b| a + b)?,
            TensorOp::Sub => both(|a, b| a - b)?,
            TensorOp::Multiply => both(|a, b| a * b)?,
            TensorOp::Scores { heads, scale, mask } => scores(
                get(0)?,
                get(1)?,
                *heads,
                matrix(0)?.1,
                *scale,
                mask.as_ref(),
            ),
            TensorOp::PowerSoftmax { power, epsilon } => {
                let Shape::Scores { keys, .. } = node.shape else {
                    return Err(form("scores are expected"));
                };
                let mut out = Vec::with_capacity(node.shape.len());
                let mut sums = Vec::new();
                for row in get(0)?.chunks_exact(keys) {
                    let powers: Vec<f64> = row.iter().map(|s| s.powi(*power as i32)).collect();
                    let sum = epsilon + powers.iter().sum::<f64>();
                    // With ε = 0 a row of zeros has no weights at all.
                    out.extend(
                        powers
                            .iter()
                            .map(|p| if sum == 0.0 { 0.0 } else { p / sum }),
                    );
                    sums.push(sum);
                }
                return Ok((out, Some(sums)));
            }
            TensorOp::Softmax { mask } => {
                let Shape::Scores { rows, keys, .. } = node.shape else {
                    return Err(form("scores are expected"));
                };
                let encrypted = match operands.len() {
                    2 => Some(get(1)?),
                    _ => None,
                };
                let factor = |i: usize| {
                    let constant = mask
                        .as_ref()
                        .map_or(1.0, |m| m.at(i / keys % rows, i % keys));
                    constant * encrypted.and_then(|m| m.get(i)).copied().unwrap_or(1.0)
                };
                let scores = get(0)?;
                let rows: Vec<f64> = scores
                    .chunks_exact(keys)
                    .enumerate()
                    .filter_map(|(r, row)| {
                        let factors = (r * keys..).map(factor);
                        quantities(row.iter().copied().zip(factors))
                    })
                    .flatten()
                    .collect();
                return Ok((softmax(scores, keys, factor), Some(rows)));
            }
            TensorOp::Values { heads } => {
                let Shape::Scores { rows, keys, .. } = self.node(operands[0]).shape else {
                    return Err(form("scores are expected"));
                };
                let cols = matrix(1)?.1;
                product::head_values(get(0)?, get(1)?, *heads, (rows, keys, cols))
            }
            TensorOp::LayerNorm {
                gamma,
                beta,
                epsilon,
                centre,
            } => {
                let cols = matrix(0)?.1;
                let mut out = Vec::with_capacity(node.shape.len());
                let mut variances = Vec::new();
                for row in get(0)?.chunks_exact(cols) {
                    let mean = if *centre {
                        row.iter().sum::<f64>() / cols as f64
                    } else {
                        0.0
                    };
                    let square = |x: &f64| (x - mean) * (x - mean);
                    let variance = row.iter().map(square).sum::<f64>() / cols as f64 + epsilon;
                    let r = 1.0 / variance.sqrt();
                    out.extend(
                        row.iter()
                            .zip(gamma.iter().zip(beta))
                            .map(|(x, (g, b))| (x - mean) * r * g + b),
                    );
                    variances.push(variance);
                }
                return Ok((out, Some(variances)));
            }
            TensorOp::Activation(f) => get(0)?.iter().map(|&x| f.value(x)).collect(),
        };
        Ok((value, None))
    }
}
