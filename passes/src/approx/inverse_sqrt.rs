//! 1/√z on a positive interval: one polynomial, or the inverse-square-root sibling of relaxed Goldschmidt for wide intervals.

use super::minimax::minimax;
use crate::ir::poly::{Chebyshev, Evaluation};
use crate::ir::shape::Interval;

/// An evaluation for 1/√z and its relative error.
#[derive(Clone, Debug)]
pub struct InverseSqrtFit {
    /// A polynomial or [`Evaluation::InverseSqrt`]; output is 1/√z times `output_factor`.
    pub evaluation: Evaluation,
    /// The argument is `input.0 · z + input.1`, in [-1, 1].
    pub input: (f64, f64),
    /// The output is this over √z; at most 1 on the interval.
    pub output_factor: f64,
    /// max |√z y(z) − 1| on a dense grid.
    pub error: f64,
    /// Degree, or number of iterations.
    pub degree_or_iterations: usize,
}

/// Degrees tried for one polynomial: those that use all of their levels.
const DEGREES: [usize; 6] = [3, 7, 15, 31, 63, 127];

/// The shallowest evaluation whose relative error on `interval` is at most `tolerance`. A polynomial of degree 2^k − 1 takes k
/// levels; one relaxed iteration takes three (k x, its half, and the product), so it is used only past degree 127.
/// `None` when the interval is not positive or not reachable.
pub fn inverse_sqrt(interval: Interval, tolerance: f64) -> Option<InverseSqrtFit> {
    let (lo, hi) = (interval.lo, interval.hi);
    if !(lo > 0.0 && hi > lo && hi.is_finite()) {
        return None;
    }
    let (mid, half) = ((hi + lo) / 2.0, (hi - lo) / 2.0);
    let z = |u: f64| mid + half * u;
    let output_factor = lo.sqrt();
    // Interpolation of 1/√z converges like ρ^-degree: skip degrees that cannot do.
    let rho = (hi.sqrt() + lo.sqrt()) / (hi.sqrt() - lo.sqrt());
    for degree in DEGREES {
        if rho.powi(-(degree as i32)) > tolerance * 64.0 {
            continue;
        }
        let fit = minimax(
            |u| output_factor / z(u).sqrt(),
            |u| z(u).sqrt() / output_factor,
            degree,
        );
        if fit.error <= tolerance {
            return Some(InverseSqrtFit {
                evaluation: Evaluation::Polynomial(Chebyshev { ..fit.polynomial }),
                input: (1.0 / half, -mid / half),
                output_factor,
                error: fit.error,
                degree_or_iterations: degree,
            });
        }
    }
    iterate(interval, tolerance)
}

/// x ← k x ((3 − k x)/2)², y ← y √k (3 − k x)/2 on x in [e, 1]: both ends meet again at k = the largest factor
/// for which the image of [e, 1] is as narrow as possible (eprint 2024/1881 uses the same relaxation).
fn iterate(interval: Interval, tolerance: f64) -> Option<InverseSqrtFit> {
    let (lo, hi) = (interval.lo, interval.hi);
    let image = |k: f64, x: f64| k * x * (3.0 - k * x) * (3.0 - k * x) / 4.0;
    let mut e = lo / hi;
    let mut relaxation = Vec::new();
    while 1.0 - e.sqrt() > tolerance {
        if relaxation.len() == 16 {
            return None;
        }
        // image(k, ·) rises to 1 at k x = 1 and falls after; the ends e and 1 are balanced by bisection on k in [1, 3).
        let (mut a, mut b) = (1.0, 3.0 - 1e-9);
        for _ in 0..200 {
            let k = (a + b) / 2.0;
            if image(k, e) < image(k, 1.0) {
                a = k;
            } else {
                b = k;
            }
        }
        relaxation.push(a);
        e = image(a, e).min(image(a, 1.0));
    }
    let (mid, half) = ((hi + lo) / 2.0 / hi, (hi - lo) / 2.0 / hi);
    // The iteration gives 1/√(z/hi) for z/hi in [e, 1]; its last value is brought to at most 1 by the first factor.
    let output_factor = lo.sqrt();
    let n = relaxation.len();
    Some(InverseSqrtFit {
        evaluation: Evaluation::InverseSqrt {
            mid,
            half,
            relaxation,
            output_factor: (lo / hi).sqrt(),
        },
        input: (1.0 / (half * hi), -mid / half),
        output_factor,
        error: 1.0 - e.sqrt(),
        degree_or_iterations: n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(fit: &InverseSqrtFit, interval: Interval) -> f64 {
        (0..=4000)
            .map(|i| {
                let z = interval.lo * (interval.hi / interval.lo).powf(i as f64 / 4000.0);
                let y = fit.evaluation.value(fit.input.0 * z + fit.input.1);
                (y * z.sqrt() / fit.output_factor - 1.0).abs()
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn a_polynomial_does_for_the_spread_of_a_layer_norm() {
        for (ratio, tolerance, degree) in [(6.0, 1e-4, 15), (30.0, 1e-3, 31), (2.0, 1e-3, 7)] {
            let interval = Interval::new(0.18, 0.18 * ratio);
            let fit = inverse_sqrt(interval, tolerance).unwrap();
            let measured = worst(&fit, interval);
            println!(
                "ratio {ratio}: degree {}, fit {:.2e}, measured {measured:.2e}",
                fit.degree_or_iterations, fit.error
            );
            assert!(measured <= tolerance * 1.01);
            assert!(fit.degree_or_iterations <= degree);
        }
    }

    #[test]
    fn wide_intervals_iterate() {
        let interval = Interval::new(1e-3, 40.0);
        let fit = inverse_sqrt(interval, 1e-3).unwrap();
        assert!(matches!(fit.evaluation, Evaluation::InverseSqrt { .. }));
        assert!(
            worst(&fit, interval) <= 1.01e-3,
            "{}",
            worst(&fit, interval)
        );
    }

    #[test]
    fn an_interval_that_touches_zero_is_refused() {
        assert!(inverse_sqrt(Interval::new(0.0, 1.0), 1e-3).is_none());
    }
}
