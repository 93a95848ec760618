//! fold-linear: poly → poly.
//! before   %a = linear %x, W1 + b1       after   %y = linear %x, W1·W2 + (b1·W2 + b2)
//!          %y = linear %a, W2 + b2
//! Also     constant factors (`affine`) go into the linear map, the sum or the evaluation before or after them, and products
//!          with a constant factor pass it on: √-free, by commuting `affine` without shift past products.
//! Needs    every user of the folded value can take it; a term with `post` factors takes nothing in before it.
//! Error    none.    Depth  one level less for each map folded.
//! Refuses  nothing: what cannot be folded stays, which is correct and only deeper.
//! Source   composition of affine maps.

use crate::ir::graph::ValueId;
use crate::ir::poly::eval::multiply;
use crate::ir::poly::{Evaluation, PolyGraph, PolyOp};
use crate::ir::shape::{Matrix, Shape};
use crate::ir::tensor::{Linear, LinearTerm, RowMap};
use crate::pass::{Changed, Pass, PassCx, PassError};

/// The pass; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoldLinear;

impl Pass for FoldLinear {
    type Ir = PolyGraph;
    const NAME: &'static str = "fold-linear";
    const NEEDED: bool = false;

    fn run(&self, graph: &mut PolyGraph, _cx: &mut PassCx) -> Result<Changed, PassError> {
        let mut changed = false;
        loop {
            let step = graph.topological().into_iter().any(|v| {
                affine_into_operand(graph, v)
                    || affine_past_product(graph, v)
                    || affine_into_users(graph, v)
                    || compose(graph, v)
            });
            if !step {
                break;
            }
            graph.remove_dead(|op| matches!(op, PolyOp::Input { .. }));
            changed = true;
        }
        Ok(Changed::from_bool(changed))
    }
}

fn is_output(graph: &PolyGraph, v: ValueId) -> bool {
    graph.outputs.iter().any(|(_, o)| *o == v)
}

/// y = scale · x + shift where x is a linear map, a sum or a polynomial used nowhere else: x takes it in.
fn affine_into_operand(graph: &mut PolyGraph, v: ValueId) -> bool {
    let PolyOp::Affine { scale, shift } = graph.node(v).op else {
        return false;
    };
    let Some(&x) = graph.operands(v).first() else {
        return false;
    };
    if graph.users(x).len() != 1 || is_output(graph, x) {
        return false;
    }
    let shape = graph.node(x).shape;
    let op = match &graph.node(x).op {
        PolyOp::Linear(linear) => {
            let Shape::Matrix { cols, .. } = shape else {
                return false;
            };
            PolyOp::Linear(scaled(linear, scale, shift, cols))
        }
        PolyOp::KeySum {
            scale: s,
            shift: t,
            weights,
        } => PolyOp::KeySum {
            scale: s * scale,
            shift: t * scale + shift,
            weights: weights.clone(),
        },
        PolyOp::ColumnSum { scale: s, shift: t } => PolyOp::ColumnSum {
            scale: s * scale,
            shift: t * scale + shift,
        },
        PolyOp::Affine { scale: s, shift: t } => PolyOp::Affine {
            scale: s * scale,
            shift: t * scale + shift,
        },
        PolyOp::Evaluate {
            evaluation: Evaluation::Polynomial(p),
            approximation,
        } => {
            let mut p = p.scaled(scale);
            if let Some(c) = p.coefficients.first_mut() {
                *c += shift;
            }
            PolyOp::Evaluate {
                evaluation: Evaluation::Polynomial(p),
                approximation: approximation.clone(),
            }
        }
        _ => return false,
    };
    graph.node_mut(x).op = op;
    graph.replace_uses(v, x);
    true
}

/// The linear map followed by scale · y + shift.
fn scaled(linear: &Linear, scale: f64, shift: f64, cols: usize) -> Linear {
    let times = |m: &Matrix| Matrix {
        data: m.data.iter().map(|x| x * scale).collect(),
        ..*m
    };
    let terms = linear
        .terms
        .iter()
        .map(|t| LinearTerm {
            weight: {
                let mut weight = t.weight.clone();
                weight.scale(scale);
                weight
            },
            ..t.clone()
        })
        .collect();
    let mut bias = linear.bias.as_ref().map(times);
    if shift != 0.0 {
        let b = bias.get_or_insert_with(|| Matrix::zeros(1, cols));
        b.data.iter_mut().for_each(|x| *x += shift);
    }
    Linear { terms, bias }
}

/// scale · x before a product (elementwise, A·V, scaling by rows or heads, scores): after it instead, where it may meet a linear map.
fn affine_past_product(graph: &mut PolyGraph, v: ValueId) -> bool {
    let product = matches!(
        graph.node(v).op,
        PolyOp::Multiply
            | PolyOp::Values { .. }
            | PolyOp::ScaleRows
            | PolyOp::ScaleHeads
            | PolyOp::Scores { .. }
    );
    if !product {
        return false;
    }
    let mut factor = 1.0;
    let mut operands = graph.operands(v);
    for o in &mut operands {
        if let PolyOp::Affine { scale, shift } = graph.node(*o).op {
            if shift == 0.0 {
                if let Some(&x) = graph.operands(*o).first() {
                    factor *= scale;
                    *o = x;
                }
            }
        }
    }
    if factor == 1.0 {
        return false;
    }
    let node = graph.node(v);
    let (name, shape, layer) = (format!("{}_times", node.name), node.shape, node.layer);
    graph.set_operands(v, &operands);
    let affine = graph.add(
        &name,
        PolyOp::Affine {
            scale: factor,
            shift: 0.0,
        },
        &[],
        shape,
        layer,
    );
    graph.replace_uses(v, affine);
    graph.set_operands(affine, &[v]);
    true
}

/// scale · x + shift whose users are all linear maps or sums of columns or keys: they take it in.
fn affine_into_users(graph: &mut PolyGraph, v: ValueId) -> bool {
    let PolyOp::Affine { scale, shift } = graph.node(v).op else {
        return false;
    };
    let Some(&x) = graph.operands(v).first() else {
        return false;
    };
    let users = graph.users(v);
    let takes = |u: &ValueId| match &graph.node(*u).op {
        PolyOp::Linear(_) => shift == 0.0,
        PolyOp::KeySum { .. } | PolyOp::ColumnSum { .. } => shift == 0.0,
        PolyOp::Affine { .. } => true,
        _ => false,
    };
    if users.is_empty() || is_output(graph, v) || !users.iter().all(takes) {
        return false;
    }
    for u in users {
        let op = match &graph.node(u).op {
            PolyOp::Linear(linear) => {
                let mut linear = linear.clone();
                for t in &mut linear.terms {
                    t.weight.scale(scale);
                }
                PolyOp::Linear(linear)
            }
            PolyOp::KeySum {
                scale: s,
                shift: t,
                weights,
            } => PolyOp::KeySum {
                scale: s * scale,
                shift: *t,
                weights: weights.clone(),
            },
            PolyOp::ColumnSum { scale: s, shift: t } => PolyOp::ColumnSum {
                scale: s * scale,
                shift: *t,
            },
            PolyOp::Affine { scale: s, shift: t } => PolyOp::Affine {
                scale: s * scale,
                shift: s * shift + t,
            },
            _ => continue,
        };
        graph.node_mut(u).op = op;
    }
    graph.replace_uses(v, x);
    true
}

/// A linear map whose users are all linear maps that can take it in.
fn compose(graph: &mut PolyGraph, v: ValueId) -> bool {
    let PolyOp::Linear(first) = &graph.node(v).op else {
        return false;
    };
    let first = first.clone();
    let Some(&x) = graph.operands(v).first() else {
        return false;
    };
    let users = graph.users(v);
    let both_linear = users
        .iter()
        .all(|u| matches!(graph.node(*u).op, PolyOp::Linear(_)));
    if users.is_empty()
        || is_output(graph, v)
        || !both_linear
        || first.terms.iter().any(|t| t.post.is_some())
    {
        return false;
    }
    let Shape::Matrix { rows, .. } = graph.node(v).shape else {
        return false;
    };
    for u in users {
        let PolyOp::Linear(second) = &graph.node(u).op else {
            continue;
        };
        let Shape::Matrix {
            rows: out_rows,
            cols: out_cols,
        } = graph.node(u).shape
        else {
            continue;
        };
        let folded = composed(&first, second, rows, out_rows, out_cols);
        graph.node_mut(u).op = PolyOp::Linear(folded);
        graph.set_operands(u, &[x]);
    }
    true
}

/// Whether every row of the result is made of the same row of the operand, all in the same way.
fn row_by_row(linear: &Linear) -> bool {
    let plain = |t: &LinearTerm| t.rows == RowMap::Identity && t.post.is_none();
    linear.terms.iter().all(plain) && linear.bias.as_ref().is_none_or(|b| b.rows == 1)
}

/// second ∘ first; the value between has `rows` rows.
pub(crate) fn composed(
    first: &Linear,
    second: &Linear,
    rows: usize,
    out_rows: usize,
    out_cols: usize,
) -> Linear {
    let mut terms = Vec::with_capacity(first.terms.len() * second.terms.len());
    for b in &second.terms {
        for a in &first.terms {
            let weight = a.weight.then(&b.weight);
            let mix = match (&a.rows, &b.rows) {
                (RowMap::Identity, m) | (m, RowMap::Identity) => m.clone(),
                (RowMap::Mix(a), RowMap::Mix(b)) => RowMap::Mix(Matrix {
                    rows: b.rows,
                    cols: a.cols,
                    data: multiply(&b.data, b.rows, b.cols, a),
                }),
            };
            terms.push(LinearTerm {
                rows: mix,
                weight,
                post: b.post.clone(),
            });
        }
    }
    let bias = match &first.bias {
        None => second.bias.clone(),
        Some(b1) if b1.rows == 1 && out_rows == rows && row_by_row(second) => {
            let data = second.apply(&b1.data, 1, 1, out_cols);
            Some(Matrix {
                rows: 1,
                cols: out_cols,
                data,
            })
        }
        Some(b1) => {
            // The bias of the first map as a full matrix goes through the second one, which adds its own.
            let full: Vec<f64> = (0..rows * b1.cols)
                .map(|i| b1.data[if b1.rows == 1 { i % b1.cols } else { i }])
                .collect();
            let data = second.apply(&full, rows, out_rows, out_cols);
            let same_rows = out_rows > 1 && data.chunks(out_cols).all(|r| r == &data[..out_cols]);
            Some(if same_rows {
                Matrix {
                    rows: 1,
                    cols: out_cols,
                    data: data[..out_cols].to_vec(),
                }
            } else {
                Matrix {
                    rows: out_rows,
                    cols: out_cols,
                    data,
                }
            })
        }
    };
    Linear { terms, bias }
}
