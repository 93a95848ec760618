//! The polynomial of EvalMod: cos(w·y) for |y| ≤ 1 in Chebyshev form, coefficients by integer arithmetic, the same on every machine.
//!
//! cos(w·y) = J_0(w) + 2 Σ_k (-1)^k J_2k(w) T_2k(y) is even, and T_2k(y) = T_k(u) with u = 2y² - 1: half the degree in u.
//! With w = 2π(K + 1/4 + 1/64)/2^r and y = (t - 1/4)/(K + 1/4 + 1/64), r doublings v ← 2v² - 1 give cos(2π(t - 1/4)) = sin(2πt), which is
//! 2π(t - round t) up to a cubic error near integers (eprint 2018/153; even form and double angle: eprint 2019/688).

use num_bigint::{BigInt, Sign};

/// Bits after the point. Terms reach e^w ≈ 2^37 and the results have 53 bits.
const PRECISION: u64 = 256;

/// What is approximated: reduction modulo 1 of t with |t| ≤ K + 1/64, near integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosine {
    /// K: largest integer part.
    pub range: u32,
    /// r: number of double-angle steps.
    pub doublings: u32,
    /// Degree in u = 2y² - 1.
    pub half_degree: u32,
}

impl Cosine {
    /// K = 16, which a key of hamming weight 32 never leaves; two doublings; degree 56 in y: 2^-48.8 of q0.
    pub const STANDARD: Cosine = Cosine {
        range: 16,
        doublings: 2,
        half_degree: 28,
    };

    /// K + 1/4 + 1/64: what t - 1/4 is divided by.
    pub fn half_width(&self) -> f64 {
        f64::from(self.range) + 0.25 + 1.0 / 64.0
    }

    /// Coefficients of T_0(u), T_1(u), …, T_half_degree(u), rounded to f64 once.
    pub fn coefficients(&self) -> Vec<f64> {
        (0..=self.half_degree)
            .map(|k| {
                let j = self.bessel(2 * k);
                let twice = if k == 0 { j } else { j * 2 };
                to_f64(&if k % 2 == 0 { twice } else { -twice })
            })
            .collect()
    }

    /// Largest error of sin(2πt)/2π from truncating the series, from the coefficients left out: each doubling at most quadruples it.
    pub fn truncation_error(&self) -> f64 {
        let tail: f64 = (1..=14)
            .map(|k| 2.0 * to_f64(&self.bessel(2 * (self.half_degree + k))).abs())
            .sum();
        tail * f64::from(1u32 << (2 * self.doublings)) / std::f64::consts::TAU
    }

    /// J_m(w) in fixed point: Σ_j (-1)^j (w/2)^(2j+m) / (j! (j+m)!).
    fn bessel(&self, m: u32) -> BigInt {
        // w/2 = π (64K + 17)/64 / 2^r.
        let half: BigInt = (pi() * (64 * self.range + 17)) >> (6 + self.doublings);
        let square: BigInt = (&half * &half) >> PRECISION;
        let mut term = BigInt::from(1) << PRECISION;
        for i in 1..=m {
            term = ((term * &half) >> PRECISION) / i;
        }
        let mut sum = BigInt::ZERO;
        let mut j = 0u32;
        while term.bits() != 0 {
            sum += &term;
            j += 1;
            term = -(((term * &square) >> PRECISION) / (u64::from(j) * u64::from(j + m)));
            // An arithmetic shift of a negative number stops at -1 unit.
            if term.bits() <= 1 {
                break;
            }
        }
        sum
    }

    /// What EvalMod computes, sin(2πt) from t, through the same polynomial in f64: the oracle of the encrypted circuit.
    pub fn evaluate(&self, t: f64) -> f64 {
        let y = (t - 0.25) / self.half_width();
        let mut v = chebyshev(&self.coefficients(), 2.0 * y * y - 1.0);
        for _ in 0..self.doublings {
            v = 2.0 * v * v - 1.0;
        }
        v
    }
}

/// Σ c_k T_k(u), by Clenshaw's recurrence.
pub fn chebyshev(coefficients: &[f64], u: f64) -> f64 {
    let (mut b1, mut b2) = (0.0, 0.0);
    for &c in coefficients.iter().skip(1).rev() {
        (b1, b2) = (2.0 * u * b1 - b2 + c, b1);
    }
    u * b1 - b2 + coefficients.first().copied().unwrap_or(0.0)
}

/// π in fixed point, by Machin's formula.
fn pi() -> BigInt {
    let arctan_of_inverse = |x: u32| {
        let mut power: BigInt = (BigInt::from(1) << (PRECISION + 32)) / x;
        let mut sum = BigInt::ZERO;
        let mut k = 0u32;
        while power.bits() != 0 {
            let term = &power / (2 * k + 1);
            sum += if k.is_multiple_of(2) { term } else { -term };
            power /= x * x;
            k += 1;
        }
        sum
    };
    let pi: BigInt = (arctan_of_inverse(5) * 16 - arctan_of_inverse(239) * 4) >> 32u64;
    pi
}

/// A fixed-point number to f64, cut to 64 bits first.
fn to_f64(x: &BigInt) -> f64 {
    let magnitude = x.magnitude();
    let drop = magnitude.bits().saturating_sub(64);
    let top = (magnitude >> drop).iter_u64_digits().next().unwrap_or(0);
    let exponent = drop as i64 - PRECISION as i64;
    // Both factors are powers of two within f64's range: exact.
    let value = top as f64 * 2f64.powi(exponent as i32);
    if x.sign() == Sign::Minus {
        -value
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_agree_with_the_cosine() {
        let c = Cosine::STANDARD;
        let coefficients = c.coefficients();
        let w = std::f64::consts::TAU * c.half_width() / 4.0;
        let mut worst = 0f64;
        for i in 0..=2000 {
            let y = f64::from(i) / 1000.0 - 1.0;
            let error = chebyshev(&coefficients, 2.0 * y * y - 1.0) - (w * y).cos();
            worst = worst.max(error.abs());
        }
        // f64's own cosine of 25.5·y and 28 terms of Clenshaw cost a few 2^-50.
        assert!(
            worst < 2f64.powi(-45),
            "{:.1} bits, bound 45",
            -worst.log2()
        );
    }

    #[test]
    fn truncation_is_two_to_the_minus_48_of_q0_as_in_the_parameter_sheet() {
        let bits = -Cosine::STANDARD.truncation_error().log2();
        assert!((48.5..49.2).contains(&bits), "{bits}");
        assert_eq!(to_f64(&pi()), std::f64::consts::PI);
    }

    #[test]
    fn reduction_works_on_the_whole_range_and_no_further() {
        let c = Cosine::STANDARD;
        let mut worst = 0f64;
        for integer in -16..=16 {
            for m in [-1.0 / 64.0, -0.001, 0.0, 0.0007, 1.0 / 64.0] {
                let expected = (std::f64::consts::TAU * m).sin();
                worst = worst.max((c.evaluate(f64::from(integer) + m) - expected).abs());
            }
        }
        assert!(
            worst < 2f64.powi(-38),
            "{:.1} bits, bound 38 (f64 rounding amplified)",
            -worst.log2()
        );
        assert!((c.evaluate(24.0)).abs() > 1.0);
    }
}
