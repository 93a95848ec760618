//! 1/z on a positive interval as a chain of squares: relaxed Goldschmidt with the optimal relaxation at every step.
//!
//! Let u = (z − mid)/half in [-1, 1] and κ = mid/half > 1. Goldschmidt writes 1/z = Π (1 + (1 − z)^(2^j)) for z near 1; relaxing every
//! step by the factor that centres what is left again (eprint 2024/1881, section on the relaxed inverse) leaves the residual
//! 1 − z·y(z) = T_{2^K}(u)/T_{2^K}(κ) up to sign, the smallest any polynomial of degree 2^K − 1 can have. With τ_j = T_{2^j}(κ)
//! and T_{2m} = 2 T_m² − 1 the product is y ∝ Π_{j<K} (τ_j + T_{2^j}(v)) with v = −u.

use super::minimax::minimax;
use crate::ir::poly::{Evaluation, SquareStep};
use crate::ir::shape::Interval;

/// An evaluation of 1/z and its relative error.
#[derive(Clone, Debug)]
pub struct ReciprocalFit {
    /// A chain ([`Evaluation::Reciprocal`]), or one polynomial of the same depth where the interval is short.
    pub evaluation: Evaluation,
    /// The argument is `input.0 · z + input.1`, in [-1, 1].
    pub input: (f64, f64),
    /// The output is this over z.
    pub output_factor: f64,
    /// max |z y(z) − 1|.
    pub error: f64,
    /// Number of factors K of a chain (its depth; 2K − 2 products), or the degree of a polynomial.
    pub degree_or_iterations: usize,
}

/// Largest output of a chain that is accepted: the factors of a short interval grow instead of shrinking.
const LARGEST_OUTPUT: f64 = 32.0;

/// The shallowest evaluation whose relative error on `interval` is at most `tolerance`, of at most `most` levels.
/// `None` when the interval is not positive or no such evaluation exists.
pub fn reciprocal(interval: Interval, tolerance: f64, most: usize) -> Option<ReciprocalFit> {
    let (lo, hi) = (interval.lo, interval.hi);
    if !(lo > 0.0 && hi > lo && hi.is_finite()) {
        return None;
    }
    let (mid, half) = ((hi + lo) / 2.0, (hi - lo) / 2.0);
    let mut tau = vec![mid / half];
    for k in 1..=most {
        // |T_{2^k}(u)| ≤ 1, so the residual is at most 1/T_{2^k}(κ).
        let last = 2.0 * tau[k - 1] * tau[k - 1] - 1.0;
        if 1.0 / last <= tolerance {
            let fit = chain(mid, half, &tau, 1.0 / last);
            if fit.output_factor / lo <= LARGEST_OUTPUT {
                return Some(fit);
            }
            let degree = (1 << k) - 1;
            let z = |u: f64| mid + half * u;
            let p = minimax(|u| lo / z(u), |u| z(u) / lo, degree);
            return Some(ReciprocalFit {
                evaluation: Evaluation::Polynomial(p.polynomial),
                input: (1.0 / half, -mid / half),
                output_factor: lo,
                error: p.error,
                degree_or_iterations: degree,
            });
        }
        tau.push(last);
    }
    None
}

/// The chain with factors α_j (τ_j + T_{2^j}(v)), v = (mid − z)/half, its argument α_0 v. The α_j keep every partial product at most 1
/// (its largest value, at v = 1, where z is smallest), so that it may be bootstrapped anywhere; on a short interval they cannot.
fn chain(mid: f64, half: f64, tau: &[f64], error: f64) -> ReciprocalFit {
    // Multipliers are integers: a smaller argument leaves them room.
    let tries = (0..8).map(|i| scaled_chain(mid, half, tau, error, 1.0 - 0.07 * f64::from(i)));
    let mut first = None;
    for (fit, largest) in tries {
        if largest <= 1.0 + 1e-6 {
            return fit;
        }
        first.get_or_insert(fit);
    }
    first.unwrap_or_else(|| scaled_chain(mid, half, tau, error, 1.0).0)
}

/// The chain whose first factor is at most `most`, and the largest partial product.
fn scaled_chain(mid: f64, half: f64, tau: &[f64], error: f64, most: f64) -> (ReciprocalFit, f64) {
    // s_j = α_j T_{2^j}(v); s_{j+1} = m s_j² − α_{j+1} with α_{j+1} = m α_j²/2, m the largest integer that keeps the product at most 1.
    let first = if tau.len() == 1 {
        1.0
    } else {
        most / (tau[0] + 1.0)
    };
    let mut alpha = first;
    let mut squares = Vec::new();
    let mut shifts = vec![alpha * tau[0]];
    let (mut scale, mut largest) = (alpha, alpha * (tau[0] + 1.0));
    for &t in &tau[1..] {
        let m = (2.0 / ((t + 1.0) * alpha * alpha * largest) + 1e-9)
            .floor()
            .clamp(1.0, 256.0);
        let next = m * alpha * alpha / 2.0;
        squares.push(SquareStep {
            multiplier: m as i32,
            constant: -next,
        });
        shifts.push(next * t);
        alpha = next;
        scale *= next;
        largest *= next * (t + 1.0);
    }
    // τ_{j+1} − T_{2^{j+1}} = 2 (τ_j − T_{2^j}) (τ_j + T_{2^j}) telescopes to (τ_0 − v) Π (τ_j + T_{2^j}(v)) = (τ_K − T_{2^K}(v)) / 2^K,
    // and τ_0 − v is z/half.
    let k = tau.len();
    let last = 2.0 * tau[k - 1] * tau[k - 1] - 1.0;
    let output_factor = scale * half * last / 2f64.powi(k as i32);
    let fit = ReciprocalFit {
        evaluation: Evaluation::Reciprocal {
            squares,
            shifts,
            output_factor,
            mid,
            half: -half / first,
        },
        input: (-first / half, first * mid / half),
        output_factor,
        error,
        degree_or_iterations: k,
    };
    (fit, largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_reaches_its_predicted_relative_error() {
        for (ratio, tolerance) in [
            (2.0, 1e-4),
            (60.0, 2f64.powi(-11)),
            (256.0, 2f64.powi(-14)),
            (4096.0, 1e-3),
        ] {
            let interval = Interval::new(0.3, 0.3 * ratio);
            let fit = reciprocal(interval, tolerance, 12).unwrap();
            let (mut worst, mut largest) = (0f64, 0f64);
            for i in 0..=5000 {
                let z = interval.lo * ratio.powf(i as f64 / 5000.0);
                let u = fit.input.0 * z + fit.input.1;
                assert!(u.abs() <= 1.0 + 1e-12);
                let y = fit.evaluation.value(u);
                largest = largest.max(y);
                worst = worst.max((y * z / fit.output_factor - 1.0).abs());
            }
            println!(
                "ratio {ratio}: K or degree {}, predicted {:.3e}, measured {worst:.3e}, largest output {largest:.2}",
                fit.degree_or_iterations, fit.error
            );
            assert!(worst <= fit.error * (1.0 + 1e-3) && worst > fit.error * 0.5);
            // Long chains stay within [-1, 1] and use most of it; a short interval's factors grow.
            let bound = if ratio > 4.0 {
                1.0 + 1e-9
            } else {
                LARGEST_OUTPUT
            };
            assert!(largest <= bound && largest > 0.4);
        }
    }

    #[test]
    fn every_partial_product_of_a_chain_may_be_bootstrapped() {
        for ratio in [10.0, 60.0, 513.0, 3e4] {
            let fit = reciprocal(Interval::new(1.0, ratio), 1e-5, 12).unwrap();
            let Evaluation::Reciprocal {
                squares, shifts, ..
            } = &fit.evaluation
            else {
                panic!("a chain expected");
            };
            let mut worst = 0f64;
            for i in 0..=2000 {
                let mut s =
                    fit.input.0 * (1.0 + (ratio - 1.0) * f64::from(i) / 2000.0) + fit.input.1;
                let mut product = s + shifts[0];
                for (step, shift) in squares.iter().zip(&shifts[1..]) {
                    s = f64::from(step.multiplier) * s * s + step.constant;
                    product *= s + shift;
                    worst = worst.max(product.abs()).max(s.abs());
                }
            }
            println!("ratio {ratio}: largest value {worst:.4} (bound 1)");
            assert!(worst <= 1.0 + 1e-6 && worst > 0.4);
        }
    }

    #[test]
    fn ratio_256_at_14_bits_takes_seven_factors() {
        assert_eq!(
            reciprocal(Interval::new(1.0, 256.0), 2f64.powi(-14), 12)
                .unwrap()
                .degree_or_iterations,
            7
        );
    }

    #[test]
    fn an_interval_that_touches_zero_is_refused() {
        assert!(reciprocal(Interval::new(0.0, 1.0), 1e-3, 12).is_none());
        assert!(reciprocal(Interval::new(1.0, 1e9), 1e-3, 6).is_none());
    }
}
