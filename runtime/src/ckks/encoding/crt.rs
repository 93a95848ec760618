//! Centred integers from residues, exactly (H. L. Garner, IRE Trans. EC-8 (1959)), rounded once to f64.

use super::EncodingError;

/// Most limbs decoded at once: their product stays within f64's exponents and the buffers below.
pub(super) const MOST_LIMBS: usize = 32;
const WORDS: usize = MOST_LIMBS * 28 / 64 + 1;

/// Tables for one list of primes.
pub(super) struct Garner {
    primes: Vec<u64>,
    /// inverses[j][i] = 1/primes[i] modulo primes[j], i < j.
    inverses: Vec<Vec<u64>>,
}

impl Garner {
    pub fn new(primes: &[u32]) -> Result<Garner, EncodingError> {
        if primes.is_empty() || primes.len() > MOST_LIMBS {
            return Err(EncodingError::TooManyLimbs {
                found: primes.len(),
                most: MOST_LIMBS,
            });
        }
        let mut inverses = Vec::with_capacity(primes.len());
        for (j, &p) in primes.iter().enumerate() {
            if p < 3 || p % 2 == 0 || p >> 28 != 0 {
                return Err(EncodingError::Modulus { found: p });
            }
            let row = primes[..j]
                .iter()
                .map(|&q| inverse(u64::from(q), u64::from(p)))
                .collect::<Option<Vec<_>>>()
                .ok_or(EncodingError::Modulus { found: p })?;
            inverses.push(row);
        }
        Ok(Garner {
            primes: primes.iter().map(|&p| u64::from(p)).collect(),
            inverses,
        })
    }

    /// The integer of size below half the product with these residues, divided by `scale`: the integer rounds to f64 first
    /// (half to even), then the quotient does. `residues` yields one canonical residue per prime.
    pub fn centred_over(&self, residues: impl Iterator<Item = u32>, scale: f64) -> f64 {
        let mut digits = [0u64; MOST_LIMBS];
        let mut count = 0;
        for (j, residue) in residues.take(self.primes.len()).enumerate() {
            let p = self.primes[j];
            let mut v = u64::from(residue);
            for (i, inverse) in self.inverses[j].iter().enumerate() {
                v = (v + p - digits[i] % p) * inverse % p;
            }
            digits[j] = v;
            count = j + 1;
        }
        let digits = &mut digits[..count];
        // (Q-1)/2 has the mixed-radix digits (p-1)/2, so the sign shows in the highest digit that differs from them.
        let negative = digits
            .iter()
            .zip(&self.primes)
            .rev()
            .find(|(&d, &p)| d != (p - 1) / 2)
            .is_some_and(|(&d, &p)| d > (p - 1) / 2);
        if negative {
            // Q - x = (Q - 1 - x) + 1, and Q - 1 - x has the digits p - 1 - d.
            for (d, p) in digits.iter_mut().zip(&self.primes) {
                *d = p - 1 - *d;
            }
        }
        let mut words = [0u64; WORDS];
        let mut used = 1;
        for (&d, &p) in digits.iter().zip(&self.primes).rev() {
            let mut carry = u128::from(d);
            for word in &mut words[..used] {
                let t = u128::from(*word) * u128::from(p) + carry;
                *word = t as u64;
                carry = t >> 64;
            }
            if carry != 0 && used < WORDS {
                words[used] = carry as u64;
                used += 1;
            }
        }
        if negative {
            for word in &mut words {
                *word = word.wrapping_add(1);
                if *word != 0 {
                    break;
                }
            }
        }
        let value = over(&words, scale);
        if negative {
            -value
        } else {
            value
        }
    }
}

/// A little-endian magnitude, rounded to f64, divided by `scale`.
fn over(words: &[u64; WORDS], scale: f64) -> f64 {
    let Some(top) = words.iter().rposition(|&w| w != 0) else {
        return 0.0;
    };
    // The highest 64 bits with everything below gathered into the last: rounding them to 53 rounds the whole number.
    let lead = words[top].leading_zeros();
    let mut high = words[top] << lead;
    if top > 0 {
        if lead > 0 {
            high |= words[top - 1] >> (64 - lead);
        }
        let rest = words[top - 1] << lead;
        let below = words[..top - 1].iter().any(|&w| w != 0);
        high |= u64::from(rest != 0 || below);
    }
    // high · 2^exponent with 64·31·28/64 < 1000: neither factor leaves f64.
    let exponent = 64 * top as i32 - lead as i32;
    (high as f64 / scale) * f64::from_bits(((1023 + exponent) as u64) << 52)
}

fn inverse(a: u64, p: u64) -> Option<u64> {
    let (mut r0, mut r1) = (p as i64, (a % p) as i64);
    let (mut t0, mut t1) = (0i64, 1i64);
    while r1 != 0 {
        let q = r0 / r1;
        (r0, r1) = (r1, r0 - q * r1);
        (t0, t1) = (t1, t0 - q * t1);
    }
    (r0 == 1).then(|| t0.rem_euclid(p as i64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;

    const PRIMES: [u32; 8] = [
        67239937, 106037249, 786433, 1179649, 125698049, 68681729, 104857601, 141557761,
    ];

    #[test]
    fn integers_return_from_their_residues() {
        for count in 1..=8 {
            let garner = Garner::new(&PRIMES[..count]).unwrap();
            let q: BigInt = PRIMES[..count].iter().map(|&p| BigInt::from(p)).product();
            let half: BigInt = (&q - 1) / 2;
            let mut cases = vec![
                half.clone(),
                -half.clone(),
                BigInt::ZERO,
                BigInt::from(1),
                BigInt::from(-1),
            ];
            cases.extend((1..40).map(|i| (&half * i / 40) * if i % 2 == 0 { 1 } else { -1 }));
            for case in cases {
                let residues = PRIMES[..count].iter().map(|&p| {
                    let r: BigInt = ((&case % p) + p) % p;
                    r.iter_u32_digits().next().unwrap_or(0)
                });
                let got = garner.centred_over(residues, 1.0);
                // Rust rounds the conversion of a decimal string correctly.
                let expected: f64 = case.to_string().parse().unwrap();
                assert_eq!(got, expected, "{case} from {count} limbs");
            }
        }
    }

    #[test]
    fn impossible_moduli_are_refused() {
        assert!(Garner::new(&[]).is_err());
        assert!(Garner::new(&[3; 33]).is_err());
        for bad in [0, 1, 2, 6, 1 << 28, u32::MAX] {
            assert!(matches!(
                Garner::new(&[bad]),
                Err(EncodingError::Modulus { .. })
            ));
        }
        assert!(Garner::new(&[786433, 786433]).is_err());
    }
}
