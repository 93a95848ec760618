//! Which value of the poly graph is which value of the tensor graph, found by evaluating both.

use std::collections::BTreeMap;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::poly::{OutputFactor, PolyGraph, PolyOp};
use heron_passes::ir::shape::Shape;
use heron_passes::ir::tensor::{Evaluated, TensorGraph, TensorOp};
use heron_passes::prepared::prepared;
use heron_passes::to_poly::Named;

use super::{view, View};
use crate::calibration::UserInput;

/// A value of the poly graph that is `scale · value + offset` of a value of the tensor graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// Name of the value in the tensor graph.
    pub value: String,
    /// What of it.
    pub view: View,
    /// Name of the value in the poly graph.
    pub poly: String,
    /// Factor.
    pub scale: f64,
    /// Added afterwards.
    pub offset: f64,
}

/// Root mean square of what the best factor leaves, over that of the value, below which two values of a layer are the same: an
/// approximation's error at most, far less than between different values.
const SAME: f64 = 0.02;
/// The same for activations and for what is computed once a row, where the poly value descends from the tensor value by name: such a
/// pair stays a pair when an approximation is bad. Not for others, whose descendants may lack a factor that a pass moved elsewhere.
const SAME_NAME: f64 = 0.3;
/// Fewer numbers than these say nothing about a factor and an offset.
const LEAST: usize = 6;
/// Weights of a model up to which several inputs are evaluated; beyond, one gives numbers enough.
const SMALL: usize = 2_000_000;
/// Inputs evaluated for a small model.
const INPUTS: usize = 6;

struct Fit {
    scale: f64,
    offset: f64,
    residual: f64,
}

/// The factor, and the offset where allowed, that bring `reference` nearest to `found`.
fn fit(reference: &[f64], found: &[f64], with_offset: bool) -> Option<Fit> {
    if reference.len() != found.len() || reference.len() < LEAST {
        return None;
    }
    let n = reference.len() as f64;
    let mean = |x: &[f64]| match with_offset {
        true => x.iter().sum::<f64>() / n,
        false => 0.0,
    };
    let (mr, mf) = (mean(reference), mean(found));
    let (mut rr, mut rf, mut ff) = (0.0, 0.0, 0.0);
    for (r, f) in reference.iter().zip(found) {
        rr += (r - mr) * (r - mr);
        rf += (r - mr) * (f - mf);
        ff += (f - mf) * (f - mf);
    }
    // A value that never changes matches everything.
    if rr <= 1e-24 * n * (1e-300 + mr * mr) || ff <= 0.0 {
        return None;
    }
    let scale = rf / rr;
    let left = (ff - scale * rf).max(0.0);
    let residual = (left / ff).sqrt();
    (residual.is_finite() && scale != 0.0).then_some(Fit {
        scale,
        offset: mf - scale * mr,
        residual,
    })
}

fn weights(graph: &TensorGraph) -> usize {
    let nodes = graph.topological().into_iter().map(|v| graph.node(v));
    nodes
        .map(|n| match &n.op {
            TensorOp::Linear(l) => l.terms.iter().map(|t| t.weight.elements()).sum(),
            _ => 0,
        })
        .sum()
}

/// Whether `name` is `base` or made from it by a pass.
fn descends(name: &str, base: &str) -> bool {
    name.strip_prefix(base)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// Matches of a model, in the order of the tensor graph. `users` are calibration inputs as the user gives them, `inputs` the same as
/// the client of the tensor graph encrypts them; `factors` are those of the outputs. Graphs that cannot be evaluated have no matches.
pub fn matches(
    tensor: &TensorGraph,
    poly: &PolyGraph,
    factors: &[OutputFactor],
    users: &[UserInput],
    inputs: &[Named],
) -> Vec<Match> {
    let inputs = prepared(tensor, poly, inputs);
    let count = if weights(tensor) <= SMALL { INPUTS } else { 1 };
    let mut references: Vec<Evaluated> = Vec::new();
    let mut candidates: BTreeMap<ValueId, Vec<f64>> = BTreeMap::new();
    for (user, input) in users.iter().zip(&inputs).take(count) {
        let both = rayon::join(|| tensor.evaluate(user), || poly.evaluate(input));
        let (Ok(reference), Ok(values)) = both else {
            return Vec::new();
        };
        references.push(reference);
        for (v, numbers) in values {
            candidates.entry(v).or_default().extend(numbers);
        }
    }
    // Candidates by layer and shape, in the order of the graph.
    let mut places: BTreeMap<(usize, String), Vec<ValueId>> = BTreeMap::new();
    for v in poly.topological() {
        let node = poly.node(v);
        let key = (node.layer, node.shape.to_string());
        places.entry(key).or_default().push(v);
    }
    let mut found = Vec::new();
    for v in tensor.topological() {
        let node = tensor.node(v);
        for kind in View::ALL {
            let mut numbers = Vec::new();
            let mut shape: Option<Shape> = None;
            for reference in &references {
                if let Some((s, x)) = view(tensor, v, kind, reference) {
                    shape = Some(s);
                    numbers.extend(x);
                }
            }
            let Some(shape) = shape else { continue };
            let mut near: Vec<ValueId> = places
                .get(&(node.layer, shape.to_string()))
                .cloned()
                .unwrap_or_default();
            let outputs = tensor.outputs.iter().zip(&poly.outputs);
            for (((_, mine), (_, theirs)), factor) in outputs.zip(factors) {
                if *mine == v && kind == View::Value {
                    // What leaves is known without looking, however far off it is.
                    near.clear();
                    let pair = Match {
                        value: node.name.clone(),
                        view: kind,
                        poly: poly.node(*theirs).name.clone(),
                        scale: factor.0,
                        offset: 0.0,
                    };
                    found.push((0.0, pair));
                }
            }
            let mut best: Option<(f64, ValueId, Fit)> = None;
            for p in near {
                let Some(values) = candidates.get(&p) else {
                    continue;
                };
                let users = poly.users(p);
                let argument = users
                    .iter()
                    .any(|u| matches!(poly.node(*u).op, PolyOp::Evaluate { .. }));
                let Some(fit) = fit(&numbers, values, argument) else {
                    continue;
                };
                let named = descends(&poly.node(p).name, &node.name);
                let direct = matches!(node.op, TensorOp::Activation(_)) || kind.by_size();
                let limit = if named && direct { SAME_NAME } else { SAME };
                // Of equally good ones the first; a name counts for a little.
                let rank = fit.residual + if named { 0.0 } else { 1e-6 };
                if fit.residual <= limit && best.as_ref().is_none_or(|b| rank < b.0 - 1e-9) {
                    best = Some((rank, p, fit));
                }
            }
            if let Some((_, p, fit)) = best {
                let pair = Match {
                    value: node.name.clone(),
                    view: kind,
                    poly: poly.node(p).name.clone(),
                    scale: fit.scale,
                    offset: fit.offset,
                };
                found.push((fit.residual, pair));
            }
        }
    }
    distinct(found)
}

/// One match for each poly value, the closest; of equally close ones (a value whose rows have mean 0 is its own centred one)
/// the value itself.
fn distinct(found: Vec<(f64, Match)>) -> Vec<Match> {
    let mut best: BTreeMap<String, usize> = BTreeMap::new();
    for (i, (residual, m)) in found.iter().enumerate() {
        let at = best.entry(m.poly.clone()).or_insert(i);
        let better = found.get(*at).is_some_and(|(least, b)| {
            *residual < least / 2.0 - 1e-9 || (*residual <= 2.0 * least + 1e-9 && m.view > b.view)
        });
        if better {
            *at = i;
        }
    }
    let keep: std::collections::BTreeSet<usize> = best.into_values().collect();
    let kept = found.into_iter().enumerate();
    kept.filter(|(i, _)| keep.contains(i))
        .map(|(_, (_, m))| m)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_and_an_offset_are_found_and_strangers_are_not() {
        let r: Vec<f64> = (0..32).map(|i| libm::sin(f64::from(i))).collect();
        let f: Vec<f64> = r.iter().map(|x| 3.0 * x - 0.5).collect();
        let found = fit(&r, &f, true).expect("a fit");
        assert!((found.scale - 3.0).abs() < 1e-12 && (found.offset + 0.5).abs() < 1e-12);
        assert!(found.residual < 1e-6);
        let other: Vec<f64> = (0..32).map(|i| libm::cos(2.3 * f64::from(i))).collect();
        assert!(fit(&r, &other, true).expect("a fit").residual > 0.5);
        assert!(fit(&[1.0; 32], &f, true).is_none());
        assert!(fit(&r[..3], &f[..3], false).is_none());
    }

    #[test]
    fn the_closest_view_of_a_poly_value_wins_and_the_value_itself_among_equals() {
        let pair = |residual: f64, view: View, poly: &str| {
            let m = Match {
                value: "y".into(),
                view,
                poly: poly.into(),
                scale: 1.0,
                offset: 0.0,
            };
            (residual, m)
        };
        let found = distinct(vec![
            pair(1e-7, View::Normalised, "hat"),
            pair(0.25, View::Value, "hat"),
            pair(1e-6, View::Centred, "x"),
            pair(1e-6, View::Value, "x"),
        ]);
        let views: Vec<View> = found.iter().map(|m| m.view).collect();
        assert_eq!(views, [View::Normalised, View::Value]);
    }

    #[test]
    fn descent_is_by_whole_words() {
        assert!(descends("norm_rsigma", "norm") && descends("norm", "norm"));
        assert!(!descends("normal", "norm"));
    }
}
