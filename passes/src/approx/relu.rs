//! ReLU on an interval around 0: relu(h u) = h (u + |u|) / 2, so that one even polynomial for |u| serves every range.
//!
//! |u| = √t with t = u², and T_k(2t − 1) = T_{2k}(u): the fit is that of √t at half the degree, without a kink inside its interval, so
//! that the exchange settles. Its error falls with 0.28/degree (Bernstein, Acta Math. 37, 1914), ReLU's with half of that.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::minimax::{measure, minimax, Fit};
use crate::ir::poly::Chebyshev;

/// Fits of |u| made so far, by degree: every ReLU of a model and every round of tightening asks for the same few.
static ABSOLUTE: Mutex<BTreeMap<usize, Fit>> = Mutex::new(BTreeMap::new());

/// The best even polynomial for |u| on [-1, 1] of degree `degree` (of the even number below, if odd).
fn absolute(degree: usize) -> Fit {
    let known = |key: &usize| {
        let fits = ABSOLUTE.lock().unwrap_or_else(PoisonError::into_inner);
        fits.get(key).cloned()
    };
    let half = degree / 2;
    if let Some(fit) = known(&half) {
        return fit;
    }
    let root = minimax(|v| ((1.0 + v) / 2.0).max(0.0).sqrt(), |_| 1.0, half);
    let mut coefficients = vec![0.0; 2 * half + 1];
    for (k, c) in root.polynomial.coefficients.into_iter().enumerate() {
        coefficients[2 * k] = c;
    }
    let polynomial = Chebyshev { coefficients };
    let fit = Fit {
        error: measure(&polynomial, f64::abs, |_| 1.0),
        polynomial,
    };
    let mut fits = ABSOLUTE.lock().unwrap_or_else(PoisonError::into_inner);
    fits.insert(half, fit.clone());
    fit
}

/// A polynomial p(u) ≈ relu(half · u) on [-1, 1] of at most this degree (at least 1), and its largest error.
pub fn relu(half: f64, degree: usize) -> Fit {
    let Fit {
        mut polynomial,
        error,
    } = absolute(degree);
    polynomial
        .coefficients
        .iter_mut()
        .for_each(|c| *c *= half / 2.0);
    polynomial
        .coefficients
        .resize(polynomial.coefficients.len().max(2), 0.0);
    polynomial.coefficients[1] += half / 2.0;
    Fit {
        polynomial,
        error: error * half / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_falls_as_bernstein_says_and_holds_between_the_points_of_the_fit() {
        for degree in [7, 31, 127, 511] {
            let fit = relu(3.0, degree);
            let constant = fit.error * (degree - 1) as f64 / 1.5;
            assert!(
                (0.26..0.30).contains(&constant),
                "degree {degree}: {constant}"
            );
            let worst = (0..=20_000)
                .map(|i| -1.0 + f64::from(i) * 1e-4)
                .map(|u| (fit.polynomial.value(u) - 3.0 * u.max(0.0)).abs())
                .fold(0.0, f64::max);
            assert!(
                worst <= fit.error && worst > 0.9 * fit.error,
                "degree {degree}: {worst} of {}",
                fit.error
            );
        }
    }
}
