//! Exact-enough scales: 128-bit mantissa, integer arithmetic only, the same on every machine.

use num_bigint::{BigInt, BigUint, Sign};
use std::fmt;

/// A positive factor between a real value and its integer, `mantissa · 2^exponent` with the top bit of the mantissa set.
/// Every operation rounds half to even at 128 bits (relative error at most 2^-128).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scale {
    mantissa: u128,
    exponent: i32,
}

/// Exponents beyond this come from no chain of ours and would only serve to make numbers huge.
const EXPONENT_LIMIT: i32 = 1 << 14;

impl Scale {
    /// The scale 1.
    pub const ONE: Scale = Scale {
        mantissa: 1 << 127,
        exponent: -127,
    };

    /// 2^log2. `None` beyond ±2^13.
    pub fn power_of_two(log2: i32) -> Option<Scale> {
        (log2.unsigned_abs() <= 1 << 13).then_some(Scale {
            mantissa: 1 << 127,
            exponent: log2 - 127,
        })
    }

    /// The exact value of a positive finite `value`; `None` otherwise.
    pub fn from_f64(value: f64) -> Option<Scale> {
        if !(value.is_finite() && value > 0.0) {
            return None;
        }
        let (mantissa, exponent) = split(value);
        let shift = u128::from(mantissa).leading_zeros();
        Some(Scale {
            mantissa: u128::from(mantissa) << shift,
            exponent: exponent - shift as i32,
        })
    }

    /// numerator · 2^shift / denominator, rounded. `None` if either is zero or the exponent leaves its bounds.
    pub fn from_ratio(numerator: &BigUint, denominator: &BigUint, shift: i32) -> Option<Scale> {
        if numerator.bits() == 0 || denominator.bits() == 0 {
            return None;
        }
        // A quotient of 130 or 131 bits, so that what is cut off always includes a guard bit and a sticky bit.
        let up = 130 + denominator.bits() as i64 - numerator.bits() as i64;
        let (n, d) = if up >= 0 {
            (numerator << up as u64, denominator.clone())
        } else {
            (numerator.clone(), denominator << up.unsigned_abs())
        };
        let quotient = &n / &d;
        let sticky = &quotient * &d != n;
        Self::round(&quotient, sticky, i64::from(shift) - up)
    }

    fn round(integer: &BigUint, sticky: bool, exponent: i64) -> Option<Scale> {
        let drop = integer.bits() as i64 - 128;
        if drop <= 0 {
            let digits = low_u128(&(integer << drop.unsigned_abs()));
            return Self::checked(digits, exponent + drop);
        }
        let kept = integer >> drop as u64;
        let half = BigUint::from(1u8) << (drop - 1) as u64;
        let rest = integer - (&kept << drop as u64);
        let mut mantissa = low_u128(&kept);
        let mut exponent = exponent + drop;
        if rest > half || (rest == half && (sticky || mantissa & 1 == 1)) {
            match mantissa.checked_add(1) {
                Some(m) => mantissa = m,
                None => {
                    mantissa = 1 << 127;
                    exponent += 1;
                }
            }
        }
        Self::checked(mantissa, exponent)
    }

    fn checked(mantissa: u128, exponent: i64) -> Option<Scale> {
        let exponent = i32::try_from(exponent).ok()?;
        (exponent.unsigned_abs() <= EXPONENT_LIMIT as u32 && mantissa >> 127 == 1)
            .then_some(Scale { mantissa, exponent })
    }

    /// The value as `(mantissa, exponent)`, for files.
    pub fn to_parts(self) -> (u128, i32) {
        (self.mantissa, self.exponent)
    }

    /// The inverse of [`Scale::to_parts`]; `None` unless the mantissa's top bit is set and the exponent within bounds.
    pub fn from_parts(mantissa: u128, exponent: i32) -> Option<Scale> {
        Self::checked(mantissa, i64::from(exponent))
    }

    /// self · other. `None` when the exponent leaves its bounds.
    pub fn times(self, other: Scale) -> Option<Scale> {
        let product = BigUint::from(self.mantissa) * BigUint::from(other.mantissa);
        Self::round(
            &product,
            false,
            i64::from(self.exponent) + i64::from(other.exponent),
        )
    }

    /// self / other. `None` when the exponent leaves its bounds.
    pub fn over(self, other: Scale) -> Option<Scale> {
        Self::from_ratio(
            &BigUint::from(self.mantissa),
            &BigUint::from(other.mantissa),
            self.exponent.checked_sub(other.exponent)?,
        )
    }

    /// self · Π numerator / Π denominator, rounded once.
    pub fn times_ratio(self, numerator: &BigUint, denominator: &BigUint) -> Option<Scale> {
        Self::from_ratio(
            &(BigUint::from(self.mantissa) * numerator),
            denominator,
            self.exponent,
        )
    }

    /// The nearest f64 (half to even); infinite or zero beyond its range.
    pub fn to_f64(self) -> f64 {
        let drop = 128 - 53;
        let mut m = (self.mantissa >> drop) as u64;
        let rest = self.mantissa & ((1 << drop) - 1);
        let half = 1u128 << (drop - 1);
        if rest > half || (rest == half && m & 1 == 1) {
            m += 1;
        }
        let mut value = m as f64;
        let mut exponent = self.exponent + drop;
        // Powers of two are exact, and the mantissa is at most 2^53: only the last step could round (subnormals).
        while exponent > 0 && value.is_finite() {
            let step = exponent.min(1000);
            value *= f64::from_bits(((1023 + step) as u64) << 52);
            exponent -= step;
        }
        while exponent < 0 && value != 0.0 {
            let step = (-exponent).min(1000);
            value *= f64::from_bits(((1023 - step) as u64) << 52);
            exponent += step;
        }
        value
    }

    /// Base-two logarithm, for reports and estimates.
    pub fn log2(self) -> f64 {
        let m = (self.mantissa >> 64) as u64 as f64 / 2f64.powi(63);
        m.log2() + f64::from(self.exponent + 127)
    }

    /// Whether the two differ by at most 2^-45 of their size: the tolerance below which operands count as equally scaled.
    pub fn agrees_with(self, other: Scale) -> bool {
        let (low, high) = if (self.exponent, self.mantissa) <= (other.exponent, other.mantissa) {
            (self, other)
        } else {
            (other, self)
        };
        let bound = high.mantissa >> 45;
        match high.exponent - low.exponent {
            0 => high.mantissa - low.mantissa <= bound,
            // low is one binade below: compare low with twice high, without leaving 128 bits.
            1 => (high.mantissa - (1 << 127)) + ((u128::MAX - low.mantissa) >> 1) < bound,
            _ => false,
        }
    }

    /// round(value · self), half to even, exact. `None` for a value that is not finite.
    pub fn scaled_integer(self, value: f64) -> Option<BigInt> {
        if !value.is_finite() {
            return None;
        }
        let (m, e) = split(value.abs());
        let product = BigUint::from(m) * BigUint::from(self.mantissa);
        let magnitude = shift_round(product, i64::from(e) + i64::from(self.exponent));
        let sign = if value < 0.0 { Sign::Minus } else { Sign::Plus };
        Some(BigInt::from_biguint(sign, magnitude))
    }
}

impl fmt::Debug for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{:.6}", self.log2())
    }
}

/// mantissa · 2^exponent of a finite non-negative value, exact.
fn split(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    match ((bits >> 52) & 0x7ff) as i32 {
        0 => (fraction, -1074),
        e => (fraction | 1 << 52, e - 1075),
    }
}

/// integer · 2^exponent, rounded half to even.
fn shift_round(integer: BigUint, exponent: i64) -> BigUint {
    if exponent >= 0 {
        return integer << exponent as u64;
    }
    let drop = exponent.unsigned_abs();
    if drop > integer.bits() + 1 {
        return BigUint::ZERO;
    }
    let kept = &integer >> drop;
    let rest = &integer - (&kept << drop);
    let half = BigUint::from(1u8) << (drop - 1);
    if rest > half || (rest == half && kept.bit(0)) {
        kept + 1u8
    } else {
        kept
    }
}

fn low_u128(value: &BigUint) -> u128 {
    let mut digits = value.iter_u64_digits();
    let low = digits.next().unwrap_or(0);
    let high = digits.next().unwrap_or(0);
    u128::from(low) | u128::from(high) << 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f64_values_pass_through_unchanged() {
        for v in [1.0, 0.1, 1e300, 3.5e-310, 1.0995e12, f64::MIN_POSITIVE] {
            assert_eq!(Scale::from_f64(v).map(Scale::to_f64), Some(v));
        }
        for v in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Scale::from_f64(v), None);
        }
    }

    #[test]
    fn quotient_times_divisor_returns_within_one_part_in_two_to_the_127() {
        let a = Scale::from_f64(1.0e12).unwrap();
        let b = Scale::from_f64(7.3e5).unwrap();
        let back = a.over(b).unwrap().times(b).unwrap();
        let difference = back.mantissa.abs_diff(a.mantissa);
        assert!(difference <= 4, "{difference} units of 2^-127, bound 4");
        let third = Scale::ONE.over(Scale::from_f64(3.0).unwrap()).unwrap();
        assert_eq!(third.mantissa, 0xAAAA_AAAA_AAAA_AAAA_AAAA_AAAA_AAAA_AAAB);
    }

    #[test]
    fn agreement_is_two_to_the_minus_45() {
        let one = Scale::ONE;
        let near = |e: f64| Scale::from_f64(1.0 + e).unwrap();
        assert!(one.agrees_with(near(2f64.powi(-46))) && one.agrees_with(near(-2f64.powi(-46))));
        assert!(!one.agrees_with(near(2f64.powi(-44))) && !one.agrees_with(near(-2f64.powi(-44))));
        assert!(!one.agrees_with(Scale::from_f64(2.0).unwrap()));
        assert!(!one.agrees_with(Scale::from_f64(0.5).unwrap()));
    }

    #[test]
    fn scaled_integers_round_half_to_even() {
        let s = |v: f64| Scale::from_f64(v).unwrap();
        let r = |v: f64, x: f64| s(v).scaled_integer(x).unwrap();
        assert_eq!(r(1.0, 0.5), BigInt::from(0));
        assert_eq!(r(1.0, 1.5), BigInt::from(2));
        assert_eq!(r(1.0, -2.5), BigInt::from(-2));
        assert_eq!(r(1.0, -3.5), BigInt::from(-4));
        assert_eq!(r(2f64.powi(70), -1.0), -BigInt::from(1i128 << 70));
        assert_eq!(r(2f64.powi(-900), 1e-200), BigInt::from(0));
        assert_eq!(s(1.0).scaled_integer(f64::NAN), None);
    }

    #[test]
    fn parts_are_validated() {
        let (m, e) = Scale::ONE.to_parts();
        assert_eq!(Scale::from_parts(m, e), Some(Scale::ONE));
        assert_eq!(Scale::from_parts(m >> 1, e), None);
        assert_eq!(Scale::from_parts(m, i32::MIN), None);
        assert_eq!(Scale::from_parts(m, i32::MAX), None);
    }
}
