//! Random poly graphs.

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::poly::{Approximation, Chebyshev, Evaluation, PolyGraph, PolyOp, SquareStep};
use heron_passes::ir::shape::Shape;

use super::{is_matrix, is_scores, outputs, rows_cols, scores_shape, Random};

fn evaluation(r: &mut Random) -> PolyOp {
    let (mid, half) = (0.5, 0.4 * r.0.next());
    let evaluation = match r.below(3) {
        0 => {
            let count = 2 + r.below(20);
            Evaluation::Polynomial(Chebyshev {
                coefficients: r.0.matrix(1, count, 1.0).data,
            })
        }
        1 => {
            let k = r.below(4);
            Evaluation::Reciprocal {
                squares: (0..k)
                    .map(|_| SquareStep {
                        multiplier: 1 + r.below(4) as i32,
                        constant: r.0.next(),
                    })
                    .collect(),
                shifts: r.0.matrix(1, k + 1, 2.0).data,
                output_factor: r.0.next(),
                mid,
                half,
            }
        }
        _ => Evaluation::InverseSqrt {
            mid,
            half,
            relaxation: vec![2.2, 1.6, 1.0 + r.0.next().abs()],
            output_factor: r.0.next(),
        },
    };
    PolyOp::Evaluate {
        evaluation,
        approximation: Approximation {
            function: r.of(&["1/x", "1/sqrt(x)", "gelu"]).into(),
            interval: (r.0.next(), 1.0 + r.0.next().abs()),
            method: r
                .of(&["minimax", "relaxed-goldschmidt", "own method"])
                .into(),
            degree_or_iterations: r.below(64),
            max_error: r.0.next().abs() * 1e-6,
        },
    }
}

/// A poly graph of about `size` values.
pub fn poly(seed: u64, size: usize) -> PolyGraph {
    let mut r = Random::new(seed);
    let mut g: PolyGraph = r.start();
    let mut made: Vec<ValueId> = Vec::new();
    while made.len() < size {
        let name = r.name();
        let scale = r.0.next();
        let shift = r.of(&[0.0, 0.25, -1.0 / 3.0]);
        let (op, operands, shape) = match r.below(13) {
            _ if made.len() < 2 => {
                let (rows, cols) = (1 + r.below(4), 2 * (1 + r.below(3)));
                let op = PolyOp::Input {
                    name: format!("{name}{}", made.len()),
                    client: r.client(rows, cols),
                    factor: r.of(&[1.0, 0.3]),
                };
                (op, vec![], Shape::Matrix { rows, cols })
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
                (PolyOp::Linear(r.linear(from, to)), vec![x], shape)
            }
            k @ 2..=4 => {
                let [a, b] = r.pair(&g, &made);
                let op = match k {
                    2 => PolyOp::Add,
                    3 => PolyOp::Sub,
                    _ => PolyOp::Multiply,
                };
                (op, vec![a, b], g.node(a).shape)
            }
            5 => {
                let x = r.of(&made);
                (PolyOp::Affine { scale, shift }, vec![x], g.node(x).shape)
            }
            6 => {
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
                let mask = r.mask(rows, keys);
                (PolyOp::Scores { heads, mask }, vec![q, k], shape)
            }
            7 => {
                let Some(n) = r.find(&g, &made, is_scores) else {
                    continue;
                };
                let Shape::Scores { heads, rows, keys } = g.node(n).shape else {
                    continue;
                };
                let shape = Shape::PerHead { heads, rows };
                let op = PolyOp::KeySum {
                    scale,
                    shift,
                    weights: r.mask(rows, keys),
                };
                (op, vec![n], shape)
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
                let shape = Shape::Matrix { rows, cols };
                let weights = r.mask(rows, keys);
                (PolyOp::Values { heads, weights }, vec![p, v], shape)
            }
            9 => {
                let Some(f) = r.find(&g, &made, |s| matches!(s, Shape::PerHead { .. })) else {
                    continue;
                };
                let Shape::PerHead { heads: h, rows: n } = g.node(f).shape else {
                    continue;
                };
                let fits = |s: Shape| match s {
                    Shape::Matrix { rows, cols } => rows == n && cols % h == 0,
                    Shape::Scores { heads, rows, .. } => (heads, rows) == (h, n),
                    _ => false,
                };
                let Some(x) = r.find(&g, &made, fits) else {
                    continue;
                };
                (PolyOp::ScaleHeads, vec![x, f], g.node(x).shape)
            }
            10 => {
                let Some(x) = r.find(&g, &made, is_matrix) else {
                    continue;
                };
                let rows = rows_cols(g.node(x).shape).0;
                let shape = Shape::PerRow { rows };
                (PolyOp::ColumnSum { scale, shift }, vec![x], shape)
            }
            11 => {
                let Some(f) = r.find(&g, &made, |s| matches!(s, Shape::PerRow { .. })) else {
                    continue;
                };
                let n = g.node(f).shape.len();
                let fits = |s: Shape| is_matrix(s) && rows_cols(s).0 == n;
                let Some(x) = r.find(&g, &made, fits) else {
                    continue;
                };
                (PolyOp::ScaleRows, vec![x, f], g.node(x).shape)
            }
            _ => {
                let x = r.of(&made);
                (evaluation(&mut r), vec![x], g.node(x).shape)
            }
        };
        let v = g.add(name, op, &operands, shape, 0);
        r.dress(&mut g, v);
        made.push(v);
    }
    outputs(&mut r, &mut g, &made);
    if r.once_in(2) {
        g.output_factors = g.outputs.iter().map(|_| r.of(&[1.0, 0.7])).collect();
    }
    g
}
