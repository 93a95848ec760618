//! Activations, recognised by their values: every elementwise function of one argument is evaluated on a grid and compared
//! with the known ones, whatever it was spelled with.

use heron_passes::ir::shape::LayerKind;
use heron_passes::ir::tensor::{Function, TensorOp};

use super::{Lowerer, Placed, Step};
use crate::onnx::expr::Kind;
use crate::onnx::view::Sym;

/// The known functions and the names of their blocks.
const KNOWN: [(Function, &str); 7] = [
    (Function::Relu, "relu"),
    (Function::Tanh, "tanh"),
    (Function::Sigmoid, "sigmoid"),
    (Function::Gelu, "gelu"),
    (Function::GeluTanh, "gelu"),
    (Function::QuickGelu, "quick_gelu"),
    (Function::Silu, "silu"),
];

/// Relative tolerance of the comparison: constants of the spellings are rounded to f32.
const TOLERANCE: f64 = 2e-5;

impl Lowerer<'_> {
    /// Recognises an activation that ends at `e` and adds it.
    pub(super) fn activation(&mut self, e: u32) -> Step<Option<Placed>> {
        if !matches!(
            self.get(e).kind,
            Kind::Un(..) | Kind::Mul(..) | Kind::Add(..)
        ) {
            return Ok(None);
        }
        let Some((function, name, argument, factor, inner)) = self.find_activation(e) else {
            return Ok(None);
        };
        let layout = self.layout(e);
        let x = self.matrix(&self.laid_out(&argument, &layout))?;
        self.count(name);
        let shape = self.graph.node(x).shape;
        let layer = self.layer(e, "", LayerKind::Activation, &inner);
        let value = self.graph.add(
            &self.value_name(e),
            TensorOp::Activation(function),
            &[x],
            shape,
            layer,
        );
        Ok(Some(Placed {
            value,
            cols: layout.1,
            pos: std::rc::Rc::new(layout.2.clone()),
            factor,
        }))
    }

    fn find_activation(&self, e: u32) -> Option<(Function, &'static str, Sym, f64, Vec<u32>)> {
        let n = self.get(e).len();
        let mut inner = vec![e];
        let mut open: Vec<&Sym> = self.get(e).operands();
        for _ in 0..16 {
            let one = open.iter().all(|s| s.same_places(open[0]));
            if one {
                // The argument is one of the edges; which one shows in the values.
                for &argument in &open {
                    if let Some((f, name, factor)) = self.match_known(e, argument, &inner, &open) {
                        return Some((f, name, argument.clone(), factor, inner));
                    }
                }
            }
            // Look inside the newest elementwise expression.
            let (k, base) = open
                .iter()
                .enumerate()
                .filter_map(|(k, s)| s.identity(n).map(|b| (k, b)))
                .max_by_key(|&(k, b)| (b, std::cmp::Reverse(k)))?;
            if !matches!(
                self.get(base).kind,
                Kind::Un(..) | Kind::Mul(..) | Kind::Add(..)
            ) {
                return None;
            }
            open[k].mul.uniform()?;
            open[k].add.uniform()?;
            open.retain(|s| s.identity(n) != Some(base) || s.mul.uniform().is_none());
            if !inner.contains(&base) {
                inner.push(base);
                open.extend(self.get(base).operands());
            }
        }
        None
    }

    fn match_known(
        &self,
        e: u32,
        argument: &Sym,
        inner: &[u32],
        open: &[&Sym],
    ) -> Option<(Function, &'static str, f64)> {
        // All edges must be affine in the argument with the same coefficients everywhere.
        let mut edges = Vec::new();
        for s in open {
            let (m, c) = relation(s, argument)?;
            edges.push((*s, m, c));
        }
        let at = |t: f64| self.value_at(e, t, inner, &edges, 0);
        let reference = at(1.7)?;
        'known: for (f, name) in KNOWN {
            let factor = snapped(reference / f.value(1.7));
            if factor == 0.0 || !factor.is_finite() {
                continue;
            }
            for i in -24..=24 {
                let t = f64::from(i) * 0.25 + 0.03;
                let (got, want) = (at(t)? / factor, f.value(t));
                let error = (got - want).abs();
                if error.is_nan() || error > TOLERANCE * (1.0 + want.abs()) {
                    continue 'known;
                }
            }
            return Some((f, name, factor));
        }
        None
    }

    /// Expression `e` as a function of the argument at `t`.
    fn value_at(
        &self,
        e: u32,
        t: f64,
        inner: &[u32],
        edges: &[(&Sym, f64, f64)],
        depth: usize,
    ) -> Option<f64> {
        if depth > 24 {
            return None;
        }
        let operand = |s: &Sym| -> Option<f64> {
            if let Some((_, m, c)) = edges.iter().find(|(x, _, _)| std::ptr::eq(*x, s)) {
                return Some(m * t + c);
            }
            let base = s.single()?;
            if !inner.contains(&base) {
                return None;
            }
            let v = self.value_at(base, t, inner, edges, depth + 1)?;
            Some(s.mul.uniform()? * v + s.add.uniform()?)
        };
        match &self.get(e).kind {
            Kind::Un(f, x) => Some(f.eval(operand(x)?)),
            Kind::Mul(a, b) => Some(operand(a)? * operand(b)?),
            Kind::Add(a, b) => Some(operand(a)? + operand(b)?),
            _ => None,
        }
    }
}

/// A factor within the rounding of f32 constants of a power of two is that power.
fn snapped(factor: f64) -> f64 {
    let power = 2f64.powi(factor.abs().log2().round().clamp(-60.0, 60.0) as i32) * factor.signum();
    if (factor - power).abs() <= 1e-6 * power.abs() {
        power
    } else {
        factor
    }
}

/// s = m · argument + c with the same m and c for all elements.
fn relation(s: &Sym, argument: &Sym) -> Option<(f64, f64)> {
    if !s.same_places(argument) {
        return None;
    }
    let n = s.len();
    let m = s.mul.at(0) / argument.mul.at(0);
    let c = s.add.at(0) - m * argument.add.at(0);
    if !m.is_finite() || !c.is_finite() {
        return None;
    }
    let close = |x: f64, y: f64| (x - y).abs() <= 1e-6 * (x.abs() + y.abs() + 1e-3);
    (0..n)
        .all(|i| {
            close(s.mul.at(i), m * argument.mul.at(i))
                && close(s.add.at(i), m * argument.add.at(i) + c)
        })
        .then_some((m, if c.abs() < 1e-12 { 0.0 } else { c }))
}
