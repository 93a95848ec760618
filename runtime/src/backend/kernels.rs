//! Inner loops of the CPU backend that `ring` does not have.

use crate::arith::Modulus;

/// One digit's limb and the key's two halves at that limb.
pub(super) type KeyTerm<'a> = (&'a [u32], &'a [u32], &'a [u32]);

/// Coefficients summed at a time: two blocks of 64-bit sums stay in the first-level cache.
const BLOCK: usize = 1024;

/// `low = Σ digit · b`, `high = Σ digit · a` modulo q. At most 256 terms: their products are below 2^56.
pub(super) fn key_product(q: &Modulus, terms: &[KeyTerm], low: &mut [u32], high: &mut [u32]) {
    debug_assert!(terms.len() <= 256);
    let mut start = 0;
    for (low, high) in low.chunks_mut(BLOCK).zip(high.chunks_mut(BLOCK)) {
        let range = start..start + low.len();
        start += low.len();
        let (mut sums, mut sums_high) = ([0u64; BLOCK], [0u64; BLOCK]);
        for (digit, b, a) in terms {
            accumulate(&mut sums, &digit[range.clone()], &b[range.clone()]);
            accumulate(&mut sums_high, &digit[range.clone()], &a[range.clone()]);
        }
        for (word, &sum) in low.iter_mut().zip(&sums) {
            *word = q.reduce_u64(sum);
        }
        for (word, &sum) in high.iter_mut().zip(&sums_high) {
            *word = q.reduce_u64(sum);
        }
    }
}

fn accumulate(sums: &mut [u64], x: &[u32], y: &[u32]) {
    for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
        *sum += u64::from(x) * u64::from(y);
    }
}
