//! lower-evaluate: an evaluation of the poly graph → products and combinations of the packed graph.
//! before   %r = evaluate %u, 1/x             after   %s1 = mul_sum %u %u times 2 plus -1 ; %m1 = combine %s1 plus 1.3 ; …
//! Needs    `%u` in [-1, 1].
//! Error    none: the same function, up to rounding.
//! Depth    polynomials of degree d: ⌈log2(d + 1)⌉; K factors of a division: K; J steps of an inverse square root: 2 J.
//! Source   relaxed Goldschmidt: arXiv 2410.09457 (PowerSoftmax setting), thesis MIT 1964; Paterson–Stockmeyer as in `chebyshev-plan`.

use std::collections::BTreeMap;

use crate::chebyshev_plan::{factors, plan, Sum};
use crate::ir::graph::ValueId;
use crate::ir::packed::build::Scope;
use crate::ir::packed::PackedGraph;
use crate::ir::poly::{Evaluation, SquareStep};
use crate::witness::argument_size;

/// Points of [-1, 1] on which magnitudes are measured.
const GRID: usize = 257;

fn grid() -> Vec<f64> {
    (0..GRID)
        .map(|i| i as f64 / (GRID - 1) as f64 * 2.0 - 1.0)
        .collect()
}

fn magnitude(values: &[f64]) -> Option<f64> {
    Some(values.iter().fold(0.0, |m: f64, v| m.max(v.abs())))
}

/// Adds the values of `evaluation` at `u`; `bound` is the magnitude of the result.
pub fn lower_evaluation(
    packed: &mut PackedGraph,
    scope: &Scope,
    u: ValueId,
    evaluation: &Evaluation,
    bound: Option<f64>,
) -> ValueId {
    match evaluation {
        Evaluation::Polynomial(p) => polynomial(packed, scope, u, &p.coefficients, bound),
        Evaluation::Reciprocal {
            squares, shifts, ..
        } => reciprocal(packed, scope, u, squares, shifts, bound),
        Evaluation::InverseSqrt {
            mid,
            half,
            relaxation,
            output_factor,
        } => inverse_sqrt(
            packed,
            scope,
            u,
            (*mid, *half),
            relaxation,
            *output_factor,
            bound,
        ),
    }
}

struct Powers<'a> {
    packed: &'a mut PackedGraph,
    scope: &'a Scope,
    known: BTreeMap<usize, ValueId>,
    unit: ValueId,
}

impl Powers<'_> {
    /// T_k of the argument, k ≥ 1.
    fn power(&mut self, k: usize) -> ValueId {
        if k <= 1 {
            return self.unit;
        }
        if let Some(v) = self.known.get(&k) {
            return *v;
        }
        let (a, b) = factors(k);
        let (x, y) = (self.power(a), self.power(b));
        let v = if a == b {
            self.packed.multiply(self.scope, x, y, 2, -1.0, None)
        } else {
            let product = self.packed.multiply(self.scope, x, y, 2, 0.0, None);
            let low = self.power(a - b);
            let terms = [(product, 1.0), (low, -1.0)];
            self.packed.combine(self.scope, &terms, 0.0, None)
        };
        self.known.insert(k, v);
        v
    }

    fn sum(&mut self, sum: &Sum, bound: Option<f64>) -> ValueId {
        let pairs: Vec<(ValueId, ValueId)> = sum
            .products
            .iter()
            .map(|(q, m)| {
                let q = self.sum(q, None);
                (q, self.power(*m))
            })
            .collect();
        let linear: Vec<(ValueId, f64)> = sum
            .linear
            .iter()
            .map(|(k, c)| (self.power(*k), *c))
            .collect();
        if pairs.is_empty() {
            return if linear.is_empty() {
                self.packed
                    .combine(self.scope, &[(self.unit, 0.0)], sum.constant, bound)
            } else {
                self.packed
                    .combine(self.scope, &linear, sum.constant, bound)
            };
        }
        let (constant, own) = if linear.is_empty() {
            (sum.constant, bound)
        } else {
            (0.0, None)
        };
        let product = self.packed.products(self.scope, &pairs, 1, constant, own);
        if linear.is_empty() {
            return product;
        }
        let mut terms = vec![(product, 1.0)];
        terms.extend(linear);
        self.packed.combine(self.scope, &terms, sum.constant, bound)
    }
}

fn polynomial(
    packed: &mut PackedGraph,
    scope: &Scope,
    u: ValueId,
    coefficients: &[f64],
    bound: Option<f64>,
) -> ValueId {
    let p = plan(coefficients);
    let mut powers = Powers {
        packed,
        scope,
        known: BTreeMap::new(),
        unit: u,
    };
    powers.sum(&p.root, bound)
}

fn reciprocal(
    packed: &mut PackedGraph,
    scope: &Scope,
    u: ValueId,
    squares: &[SquareStep],
    shifts: &[f64],
    bound: Option<f64>,
) -> ValueId {
    let shifted = |packed: &mut PackedGraph, s: ValueId, shift: f64| {
        if shift == 0.0 {
            s
        } else {
            packed.combine(scope, &[(s, 1.0)], shift, None)
        }
    };
    // The chain's argument is α_0 v with v in [-1, 1], and its first square m u² − m α_0²/2.
    let size = argument_size(squares);
    let mut values: Vec<f64> = grid().iter().map(|v| v * size).collect();
    let first = shifts.first().copied().unwrap_or(0.0);
    let mut products: Vec<f64> = values.iter().map(|s| s + first).collect();
    let mut s = u;
    let mut product = shifted(packed, s, first);
    for (i, (step, shift)) in squares.iter().zip(shifts.iter().skip(1)).enumerate() {
        for (s, p) in values.iter_mut().zip(&mut products) {
            *s = f64::from(step.multiplier) * *s * *s + step.constant;
            *p *= *s + shift;
        }
        s = packed.multiply(
            scope,
            s,
            s,
            step.multiplier,
            step.constant,
            magnitude(&values),
        );
        let factor = shifted(packed, s, *shift);
        let own = if i + 1 == squares.len() {
            bound
        } else {
            magnitude(&products)
        };
        product = packed.multiply(scope, product, factor, 1, 0.0, own);
    }
    product
}

/// With t_j = (3 − k_j x_j)/2 the iteration is t_{j+1} = 3/2 − k_{j+1} t_j² (3/2 − t_j), and the result is
/// output_factor · Π √k_j t_j. Carrying τ_j = γ_j t_j with γ_{j+1} = γ_j³ / k_{j+1} removes the factor k_{j+1}, and the last
/// γ is chosen so that Π γ_j = output_factor · Π √k_j: the result is Π τ_j, two levels per step and no constant product but
/// the one that makes τ_0 of u.
fn inverse_sqrt(
    packed: &mut PackedGraph,
    scope: &Scope,
    u: ValueId,
    (mid, half): (f64, f64),
    relaxation: &[f64],
    output_factor: f64,
    bound: Option<f64>,
) -> ValueId {
    let Some(&first) = relaxation.first() else {
        return packed.combine(scope, &[(u, 0.0)], output_factor, bound);
    };
    let steps = relaxation.len();
    // ln γ_j = slope_j · g + offset_j, where g = ln γ of the last step.
    let mut slope = vec![1.0; steps];
    let mut offset = vec![0.0; steps];
    for j in (0..steps - 1).rev() {
        slope[j] = slope[j + 1] / 3.0;
        offset[j] = (offset[j + 1] + relaxation[j + 1].ln()) / 3.0;
    }
    let target = output_factor.ln() + relaxation.iter().map(|k| k.ln() / 2.0).sum::<f64>();
    let g = (target - offset.iter().sum::<f64>()) / slope.iter().sum::<f64>();
    let gamma: Vec<f64> = (0..steps)
        .map(|j| (slope[j] * g + offset[j]).exp())
        .collect();
    let shift = gamma[0] * (1.5 - first * mid / 2.0);
    let scale = -gamma[0] * first * half / 2.0;
    let mut values: Vec<f64> = grid().iter().map(|u| shift + scale * u).collect();
    let mut products = values.clone();
    let mut t = packed.combine(scope, &[(u, scale)], shift, magnitude(&values));
    let mut product = t;
    for j in 1..steps {
        let lift = 1.5 * gamma[j - 1];
        for (t, p) in values.iter_mut().zip(&mut products) {
            *t = 1.5 * gamma[j] - *t * *t * (lift - *t);
            *p *= *t;
        }
        let square = packed.multiply(scope, t, t, 1, 0.0, None);
        let other = packed.combine(scope, &[(t, -1.0)], lift, None);
        t = packed.multiply(scope, square, other, -1, 1.5 * gamma[j], magnitude(&values));
        let own = if j + 1 == steps {
            bound
        } else {
            magnitude(&products)
        };
        product = packed.multiply(scope, product, t, 1, 0.0, own);
    }
    product
}
