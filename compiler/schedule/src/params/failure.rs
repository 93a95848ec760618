//! How likely bootstrapping's range is left, by exact arithmetic.
//!
//! After an exact centred ModRaise a coefficient divided by q0 is a sum of h + 1 independent uniforms on [-1/2, 1/2] (Irwin-Hall), h the
//! ephemeral secret's hamming weight. It never exceeds (h + 1)/2, so with h = 32 an interval of K ≥ 16.5 cannot be left at all.
//! With messages below q0/64 the sum lies within 1/64 of an integer, hence K = 16 + 1/64 already cannot be left either
//! ([`cannot_leave_interval`]); [`log2_interval_failure`] is the bound that uses no knowledge of the message.

use num_bigint::{BigInt, BigUint, Sign};

/// Base-two logarithm of (an upper bound of) a probability; negative infinity when it is zero.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Log2Probability(pub f64);

/// K in units of 1/64, so that it is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval64(pub u32);

/// Probability that any of `coefficients` coefficients in any of `bootstraps` bootstraps lies outside [-K, K], by the union bound over the
/// exact Irwin-Hall tail. `coefficients` is N for a full bootstrap (real and imaginary part), less for sparse slots.
pub fn log2_interval_failure(
    hamming_weight: u32,
    interval: Interval64,
    coefficients: u64,
    bootstraps: u64,
) -> Log2Probability {
    let n = hamming_weight + 1;
    // P = 2/n! Σ_k (-1)^k C(n,k) (y-k)^n over k < y, y = n/2 - K; here everything times 64^n.
    let y = i64::from(n) * 32 - i64::from(interval.0);
    let mut sum = BigInt::ZERO;
    let mut binomial = BigUint::from(1u8);
    for k in 0..=i64::from(n) {
        let t = y - 64 * k;
        if t <= 0 {
            break;
        }
        let term = BigUint::from(t.unsigned_abs()).pow(n) * &binomial;
        let sign = if k % 2 == 0 { Sign::Plus } else { Sign::Minus };
        sum += BigInt::from_biguint(sign, term);
        binomial = binomial * (u64::from(n) - k.unsigned_abs()) / (k.unsigned_abs() + 1);
    }
    let times: BigUint = BigUint::from(coefficients) * bootstraps * 2u8;
    let numerator: BigUint = sum.magnitude() * times;
    let factorial = (1..=n).fold(BigUint::from(1u8), |f, i| f * i);
    let denominator = factorial << (6 * u64::from(n));
    if numerator.bits() == 0 {
        return Log2Probability(f64::NEG_INFINITY);
    }
    Log2Probability((log2(&numerator) - log2(&denominator)).min(0.0))
}

/// True when no message of size at most q0/`message_ratio` can leave [-K, K]: the sum of the uniforms is an integer plus at most
/// 1/`message_ratio`, and that integer is at most floor((h + 1)/2 + 1/`message_ratio`).
pub fn cannot_leave_interval(
    hamming_weight: u32,
    interval: Interval64,
    message_ratio: u32,
) -> bool {
    let ratio = u64::from(message_ratio);
    if ratio < 2 {
        return false;
    }
    // In units of 1/(2 ratio): (h+1)·ratio + 2 is (h+1)/2 + 1/ratio.
    let largest_integer = ((u64::from(hamming_weight) + 1) * ratio + 2) / (2 * ratio);
    let reach = largest_integer * ratio + 1; // in units of 1/ratio
    reach * 64 <= u64::from(interval.0) * ratio
}

fn log2(value: &BigUint) -> f64 {
    let bits = value.bits();
    let drop = bits.saturating_sub(64);
    let top = (value >> drop).iter_u64_digits().next().unwrap_or(0);
    (top as f64).log2() + drop as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(h: u32, k: u32, coefficients: u64) -> f64 {
        log2_interval_failure(h, Interval64(k * 64), coefficients, 1).0
    }

    #[test]
    fn tails_match_independent_values() {
        // Computed with Python fractions, N = 2^16.
        for (h, k, expected) in [
            (32, 12, -34.11208951885863),
            (32, 14, -62.08403291385793),
            (32, 16, -138.70765777171874),
            (64, 28, -143.97239420668447),
            (192, 48, -100.27452689923513),
        ] {
            let found = at(h, k, 1 << 16);
            assert!(
                (found - expected).abs() < 1e-9,
                "h={h} K={k}: {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn tails_are_the_known_distribution_for_two_uniforms() {
        // h = 1: triangular; P(|t| > 1/2) = 1/4.
        let p = log2_interval_failure(1, Interval64(32), 1, 1).0;
        assert!((p + 2.0).abs() < 1e-12, "{p}");
    }

    #[test]
    fn beyond_the_largest_sum_failure_is_impossible() {
        let p = log2_interval_failure(32, Interval64(16 * 64 + 32), 1 << 16, 1 << 20).0;
        assert_eq!(p, f64::NEG_INFINITY);
        assert!(cannot_leave_interval(32, Interval64(16 * 64 + 1), 64));
        assert!(!cannot_leave_interval(32, Interval64(16 * 64), 64));
        assert!(!cannot_leave_interval(34, Interval64(16 * 64 + 1), 64));
        assert!(!cannot_leave_interval(32, Interval64(16 * 64 + 1), 2));
    }

    #[test]
    fn a_run_of_four_thousand_bootstraps_stays_below_two_to_the_minus_128() {
        let p = log2_interval_failure(32, Interval64(16 * 64 + 1), 1 << 16, 4000).0;
        assert!(p <= -128.0, "2^{p}");
    }
}
