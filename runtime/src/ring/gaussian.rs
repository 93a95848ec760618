//! The cumulative table of the discrete Gaussian of standard deviation 3.2.
//!
//! `rho(k) = exp(-k^2 / (2 * 3.2^2)) = r^(k^2)` with `r = exp(-25/512)`, summed and divided with 256-bit integers at start-up, so that the
//! table is the same on every machine. The magnitude `|z|` is drawn from a 64-bit uniform word against the table; entries
//! beyond `|z| = 29` (9.2 sigma) have probability below 2^-64 and round away, the statistical distance is below `30 * 2^-64`.

use num_bigint::BigUint;
use std::sync::OnceLock;

/// Standard deviation of the error distribution.
pub const SIGMA: f64 = 3.2;
/// Table length: the largest magnitude that can be drawn.
pub(super) const TAIL: usize = 29;

/// Entry `k` is `floor(2^64 P(|z| <= k))`; `|z|` is the number of entries not above a uniform 64-bit word.
pub(super) fn table() -> &'static [u64; TAIL] {
    static TABLE: OnceLock<[u64; TAIL]> = OnceLock::new();
    TABLE.get_or_init(|| {
        const BITS: u64 = 256;
        let one = BigUint::from(1u32) << BITS;
        // exp(-25/512) by its alternating series, positive and negative terms apart.
        let (mut positive, mut negative) = (one.clone(), BigUint::ZERO);
        let mut term = one.clone();
        for i in 1..60u32 {
            term = term * 25u32 / (512 * i);
            if i % 2 == 0 {
                positive += &term;
            } else {
                negative += &term;
            }
        }
        let r = positive - negative;
        let multiply = |a: &BigUint, b: &BigUint| -> BigUint { (a * b) >> BITS };
        // r^(k^2) from r^((k-1)^2) by the odd power r^(2k-1).
        let r_squared = multiply(&r, &r);
        let (mut odd, mut rho) = (r.clone(), one.clone());
        let mut weights = vec![one];
        for _ in 1..60 {
            rho = multiply(&rho, &odd);
            odd = multiply(&odd, &r_squared);
            weights.push(&rho * 2u32);
        }
        let total: BigUint = weights.iter().sum();
        let mut sum = BigUint::ZERO;
        std::array::from_fn(|k| {
            sum += &weights[k];
            let scaled = (&sum << 64u32) / &total;
            u64::try_from(scaled).unwrap_or(u64::MAX)
        })
    })
}

/// One sample: magnitude by counting, without branches or table look-ups that depend on the words; sign from the low bit of `sign`.
#[inline]
pub(super) fn sample(table: &[u64; TAIL], word: u64, sign: u8) -> i8 {
    let mut magnitude = 0u64;
    for &bound in table {
        // Borrow of word - bound is 1 exactly when word < bound.
        let below = ((!word & bound) | ((!word | bound) & word.wrapping_sub(bound))) >> 63;
        magnitude += 1 - below;
    }
    let flip = -((sign & 1) as i8);
    (magnitude as i8 ^ flip) - flip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_matches_the_gaussian_in_floating_point() {
        let rho = |k: i32| (-f64::from(k * k) / (2.0 * SIGMA * SIGMA)).exp();
        let total = rho(0) + 2.0 * (1..60).map(rho).sum::<f64>();
        let mut sum = 0.0;
        for (k, &entry) in table().iter().enumerate() {
            sum += rho(k as i32) * if k == 0 { 1.0 } else { 2.0 } / total;
            let error = (entry as f64 / 2f64.powi(64) - sum).abs();
            assert!(error < 1e-14, "entry {k}: error {error:e}, bound 1e-14");
        }
        assert!(table().windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn sample_counts_table_entries() {
        let t = table();
        assert_eq!(sample(t, 0, 0), 0);
        assert_eq!(sample(t, t[0] - 1, 1), 0);
        assert_eq!(sample(t, t[0], 1), -1);
        assert_eq!(sample(t, t[4], 0), 5);
        assert_eq!(sample(t, u64::MAX, 0), TAIL as i8);
    }
}
