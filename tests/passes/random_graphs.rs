//! Random graphs of each rung, from a seed: every operation, constants of every form, odd names, ranges and layers.

use heron_passes::ir::graph::{Graph, ValueId};
use heron_passes::ir::poly::{Approximation, Chebyshev, Evaluation, PolyGraph, PolyOp, SquareStep};
use heron_passes::ir::shape::{Interval, Layer, LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::{
    ClientInput, Function, Linear, LinearTerm, RowMap, TensorGraph, TensorOp,
};

use crate::support::Draws;

/// Random choices.
pub struct Random(pub Draws);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        let mut draws = Draws(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        draws.next();
        Random(draws)
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (((self.0.next() + 1.0) / 2.0 * n as f64) as usize).min(n - 1)
    }

    /// One of several.
    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A matrix: dense, with long runs of equal numbers, or of 0 and 1.
    fn matrix(&mut self, rows: usize, cols: usize) -> Matrix {
        let mut m = self.0.matrix(rows, cols, 1.0);
        match self.below(3) {
            0 => m.data.iter_mut().for_each(|x| {
                if x.abs() < 0.8 {
                    *x = 0.0
                }
            }),
            1 => m
                .data
                .iter_mut()
                .for_each(|x| *x = f64::from(u8::from(*x > 0.0))),
            _ => {}
        }
        m
    }

    fn mask(&mut self, rows: usize, keys: usize) -> Option<Matrix> {
        let mut m = self.0.matrix(rows, keys, 1.0);
        m.data
            .iter_mut()
            .for_each(|x| *x = f64::from(u8::from(*x > -0.5)));
        (!self.once_in(2)).then_some(m)
    }

    fn linear(&mut self, (rows, cols): (usize, usize), (out, width): (usize, usize)) -> Linear {
        let terms = (0..1 + self.below(3))
            .map(|_| LinearTerm {
                rows: if out == rows && self.once_in(2) {
                    RowMap::Identity
                } else {
                    RowMap::Mix(self.matrix(out, rows))
                },
                weight: self.matrix(cols, width).into(),
                post: self.once_in(3).then(|| self.matrix(out, width)),
            })
            .collect();
        let bias_rows = self.of(&[1, out]);
        let bias = (!self.once_in(3)).then(|| self.matrix(bias_rows, width));
        Linear { terms, bias }
    }

    fn client(&mut self, rows: usize, cols: usize) -> ClientInput {
        let n = rows * cols;
        let user_shape = self.of(&[vec![n], vec![rows, cols], vec![n + 3]]);
        match self.below(3) {
            0 => ClientInput::Gather {
                index: (0..n as i64).collect(),
                user_shape,
            },
            1 => ClientInput::Gather {
                index: (0..n).map(|_| self.below(n + 1) as i64 - 1).collect(),
                user_shape,
            },
            _ => ClientInput::Embedding {
                table: self.matrix(5, cols).into(),
                user_shape: vec![rows],
            },
        }
    }

    fn interval(&mut self) -> Interval {
        let (a, b) = (self.0.next(), self.0.next() * 1e-3);
        Interval::new(a.min(b), a.max(b))
    }

    fn start<O>(&mut self) -> Graph<O> {
        let names = ["t", "two words", "a/b.c-d", "\"quoted\\\"", "tokens:0"];
        let mut g = Graph::new(self.of(&names));
        for i in 0..1 + self.below(4) {
            g.add_layer(Layer {
                name: format!("{}{i}", self.of(&names)),
                kind: self.of(&LayerKind::ALL),
                onnx_nodes: (0..self.below(3)).map(|_| self.of(&names).into()).collect(),
            });
        }
        g
    }

    fn dress<O>(&mut self, g: &mut Graph<O>, v: ValueId) {
        let layer = self.below(g.layers.len());
        let range = self.once_in(2).then(|| self.interval());
        let count = self.of(&[0, 0, 0, 1, 3]);
        let arguments = (0..count).map(|_| self.interval()).collect();
        let node = g.node_mut(v);
        (node.layer, node.range, node.arguments) = (layer, range, arguments);
    }

    /// Two values of one shape among those made, the second perhaps the first.
    fn pair<O>(&mut self, g: &Graph<O>, made: &[ValueId]) -> [ValueId; 2] {
        let a = self.of(made);
        let alike: Vec<ValueId> = made
            .iter()
            .copied()
            .filter(|v| g.node(*v).shape == g.node(a).shape)
            .collect();
        [a, self.of(&alike)]
    }

    /// A value whose shape fits.
    fn find<O>(
        &mut self,
        g: &Graph<O>,
        made: &[ValueId],
        fits: impl Fn(Shape) -> bool,
    ) -> Option<ValueId> {
        let all: Vec<ValueId> = made
            .iter()
            .copied()
            .filter(|v| fits(g.node(*v).shape))
            .collect();
        (!all.is_empty()).then(|| self.of(&all))
    }

    fn name(&mut self) -> &'static str {
        self.of(&[
            "v",
            "layer",
            "block.0/x",
            "1st",
            "two words",
            "weight",
            "%@",
        ])
    }
}

fn outputs<O>(r: &mut Random, g: &mut Graph<O>, made: &[ValueId]) {
    for i in 0..1 + r.below(2) {
        let v = r.of(made);
        g.outputs.push((format!("output {i}"), v));
    }
}

fn rows_cols(shape: Shape) -> (usize, usize) {
    match shape {
        Shape::Matrix { rows, cols } => (rows, cols),
        other => panic!("not a matrix: {other}"),
    }
}

fn is_matrix(shape: Shape) -> bool {
    matches!(shape, Shape::Matrix { .. })
}

fn is_scores(shape: Shape) -> bool {
    matches!(shape, Shape::Scores { .. })
}

fn scores_shape(g: Shape, k: Shape, heads: usize) -> Shape {
    Shape::Scores {
        heads,
        rows: rows_cols(g).0,
        keys: rows_cols(k).0,
    }
}

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
