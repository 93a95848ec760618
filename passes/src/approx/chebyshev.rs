//! The Chebyshev basis on [-1, 1].

use crate::ir::poly::Chebyshev;

impl Chebyshev {
    /// Σ c_k T_k(u) by Clenshaw's recurrence. Defined for every u; grows fast outside [-1, 1].
    pub fn value(&self, u: f64) -> f64 {
        let (mut b1, mut b2) = (0.0, 0.0);
        for &c in self.coefficients.iter().skip(1).rev() {
            (b1, b2) = (2.0 * u * b1 - b2 + c, b1);
        }
        u * b1 - b2 + self.coefficients.first().copied().unwrap_or(0.0)
    }

    /// Degree, counting a trailing coefficient even when it is zero.
    pub fn degree(&self) -> usize {
        self.coefficients.len().saturating_sub(1)
    }

    /// Every coefficient times `factor`.
    pub fn scaled(&self, factor: f64) -> Chebyshev {
        Chebyshev {
            coefficients: self.coefficients.iter().map(|c| c * factor).collect(),
        }
    }

    /// Levels of a depth-optimal evaluation: ⌈log2(degree + 1)⌉.
    pub fn depth(&self) -> usize {
        (usize::BITS - self.degree().leading_zeros()) as usize
    }
}

/// Interpolates `f` at the `degree + 1` Chebyshev nodes of [-1, 1].
pub fn interpolate(f: impl Fn(f64) -> f64, degree: usize) -> Chebyshev {
    let n = degree + 1;
    let angle = |k: usize| std::f64::consts::PI * (k as f64 + 0.5) / n as f64;
    let values: Vec<f64> = (0..n).map(|k| f(libm::cos(angle(k)))).collect();
    let coefficients = (0..n)
        .map(|j| {
            let sum: f64 = (0..n)
                .map(|k| values[k] * libm::cos(j as f64 * angle(k)))
                .sum();
            sum * if j == 0 { 1.0 } else { 2.0 } / n as f64
        })
        .collect();
    Chebyshev { coefficients }
}

/// T_0(u) … T_degree(u).
pub fn basis(u: f64, degree: usize) -> Vec<f64> {
    let mut t = vec![1.0; degree + 1];
    if degree > 0 {
        t[1] = u;
    }
    for k in 2..=degree {
        t[k] = 2.0 * u * t[k - 1] - t[k - 2];
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_reproduces_a_polynomial() {
        let f = |u: f64| 3.0 - u + 4.0 * u * u * u;
        let p = interpolate(f, 3);
        for u in [-1.0, -0.3, 0.0, 0.8, 1.0, 1.5] {
            assert!((p.value(u) - f(u)).abs() < 1e-13);
        }
    }

    #[test]
    fn depth_is_the_logarithm_of_degree_plus_one() {
        let depth = |d: usize| {
            Chebyshev {
                coefficients: vec![1.0; d + 1],
            }
            .depth()
        };
        assert_eq!(
            [
                depth(1),
                depth(2),
                depth(3),
                depth(4),
                depth(7),
                depth(8),
                depth(31)
            ],
            [1, 2, 2, 3, 3, 4, 5]
        );
    }
}
