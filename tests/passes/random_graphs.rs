//! Random graphs of each rung, from a seed: every operation, constants of every form, odd names, ranges and layers.

mod poly;
mod tensor;

use heron_passes::ir::graph::{Graph, ValueId};
use heron_passes::ir::shape::{Interval, Layer, LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::{ClientInput, Linear, LinearTerm, RowMap};

pub use poly::poly;
pub use tensor::tensor;

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
