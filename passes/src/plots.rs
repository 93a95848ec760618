//! Samples of the functions that polynomials replaced, beside their fits, for the plots of the depth report.
//!
//! Taken right after `substitute-polynomials`, while evaluations still give the function itself: later passes fold factors into them.

use crate::ir::poly::{Approximation, Evaluation, PolyGraph, PolyOp};
use crate::ir::tensor::Function;

/// Points of a plot.
const POINTS: usize = 41;
/// Intervals whose ends differ by more than this factor are sampled evenly in the logarithm.
const SPREAD: f64 = 30.0;

/// One function and its fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Index of the layer.
    pub layer: usize,
    /// Name of the function, as in the layer's [`Approximation`].
    pub function: String,
    /// Its interval, as there.
    pub interval: (f64, f64),
    /// Argument in the model's units, function, fit.
    pub points: Vec<[f64; 3]>,
}

/// The functions that reports name.
fn named(function: &str, x: f64) -> Option<f64> {
    match function {
        "1/x" => return Some(1.0 / x),
        "1/sqrt(x)" => return Some(1.0 / x.sqrt()),
        _ => {}
    }
    use Function::*;
    [Gelu, GeluTanh, QuickGelu, Silu, Relu, Tanh, Sigmoid]
        .into_iter()
        .find(|f| f.name() == function)
        .map(|f| f.value(x))
}

/// The argument u in [-1, 1] of an evaluation for x of its interval. The evaluation's own units are a multiple of the interval's: its `mid` is
/// the middle of the interval. Of a polynomial, the ends of [-1, 1] are the ends of the interval.
fn argument(evaluation: &Evaluation, (lo, hi): (f64, f64), x: f64) -> f64 {
    match evaluation {
        Evaluation::Reciprocal { mid, half, .. } | Evaluation::InverseSqrt { mid, half, .. } => {
            let unit = 2.0 * mid / (lo + hi);
            (unit * x - mid) / half
        }
        Evaluation::Polynomial(_) => (2.0 * x - lo - hi) / (hi - lo),
    }
}

/// Samples one evaluation; `None` for a function without a name here or an interval of no length. Fits of 1/x and 1/√x carry a
/// constant factor, which is taken out so that the largest relative errors of both signs are equal, as in the fit itself.
fn sample(evaluation: &Evaluation, approximation: &Approximation) -> Option<Vec<[f64; 3]>> {
    let (lo, hi) = approximation.interval;
    if !lo.is_finite() || !hi.is_finite() || lo >= hi {
        return None;
    }
    let logarithmic = lo > 0.0 && hi / lo > SPREAD;
    let mut points = Vec::with_capacity(POINTS);
    for i in 0..POINTS {
        let t = i as f64 / (POINTS - 1) as f64;
        let x = match logarithmic {
            true => lo * libm::exp(t * libm::log(hi / lo)),
            false => lo + t * (hi - lo),
        };
        let f = named(&approximation.function, x)?;
        let u = argument(evaluation, (lo, hi), x).clamp(-1.0, 1.0);
        points.push([x, f, evaluation.value(u)]);
    }
    if approximation.function.starts_with("1/") {
        let ratios = points.iter().map(|[_, f, g]| g / f);
        let least = ratios.clone().fold(f64::INFINITY, f64::min);
        let most = ratios.fold(f64::NEG_INFINITY, f64::max);
        let factor = 2.0 / (least + most);
        points.iter_mut().for_each(|p| p[2] *= factor);
    }
    let finite = points.iter().flatten().all(|x| x.is_finite());
    finite.then_some(points)
}

/// A plot for every evaluation of a graph that was just made, in the order of the graph.
pub fn plots(graph: &PolyGraph) -> Vec<Plot> {
    let nodes = graph.topological().into_iter().map(|v| graph.node(v));
    nodes
        .filter_map(|node| match &node.op {
            PolyOp::Evaluate {
                evaluation,
                approximation,
            } => Some(Plot {
                layer: node.layer,
                function: approximation.function.clone(),
                interval: approximation.interval,
                points: sample(evaluation, approximation)?,
            }),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approx::inverse_sqrt::inverse_sqrt;
    use crate::approx::minimax::cheapest;
    use crate::approx::reciprocal::reciprocal;
    use crate::ir::shape::Interval;

    fn check(function: &str, interval: (f64, f64), evaluation: &Evaluation, claimed: f64) {
        let approximation = Approximation {
            function: function.into(),
            interval,
            method: String::new(),
            degree_or_iterations: 0,
            max_error: claimed,
        };
        let points = sample(evaluation, &approximation).expect("samples");
        let relative = function.starts_with("1/");
        let error = |[_, f, g]: &[f64; 3]| (g - f).abs() / if relative { f.abs() } else { 1.0 };
        let worst = points.iter().map(error).fold(0.0, f64::max);
        println!("{function} on {interval:?}: {worst:.2e} (claimed {claimed:.2e})");
        assert!(worst <= 1.02 * claimed + 1e-12, "{worst} > {claimed}");
        assert_eq!(points.len(), POINTS);
    }

    #[test]
    fn samples_show_no_more_error_than_the_fit_claims() {
        for (lo, hi) in [(0.1, 4.4), (0.02, 9.0), (0.9, 1.3)] {
            let interval = Interval::new(lo, hi);
            let fit = reciprocal(interval, 1e-3, 12).expect("a fit");
            check("1/x", (lo, hi), &fit.evaluation, fit.error);
            let fit = inverse_sqrt(interval, 3e-4).expect("a fit");
            check("1/sqrt(x)", (lo, hi), &fit.evaluation, fit.error);
        }
        let f = |u: f64| Function::Gelu.value(4.0 * u);
        let fit = cheapest(f, |_| 1.0, 1e-3, 3, 63);
        let evaluation = Evaluation::Polynomial(fit.polynomial);
        check("gelu", (-4.0, 4.0), &evaluation, fit.error);
    }
}
