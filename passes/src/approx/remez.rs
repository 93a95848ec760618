//! Weighted minimax polynomials on [-1, 1] by the exchange algorithm of Remez, with the proof of their quality.
//!
//! A reference of degree + 2 points is levelled (one linear system gives the polynomial whose weighted errors there are E, −E, E, …), then
//! exchanged for the extrema of the error it has; |E| is a lower bound of what any polynomial of the degree can reach (de la Vallée
//! Poussin), so that the ratio of the largest error to |E| says how far from the best the polynomial can be at most.
//! Source: E. Remez 1934; as in Muller, Elementary Functions, chapter 3.

use super::chebyshev::{basis, interpolate};
use super::minimax::{measure, solve, Fit};
use crate::ir::poly::Chebyshev;

/// Points per degree on which extrema are looked for.
const POINTS_PER_DEGREE: usize = 24;
/// Exchanges before giving up.
const ROUNDS: usize = 40;
/// Largest error over lower bound at which the polynomial is the best for all purposes.
const GOOD: f64 = 1.002;

/// A fit, and a lower bound of the error of any polynomial of its degree.
#[derive(Clone, Debug)]
pub struct Levelled {
    /// The fit.
    pub fit: Fit,
    /// No polynomial of this degree has a smaller largest weighted error.
    pub bound: f64,
}

/// The best polynomial of this degree; `None` when the exchange does not settle (functions with kinks, errors at rounding level).
pub fn remez(
    f: impl Fn(f64) -> f64,
    weight: impl Fn(f64) -> f64,
    degree: usize,
) -> Option<Levelled> {
    let n = degree + 2;
    let m = (POINTS_PER_DEGREE * n).max(600);
    let points: Vec<f64> = (0..=m)
        .map(|i| -libm::cos(std::f64::consts::PI * i as f64 / m as f64))
        .collect();
    let weights: Vec<f64> = points.iter().map(|&u| weight(u)).collect();
    let values: Vec<f64> = points.iter().map(|&u| f(u)).collect();
    let mut polynomial = interpolate(&f, degree);
    let mut best: Option<Levelled> = None;
    let mut bound = 0f64;
    for _ in 0..ROUNDS {
        let errors: Vec<f64> = (0..=m)
            .map(|i| weights[i] * (polynomial.value(points[i]) - values[i]))
            .collect();
        let reference = alternating(&errors, n)?;
        let w = n + 1;
        let mut system = vec![0.0; n * w];
        for (row, &at) in reference.iter().enumerate() {
            let t = basis(points[at], degree);
            system[row * w..row * w + degree + 1].copy_from_slice(&t);
            let sign = if row % 2 == 0 { 1.0 } else { -1.0 };
            system[row * w + degree + 1] = sign / weights[at];
            system[row * w + n] = values[at];
        }
        let mut solution = solve(system, n)?;
        bound = bound.max(solution.pop()?.abs());
        polynomial = Chebyshev {
            coefficients: solution,
        };
        let error = measure(&polynomial, &f, &weight);
        if best.as_ref().is_none_or(|b| error < b.fit.error) {
            best = Some(Levelled {
                fit: Fit {
                    polynomial: polynomial.clone(),
                    error,
                },
                bound,
            });
        }
        if let Some(found) = &mut best {
            found.bound = bound;
            if found.fit.error <= bound * GOOD {
                break;
            }
        }
    }
    best
}

/// Places of `n` extrema of alternating sign: the largest error of each run of one sign, runs at the ends given up first.
fn alternating(errors: &[f64], n: usize) -> Option<Vec<usize>> {
    let mut runs: Vec<usize> = Vec::new();
    for (i, e) in errors.iter().enumerate() {
        match runs.last_mut() {
            Some(last) if (errors[*last] > 0.0) == (*e > 0.0) => {
                if e.abs() > errors[*last].abs() {
                    *last = i;
                }
            }
            _ => runs.push(i),
        }
    }
    while runs.len() > n {
        let (first, last) = (runs[0], runs[runs.len() - 1]);
        if errors[first].abs() < errors[last].abs() {
            runs.remove(0);
        } else {
            runs.pop();
        }
    }
    (runs.len() == n).then_some(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approx::minimax::lawson;
    use crate::ir::tensor::Function;

    #[test]
    fn known_minimax_errors_are_reached() {
        // 1/(u − a) has the minimax error 1/((a² − 1) (a + √(a² − 1))^n) (Chebyshev, Bernstein).
        for (a, degree) in [(1.5f64, 5), (1.2, 15), (1.05, 31)] {
            let root = (a * a - 1.0).sqrt();
            let known = (a - root).powi(degree as i32) / (a * a - 1.0);
            let found = remez(|u| 1.0 / (u - a), |_| 1.0, degree).unwrap();
            println!(
                "1/(u - {a}), degree {degree}: {:.6e}, known {known:.6e}, lower bound {:.6e}",
                found.fit.error, found.bound
            );
            assert!((found.fit.error / known - 1.0).abs() < 2e-3);
            assert!(found.bound <= known * (1.0 + 1e-6) && found.bound > known * 0.998);
        }
    }

    /// Two algorithms that share nothing but the measure of errors.
    #[test]
    fn the_exchange_gives_what_reweighting_gives() {
        type Case = (
            &'static str,
            Box<dyn Fn(f64) -> f64>,
            Box<dyn Fn(f64) -> f64>,
            usize,
        );
        let cases: Vec<Case> = vec![
            (
                "gelu on [-4, 4]",
                Box::new(|u| Function::Gelu.value(4.0 * u)),
                Box::new(|_| 1.0),
                15,
            ),
            (
                "gelu on [-5, 3]",
                Box::new(|u| Function::Gelu.value(4.0 * u - 1.0)),
                Box::new(|_| 1.0),
                31,
            ),
            (
                "silu on [-8, 6]",
                Box::new(|u| Function::Silu.value(7.0 * u - 1.0)),
                Box::new(|_| 1.0),
                31,
            ),
            (
                "tanh on [-3, 3]",
                Box::new(|u| Function::Tanh.value(3.0 * u)),
                Box::new(|_| 1.0),
                15,
            ),
            (
                "1/sqrt on [1, 30]",
                Box::new(|u| 1.0 / (15.5 + 14.5 * u).sqrt()),
                Box::new(|u| (15.5 + 14.5 * u).sqrt()),
                15,
            ),
        ];
        for (name, f, weight, degree) in cases {
            let exact = remez(&f, &weight, degree).expect("settles");
            let plain = lawson(&f, &weight, degree);
            println!(
                "{name}, degree {degree}: exchange {:.4e} (lower bound {:.4e}), reweighting {:.4e}: {:+.2} %",
                exact.fit.error,
                exact.bound,
                plain.error,
                100.0 * (plain.error / exact.fit.error - 1.0)
            );
            assert!(exact.fit.error <= exact.bound * 1.02);
            // Both stop within a thousandth of the best.
            assert!(exact.fit.error <= plain.error * 1.002);
        }
    }
}
