//! Negacyclic number-theoretic transform of one limb.
//!
//! Forward: Cooley-Tukey butterflies with twiddles `psi^bitrev(k)`, natural order in, bit-reversed out, so word `i` of the
//! result is the value at `psi^(2 bitrev(i) + 1)` (Longa, Naehrig 2016/504). Inverse: Gentleman-Sande with the same table read
//! backwards, because `psi^-bitrev(m + i) = -psi^bitrev(2m - 1 - i)` for `i < m`.

use crate::arith::{primes, Modulus, ShoupFactor};

/// Twiddles of one prime.
pub(crate) struct NttTable {
    modulus: Modulus,
    /// Entry `k` is `psi^bitrev(k)`, `bitrev` over log2 N bits.
    twiddles: Vec<ShoupFactor>,
    n_inverse: ShoupFactor,
}

impl NttTable {
    /// Tables for degree `2^log_n`, or `None` unless `2N` divides `q - 1`.
    pub fn new(log_n: u32, modulus: &Modulus) -> Option<Self> {
        let n = 1usize << log_n;
        let psi = primes::primitive_root(modulus, 2 << log_n)?;
        let mut twiddles = vec![ShoupFactor::default(); n];
        let step = modulus.shoup(psi);
        let mut power = 1;
        for k in 0..n {
            let reversed = k.reverse_bits() >> (usize::BITS - log_n);
            twiddles[reversed] = modulus.shoup(power);
            power = modulus.mul_shoup(power, step);
        }
        let n_inverse = modulus.shoup(modulus.inv(n as u32)?);
        Some(Self {
            modulus: *modulus,
            twiddles,
            n_inverse,
        })
    }

    /// Coefficients to values, in place, canonical to canonical.
    pub fn forward(&self, a: &mut [u32]) {
        let q = &self.modulus;
        let n = a.len();
        let mut half = n;
        let mut m = 1;
        while m < n {
            half /= 2;
            for (block, &w) in a.chunks_exact_mut(2 * half).zip(&self.twiddles[m..2 * m]) {
                let (left, right) = block.split_at_mut(half);
                for (x, y) in left.iter_mut().zip(right) {
                    let t = q.mul_shoup(*y, w);
                    (*x, *y) = (q.add(*x, t), q.sub(*x, t));
                }
            }
            m *= 2;
        }
    }

    /// Values to coefficients, in place, canonical to canonical, 1/N included.
    pub fn inverse(&self, a: &mut [u32]) {
        let q = &self.modulus;
        let n = a.len();
        let mut half = 1;
        let mut m = n / 2;
        while m > 0 {
            for (block, &w) in a
                .chunks_exact_mut(2 * half)
                .zip(self.twiddles[m..2 * m].iter().rev())
            {
                let (left, right) = block.split_at_mut(half);
                for (x, y) in left.iter_mut().zip(right) {
                    let d = q.sub(*y, *x);
                    *x = q.add(*x, *y);
                    *y = q.mul_shoup(d, w);
                }
            }
            half *= 2;
            m /= 2;
        }
        for x in a {
            *x = q.mul_shoup(*x, self.n_inverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{sheet_primes, Stream};
    use super::*;

    fn random(n: usize, q: u32, seed: u64) -> Vec<u32> {
        let mut stream = Stream(seed);
        (0..n)
            .map(|_| (stream.next() % u64::from(q)) as u32)
            .collect()
    }

    /// Negacyclic product by the definition.
    fn naive_product(q: u32, a: &[u32], b: &[u32]) -> Vec<u32> {
        let (n, wide) = (a.len(), u64::from(q));
        let dot = |x: &[u32], y: &mut dyn Iterator<Item = &u32>| {
            let mut sum = 0u64;
            for (i, (&x, &y)) in x.iter().zip(y).enumerate() {
                sum += u64::from(x) * u64::from(y);
                if i % 128 == 127 {
                    sum %= wide;
                }
            }
            sum % wide
        };
        (0..n)
            .map(|k| {
                let plus = dot(&a[..=k], &mut b[..=k].iter().rev());
                let minus = dot(&a[k + 1..], &mut b[k + 1..].iter().rev());
                ((plus + wide - minus) % wide) as u32
            })
            .collect()
    }

    #[test]
    fn products_match_the_definition_for_every_prime_of_the_sheet() {
        let (log_n, n) = (11, 1 << 11);
        for (index, q) in sheet_primes().into_iter().enumerate() {
            let modulus = Modulus::new(q).unwrap();
            let table = NttTable::new(log_n, &modulus).unwrap();
            let (a, b) = (random(n, q, index as u64), random(n, q, !(index as u64)));
            let (mut x, mut y) = (a.clone(), b.clone());
            table.forward(&mut x);
            table.forward(&mut y);
            let mut product: Vec<u32> =
                x.iter().zip(&y).map(|(&x, &y)| modulus.mul(x, y)).collect();
            table.inverse(&mut product);
            assert_eq!(product, naive_product(q, &a, &b), "q = {q}");
        }
    }

    #[test]
    fn forward_evaluates_at_odd_powers_in_bit_reversed_order() {
        let (log_n, n) = (9u32, 512usize);
        let modulus = Modulus::new(786_433).unwrap();
        let psi = primes::primitive_root(&modulus, 2 << log_n).unwrap();
        let a = random(n, modulus.value(), 4);
        let mut values = a.clone();
        NttTable::new(log_n, &modulus).unwrap().forward(&mut values);
        for i in [0usize, 1, 2, 77, 511] {
            let reversed = (i as u32).reverse_bits() >> (32 - log_n);
            let point = modulus.pow(psi, u64::from(2 * reversed + 1));
            let horner = a
                .iter()
                .rev()
                .fold(0, |sum, &c| modulus.add(modulus.mul(sum, point), c));
            assert_eq!(values[i], horner);
        }
    }

    #[test]
    fn products_match_tfhe_ntt_at_full_size() {
        let (log_n, n) = (16, 1 << 16);
        let primes = sheet_primes();
        for q in [
            primes[0],
            primes[1],
            primes[30],
            primes[120],
            primes[200],
            primes[243],
        ] {
            let modulus = Modulus::new(q).unwrap();
            let table = NttTable::new(log_n, &modulus).unwrap();
            let plan = tfhe_ntt::prime32::Plan::try_new(n, q).unwrap();
            let (a, b) = (random(n, q, 1), random(n, q, 2));
            let (mut x, mut y) = (a.clone(), b.clone());
            table.forward(&mut x);
            table.forward(&mut y);
            x.iter_mut()
                .zip(&y)
                .for_each(|(x, &y)| *x = modulus.mul(*x, y));
            table.inverse(&mut x);
            let (mut u, mut v) = (a, b);
            plan.fwd(&mut u);
            plan.fwd(&mut v);
            plan.mul_assign_normalize(&mut u, &v);
            plan.inv(&mut u);
            assert_eq!(x, u, "q = {q}");
        }
    }
}
