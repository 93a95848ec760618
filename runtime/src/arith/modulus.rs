//! Arithmetic modulo one prime below 2^28.
//!
//! All functions take and return canonical residues in `[0, q)`. The four spare bits of a 32-bit word are what
//! lets the transforms in `ring` postpone reductions; nothing here depends on them.

/// Largest bit length of a supported modulus.
pub const MAX_MODULUS_BITS: u32 = 28;

/// A prime `q < 2^28` with the constants for division-free reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modulus {
    q: u32,
    /// floor(2^64 / q) for Barrett reduction of 64-bit words.
    barrett: u64,
}

/// A constant `value` in `[0, q)` with `quotient = floor(value * 2^32 / q)`, so that `x * value mod q` needs no division (V. Shoup, NTL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShoupFactor {
    /// The constant, in `[0, q)`.
    pub value: u32,
    /// floor(value * 2^32 / q).
    pub quotient: u32,
}

impl Modulus {
    /// The modulus `q`, or `None` unless `q` is odd and `3 <= q < 2^28`. Primality is the caller's to check ([`super::primes::is_prime`]).
    pub fn new(q: u32) -> Option<Self> {
        if q < 3 || q.is_multiple_of(2) || q >> MAX_MODULUS_BITS != 0 {
            return None;
        }
        // q is odd and > 1, so it does not divide 2^64 and the two floors agree.
        Some(Self {
            q,
            barrett: u64::MAX / u64::from(q),
        })
    }

    /// The prime itself.
    #[inline(always)]
    pub fn value(&self) -> u32 {
        self.q
    }

    /// `a + b mod q`.
    #[inline(always)]
    pub fn add(&self, a: u32, b: u32) -> u32 {
        let s = a + b;
        s.min(s.wrapping_sub(self.q))
    }

    /// `a - b mod q`.
    #[inline(always)]
    pub fn sub(&self, a: u32, b: u32) -> u32 {
        let d = a.wrapping_sub(b);
        d.min(d.wrapping_add(self.q))
    }

    /// `-a mod q`.
    #[inline(always)]
    pub fn neg(&self, a: u32) -> u32 {
        self.sub(0, a)
    }

    /// `a * b mod q`.
    #[inline(always)]
    pub fn mul(&self, a: u32, b: u32) -> u32 {
        self.reduce_u64(u64::from(a) * u64::from(b))
    }

    /// `x mod q` for any 64-bit word.
    #[inline(always)]
    pub fn reduce_u64(&self, x: u64) -> u32 {
        let estimate = ((u128::from(x) * u128::from(self.barrett)) >> 64) as u64;
        // The estimate is at most one below floor(x / q), so the remainder is below 2q < 2^29.
        let r = x.wrapping_sub(estimate.wrapping_mul(u64::from(self.q))) as u32;
        r.min(r.wrapping_sub(self.q))
    }

    /// `x mod q` in `[0, q)` for a signed word.
    #[inline(always)]
    pub fn reduce_i64(&self, x: i64) -> u32 {
        let r = self.reduce_u64(x.unsigned_abs());
        if x < 0 {
            self.neg(r)
        } else {
            r
        }
    }

    /// `x mod q` in `[0, q)` for a signed 128-bit word.
    pub fn reduce_i128(&self, x: i128) -> u32 {
        let magnitude = x.unsigned_abs();
        let high = self.reduce_u64((magnitude >> 64) as u64);
        let two64 = self.add(self.reduce_u64(u64::MAX), 1);
        let r = self.add(self.mul(high, two64), self.reduce_u64(magnitude as u64));
        if x < 0 {
            self.neg(r)
        } else {
            r
        }
    }

    /// `base ^ exponent mod q`.
    pub fn pow(&self, base: u32, mut exponent: u64) -> u32 {
        let mut power = self.reduce_u64(u64::from(base));
        let mut result = self.reduce_u64(1);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = self.mul(result, power);
            }
            power = self.mul(power, power);
            exponent >>= 1;
        }
        result
    }

    /// `a^-1 mod q` for prime `q`; `None` for `a = 0 mod q`.
    pub fn inv(&self, a: u32) -> Option<u32> {
        let a = self.reduce_u64(u64::from(a));
        (a != 0).then(|| self.pow(a, u64::from(self.q) - 2))
    }

    /// Precomputes a constant for [`Modulus::mul_shoup`]; reduces `value` first.
    #[inline]
    pub fn shoup(&self, value: u32) -> ShoupFactor {
        let value = if value < self.q {
            value
        } else {
            value % self.q
        };
        ShoupFactor {
            value,
            quotient: ((u64::from(value) << 32) / u64::from(self.q)) as u32,
        }
    }

    /// `x * factor mod q` for any 32-bit `x`.
    #[inline(always)]
    pub fn mul_shoup(&self, x: u32, factor: ShoupFactor) -> u32 {
        let r = self.mul_shoup_lazy(x, factor);
        r.min(r.wrapping_sub(self.q))
    }

    /// `x * factor mod q` in `[0, 2q)` for any 32-bit `x`.
    #[inline(always)]
    pub fn mul_shoup_lazy(&self, x: u32, factor: ShoupFactor) -> u32 {
        let h = ((u64::from(x) * u64::from(factor.quotient)) >> 32) as u32;
        x.wrapping_mul(factor.value)
            .wrapping_sub(h.wrapping_mul(self.q))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_agree_with_128_bit_remainders() {
        for q in [
            3u32,
            786_433,
            2_752_513,
            133_169_153,
            268_369_921,
            (1 << 28) - 57,
        ] {
            let m = Modulus::new(q).unwrap();
            let wide = u128::from(q);
            let mut state = 0x9e37_79b9_7f4a_7c15u64;
            for _ in 0..2000 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let x = state ^ (state >> 29);
                assert_eq!(u128::from(m.reduce_u64(x)), u128::from(x) % wide);
                let (a, b) = (m.reduce_u64(x >> 7), m.reduce_u64(x.rotate_left(31)));
                assert_eq!(
                    u128::from(m.mul(a, b)),
                    u128::from(a) * u128::from(b) % wide
                );
                assert_eq!(
                    u128::from(m.add(a, b)),
                    (u128::from(a) + u128::from(b)) % wide
                );
                assert_eq!(m.add(m.sub(a, b), b), a);
                assert_eq!(
                    u128::from(m.mul_shoup(x as u32, m.shoup(b))),
                    u128::from(x as u32) * u128::from(b) % wide
                );
                assert_eq!(
                    i64::from(m.reduce_i64(x as i64)),
                    (x as i64).rem_euclid(i64::from(q))
                );
                let big = (i128::from(x as i64) << 60) ^ i128::from(x);
                assert_eq!(
                    i128::from(m.reduce_i128(big)),
                    big.rem_euclid(i128::from(q))
                );
            }
            for x in [0, 1, u64::MAX, u64::MAX - 1, u64::from(q) * u64::from(q)] {
                assert_eq!(u128::from(m.reduce_u64(x)), u128::from(x) % wide);
            }
        }
    }

    #[test]
    fn inverse_times_value_is_one() {
        let m = Modulus::new(268_369_921).unwrap();
        for a in [1, 2, 3, 65_537, 268_369_920] {
            assert_eq!(m.mul(a, m.inv(a).unwrap()), 1);
        }
        assert_eq!(m.inv(0), None);
        assert_eq!(Modulus::new(1 << 28), None);
        assert_eq!(Modulus::new(10), None);
    }
}
