//! Small poly graphs, written by hand, for the passes from poly downwards.

use heron_passes::ir::graph::{Graph, ValueId};
use heron_passes::ir::poly::{Approximation, Chebyshev, Evaluation, PolyGraph, PolyOp, SquareStep};
use heron_passes::ir::shape::{Layer, LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::{ClientInput, Linear, LinearTerm, RowMap};

/// Reproducible numbers in [-1, 1].
pub struct Draws(pub u64);

impl Draws {
    /// The next number.
    pub fn number(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Numbers in [-size, size].
    pub fn matrix(&mut self, rows: usize, cols: usize, size: f64) -> Matrix {
        Matrix {
            rows,
            cols,
            data: (0..rows * cols).map(|_| size * self.number()).collect(),
        }
    }
}

/// A graph under construction.
pub struct Model {
    /// The graph.
    pub graph: PolyGraph,
    /// Source of weights.
    pub draws: Draws,
    layer: usize,
}

impl Model {
    /// An empty model.
    pub fn new(name: &str) -> Self {
        let mut model = Model {
            graph: Graph::new(name),
            draws: Draws(17),
            layer: 0,
        };
        model.layer("all", LayerKind::Other);
        model
    }

    /// Starts a new row of the depth report.
    pub fn layer(&mut self, name: &str, kind: LayerKind) {
        self.layer = self.graph.add_layer(Layer {
            name: name.into(),
            kind,
            onnx_nodes: vec![],
        });
    }

    /// Adds a value.
    pub fn add(&mut self, name: &str, op: PolyOp, operands: &[ValueId], shape: Shape) -> ValueId {
        self.graph.add(name, op, operands, shape, self.layer)
    }

    /// An input as the user gives it.
    pub fn input(&mut self, name: &str, rows: usize, cols: usize) -> ValueId {
        let op = PolyOp::Input {
            name: name.into(),
            client: ClientInput::Gather {
                user_shape: vec![rows, cols],
                index: (0..(rows * cols) as i64).collect(),
            },
            factor: 1.0,
        };
        self.add(name, op, &[], Shape::Matrix { rows, cols })
    }

    fn size(&self, v: ValueId) -> (usize, usize) {
        match self.graph.node(v).shape {
            Shape::Matrix { rows, cols } => (rows, cols),
            other => panic!("not a matrix: {other}"),
        }
    }

    /// A dense map of every row, with results of about the size of its operands.
    pub fn dense(&mut self, name: &str, x: ValueId, out: usize) -> ValueId {
        let (rows, cols) = self.size(x);
        let weight = self.draws.matrix(cols, out, 1.0 / (cols as f64).sqrt());
        let bias = Some(self.draws.matrix(1, out, 0.1));
        let linear = Linear {
            terms: vec![LinearTerm {
                rows: RowMap::Identity,
                weight: weight.into(),
                post: None,
            }],
            bias,
        };
        self.add(
            name,
            PolyOp::Linear(linear),
            &[x],
            Shape::Matrix { rows, cols: out },
        )
    }

    /// A dense map of mixed rows, to `out_rows`.
    pub fn mixed(&mut self, name: &str, x: ValueId, out_rows: usize, out: usize) -> ValueId {
        let (rows, cols) = self.size(x);
        let weight = self.draws.matrix(cols, out, 1.0 / (cols as f64).sqrt());
        let mix = self
            .draws
            .matrix(out_rows, rows, 1.0 / (rows as f64).sqrt());
        let post = Some(self.draws.matrix(out_rows, out, 1.0));
        let term = |rows, post| LinearTerm {
            rows,
            weight: weight.clone().into(),
            post,
        };
        let mut terms = vec![term(RowMap::Mix(mix), None)];
        if out_rows == rows {
            terms.push(term(RowMap::Identity, post));
        }
        let bias = Some(self.draws.matrix(out_rows, out, 0.05));
        self.add(
            name,
            PolyOp::Linear(Linear { terms, bias }),
            &[x],
            Shape::Matrix {
                rows: out_rows,
                cols: out,
            },
        )
    }

    /// A polynomial of the given degree with values in [-1, 1].
    pub fn polynomial(&mut self, name: &str, u: ValueId, degree: usize) -> ValueId {
        let coefficients: Vec<f64> = (0..=degree)
            .map(|k| self.draws.number() * 0.6f64.powi(k as i32))
            .collect();
        let shape = self.graph.node(u).shape;
        let op = evaluate(Evaluation::Polynomial(Chebyshev { coefficients }), "gelu");
        self.add(name, op, &[u], shape)
    }

    /// PowerSoftmax attention with p = 4, divided after the product with the values.
    pub fn attention(&mut self, x: ValueId, heads: usize, head: usize, causal: bool) -> ValueId {
        let (rows, _) = self.size(x);
        let q = self.dense("q", x, heads * head);
        let k = self.dense("k", x, heads * head);
        let v = self.dense("v", x, heads * head);
        let mask = causal.then(|| {
            let mut m = Matrix::zeros(rows, rows);
            for i in 0..rows {
                for j in 0..=i {
                    m.data[i * rows + j] = 1.0;
                }
            }
            m
        });
        let scores = Shape::Scores {
            heads,
            rows,
            keys: rows,
        };
        let per_head = Shape::PerHead { heads, rows };
        let matrix = Shape::Matrix {
            rows,
            cols: heads * head,
        };
        let s = self.add("s", PolyOp::Scores { heads, mask }, &[q, k], scores);
        let s2 = self.add("s2", PolyOp::Multiply, &[s, s], scores);
        let n = self.add("n", PolyOp::Multiply, &[s2, s2], scores);
        let sum = PolyOp::KeySum {
            scale: 0.9,
            shift: -0.3,
            weights: None,
        };
        let u = self.add("u", sum, &[n], per_head);
        let r = self.add("r", evaluate(reciprocal(), "1/x"), &[u], per_head);
        let av = self.add(
            "av",
            PolyOp::Values {
                heads,
                weights: None,
            },
            &[n, v],
            matrix,
        );
        self.add("o", PolyOp::ScaleHeads, &[av, r], matrix)
    }

    /// x · 1/√(mean x²), by the iteration or by a polynomial.
    pub fn norm(&mut self, x: ValueId, iterate: bool) -> ValueId {
        let (rows, cols) = self.size(x);
        let shape = Shape::Matrix { rows, cols };
        let square = self.add("square", PolyOp::Multiply, &[x, x], shape);
        let sum = PolyOp::ColumnSum {
            scale: 1.8 / cols as f64,
            shift: -0.9,
        };
        let u = self.add("variance", sum, &[square], Shape::PerRow { rows });
        let r = if iterate {
            let op = evaluate(inverse_sqrt(), "1/sqrt(x)");
            self.add("rsqrt", op, &[u], Shape::PerRow { rows })
        } else {
            self.polynomial("rsqrt", u, 15)
        };
        self.add("normed", PolyOp::ScaleRows, &[x, r], shape)
    }

    /// Declares the output.
    pub fn finish(mut self, output: ValueId) -> PolyGraph {
        self.graph.outputs.push(("y".into(), output));
        self.graph
    }
}

/// A division on [-1, 1] as in `PolyOp`: factors (u + a)(2u² − 1 + b) ….
pub fn reciprocal() -> Evaluation {
    let step = SquareStep {
        multiplier: 2,
        constant: -1.0,
    };
    Evaluation::Reciprocal {
        squares: vec![step; 3],
        shifts: vec![-1.1, 1.02, 1.01, 0.5],
        output_factor: 0.05,
        mid: 0.5,
        half: 0.45,
    }
}

/// An inverse square root on z in [0.05, 0.95].
pub fn inverse_sqrt() -> Evaluation {
    Evaluation::InverseSqrt {
        mid: 0.5,
        half: 0.45,
        relaxation: vec![2.2, 1.6, 1.1],
        output_factor: 0.2,
    }
}

/// An evaluation with its row of the report.
pub fn evaluate(evaluation: Evaluation, function: &str) -> PolyOp {
    PolyOp::Evaluate {
        evaluation,
        approximation: Approximation {
            function: function.into(),
            interval: (0.05, 0.95),
            method: "test".into(),
            degree_or_iterations: 3,
            max_error: 0.01,
        },
    }
}

/// A linear layer.
pub fn linear_layer(rows: usize, cols: usize, out: usize) -> PolyGraph {
    let mut m = Model::new("linear");
    let x = m.input("x", rows, cols);
    let y = m.dense("y", x, out);
    m.finish(y)
}

/// Two blocks of a small vision transformer with mean pooling and a head.
pub fn blocks(rows: usize, d: usize, heads: usize, count: usize) -> PolyGraph {
    let mut m = Model::new("blocks");
    m.layer("embed", LayerKind::Embed);
    let x = m.input("x", rows, 4);
    let mut h = m.dense("embed", x, d);
    for _ in 0..count {
        m.layer("norm1", LayerKind::LayerNorm);
        let a = m.norm(h, false);
        m.layer("attention", LayerKind::PowerSoftmax);
        let o = m.attention(a, heads, d / heads, false);
        let p = m.dense("proj", o, d);
        let shape = Shape::Matrix { rows, cols: d };
        let h1 = m.add("residual", PolyOp::Add, &[h, p], shape);
        let h1 = m.add(
            "half",
            PolyOp::Affine {
                scale: 0.5,
                shift: 0.0,
            },
            &[h1],
            shape,
        );
        m.layer("norm2", LayerKind::LayerNorm);
        let b = m.norm(h1, true);
        m.layer("mlp", LayerKind::Activation);
        let up = m.dense("up", b, 4 * d);
        let g = m.polynomial("gelu", up, 13);
        let down = m.dense("down", g, d);
        h = m.add("residual2", PolyOp::Sub, &[h1, down], shape);
    }
    m.layer("head", LayerKind::Head);
    let y = m.mixed("logits", h, 1, 10);
    m.finish(y)
}
