//! Weighted minimax polynomials on [-1, 1]: the exchange of [`super::remez`], and where it does not settle (kinks, errors at rounding level)
//! Lawson's iteratively reweighted least squares, which needs no alternation and always gives something near the best. Source: C. L. Lawson, thesis, UCLA 1961; Rice & Usow, Math. Comp. 22 (1968).

use super::chebyshev::{basis, interpolate};
use super::remez::remez;
use crate::ir::poly::Chebyshev;

/// What the grid may miss of a peak between its points, at most.
const BETWEEN: f64 = 4e-4;
/// Points of the dense grid on which errors are measured, at least.
const GRID: usize = 4001;
/// Points of the grid on which the fit is made, as a multiple of the degree.
const POINTS_PER_DEGREE: usize = 12;
/// Rounds of reweighting; the best polynomial seen is kept.
const ROUNDS: usize = 80;

/// A polynomial and its largest weighted error on a dense grid.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The polynomial, argument in [-1, 1].
    pub polynomial: Chebyshev,
    /// max |weight(u) (p(u) − f(u))|.
    pub error: f64,
}

/// max |weight(u) (p(u) − f(u))| on a dense grid, between the points that any fit is made on.
pub(super) fn measure(p: &Chebyshev, f: impl Fn(f64) -> f64, weight: impl Fn(f64) -> f64) -> f64 {
    // Errors of a fit oscillate like cos(degree · angle): points even in the angle, 64 to a half-wave, miss a peak by less than BETWEEN.
    let m = GRID.max(64 * (p.degree() + 1));
    let found = (0..=m)
        .map(|i| {
            let u = libm::cos(std::f64::consts::PI * i as f64 / m as f64);
            (weight(u) * (p.value(u) - f(u))).abs()
        })
        .fold(0.0, f64::max);
    found * (1.0 + BETWEEN)
}

/// Largest error over the lower bound at which the exchange is taken as it is.
const SETTLED: f64 = 1.02;

/// The polynomial of this degree with the smallest largest weighted error, to 2 %; nearly so for functions with kinks.
pub fn minimax(f: impl Fn(f64) -> f64, weight: impl Fn(f64) -> f64, degree: usize) -> Fit {
    let exchanged = remez(&f, &weight, degree);
    if let Some(found) = &exchanged {
        if found.fit.error <= found.bound * SETTLED {
            return found.fit.clone();
        }
    }
    let reweighted = lawson(&f, &weight, degree);
    match exchanged {
        Some(found) if found.fit.error < reweighted.error => found.fit,
        _ => reweighted,
    }
}

/// Lawson's algorithm.
pub(super) fn lawson(f: impl Fn(f64) -> f64, weight: impl Fn(f64) -> f64, degree: usize) -> Fit {
    let measure = |p: &Chebyshev| measure(p, &f, &weight);
    let start = interpolate(&f, degree);
    let mut best = Fit {
        error: measure(&start),
        polynomial: start,
    };
    let n = degree + 1;
    let m = (n * POINTS_PER_DEGREE).max(400) | 1;
    let points: Vec<f64> = (0..m)
        .map(|i| libm::cos(std::f64::consts::PI * (i as f64 + 0.5) / m as f64))
        .collect();
    let rows: Vec<Vec<f64>> = points.iter().map(|&u| basis(u, 2 * degree + 1)).collect();
    let values: Vec<f64> = points.iter().map(|&u| f(u)).collect();
    let squares: Vec<f64> = points.iter().map(|&u| weight(u) * weight(u)).collect();
    let mut lawson = vec![1.0 / m as f64; m];
    for _ in 0..ROUNDS {
        // T_a T_b = (T_{a+b} + T_{|a−b|})/2, so the normal equations need only 2n moments.
        let mut moments = vec![0.0; 2 * n];
        let mut right = vec![0.0; n];
        for i in 0..m {
            let w = lawson[i] * squares[i];
            for (moment, t) in moments.iter_mut().zip(&rows[i]) {
                *moment += w * t;
            }
            let wf = w * values[i];
            for (r, t) in right.iter_mut().zip(&rows[i]) {
                *r += wf * t;
            }
        }
        let mut normal = vec![0.0; n * (n + 1)];
        for a in 0..n {
            for b in 0..n {
                normal[a * (n + 1) + b] = (moments[a + b] + moments[a.abs_diff(b)]) / 2.0;
            }
            normal[a * (n + 1) + n] = right[a];
        }
        let Some(coefficients) = solve(normal, n) else {
            break;
        };
        let p = Chebyshev { coefficients };
        let residual: Vec<f64> = (0..m)
            .map(|i| (squares[i].sqrt() * (p.value(points[i]) - values[i])).abs())
            .collect();
        let error = measure(&p);
        if error < best.error {
            best = Fit {
                polynomial: p,
                error,
            };
        }
        let total: f64 = lawson.iter().zip(&residual).map(|(w, r)| w * r).sum();
        if total.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
            break;
        }
        for (w, r) in lawson.iter_mut().zip(&residual) {
            // A floor keeps every point in play, so that a point once fitted exactly can come back.
            *w = (*w * r / total).max(1e-12);
        }
    }
    best
}

/// The polynomial of lowest degree of the form 2^k − 1 (the degrees that use their levels fully), from `first`, whose error is at most
/// `tolerance`; the last one tried when none below `last` reaches it.
pub fn cheapest(
    f: impl Fn(f64) -> f64 + Copy,
    weight: impl Fn(f64) -> f64 + Copy,
    tolerance: f64,
    first: usize,
    last: usize,
) -> Fit {
    cheapest_of(|degree| minimax(f, weight, degree), tolerance, first, last)
}

/// The same for fits made otherwise.
pub fn cheapest_of(fit: impl Fn(usize) -> Fit, tolerance: f64, first: usize, last: usize) -> Fit {
    let mut degree = first;
    loop {
        let fit = fit(degree);
        if fit.error <= tolerance || 2 * degree + 1 > last {
            return fit;
        }
        degree = 2 * degree + 1;
    }
}

/// Solves an n × n system given as rows of n + 1 numbers, by elimination with partial pivoting.
pub(super) fn solve(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    let w = n + 1;
    for col in 0..n {
        let pivot =
            (col..n).max_by(|&i, &j| a[i * w + col].abs().total_cmp(&a[j * w + col].abs()))?;
        if a[pivot * w + col].abs() < 1e-300 || !a[pivot * w + col].is_finite() {
            return None;
        }
        if pivot != col {
            for k in 0..w {
                a.swap(pivot * w + k, col * w + k);
            }
        }
        for row in col + 1..n {
            let factor = a[row * w + col] / a[col * w + col];
            if factor != 0.0 {
                for k in col..w {
                    a[row * w + k] -= factor * a[col * w + k];
                }
            }
        }
    }
    let mut x = vec![0.0; n];
    for row in (0..n).rev() {
        let tail: f64 = (row + 1..n).map(|k| a[row * w + k] * x[k]).sum();
        x[row] = (a[row * w + n] - tail) / a[row * w + row];
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::tensor::Function;

    #[test]
    fn absolute_value_reaches_its_known_minimax_error() {
        // degree 2: u² + 1/8, error 1/8 (classical).
        let fit = minimax(f64::abs, |_| 1.0, 2);
        assert!((fit.error - 0.125).abs() < 2e-3, "error {}", fit.error);
    }

    #[test]
    fn gelu_of_degree_15_on_four_is_better_than_interpolation() {
        let f = |u: f64| Function::Gelu.value(4.0 * u);
        let fit = minimax(f, |_| 1.0, 15);
        let plain = interpolate(f, 15);
        let worst = (0..1001)
            .map(|i| i as f64 / 500.0 - 1.0)
            .map(|u| (plain.value(u) - f(u)).abs())
            .fold(0.0, f64::max);
        println!(
            "gelu on [-4,4], degree 15: minimax {:.2e}, interpolation {:.2e}",
            fit.error, worst
        );
        assert!(fit.error < worst && fit.error < 1e-3);
    }
}
