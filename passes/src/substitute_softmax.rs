//! substitute-softmax: the part of `substitute-polynomials` that takes a plain softmax to pieces; tensor → poly.
//! before   %p = softmax %s                  after   %u = affine %s              (free: the scale goes into the queries)
//!                                                   %y = evaluate %u, softmax   (e^((s − c)/2^a))
//!                                                   %y = square %y … ; %d = key_sum %y ; %r = evaluate %d, 1/x
//!                                                   %y = scale_heads %y, %r     (at some powers; the last one after A·V)
//! or                                                %r = evaluate (mean + variance/2), exp(-x) ; %p = scale_heads %y, %r
//! Needs    the rows' sums and cumulants from calibration ([`crate::approx::softmax_rows`]).
//! Masks    a constant one goes into the plaintexts of the sums and of A·V; an encrypted one is a product, one level.
//! Error    Σ |weight − softmax| of a row at most the budget.
//! Depth    of the plan ([`crate::approx::softmax`]): exponential, squarings, 1 for each sum, the divisions, 1 for each scaling.
//! Source   arXiv 2410.11184 (normalise and square), arXiv 2602.01621 (cumulants).

use crate::approx::softmax::{plan, Demand, Division, Method, SoftmaxPlan};
use crate::approx::softmax_rows::SoftmaxSite;
use crate::ir::graph::ValueId;
use crate::ir::poly::{Approximation, Chebyshev, Evaluation, PolyOp};
use crate::ir::shape::{Interval, Matrix, Shape};
use crate::pass::PassError;
use crate::substitute_polynomials::{method_of, Block};

/// Smallest length of an interval of scores that is widened.
const HALF_MARGIN: f64 = 1e-6;

impl Block<'_, '_> {
    /// Lowers a softmax over `s` with the masks given; also returns the weights that A·V must use.
    pub(crate) fn softmax(
        &mut self,
        s: ValueId,
        encrypted: Option<ValueId>,
        mask: Option<&Matrix>,
    ) -> Result<(ValueId, Option<Matrix>), PassError> {
        let shape = self.out.node(s).shape;
        let Shape::Scores { rows, keys, .. } = shape else {
            return Err(self.refuse(
                "its operand is not a score tensor",
                "this is a defect of the front end",
            ));
        };
        let Some(site) = self.pass.sites.1.get(&self.v).cloned() else {
            return Err(self.refuse(
                "the range of its rows is not known",
                "give calibration inputs (--calibration FILE), at least one with a key that is not masked",
            ));
        };
        if let (Some(m), PolyOp::Scores { mask, .. }) = (mask, &mut self.out.node_mut(s).op) {
            // Masked scores become 0, so that nothing is known to lie outside of the range; they count nowhere.
            mask.get_or_insert_with(|| m.clone());
        }
        let demand = self.demand(&site, mask, encrypted.is_some(), keys);
        let chosen = plan(&site, &demand).ok_or_else(|| self.hopeless(&site, &demand))?;
        let counts = row_counts(mask, rows, keys);
        let e = &chosen.exponential;
        let (scale, shift) = (1.0 / e.half, -e.mid / e.half);
        let u = self.add("in", PolyOp::Affine { scale, shift }, &[s], shape);
        let approximation = Approximation {
            function: "softmax".into(),
            interval: (demand.scores.lo, demand.scores.hi),
            method: chosen.method(),
            degree_or_iterations: chosen.depth,
            max_error: chosen.error,
        };
        let mut y = self.polynomial("exp", e.polynomial.clone(), approximation, u, shape);
        if let Some(m) = encrypted {
            y = self.add("masked", PolyOp::Multiply, &[y, m], shape);
        }
        match &chosen.method {
            Method::Squares(divisions) => {
                let sums = mask.map(|m| sum_weights(m, &counts));
                let p = self.normalise_and_square(y, &chosen, divisions, sums.as_ref(), shape);
                Ok((p, mask.cloned()))
            }
            Method::Cumulants {
                inverse,
                mid,
                half,
                lowest,
            } => {
                let mean = mask.map(|m| mean_weights(m, &counts));
                let known = (*mid, *half, *lowest);
                let p = self.second_order((y, u), &chosen, (inverse, known), mean.as_ref(), shape);
                Ok((p, mean))
            }
        }
    }

    fn demand(
        &self,
        site: &SoftmaxSite,
        mask: Option<&Matrix>,
        unknown_keys: bool,
        keys: usize,
    ) -> Demand {
        let budget = &self.pass.budget;
        let mut seen = site.scores();
        if unknown_keys {
            // Scores of keys that an input masks go through the exponential too.
            let operands = self.graph.operands(self.v);
            let all = operands.first().and_then(|s| self.graph.node(*s).range);
            if let Some(all) = all {
                seen = Interval::new(seen.lo.min(all.lo), seen.hi.max(all.hi));
            }
        }
        if mask.is_some() {
            seen = Interval::new(seen.lo.min(0.0), seen.hi.max(0.0));
        }
        Demand {
            tolerance: budget.softmax,
            keys,
            widen_below: budget.widen_below,
            widen_above: budget.widen_above,
            scores: budget.argument(seen, HALF_MARGIN),
            unknown_keys,
        }
    }

    fn hopeless(&self, site: &SoftmaxSite, demand: &Demand) -> PassError {
        let scores = site.scores();
        let rows = site.log_sum(None, 0);
        self.refuse(
            format!(
                "softmax of scores in [{:.4}, {:.4}] whose rows differ by e^{:.1} in their sums is not reachable with an error of {:.1e}",
                scores.lo,
                scores.hi,
                rows.hi - rows.lo,
                demand.tolerance
            ),
            "train with a smaller scale or a penalty on the scores, normalise queries and keys, ask for a larger --tolerance, or train with PowerSoftmax (x^p / sum x^p, p even)",
        )
    }

    fn polynomial(
        &mut self,
        suffix: &str,
        polynomial: Chebyshev,
        approximation: Approximation,
        u: ValueId,
        shape: Shape,
    ) -> ValueId {
        let op = PolyOp::Evaluate {
            evaluation: Evaluation::Polynomial(polynomial),
            approximation,
        };
        self.add(suffix, op, &[u], shape)
    }

    fn normalise_and_square(
        &mut self,
        first: ValueId,
        plan: &SoftmaxPlan,
        divisions: &[Division],
        weights: Option<&Matrix>,
        shape: Shape,
    ) -> ValueId {
        let mut y = first;
        let mut at = plan.exponential.halvings;
        for division in divisions {
            for _ in division.halvings..at {
                y = self.add("pow", PolyOp::Multiply, &[y, y], shape);
            }
            at = division.halvings;
            let fit = &division.fit;
            let sum = PolyOp::KeySum {
                scale: fit.input.0,
                shift: fit.input.1,
                weights: weights.cloned(),
            };
            let per_head = per_head(shape);
            let d = self.add("den", sum, &[y], per_head);
            let approximation = Approximation {
                function: "1/x".into(),
                interval: interval_of(fit.input),
                method: method_of(&fit.evaluation, "relaxed-goldschmidt").into(),
                degree_or_iterations: fit.degree_or_iterations,
                max_error: fit.error,
            };
            let op = PolyOp::Evaluate {
                evaluation: fit.evaluation.clone(),
                approximation,
            };
            let r = self.add("inv", op, &[d], per_head);
            let name = if at == 0 { "" } else { "scaled" };
            let p = self.add(name, PolyOp::ScaleHeads, &[y, r], shape);
            // On the way this is where a small result is brought near 1 again, by an integer.
            y = self.unscale(p, fit.output_factor);
        }
        y
    }

    /// n · e^(lowest − K), K = mean + variance/2 = Σ w (s + s²/2) − (Σ w s)²/2 about the middle of the scores.
    fn second_order(
        &mut self,
        (n, u): (ValueId, ValueId),
        plan: &SoftmaxPlan,
        (inverse, (mid, half, lowest)): (&Chebyshev, (f64, f64, f64)),
        weights: Option<&Matrix>,
        shape: Shape,
    ) -> ValueId {
        let e = &plan.exponential;
        let Shape::Scores { keys, .. } = shape else {
            return n;
        };
        // Masks carry the number of keys of their rows in their weights.
        let each = if weights.is_some() {
            1.0
        } else {
            1.0 / keys as f64
        };
        let per_head = per_head(shape);
        let sum = |scale: f64, shift: f64| PolyOp::KeySum {
            scale: scale * each,
            shift,
            weights: weights.cloned(),
        };
        let square = self.add("square", PolyOp::Multiply, &[u, u], shape);
        // t = (K − mid)/half with s = e.mid + e.half u.
        let second = sum(e.half * e.half / (2.0 * half), (e.mid - mid) / half);
        let second = self.add("second", second, &[square], per_head);
        let mean = self.add("mean", sum(e.half / half, 0.0), &[u], per_head);
        let root = self.add(
            "root",
            sum(e.half / (2.0 * half).sqrt(), 0.0),
            &[u],
            per_head,
        );
        let of_mean = self.add("mean2", PolyOp::Multiply, &[root, root], per_head);
        let both = self.add("moments", PolyOp::Add, &[second, mean], per_head);
        let t = self.add("cumulants", PolyOp::Sub, &[both, of_mean], per_head);
        let approximation = Approximation {
            function: "exp(-x)".into(),
            interval: (mid - half, mid + half),
            method: "minimax".into(),
            degree_or_iterations: inverse.degree(),
            max_error: plan.error,
        };
        let r = self.polynomial("factor", inverse.clone(), approximation, t, per_head);
        let p = self.add("", PolyOp::ScaleHeads, &[n, r], shape);
        // softmax = e^(s − K)/count; n = e^(s − top), r = e^(lowest − K).
        self.unscale(p, libm::exp(lowest - e.top) / each)
    }
}

fn per_head(shape: Shape) -> Shape {
    match shape {
        Shape::Scores { heads, rows, .. } => Shape::PerHead { heads, rows },
        other => other,
    }
}

/// The interval that `input.0 · z + input.1` takes to [-1, 1].
fn interval_of((scale, shift): (f64, f64)) -> (f64, f64) {
    let ends = [(-1.0 - shift) / scale, (1.0 - shift) / scale];
    (ends[0].min(ends[1]), ends[0].max(ends[1]))
}

/// Keys of each row.
fn row_counts(mask: Option<&Matrix>, rows: usize, keys: usize) -> Vec<f64> {
    (0..rows)
        .map(|r| mask.map_or(keys as f64, |m| (0..keys).map(|k| m.at(r, k)).sum()))
        .collect()
}

/// The mask, with rows without keys made full: their sum must be one that can be divided by; A·V gives 0 for them.
fn sum_weights(mask: &Matrix, counts: &[f64]) -> Matrix {
    weighted(
        mask,
        |x, r| {
            if counts.get(r) == Some(&0.0) {
                1.0
            } else {
                x
            }
        },
    )
}

/// The mask over the keys of each row.
fn mean_weights(mask: &Matrix, counts: &[f64]) -> Matrix {
    weighted(mask, |x, r| match counts.get(r) {
        Some(n) if *n > 0.0 => x / n,
        _ => 0.0,
    })
}

fn weighted(mask: &Matrix, f: impl Fn(f64, usize) -> f64) -> Matrix {
    let cols = mask.cols.max(1);
    Matrix {
        data: mask
            .data
            .iter()
            .enumerate()
            .map(|(i, x)| f(*x, i / cols))
            .collect(),
        ..*mask
    }
}
