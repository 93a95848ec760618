//! normalise: poly → poly.
//! before   %x = linear … in [-7.3, 6.1]           after   %x = linear … in [-0.91, 0.76], its readers' weights × 8.03
//! Needs    a range on every value ([`annotate_ranges`]).
//! Error    none: factors are exact up to f64.    Depth  none, but for an `affine` where a product is added to a stream of its own scale.
//! Why      bootstrapping takes values in [-1, 1], and precision is absolute: a value far below 1 wastes bits.
//! Source   ours; bootstrapping needs |x| ≤ 1: eprint 2018/153.
//!
//! Free factors (linear maps, inputs, sums, polynomials) are chosen; products follow; what is added shares one factor.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::ir::graph::ValueId;
use crate::ir::packed::FREE_INTEGER;
use crate::ir::poly::eval::EvalError;
use crate::ir::poly::{Evaluation, OutputFactor, PolyGraph, PolyOp};
use crate::ir::shape::{Interval, Matrix, Shape};
use crate::pass::{Changed, Pass, PassCx, PassError};

/// The pass; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Normalise;

impl Pass for Normalise {
    type Ir = PolyGraph;
    const NAME: &'static str = "normalise";
    const NEEDED: bool = true;

    fn run(&self, graph: &mut PolyGraph, _: &mut PassCx) -> Result<Changed, PassError> {
        normalise(graph)?;
        Ok(Changed::Yes)
    }
}

/// annotate-ranges: poly → poly.
/// before `%v` without range, after `%v in [lo, hi]`, the smallest and largest number seen on calibration inputs, outward-rounded.
/// Needs calibration inputs, as the client prepares them. Error none. Depth unchanged.
#[derive(Clone, Copy, Debug)]
pub struct AnnotateRanges<'a> {
    /// Inputs by name.
    pub inputs: &'a [BTreeMap<String, Vec<f64>>],
    /// Takes the results: large models are not evaluated again to learn the error of their approximations.
    pub results: Option<&'a OnceCell<Vec<Results>>>,
}

/// What a graph gives for one input, per graph output in order.
pub type Results = Vec<Vec<f64>>;

impl Pass for AnnotateRanges<'_> {
    type Ir = PolyGraph;
    const NAME: &'static str = "annotate-ranges";
    const NEEDED: bool = true;

    fn run(&self, graph: &mut PolyGraph, _: &mut PassCx) -> Result<Changed, PassError> {
        let results = annotate_ranges(graph, self.inputs).map_err(|e| PassError::Refused {
            pass: Self::NAME,
            value: graph.name.clone(),
            reason: e.to_string(),
            remedy: "give calibration inputs (--calibration FILE)".into(),
        })?;
        if let Some(cell) = self.results {
            cell.get_or_init(|| results);
        }
        Ok(Changed::Yes)
    }
}

/// Share of [-1, 1] that calibrated values fill; the rest is for inputs a little beyond.
const FILL: f64 = 0.9;

/// Sets the range of every value from evaluations on calibration inputs, outward-rounded to three digits. Returns the results of the
/// evaluations, one per input.
pub fn annotate_ranges(
    graph: &mut PolyGraph,
    inputs: &[BTreeMap<String, Vec<f64>>],
) -> Result<Vec<Results>, EvalError> {
    type Seen = (BTreeMap<ValueId, Interval>, Results);
    let seen: Vec<Result<Seen, EvalError>> = inputs
        .par_iter()
        .map(|input| {
            let mut seen = BTreeMap::new();
            let mut results = vec![Vec::new(); graph.outputs.len()];
            graph.visit(input, &mut |v, values| {
                let mut range = Interval::new(f64::INFINITY, f64::NEG_INFINITY);
                for &x in values {
                    range.lo = range.lo.min(x);
                    range.hi = range.hi.max(x);
                }
                seen.insert(v, range);
                for ((_, output), result) in graph.outputs.iter().zip(&mut results) {
                    if *output == v {
                        *result = values.to_vec();
                    }
                }
            })?;
            Ok((seen, results))
        })
        .collect();
    let mut ranges: BTreeMap<ValueId, Interval> = BTreeMap::new();
    let mut results = Vec::with_capacity(inputs.len());
    for one in seen {
        let (one, result) = one?;
        results.push(result);
        for (v, r) in one {
            let range = ranges.entry(v).or_insert(r);
            range.lo = range.lo.min(r.lo);
            range.hi = range.hi.max(r.hi);
        }
    }
    for (v, range) in ranges {
        graph.node_mut(v).range = Some(range.rounded_outward());
    }
    Ok(results)
}

/// Chooses factors and folds them in. Returns, per graph output, the factor its value now carries, and notes it in
/// [`output_factors`](crate::ir::graph::Graph::output_factors).
pub fn normalise(graph: &mut PolyGraph) -> Result<Vec<OutputFactor>, PassError> {
    separate_products(graph);
    let factors = choose(graph)?;
    let of = |v: ValueId| factors.get(&v).copied().unwrap_or(1.0);
    for v in graph.topological() {
        let operands = graph.operands(v);
        let (out, ratio) = (of(v), of(v) / operands.first().map_or(1.0, |&o| of(o)));
        let node = graph.node_mut(v);
        match &mut node.op {
            PolyOp::Input { factor, .. } => *factor *= out,
            PolyOp::Linear(linear) => {
                linear.terms.iter_mut().for_each(|t| t.weight.scale(ratio));
                linear.bias.iter_mut().for_each(|b| times(b, out));
            }
            PolyOp::Affine { scale, shift }
            | PolyOp::KeySum { scale, shift, .. }
            | PolyOp::ColumnSum { scale, shift } => {
                *scale *= ratio;
                // Factors were chosen so that integers come out, up to the last bits.
                if (*scale - scale.round()).abs() <= 1e-12 * scale.abs() {
                    *scale = scale.round();
                }
                *shift *= out;
            }
            PolyOp::Evaluate {
                evaluation: Evaluation::Polynomial(p),
                ..
            } => *p = p.scaled(out),
            _ => {}
        }
        node.range = node.range.map(|r| Interval::new(r.lo * out, r.hi * out));
    }
    let before = |i: usize| graph.output_factors.get(i).copied().unwrap_or(1.0);
    let factors: Vec<f64> = graph
        .outputs
        .iter()
        .enumerate()
        .map(|(i, (_, v))| of(*v) * before(i))
        .collect();
    graph.output_factors.clone_from(&factors);
    Ok(factors.into_iter().map(OutputFactor).collect())
}

fn times(m: &mut Matrix, factor: f64) {
    m.data.iter_mut().for_each(|x| *x *= factor);
}

fn is_product(op: &PolyOp) -> bool {
    matches!(
        op,
        PolyOp::Multiply
            | PolyOp::Scores { .. }
            | PolyOp::Values { .. }
            | PolyOp::ScaleHeads
            | PolyOp::ScaleRows
    )
}

/// Values as computed: nothing can be folded into them.
fn is_fixed(op: &PolyOp) -> bool {
    matches!(
        op,
        PolyOp::Evaluate {
            evaluation: Evaluation::Reciprocal { .. } | Evaluation::InverseSqrt { .. },
            ..
        }
    )
}

/// Puts an `affine` between a product and a sum, and before an evaluation whose operand is shared with something else.
fn separate_products(graph: &mut PolyGraph) {
    for v in graph.topological() {
        if graph.node(v).op == PolyOp::ScaleHeads
            && matches!(graph.node(v).shape, Shape::Scores { .. })
        {
            // Weights divided by their sum are small; an integer brings them near 1 before they are squared.
            let node = graph.node(v);
            let (name, shape, layer, range) = (
                format!("{}_gain", node.name),
                node.shape,
                node.layer,
                node.range,
            );
            let gain = PolyOp::Affine {
                scale: 1.0,
                shift: 0.0,
            };
            let gained = graph.add(&name, gain, &[], shape, layer);
            graph.replace_uses(v, gained);
            graph.set_operands(gained, &[v]);
            graph.node_mut(gained).range = range;
        }
        let evaluates = matches!(graph.node(v).op, PolyOp::Evaluate { .. });
        if !evaluates && !matches!(graph.node(v).op, PolyOp::Add | PolyOp::Sub) {
            continue;
        }
        let mut operands = graph.operands(v);
        for o in &mut operands {
            let node = graph.node(*o);
            let bound = is_product(&node.op) || is_fixed(&node.op);
            let shared = evaluates
                && graph
                    .users(*o)
                    .iter()
                    .any(|u| !matches!(graph.node(*u).op, PolyOp::Evaluate { .. }));
            // An argument that is made of its operand for this, or a sum of such, keeps the factor 1 whoever else reads it.
            let own = matches!(node.op, PolyOp::Affine { .. }) && !in_a_sum(graph, *o);
            let shared = shared && !own;
            let sum = evaluates
                && matches!(node.op, PolyOp::Add | PolyOp::Sub | PolyOp::Input { .. })
                && !private_sum(graph, *o, v);
            if bound || shared || sum {
                let (name, shape, layer, range) = (
                    format!("{}_rescaled", node.name),
                    node.shape,
                    node.layer,
                    node.range,
                );
                *o = graph.add(
                    &name,
                    PolyOp::Affine {
                        scale: 1.0,
                        shift: 0.0,
                    },
                    &[*o],
                    shape,
                    layer,
                );
                graph.node_mut(*o).range = range;
            }
        }
        graph.set_operands(v, &operands);
    }
}

fn in_a_sum(graph: &PolyGraph, v: ValueId) -> bool {
    let sums = |u: &ValueId| matches!(graph.node(*u).op, PolyOp::Add | PolyOp::Sub);
    graph.users(v).iter().any(sums)
}

/// Whether a sum is read by `reader` only, and so is every sum in it by the sum above; no input is among its terms.
fn private_sum(graph: &PolyGraph, v: ValueId, reader: ValueId) -> bool {
    if graph.users(v) != [reader] {
        return false;
    }
    match graph.node(v).op {
        PolyOp::Add | PolyOp::Sub => graph
            .operands(v)
            .iter()
            .all(|o| is_product(&graph.node(*o).op) || private_sum(graph, *o, v)),
        PolyOp::Input { .. } => false,
        _ => true,
    }
}

/// Groups of values that share a factor because they are added: each value's group is named by its first member.
fn groups(graph: &PolyGraph, order: &[ValueId]) -> BTreeMap<ValueId, ValueId> {
    let mut group: BTreeMap<ValueId, ValueId> = order.iter().map(|&v| (v, v)).collect();
    for &v in order {
        if matches!(graph.node(v).op, PolyOp::Add | PolyOp::Sub) {
            for o in graph.operands(v) {
                let (a, b) = (group[&v].min(group[&o]), group[&v].max(group[&o]));
                group.values_mut().filter(|g| **g == b).for_each(|g| *g = a);
            }
        }
    }
    group
}

fn choose(graph: &PolyGraph) -> Result<BTreeMap<ValueId, f64>, PassError> {
    let order = graph.topological();
    let group = groups(graph, &order);
    let refuse = |v: ValueId, reason: &str| PassError::Refused {
        pass: Normalise::NAME,
        value: graph.node(v).name.clone(),
        reason: reason.into(),
        remedy: "calibrate first; give finite inputs".into(),
    };
    let magnitude = |v: ValueId| -> Result<f64, PassError> {
        let range = graph
            .node(v)
            .range
            .ok_or_else(|| refuse(v, "no range is known"))?;
        let m = range.magnitude();
        if m.is_finite() {
            Ok(if m > 0.0 { m } else { 1.0 })
        } else {
            Err(refuse(v, "its calibrated range is not finite"))
        }
    };
    // Arguments of evaluations stay as they are, and so do values nothing can be folded into.
    let mut group_factor: BTreeMap<ValueId, f64> = BTreeMap::new();
    for &v in &order {
        let argument = graph
            .users(v)
            .iter()
            .any(|u| matches!(graph.node(*u).op, PolyOp::Evaluate { .. }));
        if argument || is_fixed(&graph.node(v).op) {
            group_factor.insert(group[&v], 1.0);
        }
    }
    let mut group_magnitude: BTreeMap<ValueId, f64> = BTreeMap::new();
    for &v in &order {
        let m = magnitude(v)?;
        let largest = group_magnitude.entry(group[&v]).or_insert(0.0);
        *largest = largest.max(m);
    }
    let mut factors: BTreeMap<ValueId, f64> = BTreeMap::new();
    for &v in &order {
        if !is_product(&graph.node(v).op) {
            let g = group[&v];
            let factor = group_factor
                .get(&g)
                .copied()
                .unwrap_or(FILL / group_magnitude[&g]);
            group_factor.insert(g, factor);
            factors.insert(v, factor);
        }
    }
    // Queries take the gain that brings the scores to 1: their powers would lose precision below.
    for &v in &order {
        if let (PolyOp::Scores { .. }, [q, k]) = (&graph.node(v).op, &graph.operands(v)[..]) {
            let alone = group.values().filter(|g| **g == group[q]).count() == 1
                && graph.users(*q) == [v]
                && q != k;
            if alone && matches!(graph.node(*q).op, PolyOp::Linear(_) | PolyOp::Affine { .. }) {
                // Where all they do is to become arguments, the change of scale to those.
                let users = graph.users(v);
                let scale = users.first().and_then(|u| match graph.node(*u).op {
                    PolyOp::Affine { scale, .. } => Some(scale * factors.get(u)?),
                    _ => None,
                });
                let to_argument = |u: &ValueId| match graph.node(*u).op {
                    PolyOp::Affine { scale: s, .. } => {
                        let argument =
                            |w: &ValueId| matches!(graph.node(*w).op, PolyOp::Evaluate { .. });
                        graph.users(*u).iter().any(argument)
                            && factors.get(u).map(|f| f * s) == scale
                    }
                    _ => false,
                };
                let wanted = match scale {
                    Some(scale) if scale != 0.0 && users.iter().all(to_argument) => scale,
                    _ => FILL / magnitude(v)?,
                };
                let f = wanted / factors.get(k).copied().unwrap_or(1.0);
                factors.insert(*q, f);
            }
        }
    }
    for &v in &order {
        if let Some(f) = before_square(graph, v, &factors, magnitude(v)?) {
            factors.insert(v, f);
        }
    }
    for &v in &order {
        if let (PolyOp::Affine { scale, .. }, [o]) = (&graph.node(v).op, &graph.operands(v)[..]) {
            // After a product an integer factor is free: the largest that does.
            let alone = group.values().filter(|g| **g == group[&v]).count() == 1;
            let argument = graph
                .users(v)
                .iter()
                .any(|u| matches!(graph.node(*u).op, PolyOp::Evaluate { .. }));
            let (f, of) = (factors[&v], factors.get(o).copied().unwrap_or(1.0));
            let ratio = (scale * f / of).abs();
            let product = is_product(&graph.node(*o).op);
            if product && alone && !argument && ratio >= 1.0 && ratio.is_finite() {
                factors.insert(v, f * ratio.floor().min(FREE_INTEGER) / ratio);
            }
        }
        if is_product(&graph.node(v).op) {
            let f = graph
                .operands(v)
                .iter()
                .map(|o| factors.get(o).copied().unwrap_or(1.0))
                .product();
            factors.insert(v, f);
        }
    }
    Ok(factors)
}

/// The factor of a value whose square is a term of a sum that is an argument: the one that makes the square fit as it is, so that
/// bringing it to the sum's factor costs no level.
fn before_square(
    graph: &PolyGraph,
    v: ValueId,
    factors: &BTreeMap<ValueId, f64>,
    magnitude: f64,
) -> Option<f64> {
    if is_product(&graph.node(v).op) || is_fixed(&graph.node(v).op) {
        return None;
    }
    let only = |v: ValueId| match graph.users(v)[..] {
        [u] => Some(u),
        _ => None,
    };
    let square = only(v)?;
    if graph.node(square).op != PolyOp::Multiply || graph.operands(square) != [v, v] {
        return None;
    }
    let term = only(square)?;
    let PolyOp::Affine { scale, shift } = graph.node(term).op else {
        return None;
    };
    let wanted = (scale * factors.get(&term)?).sqrt();
    (shift == 0.0 && in_a_sum(graph, term) && wanted > 0.0 && wanted * magnitude <= 1.0)
        .then_some(wanted)
}
