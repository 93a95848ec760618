//! Random tensor graphs.

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::Shape;
use heron_passes::ir::tensor::{Function, TensorGraph, TensorOp};

use super::{is_matrix, is_scores, outputs, rows_cols, scores_shape, Random};

/// A tensor graph of about `size` values.
pub fn tensor(seed: u64, size: usize) -> TensorGraph {
    let mut r = Random::new(seed);
    let mut g: TensorGraph = r.start();
    let mut made: Vec<ValueId> = Vec::new();
    while made.len() < size {
        let name = r.name();
        let (op, operands, shape) = match r.below(12) {
            _ if made.len() < 2 => {
                let shape = Shape::Matrix {
                    rows: 1 + r.below(4),
                    cols: 2 * (1 + r.below(3)),
                };
                let (rows, cols) = rows_cols(shape);
                let op = TensorOp::Input {
                    name: format!("{name}{}", made.len()),
                    client: r.client(rows, cols),
                };
                (op, vec![], shape)
            }
            0 | 1 => {
                let Some(x) = r.find(&g, &made, is_matrix) else {
                    continue;
                };
                let from = rows_cols(g.node(x).shape);
                let to = (r.of(&[from.0, 3]), 2 * (1 + r.below(3)));
                let shape = Shape::Matrix {
                    rows: to.0,
                    cols: to.1,
                };
                (TensorOp::Linear(r.linear(from, to)), vec![x], shape)
            }
            k @ 2..=4 => {
                let [a, b] = r.pair(&g, &made);
                let op = match k {
                    2 => TensorOp::Add,
                    3 => TensorOp::Sub,
                    _ => TensorOp::Multiply,
                };
                (op, vec![a, b], g.node(a).shape)
            }
            5 => {
                let Some(q) = r.find(&g, &made, is_matrix) else {
                    continue;
                };
                let cols = rows_cols(g.node(q).shape).1;
                let Some(k) = r.find(&g, &made, |s| is_matrix(s) && rows_cols(s).1 == cols) else {
                    continue;
                };
                let heads = r.of(&[1, 2]);
                let shape = scores_shape(g.node(q).shape, g.node(k).shape, heads);
                let Shape::Scores { rows, keys, .. } = shape else {
                    continue;
                };
                let op = TensorOp::Scores {
                    heads,
                    scale: r.0.next(),
                    mask: r.mask(rows, keys),
                };
                (op, vec![q, k], shape)
            }
            k @ 6..=7 => {
                let Some(s) = r.find(&g, &made, is_scores) else {
                    continue;
                };
                let shape = g.node(s).shape;
                let Shape::Scores { rows, keys, .. } = shape else {
                    continue;
                };
                if k == 6 {
                    let op = TensorOp::PowerSoftmax {
                        power: 2 * (1 + r.below(3)) as u32,
                        epsilon: 0.1 + r.0.next().abs(),
                    };
                    (op, vec![s], shape)
                } else {
                    let mut operands = vec![s];
                    if r.once_in(2) {
                        operands.extend(r.find(&g, &made, |t| t == shape));
                    }
                    let mask = r.mask(rows, keys);
                    (TensorOp::Softmax { mask }, operands, shape)
                }
            }
            8 => {
                let Some(p) = r.find(&g, &made, is_scores) else {
                    continue;
                };
                let Shape::Scores { heads, rows, keys } = g.node(p).shape else {
                    continue;
                };
                let fits = |s: Shape| {
                    is_matrix(s) && rows_cols(s).0 == keys && rows_cols(s).1.is_multiple_of(heads)
                };
                let Some(v) = r.find(&g, &made, fits) else {
                    continue;
                };
                let cols = rows_cols(g.node(v).shape).1;
                (
                    TensorOp::Values { heads },
                    vec![p, v],
                    Shape::Matrix { rows, cols },
                )
            }
            9 => {
                let Some(x) = r.find(&g, &made, is_matrix) else {
                    continue;
                };
                let cols = rows_cols(g.node(x).shape).1;
                let op = TensorOp::LayerNorm {
                    gamma: r.matrix(1, cols).data,
                    beta: r.matrix(1, cols).data,
                    epsilon: 1e-5 + r.0.next().abs(),
                    centre: r.once_in(2),
                };
                (op, vec![x], g.node(x).shape)
            }
            _ => {
                let x = r.of(&made);
                let op = TensorOp::Activation(r.of(&Function::ALL));
                (op, vec![x], g.node(x).shape)
            }
        };
        let v = g.add(name, op, &operands, shape, 0);
        r.dress(&mut g, v);
        made.push(v);
    }
    outputs(&mut r, &mut g, &made);
    g
}
