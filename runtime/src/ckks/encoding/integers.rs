//! Encoded polynomials as integers, and their residues.

use super::dispatch::dispatched;
use super::EncodingError;
use crate::ring::{Form, InstructionSet, LimbId, RingContext, RnsPoly};

/// Integer coefficients, as wide as they need to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coefficients {
    /// All below 2^62 in size.
    Narrow(Vec<i64>),
    /// All below 2^126 in size, some at least 2^62.
    Wide(Vec<i128>),
}

/// Largest narrow coefficient's bits, and wide one's.
const NARROW_BITS: u32 = 62;
const WIDE_BITS: u32 = 126;
const LOW: u64 = 0xffff_ffff;

/// A plaintext polynomial with integer coefficients in the subring of polynomials in X^(2^log_stride); coefficient k belongs to X^(k·2^log_stride).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPolynomial {
    log_n: u32,
    log_stride: u32,
    coefficients: Coefficients,
}

impl EncodedPolynomial {
    /// Rounds values · scale half to even. `values` are the coefficients of a polynomial in X^(2^log_stride), all of them.
    pub(super) fn round(
        log_n: u32,
        log_stride: u32,
        mut values: Vec<f64>,
        scale: f64,
        set: InstructionSet,
    ) -> Result<EncodedPolynomial, EncodingError> {
        let mut largest = 0.0f64;
        scale_and_measure(set, &mut values, scale, &mut largest);
        let coefficients = if largest < 2f64.powi(51) {
            let mut out = vec![0i64; values.len()];
            round_small(set, &values, &mut out);
            Coefficients::Narrow(out)
        } else if largest < 2f64.powi(NARROW_BITS as i32) {
            // Beyond 2^52 an f64 is an integer already; the conversions are exact.
            Coefficients::Narrow(values.iter().map(|v| v.round_ties_even() as i64).collect())
        } else if largest < 2f64.powi(WIDE_BITS as i32) {
            Coefficients::Wide(values.iter().map(|v| v.round_ties_even() as i128).collect())
        } else {
            return Err(EncodingError::TooLarge {
                scale_log2: scale.log2(),
                coefficient_log2: largest.log2(),
            });
        };
        Ok(EncodedPolynomial {
            log_n,
            log_stride,
            coefficients,
        })
    }

    /// The polynomial with the given coefficients; a power of two of them, each below 2^126 in size.
    pub(super) fn from_integers(
        log_n: u32,
        log_stride: u32,
        values: Vec<i128>,
    ) -> EncodedPolynomial {
        let narrow = values.iter().all(|v| v.unsigned_abs() < 1 << NARROW_BITS);
        let coefficients = if narrow {
            Coefficients::Narrow(values.iter().map(|&v| v as i64).collect())
        } else {
            Coefficients::Wide(values)
        };
        EncodedPolynomial {
            log_n,
            log_stride,
            coefficients,
        }
    }

    /// Base-two logarithm of the ring dimension.
    pub fn log_n(&self) -> u32 {
        self.log_n
    }

    /// Base-two logarithm of the distance between coefficients that may be non-zero.
    pub fn log_stride(&self) -> u32 {
        self.log_stride
    }

    /// The coefficients of 1, X^stride, X^(2·stride), …
    pub fn coefficients(&self) -> &Coefficients {
        &self.coefficients
    }

    /// Bits of the largest coefficient's magnitude.
    pub fn bits(&self) -> u32 {
        match &self.coefficients {
            Coefficients::Narrow(c) => {
                let all = c.iter().fold(0, |bits, v| bits | v.unsigned_abs());
                u64::BITS - all.leading_zeros()
            }
            Coefficients::Wide(c) => {
                let all = c.iter().fold(0, |bits, v| bits | v.unsigned_abs());
                u128::BITS - all.leading_zeros()
            }
        }
    }

    /// Canonical residues modulo an odd `prime` below 2^28, all N coefficients in order. Leaves `out` alone beyond its first N words;
    /// writes fewer if it is shorter.
    pub fn reduce_into(&self, prime: u32, out: &mut [u32]) {
        self.reduce_on(InstructionSet::detect(), prime, out);
    }

    /// [`EncodedPolynomial::reduce_into`] on an instruction set that the machine has.
    fn reduce_on(&self, set: InstructionSet, prime: u32, out: &mut [u32]) {
        let reducer = Reducer::new(prime);
        let n = out.len().min(1 << self.log_n);
        let out = &mut out[..n];
        if self.log_stride == 0 {
            match &self.coefficients {
                Coefficients::Narrow(c) => reduce_narrow(set, &reducer, c, out),
                Coefficients::Wide(c) => reduce_wide(set, &reducer, c, out),
            }
            return;
        }
        out.fill(0);
        let places = out.iter_mut().step_by(1 << self.log_stride);
        match &self.coefficients {
            Coefficients::Narrow(c) => places
                .zip(c)
                .for_each(|(word, &c)| *word = reducer.narrow(c)),
            Coefficients::Wide(c) => places.zip(c).for_each(|(word, &c)| *word = reducer.wide(c)),
        }
    }

    /// Canonical residues of the coefficients of Y^0, Y^1, …, Y = X^(2^log_run), modulo an odd `prime` below 2^28. `log_run` is at most
    /// [`EncodedPolynomial::log_stride`]; what it leaves out is written as zero.
    pub fn reduce_power_into(&self, prime: u32, log_run: u32, out: &mut [u32]) {
        let reducer = Reducer::new(prime);
        out.fill(0);
        let places = out
            .iter_mut()
            .step_by(1 << self.log_stride.saturating_sub(log_run));
        match &self.coefficients {
            Coefficients::Narrow(c) => places
                .zip(c)
                .for_each(|(word, &c)| *word = reducer.narrow(c)),
            Coefficients::Wide(c) => places.zip(c).for_each(|(word, &c)| *word = reducer.wide(c)),
        }
    }

    /// Residues on `limbs`, in coefficient form. Fails when a limb is not of the ring or the ring's dimension is another.
    pub fn to_poly(&self, ring: &RingContext, limbs: &[LimbId]) -> Result<RnsPoly, EncodingError> {
        ring.check_limbs(limbs)?;
        if ring.log_n() != self.log_n {
            return Err(EncodingError::Residues {
                what: "the ring has another dimension than the encoder",
                expected: 1 << self.log_n,
                found: ring.degree(),
            });
        }
        let mut poly = RnsPoly::scratch(ring, limbs, Form::Coefficient);
        for (words, &limb) in poly.data_mut().chunks_exact_mut(ring.degree()).zip(limbs) {
            self.reduce_on(ring.instruction_set(), ring.prime(limb), words);
        }
        Ok(poly)
    }
}

dispatched! {
    /// values · scale in place; the largest size, or infinity if any is not finite.
    fn scale_and_measure(values: &mut [f64], scale: f64, largest: &mut f64) = scale_and_measure_body;
}
dispatched! {
    /// Rounds half to even values below 2^51 in size.
    fn round_small(values: &[f64], out: &mut [i64]) = round_small_body;
}
dispatched! {
    /// Residues of coefficients below 2^62.
    fn reduce_narrow(reducer: &Reducer, values: &[i64], out: &mut [u32]) = reduce_narrow_body;
}
dispatched! {
    /// Residues of coefficients below 2^126.
    fn reduce_wide(reducer: &Reducer, values: &[i128], out: &mut [u32]) = reduce_wide_body;
}

#[inline(always)]
fn scale_and_measure_body(values: &mut [f64], scale: f64, largest: &mut f64) {
    // Sizes compare like their bits, and the bits of NaN lie above those of infinity.
    let mut most = 0u64;
    for v in values.iter_mut() {
        *v *= scale;
        most = most.max(v.abs().to_bits());
    }
    *largest = f64::from_bits(most.min(f64::INFINITY.to_bits()));
}

#[inline(always)]
fn round_small_body(values: &[f64], out: &mut [i64]) {
    // In [2^52, 2^53) the last place is 1, so adding 3·2^51 rounds to an integer (half to even) and leaves it in the low bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    for (out, v) in out.iter_mut().zip(values) {
        *out = (v + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i64;
    }
}

#[inline(always)]
fn reduce_narrow_body(reducer: &Reducer, values: &[i64], out: &mut [u32]) {
    for (out, &v) in out.iter_mut().zip(values) {
        *out = reducer.narrow(v);
    }
}

#[inline(always)]
fn reduce_wide_body(reducer: &Reducer, values: &[i128], out: &mut [u32]) {
    for (out, &v) in out.iter_mut().zip(values) {
        *out = reducer.wide(v);
    }
}

/// Reduction of 32-bit words weighted by powers of 2^32 (P. L. Montgomery, Math. Comp. 44 (1985)): products stay in 64 bits, no division.
pub(super) struct Reducer {
    prime: u32,
    /// -1/prime modulo 2^32.
    negated_inverse: u32,
    /// 2^(32·(i+1)) modulo prime: the weight of word i before Montgomery's division by 2^32.
    weights: [u32; 4],
    /// What takes 2^62, or 2^126, off again.
    narrow_offset: u64,
    wide_offset: u64,
}

impl Reducer {
    /// For an odd prime below 2^28.
    pub fn new(prime: u32) -> Reducer {
        let p = u64::from(prime);
        let power = |bits: u32| (0..bits).fold(1 % p.max(1), |r, _| 2 * r % p.max(1));
        let mut inverse = prime;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u32.wrapping_sub(prime.wrapping_mul(inverse)));
        }
        Reducer {
            prime,
            negated_inverse: inverse.wrapping_neg(),
            weights: [32, 64, 96, 128].map(|bits| power(bits) as u32),
            narrow_offset: p - power(NARROW_BITS + 32),
            wide_offset: p - power(WIDE_BITS + 32),
        }
    }

    /// x / 2^32 modulo prime, below 2^-32·x + prime.
    #[inline(always)]
    fn divide(&self, x: u64) -> u32 {
        // Kept in 64-bit lanes: vector units multiply the low halves of those in one step.
        let m = (x & LOW).wrapping_mul(u64::from(self.negated_inverse)) & LOW;
        ((x + m * u64::from(self.prime)) >> 32) as u32
    }

    #[inline(always)]
    fn narrow(&self, value: i64) -> u32 {
        let shifted = (value as u64).wrapping_add(1 << NARROW_BITS);
        let (low, high) = (shifted & LOW, shifted >> 32);
        // high < 2^31, so the sum is below 1.5·2^32·prime and the quotient below 2.5·prime.
        let weight = |i: usize| u64::from(self.weights[i]);
        let x = low * weight(0) + high * weight(1) + self.narrow_offset;
        let t = self.divide(x);
        let t = t.min(t.wrapping_sub(2 * self.prime));
        t.min(t.wrapping_sub(self.prime))
    }

    #[inline(always)]
    fn wide(&self, value: i128) -> u32 {
        let shifted = (value as u128).wrapping_add(1 << WIDE_BITS);
        let word = |i: u32| u64::from((shifted >> (32 * i)) as u32);
        // Four terms below 2^32·prime and the offset: the sum is below 2^62 + 2^28, the quotient below 5·prime < 2^31.
        let x = (0..4).fold(self.wide_offset, |x, i| {
            x + word(i) * u64::from(self.weights[i as usize])
        });
        let t = self.divide(x);
        let t = t.min(t.wrapping_sub(4 * self.prime));
        let t = t.min(t.wrapping_sub(2 * self.prime));
        t.min(t.wrapping_sub(self.prime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residues_equal_those_of_wide_division() {
        for prime in [786433u32, 2752513, 67239937, 268042241, 3, 268435399] {
            let reducer = Reducer::new(prime);
            let mut x = 0x9e37_79b9_7f4a_7c15u64;
            for i in 0..2000u32 {
                x = x.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
                let narrow = (x as i64) >> (2 + i % 60);
                let wide =
                    (i128::from(x as i64) << 64 | i128::from(x.rotate_left(17))) >> (2 + i % 120);
                for v in [
                    narrow,
                    (1 << 62) - 1,
                    1 - (1 << 62),
                    0,
                    -1,
                    i64::from(prime),
                    -i64::from(prime),
                ] {
                    let expected = i128::from(v).rem_euclid(i128::from(prime)) as u32;
                    assert_eq!(reducer.narrow(v), expected, "{v} mod {prime}");
                    assert_eq!(reducer.wide(i128::from(v)), expected, "{v} mod {prime}");
                }
                for v in [wide, (1 << 126) - 1, 1 - (1 << 126)] {
                    let expected = v.rem_euclid(i128::from(prime)) as u32;
                    assert_eq!(reducer.wide(v), expected, "{v} mod {prime}");
                }
            }
        }
    }

    #[test]
    fn residues_do_not_depend_on_the_instruction_set() {
        let reducer = Reducer::new(142344193);
        let narrow: Vec<i64> = (0..1000i64)
            .map(|i| i.wrapping_mul(0x7e37_79b9_7f4a_7c15) >> 2)
            .collect();
        let wide: Vec<i128> = narrow
            .iter()
            .map(|&v| i128::from(v) << 60 | 12345)
            .collect();
        for set in InstructionSet::all_available() {
            let (mut a, mut b) = (vec![0; 1000], vec![0; 1000]);
            reduce_narrow(set, &reducer, &narrow, &mut a);
            reduce_wide(set, &reducer, &wide, &mut b);
            for i in 0..1000 {
                assert_eq!(
                    (a[i], b[i]),
                    (reducer.narrow(narrow[i]), reducer.wide(wide[i]))
                );
            }
        }
    }

    #[test]
    fn rounding_is_half_to_even_at_every_size() {
        let round =
            |v: Vec<f64>, s: f64| EncodedPolynomial::round(3, 0, v, s, InstructionSet::detect());
        let values = vec![0.5, 1.5, -0.5, -1.5, 2.5, -2.5, 0.75, -7.25];
        let expected: Vec<i64> = vec![0, 2, 0, -2, 2, -2, 1, -7];
        let got = round(values.clone(), 1.0).unwrap();
        assert_eq!(got.coefficients(), &Coefficients::Narrow(expected.clone()));
        // A large companion moves the vector to the next path; the others round the same.
        let mut large = values.clone();
        large[7] = 2f64.powi(51) + 0.5;
        let Ok(EncodedPolynomial {
            coefficients: Coefficients::Narrow(c),
            ..
        }) = round(large.clone(), 1.0)
        else {
            panic!("expected narrow coefficients");
        };
        assert_eq!(c[..7], expected[..7]);
        assert_eq!(c[7], 1 << 51);
        large[7] = -(2f64.powi(100));
        let Ok(EncodedPolynomial {
            coefficients: Coefficients::Wide(c),
            ..
        }) = round(large.clone(), 1.0)
        else {
            panic!("expected wide coefficients");
        };
        assert_eq!((c[1], c[7]), (2, -(1i128 << 100)));
        for bad in [2f64.powi(126), f64::INFINITY, f64::NAN] {
            large[3] = bad;
            assert!(matches!(
                round(large.clone(), 1.0),
                Err(EncodingError::TooLarge { .. })
            ));
        }
    }
}
