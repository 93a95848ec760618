//! Linear maps: products with constant matrices, sums, and every rearrangement, folded into one `Linear` each.

mod grouping;
mod source;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::{Linear, LinearTerm, TensorOp};
use heron_passes::ir::weight::Weight;

use super::terms::{Part, Parts};
use super::{Lowerer, Placed, Step};
use crate::onnx::expr::Kind;
use crate::onnx::view::{Sym, NONE};
use source::Source;

impl Lowerer<'_> {
    /// If a view is a sum of elements of one linear expression: that expression. Sums are looked through, so a rotary
    /// embedding of a projection is a view of the projection.
    pub(super) fn linear_base(&self, view: &Sym) -> Option<u32> {
        let mut todo = view.exprs();
        let mut base = None;
        let mut seen = 0;
        while let Some(e) = todo.pop() {
            seen += 1;
            if seen > 32 {
                return None;
            }
            match &self.get(e).kind {
                Kind::Add(a, b) => {
                    todo.extend(a.exprs());
                    todo.extend(b.exprs());
                }
                Kind::MatConst { .. } | Kind::Sum { .. } => {
                    if *base.get_or_insert(e) != e {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        base
    }

    /// Summands of element i of a view, all of expression `base`; returns the constant.
    fn parts(&self, view: &Sym, i: usize, base: u32, factor: f64, out: &mut Parts) -> f64 {
        let (e, k) = view.at(i);
        let constant = factor * view.add.at(i);
        if e == NONE {
            return constant;
        }
        let factor = factor * view.mul.at(i);
        if e == base {
            out.add(Part { element: k, factor });
            return constant;
        }
        match &self.get(e).kind {
            Kind::Add(a, b) => {
                constant
                    + self.parts(a, k as usize, base, factor, out)
                    + self.parts(b, k as usize, base, factor, out)
            }
            _ => constant,
        }
    }

    /// The linear map that gives exactly the elements of `view`, all made of the linear expression `base`.
    pub(super) fn linear(&mut self, view: &Sym, base: u32) -> Step<ValueId> {
        let (a, w, k, n) = match self.get(base).kind.clone() {
            Kind::MatConst { a, w, k } => {
                let n = self.get(base).shape[1];
                (a, w, k, n)
            }
            Kind::Sum { a, l } => {
                let rows = a.len() / l.max(1);
                (a.reshaped(vec![rows, l]), vec![1.0; l].into(), l, 1)
            }
            _ => return Err(self.refuse(base, "not a linear map", "")),
        };
        let m = a.shape[0];
        let mut parts = Vec::with_capacity(view.len());
        let mut bias = Vec::with_capacity(view.len());
        for i in 0..view.len() {
            let mut p = Parts::none();
            bias.push(self.parts(view, i, base, 1.0, &mut p));
            parts.push(p);
        }
        if let Some(v) = self.mixed_tokens(view, base, (&a, &w, m, k, n), &parts, &bias)? {
            return Ok(v);
        }
        let weight = w.weight(k, n);
        let source = match self.folded_source(&a, &weight)? {
            Some(s) => s,
            None => {
                // Rows chosen from an input are chosen by the client.
                let (a, parts) = match self.client_rows(view, &a, &parts, n) {
                    Some(arranged) => arranged,
                    None => (a, parts),
                };
                let value = self.matrix(&a)?;
                let rows = a.shape[0];
                let source = Source {
                    value,
                    rows,
                    cols: k,
                    row: (0..rows).collect(),
                    weight,
                    bias: None,
                    zero: self.zero_rows(&a),
                };
                return self.build(view, base, source, &parts, bias, n);
            }
        };
        self.build(view, base, source, &parts, bias, n)
    }

    /// A view of a placed value as a linear map that only moves and scales.
    pub(super) fn select(&mut self, view: &Sym, e: u32, placed: &Placed) -> Step<ValueId> {
        let Shape::Matrix { rows, cols } = self.graph.node(placed.value).shape else {
            return Err(self.refuse(e, "attention weights are used outside A·V", ""));
        };
        let source = Source {
            value: placed.value,
            rows,
            cols,
            row: (0..rows).collect(),
            weight: Weight::identity(cols),
            bias: None,
            zero: vec![false; rows],
        };
        let mut parts = Vec::with_capacity(view.len());
        let mut bias = Vec::with_capacity(view.len());
        for i in 0..view.len() {
            let (x, k) = view.at(i);
            bias.push(view.add.at(i));
            parts.push(if x == NONE {
                Parts::none()
            } else {
                Parts::One(Part {
                    element: placed.pos[k as usize],
                    factor: view.mul.at(i) * placed.factor,
                })
            });
        }
        self.build(view, e, source, &parts, bias, cols)
    }

    fn linear_kind(&self, e: u32, rotary: bool, rows: usize, from: usize) -> LayerKind {
        match self.get(e).kind {
            _ if rotary => LayerKind::Rotary,
            Kind::Sum { .. } => LayerKind::Pool,
            Kind::MatConst { .. } => LayerKind::Matmul,
            _ if rows < from => LayerKind::Pool,
            _ => LayerKind::Reshape,
        }
    }

    pub(super) fn push_linear(
        &mut self,
        e: u32,
        kind: LayerKind,
        operand: ValueId,
        terms: Vec<LinearTerm>,
        bias: Option<Matrix>,
        rows: usize,
        cols: usize,
    ) -> Step<ValueId> {
        if terms.is_empty() {
            return Err(self.refuse(e, "a result that is constant", "remove it from the model"));
        }
        let layer = self.layer(e, "", kind, &[]);
        let mut name = self.value_name(e);
        if matches!(self.get(e).kind, Kind::Input { .. }) {
            name = format!("{}.scaled", self.graph.node(operand).name);
        }
        Ok(self.graph.add(
            &name,
            TensorOp::Linear(Linear { terms, bias }),
            &[operand],
            Shape::Matrix { rows, cols },
            layer,
        ))
    }
}
