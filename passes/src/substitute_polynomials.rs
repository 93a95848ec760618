//! substitute-polynomials: tensor → poly.
//! before   %p = power_softmax %s, p 4           after   %n = square (square %s)
//!          %y = layer_norm %x                           %u = key_sum %n        (the denominator, centred on its interval)
//!          %g = gelu %h                                 %r = evaluate %u, 1/x
//!                                                       %p = scale_heads %n, %r
//! Needs    a range for the argument of each non-polynomial function ([`SiteRanges`]); power even.
//! Error    per function, at most the budget; recorded with the evaluation.
//! Depth    p = 4: 2, 1 for the centred sum, K for the division; LayerNorm: centring 1, square 1, sum 1, polynomial, product 1.
//! Source   PowerSoftmax: arXiv 2410.09457; degrees and iterations: `approx`.
//!
//! Values keep the model's units here; [`crate::normalise`] scales them.

use std::collections::BTreeMap;

use crate::approx::inverse_sqrt::inverse_sqrt;
use crate::approx::minimax::{cheapest, cheapest_of};
use crate::approx::reciprocal::reciprocal;
use crate::approx::relu::relu;
use crate::budget::Budget;
use crate::ir::graph::ValueId;
use crate::ir::poly::{Approximation, Evaluation, PolyGraph, PolyOp};
use crate::ir::shape::{Interval, Matrix, Shape};
use crate::ir::tensor::{Function, Linear, LinearTerm, RowMap, TensorGraph, TensorOp};
use crate::ir::weight::Weight;
use crate::pass::{Lower, PassCx, PassError};
use crate::sites::SiteRanges;

/// Share of ε below which a denominator ε + Σ s^p cannot fall: all of it, but for noise.
const EPSILON_FLOOR: f64 = 0.9;

/// Most levels a division may take.
const RECIPROCAL_LEVELS: usize = 12;
/// Largest degree of an activation.
const ACTIVATION_DEGREE: usize = 127;

/// The lowering; see the module.
#[derive(Clone, Debug)]
pub struct SubstitutePolynomials<'a> {
    /// Ranges inside blocks.
    pub sites: &'a SiteRanges,
    /// Errors and margins.
    pub budget: Budget,
}

impl Lower for SubstitutePolynomials<'_> {
    type From = TensorGraph;
    type To = PolyGraph;
    const NAME: &'static str = "substitute-polynomials";

    /// The poly graph in the model's units.
    fn lower(&self, graph: &TensorGraph, _cx: &mut PassCx) -> Result<PolyGraph, PassError> {
        let mut out = PolyGraph::new(graph.name.clone());
        for layer in &graph.layers {
            out.add_layer(layer.clone());
        }
        let mut map: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        let mut weights: BTreeMap<ValueId, Matrix> = BTreeMap::new();
        for v in graph.topological() {
            let operands: Vec<ValueId> = graph
                .operands(v)
                .iter()
                .filter_map(|o| map.get(o).copied())
                .collect();
            let node = graph.node(v);
            let mut block = Block {
                pass: self,
                graph,
                v,
                out: &mut out,
                layer: node.layer,
                weights: &mut weights,
            };
            let lowered = block.lower(&operands)?;
            map.insert(v, lowered);
        }
        out.outputs = graph
            .outputs
            .iter()
            .filter_map(|(name, v)| Some((name.clone(), *map.get(v)?)))
            .collect();
        Ok(out)
    }
}

/// One value being lowered.
pub(crate) struct Block<'a, 'b> {
    pub(crate) pass: &'a SubstitutePolynomials<'a>,
    pub(crate) graph: &'a TensorGraph,
    pub(crate) v: ValueId,
    pub(crate) out: &'b mut PolyGraph,
    layer: usize,
    /// Per softmax of the tensor graph, what A·V weighs its weights with: a mask.
    weights: &'b mut BTreeMap<ValueId, Matrix>,
}

impl Block<'_, '_> {
    pub(crate) fn refuse(&self, reason: impl Into<String>, remedy: impl Into<String>) -> PassError {
        PassError::Refused {
            pass: SubstitutePolynomials::NAME,
            value: self.graph.node(self.v).name.clone(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    pub(crate) fn add(
        &mut self,
        suffix: &str,
        op: PolyOp,
        operands: &[ValueId],
        shape: Shape,
    ) -> ValueId {
        let base = &self.graph.node(self.v).name;
        let name = if suffix.is_empty() {
            base.clone()
        } else {
            format!("{base}_{suffix}")
        };
        self.out.add(&name, op, operands, shape, self.layer)
    }

    fn site(&self) -> Result<Interval, PassError> {
        self.pass.sites.0.get(&self.v).copied().ok_or_else(|| {
            self.refuse(
                "the range of its argument is not known",
                "give calibration inputs (--calibration FILE)",
            )
        })
    }

    /// Where a statistic may lie: a sum of `power`-th powers and ε, widened beyond calibration, but never below ε.
    fn positive_site(&self, what: &str, power: u32, epsilon: f64) -> Result<Interval, PassError> {
        let seen = self.site()?;
        if seen.lo.is_nan() || seen.lo <= 0.0 || !seen.hi.is_finite() {
            return Err(self.refuse(
                format!("{what} must stay positive, calibration gives {seen}"),
                "add an epsilon to the denominator in the model, or calibrate with inputs like those of use",
            ));
        }
        let widened = self.pass.budget.statistic(seen, power);
        let lowest = widened.lo.max(EPSILON_FLOOR * epsilon).min(seen.lo);
        Ok(Interval::new(lowest, widened.hi))
    }

    fn lower(&mut self, operands: &[ValueId]) -> Result<ValueId, PassError> {
        let node = self.graph.node(self.v);
        let shape = node.shape;
        let expected = match &node.op {
            TensorOp::Input { .. } => 0,
            TensorOp::Add
            | TensorOp::Sub
            | TensorOp::Multiply
            | TensorOp::Scores { .. }
            | TensorOp::Values { .. } => 2,
            // The mask may be an operand.
            TensorOp::Softmax { .. } if operands.len() == 2 => 2,
            _ => 1,
        };
        if operands.len() != expected {
            return Err(self.refuse(
                format!("expected {expected} operands, found {}", operands.len()),
                "this is a defect of the front end",
            ));
        }
        Ok(match &node.op {
            TensorOp::Input { name, client } => {
                let op = PolyOp::Input {
                    name: name.clone(),
                    client: client.clone(),
                    factor: 1.0,
                };
                self.add("", op, &[], shape)
            }
            TensorOp::Linear(linear) => {
                self.add("", PolyOp::Linear(linear.clone()), operands, shape)
            }
            TensorOp::Add => self.add("", PolyOp::Add, operands, shape),
            TensorOp::Sub => self.add("", PolyOp::Sub, operands, shape),
            TensorOp::Multiply => self.add("", PolyOp::Multiply, operands, shape),
            TensorOp::Scores { heads, scale, mask } => {
                let q = self.scaled(operands[0], *scale);
                let op = PolyOp::Scores {
                    heads: *heads,
                    mask: mask.clone(),
                };
                self.add("", op, &[q, operands[1]], shape)
            }
            TensorOp::PowerSoftmax { power, epsilon } => {
                self.power_softmax(operands[0], *power, *epsilon)?
            }
            TensorOp::Softmax { mask } => {
                let encrypted = operands.get(1).copied();
                let (p, weights) = self.softmax(operands[0], encrypted, mask.as_ref())?;
                if let Some(w) = weights {
                    self.weighted_values_only()?;
                    self.weights.insert(self.v, w);
                }
                p
            }
            TensorOp::Values { heads } => {
                let of = self.graph.operands(self.v).first().copied();
                let op = PolyOp::Values {
                    heads: *heads,
                    weights: of.and_then(|p| self.weights.get(&p).cloned()),
                };
                self.add("", op, operands, shape)
            }
            TensorOp::LayerNorm {
                gamma,
                beta,
                epsilon,
                centre,
            } => {
                let (gamma, beta, epsilon, centre) =
                    (gamma.clone(), beta.clone(), *epsilon, *centre);
                self.layer_norm(operands[0], &gamma, &beta, epsilon, centre)?
            }
            TensorOp::Activation(function) => self.activation(operands[0], *function)?,
        })
    }

    /// Refuses a masked softmax that something else than A·V reads: the mask is applied there.
    fn weighted_values_only(&self) -> Result<(), PassError> {
        let output = self.graph.outputs.iter().any(|(_, o)| *o == self.v);
        let users = self.graph.users(self.v);
        let other = users
            .iter()
            .find(|u| !matches!(self.graph.node(**u).op, TensorOp::Values { .. }));
        if output || other.is_some() {
            return Err(self.refuse(
                "masked attention weights are used by something else than A·V",
                "give out A·V instead of the weights, or split the model there",
            ));
        }
        Ok(())
    }

    /// `scale` × a matrix value, as an Affine that [`crate::fold_linear`] takes into the projection before it.
    fn scaled(&mut self, v: ValueId, scale: f64) -> ValueId {
        if scale == 1.0 {
            return v;
        }
        let shape = self.out.node(v).shape;
        self.add("q", PolyOp::Affine { scale, shift: 0.0 }, &[v], shape)
    }

    fn power_softmax(
        &mut self,
        s: ValueId,
        power: u32,
        epsilon: f64,
    ) -> Result<ValueId, PassError> {
        if power == 0 || power % 2 == 1 {
            return Err(self.refuse(
                format!("PowerSoftmax with power {power}"),
                "the power must be even, so that every weight is positive: use p = 2, 4, 6 or 8",
            ));
        }
        let shape = self.out.node(s).shape;
        let Shape::Scores { heads, rows, .. } = shape else {
            return Err(self.refuse(
                "its operand is not a score tensor",
                "this is a defect of the front end",
            ));
        };
        let n = self.power(s, power, shape);
        let interval = self.positive_site("the denominator", power, epsilon)?;
        let fit = reciprocal(interval, self.pass.budget.reciprocal, RECIPROCAL_LEVELS).ok_or_else(
            || {
                self.refuse(
                format!("1/x on {interval} needs more than {RECIPROCAL_LEVELS} levels"),
                "train with a range penalty so that denominators spread less, or enlarge epsilon",
            )
            },
        )?;
        let per_head = Shape::PerHead { heads, rows };
        let (scale, shift) = (fit.input.0, fit.input.0 * epsilon + fit.input.1);
        let sum = PolyOp::KeySum {
            scale,
            shift,
            weights: None,
        };
        let u = self.add("den", sum, &[n], per_head);
        let approximation = Approximation {
            function: "1/x".into(),
            interval: (interval.lo, interval.hi),
            method: method_of(&fit.evaluation, "relaxed-goldschmidt").into(),
            degree_or_iterations: fit.degree_or_iterations,
            max_error: fit.error,
        };
        let op = PolyOp::Evaluate {
            evaluation: fit.evaluation,
            approximation,
        };
        let r = self.add("inv", op, &[u], per_head);
        let p = self.add("", PolyOp::ScaleHeads, &[n, r], shape);
        Ok(self.unscale(p, fit.output_factor))
    }

    /// The evaluation gave `factor` × the wanted value: divide, as an Affine to be folded away.
    pub(crate) fn unscale(&mut self, v: ValueId, factor: f64) -> ValueId {
        let shape = self.out.node(v).shape;
        self.add(
            "unit",
            PolyOp::Affine {
                scale: 1.0 / factor,
                shift: 0.0,
            },
            &[v],
            shape,
        )
    }

    /// x^power with the fewest levels: squares, and products of squares.
    fn power(&mut self, x: ValueId, power: u32, shape: Shape) -> ValueId {
        let mut square = x;
        let mut product: Option<ValueId> = None;
        for bit in 0..32 {
            if power >> bit == 0 {
                break;
            }
            if bit > 0 {
                square = self.add(
                    &format!("pow{}", 1u64 << bit),
                    PolyOp::Multiply,
                    &[square, square],
                    shape,
                );
            }
            if power >> bit & 1 == 1 {
                product = Some(match product {
                    None => square,
                    Some(p) => self.add("pow", PolyOp::Multiply, &[p, square], shape),
                });
            }
        }
        product.unwrap_or(x)
    }

    fn layer_norm(
        &mut self,
        x: ValueId,
        gamma: &[f64],
        beta: &[f64],
        epsilon: f64,
        centre: bool,
    ) -> Result<ValueId, PassError> {
        let shape = self.out.node(x).shape;
        let Shape::Matrix { rows, cols } = shape else {
            return Err(self.refuse(
                "its operand is not a matrix",
                "this is a defect of the front end",
            ));
        };
        if gamma.len() != cols || beta.len() != cols {
            return Err(self.refuse(
                format!(
                    "{cols} columns, but {} gammas and {} betas",
                    gamma.len(),
                    beta.len()
                ),
                "this is a defect of the front end",
            ));
        }
        let xc = if centre {
            self.add("centred", PolyOp::Linear(centring(cols)), &[x], shape)
        } else {
            x
        };
        let square = self.add("square", PolyOp::Multiply, &[xc, xc], shape);
        let interval = self.positive_site("the variance", 2, epsilon)?;
        let fit = inverse_sqrt(interval, self.pass.budget.inverse_sqrt).ok_or_else(|| {
            self.refuse(
                format!("1/sqrt(x) on {interval} is out of reach"),
                "train with a range penalty so that variances spread less",
            )
        })?;
        let (scale, shift) = (
            fit.input.0 / cols as f64,
            fit.input.0 * epsilon + fit.input.1,
        );
        let per_row = Shape::PerRow { rows };
        let u = self.add(
            "var",
            PolyOp::ColumnSum { scale, shift },
            &[square],
            per_row,
        );
        let approximation = Approximation {
            function: "1/sqrt(x)".into(),
            interval: (interval.lo, interval.hi),
            method: method_of(&fit.evaluation, "relaxed-inverse-sqrt").into(),
            degree_or_iterations: fit.degree_or_iterations,
            max_error: fit.error,
        };
        let op = PolyOp::Evaluate {
            evaluation: fit.evaluation,
            approximation,
        };
        let r = self.add("rsigma", op, &[u], per_row);
        let y = self.add("hat", PolyOp::ScaleRows, &[xc, r], shape);
        let diagonal: Vec<f64> = gamma.iter().map(|g| g / fit.output_factor).collect();
        let bias = Matrix {
            rows: 1,
            cols,
            data: beta.to_vec(),
        };
        Ok(self.add(
            "",
            PolyOp::Linear(diagonal_map(&diagonal, Some(bias))),
            &[y],
            shape,
        ))
    }

    fn activation(&mut self, x: ValueId, function: Function) -> Result<ValueId, PassError> {
        let seen = self.site()?;
        let shape = self.out.node(x).shape;
        let interval = self.pass.budget.argument(seen, 1e-6);
        if !interval.lo.is_finite() || !interval.hi.is_finite() {
            return Err(self.refuse(
                format!("calibration gives {seen}"),
                "check the calibration inputs",
            ));
        }
        let interval = match function {
            // One fit serves every interval around 0.
            Function::Relu => {
                let reach = interval.lo.abs().max(interval.hi.abs());
                Interval::new(-reach, reach)
            }
            _ => interval,
        };
        let (mid, half) = (
            (interval.hi + interval.lo) / 2.0,
            (interval.hi - interval.lo) / 2.0,
        );
        let f = |u: f64| function.value(mid + half * u);
        let largest = f(1.0).abs().max(f(-1.0).abs()).max(1e-6);
        let tolerance = self.pass.budget.activation * largest;
        let fit = match function {
            Function::Relu => cheapest_of(
                |degree| relu(half, degree),
                tolerance,
                3,
                self.pass.budget.relu_degree,
            ),
            _ => cheapest(f, |_| 1.0, tolerance, 3, ACTIVATION_DEGREE),
        };
        if fit.error > tolerance && function != Function::Relu {
            return Err(self.refuse(
                format!("{} on {interval} is {:.1e} off at degree {}", function.name(), fit.error, fit.polynomial.degree()),
                "train with a range penalty on the activation's input, or ask for a larger --tolerance",
            ));
        }
        let op = PolyOp::Affine {
            scale: 1.0 / half,
            shift: -mid / half,
        };
        let u = self.add("in", op, &[x], shape);
        let approximation = Approximation {
            function: function.name().into(),
            interval: (interval.lo, interval.hi),
            method: "minimax".into(),
            degree_or_iterations: fit.polynomial.degree(),
            max_error: fit.error,
        };
        let op = PolyOp::Evaluate {
            evaluation: Evaluation::Polynomial(fit.polynomial),
            approximation,
        };
        Ok(self.add("", op, &[u], shape))
    }
}

pub(crate) fn method_of<'a>(evaluation: &Evaluation, iterations: &'a str) -> &'a str {
    match evaluation {
        Evaluation::Polynomial(_) => "minimax",
        _ => iterations,
    }
}

/// x − mean(x) over columns: the matrix I − 11ᵀ/d.
pub(crate) fn centring(cols: usize) -> Linear {
    Linear {
        terms: vec![LinearTerm {
            rows: RowMap::Identity,
            weight: Weight::centring(cols),
            post: None,
        }],
        bias: None,
    }
}

/// Columns times their factors, plus a bias.
pub(crate) fn diagonal_map(factors: &[f64], bias: Option<Matrix>) -> Linear {
    Linear {
        terms: vec![LinearTerm {
            rows: RowMap::Identity,
            weight: Weight::diagonal(factors),
            post: None,
        }],
        bias,
    }
}
