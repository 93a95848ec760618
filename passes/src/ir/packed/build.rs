//! Adding values to a packed graph.

use std::sync::Arc;

use super::layout::Layout;
use super::{Kernel, PackedGraph, PackedOp, Part};
use crate::ir::graph::ValueId;
use crate::ir::shape::Shape;

/// Where new values go: name and layer of the poly value they are made from.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Name of the poly value; the last packed value of it carries the same name.
    pub name: String,
    /// Shape of the poly value.
    pub shape: Shape,
    /// Row of the depth report.
    pub layer: usize,
}

impl PackedGraph {
    /// Adds a value.
    pub fn add(
        &mut self,
        scope: &Scope,
        kernel: Kernel,
        operands: &[ValueId],
        layout: &Arc<Layout>,
        bound: Option<f64>,
    ) -> ValueId {
        let op = PackedOp {
            kernel,
            layout: Arc::clone(layout),
            bound,
        };
        self.graph
            .add(&scope.name, op, operands, scope.shape, scope.layer)
    }

    /// One copy of equal layouts: large graphs repeat them in every block.
    pub fn shared(&mut self, layout: Layout) -> Arc<Layout> {
        if let Some(known) = self.layouts.iter().find(|l| ***l == layout) {
            return Arc::clone(known);
        }
        let layout = Arc::new(layout);
        self.layouts.push(Arc::clone(&layout));
        layout
    }

    /// The layout that `make` makes of `from`, made once: `key` must tell everything else it depends on. Layers repeat each other,
    /// and the layouts of attention over many tokens are large.
    pub fn derived(
        &mut self,
        key: Vec<u64>,
        from: &[&Arc<Layout>],
        make: impl FnOnce() -> Layout,
    ) -> Arc<Layout> {
        if let Some(known) = self.plaintexts.derived(&key, from) {
            return known;
        }
        let layout = self.shared(make());
        self.plaintexts.keep_derived(key, from, &layout);
        layout
    }

    /// The layout of a value.
    pub fn layout(&self, v: ValueId) -> &Arc<Layout> {
        &self.graph.node(v).op.layout
    }

    /// factor · a · b + constant, ciphertext by ciphertext; an operand of one ciphertext serves all of the other.
    /// The layout is that of `a`, or of `b` where `a` is the one.
    pub fn multiply(
        &mut self,
        scope: &Scope,
        a: ValueId,
        b: ValueId,
        factor: i32,
        constant: f64,
        bound: Option<f64>,
    ) -> ValueId {
        let (na, nb) = (self.layout(a).ciphertexts(), self.layout(b).ciphertexts());
        let layout = Arc::clone(self.layout(if nb > na { b } else { a }));
        let operands: &[ValueId] = if a == b { &[a] } else { &[a, b] };
        let second = usize::from(a != b);
        let part =
            |operand: usize, n: usize, k: usize| -> Part { (operand, if n == 1 { 0 } else { k }) };
        let pairs = (0..na.max(nb))
            .map(|k| vec![(part(0, na, k), part(second, nb, k))])
            .collect();
        let kernel = Kernel::MulSum {
            pairs,
            factor,
            constant,
        };
        self.add(scope, kernel, operands, &layout, bound)
    }

    /// factor · Σ a·b + constant over pairs of values of one layout, relinearised once.
    pub fn products(
        &mut self,
        scope: &Scope,
        pairs: &[(ValueId, ValueId)],
        factor: i32,
        constant: f64,
        bound: Option<f64>,
    ) -> ValueId {
        let mut operands: Vec<ValueId> = Vec::new();
        let mut number = |v: ValueId| {
            operands.iter().position(|o| *o == v).unwrap_or_else(|| {
                operands.push(v);
                operands.len() - 1
            })
        };
        let numbers: Vec<(usize, usize)> = pairs
            .iter()
            .map(|(a, b)| (number(*a), number(*b)))
            .collect();
        let layout = match operands.first() {
            Some(v) => Arc::clone(self.layout(*v)),
            None => Arc::new(Layout::new(vec![vec![None]], "nothing")),
        };
        let pairs = (0..layout.ciphertexts())
            .map(|k| numbers.iter().map(|(a, b)| ((*a, k), (*b, k))).collect())
            .collect();
        let kernel = Kernel::MulSum {
            pairs,
            factor,
            constant,
        };
        self.add(scope, kernel, &operands, &layout, bound)
    }

    /// Σ coefficient · value + constant; the layout is that of the first value.
    pub fn combine(
        &mut self,
        scope: &Scope,
        terms: &[(ValueId, f64)],
        constant: f64,
        bound: Option<f64>,
    ) -> ValueId {
        let operands: Vec<ValueId> = terms.iter().map(|t| t.0).collect();
        let coefficients = terms.iter().map(|t| t.1).collect();
        let layout = match operands.first() {
            Some(v) => Arc::clone(self.layout(*v)),
            None => Arc::new(Layout::new(vec![vec![None]], "nothing")),
        };
        let kernel = Kernel::Combine {
            coefficients,
            constant,
        };
        self.add(scope, kernel, &operands, &layout, bound)
    }

    /// y ← y + rot_step(y) for each step in turn; the last value has layout `layout`, those before none that can be read.
    pub fn fold(
        &mut self,
        scope: &Scope,
        mut value: ValueId,
        steps: &[i64],
        layout: &Arc<Layout>,
        bound: Option<f64>,
    ) -> ValueId {
        let partial = Arc::clone(self.layout(value));
        for (i, step) in steps.iter().enumerate() {
            let last = i + 1 == steps.len();
            let rotate = Kernel::Rotate { steps: vec![*step] };
            let rotated = self.add(scope, rotate, &[value], &partial, None);
            let sum = Kernel::Combine {
                coefficients: vec![1.0, 1.0],
                constant: 0.0,
            };
            value = self.add(
                scope,
                sum,
                &[value, rotated],
                &partial,
                if last { bound } else { None },
            );
        }
        if !steps.is_empty() {
            self.graph.node_mut(value).op.layout = Arc::clone(layout);
        }
        value
    }
}
