//! Roots of unity by double-double arithmetic (T. J. Dekker, Numer. Math. 18 (1971)): an unevaluated sum of two f64, about 104 bits.
//! Only additions, multiplications and divisions of f64, in this order, so the tables are the same on every machine.

use super::Complex;

#[derive(Clone, Copy, Debug)]
struct Double {
    high: f64,
    low: f64,
}

const ZERO: Double = Double {
    high: 0.0,
    low: 0.0,
};
const ONE: Double = Double {
    high: 1.0,
    low: 0.0,
};
/// 2π to 107 bits.
const TWO_PI: Double = Double {
    high: std::f64::consts::TAU,
    low: 2.449_293_598_294_706_4e-16,
};

/// The exact sum of two f64.
fn two_sum(a: f64, b: f64) -> Double {
    let high = a + b;
    let t = high - a;
    let low = (a - (high - t)) + (b - t);
    Double { high, low }
}

/// The exact product of two f64, barring overflow and underflow, by Veltkamp's splitting.
fn two_product(a: f64, b: f64) -> Double {
    let split = |x: f64| {
        let t = 134_217_729.0 * x;
        let high = t - (t - x);
        (high, x - high)
    };
    let (ah, al) = split(a);
    let (bh, bl) = split(b);
    let high = a * b;
    let low = ((ah * bh - high) + ah * bl + al * bh) + al * bl;
    Double { high, low }
}

impl Double {
    fn add(self, other: Double) -> Double {
        let s = two_sum(self.high, other.high);
        let t = two_sum(self.low, other.low);
        let s = two_sum(s.high, s.low + t.high);
        two_sum(s.high, s.low + t.low)
    }
    fn negated(self) -> Double {
        Double {
            high: -self.high,
            low: -self.low,
        }
    }
    fn times(self, other: Double) -> Double {
        let p = two_product(self.high, other.high);
        let low = p.low + (self.high * other.low + self.low * other.high);
        two_sum(p.high, low)
    }
    fn times_exact(self, factor: f64) -> Double {
        self.times(Double {
            high: factor,
            low: 0.0,
        })
    }
    fn over(self, divisor: f64) -> Double {
        let first = self.high / divisor;
        let back = two_product(first, divisor);
        let rest = ((self.high - back.high) - back.low) + self.low;
        two_sum(first, rest / divisor)
    }
}

/// cos θ + i sin θ for 0 ≤ θ ≤ π/4, by Taylor's series until terms vanish.
fn unit(theta: Double) -> (Double, Double) {
    let square = theta.times(theta).negated();
    let series = |first: Double, mut k: f64| {
        let (mut sum, mut term) = (first, first);
        while term.high.abs() > 1e-36 {
            term = term.times(square).over(k * (k + 1.0));
            sum = sum.add(term);
            k += 2.0;
        }
        sum
    };
    (series(ONE, 1.0), series(theta, 2.0))
}

/// The roots of unity of order 2^log_order.
pub(super) struct UnitRoots {
    log_order: u32,
    /// exp(2πi·t/2^log_order) for the first eighth of the circle, ends included.
    octant: Vec<Complex>,
}

impl UnitRoots {
    /// Tables for order 2^log_order, log_order ≥ 3.
    pub fn new(log_order: u32) -> UnitRoots {
        let count = 1usize << (log_order - 3);
        let order = (1u64 << log_order) as f64;
        let angle = |t: usize| TWO_PI.times_exact(t as f64).times_exact(1.0 / order);
        let log_fine = (log_order - 3) / 2;
        let fine: Vec<_> = (0..1 << log_fine).map(|t| unit(angle(t))).collect();
        let coarse: Vec<_> = (0..=count >> log_fine)
            .map(|t| unit(angle(t << log_fine)))
            .collect();
        let octant = (0..=count)
            .map(|t| {
                let (c1, s1) = coarse[t >> log_fine];
                let (c2, s2) = fine[t & ((1 << log_fine) - 1)];
                let cos = c1.times(c2).add(s1.times(s2).negated());
                let sin = s1.times(c2).add(c1.times(s2));
                // The high part is the sum rounded to f64; the sum with zero normalises it.
                Complex::new(cos.add(ZERO).high, sin.add(ZERO).high)
            })
            .collect();
        UnitRoots { log_order, octant }
    }

    /// exp(2πi·t/2^log_order) for any t.
    pub fn get(&self, t: u64) -> Complex {
        let quarter = 1u64 << (self.log_order - 2);
        let rest = t & (quarter - 1);
        let Complex { re, im } = if rest <= quarter / 2 {
            self.octant[rest as usize]
        } else {
            let mirrored = self.octant[(quarter - rest) as usize];
            Complex::new(mirrored.im, mirrored.re)
        };
        match (t >> (self.log_order - 2)) & 3 {
            0 => Complex::new(re, im),
            1 => Complex::new(-im, re),
            2 => Complex::new(-re, -im),
            _ => Complex::new(im, -re),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;

    /// cos and sin of 2π·t/2^log_order with 200 fractional bits, by integer arithmetic alone.
    fn reference(t: u64, log_order: u32) -> (BigInt, BigInt) {
        const BITS: u32 = 240;
        let one = BigInt::from(1u8) << BITS;
        // Machin: π = 16 atan(1/5) - 4 atan(1/239).
        let atan_inverse = |x: i64| {
            let mut power = &one / x;
            let (mut sum, mut k) = (power.clone(), 1i64);
            while power != BigInt::ZERO {
                power = -power / (x * x);
                k += 2;
                sum += &power / k;
            }
            sum
        };
        let pi: BigInt = 16 * atan_inverse(5) - 4 * atan_inverse(239);
        let theta: BigInt = (pi * t) >> (log_order - 1);
        let series = |first: BigInt, mut k: i64| {
            let (mut sum, mut term) = (first.clone(), first);
            while term != BigInt::ZERO {
                term = -((((term * &theta) >> BITS) * &theta) >> BITS) / (k * (k + 1));
                sum += &term;
                k += 2;
                if term == BigInt::from(-1) {
                    break;
                }
            }
            sum
        };
        let cos: BigInt = series(one.clone(), 1) >> 40u32;
        let sin: BigInt = series(theta.clone(), 2) >> 40u32;
        (cos, sin)
    }

    /// |value - exact| in units of the last place of value.
    fn ulps(value: f64, exact: &BigInt) -> f64 {
        let bits = value.abs().to_bits();
        let (mantissa, exponent) = (
            (bits & ((1 << 52) - 1)) | 1 << 52,
            (bits >> 52) as i64 - 1075,
        );
        let sign = if value < 0.0 { -1 } else { 1 };
        let integer: BigInt = (BigInt::from(mantissa) * sign) << (200 + exponent) as u64;
        let difference = (integer - exact).magnitude().clone();
        let top: num_bigint::BigUint = (difference << 30u32) >> (200 + exponent) as u64;
        top.iter_u64_digits().next().unwrap_or(0) as f64 / (1u64 << 30) as f64
    }

    #[test]
    fn roots_are_within_half_an_ulp_of_the_truth() {
        let log_order = 18;
        let roots = UnitRoots::new(log_order);
        let mut worst: f64 = 0.0;
        for i in 0..4000u64 {
            let t = 1 + i * 13_421 % ((1 << 16) - 1);
            let Complex { re, im } = roots.get(t);
            let (cos, sin) = reference(t, log_order);
            worst = worst.max(ulps(re, &cos)).max(ulps(im, &sin));
        }
        assert!(worst <= 0.5 + 1e-6, "{worst} ulp, bound 0.5");
    }

    #[test]
    fn quadrants_and_axes_are_exact() {
        let roots = UnitRoots::new(6);
        assert_eq!(roots.get(0), Complex::new(1.0, 0.0));
        assert_eq!(roots.get(16), Complex::new(0.0, 1.0));
        assert_eq!(roots.get(32), Complex::new(-1.0, 0.0));
        assert_eq!(roots.get(48), Complex::new(0.0, -1.0));
        for t in 0..64 {
            let (a, b) = (roots.get(t), roots.get(64 - t));
            assert_eq!((a.re, a.im), (b.re, -b.im));
        }
    }
}
