//! The arithmetic of a basis extension: an integer matrix product by blocks of coefficients.
//!
//! A block's scaled residues `y_i` and quotients `u` stay in the first-level cache while all target limbs are formed from them, several at
//! a time so that one load of `y_i` serves several sums. Blocks are independent and run in parallel.

use super::extension::{Column, QUOTIENT_BITS};
use super::simd::{prefetch, with_vectors, InstructionSet, Vector};
use super::words::{Words, LINE};
use rayon::prelude::*;

/// Coefficients per block.
pub(super) const BLOCK: usize = 256;

/// The start of the target rows; blocks write disjoint columns of them.
#[derive(Clone, Copy)]
pub(super) struct Target(pub *mut u32);
// SAFETY: every block writes its own columns and nobody reads before all are done.
unsafe impl Sync for Target {}

/// Calls `each` with a scratch of so many words, on a cache line, and the start of a block: for all blocks of `n` coefficients, in parallel.
pub(super) fn blocks(n: usize, scratch: usize, each: impl Fn(*mut u32, usize) + Sync) {
    (0..n / BLOCK)
        .into_par_iter()
        .with_min_len(4)
        .for_each_init(
            || Words::zeroed(scratch),
            |scratch, block| each(scratch.as_mut_ptr(), block * BLOCK),
        );
}

/// `target[t][j] = (u_j correction_t + sum_i y_ij weight_ti) 2^-32 mod p_t`, with `u = floor(1/2 + sum_i y_i reciprocal_i / 2^57)`.
pub(super) fn run(
    set: InstructionSet,
    reciprocals: &[u64],
    columns: &[Column],
    source: &[&[u32]],
    target: &mut [u32],
    n: usize,
) {
    assert_eq!(target.len(), columns.len() * n);
    assert!(n.is_multiple_of(BLOCK) && source.iter().all(|row| row.len() == n));
    assert!(
        reciprocals.len() == source.len()
            && columns.iter().all(|c| c.weights.len() == source.len())
    );
    let target = Target(target.as_mut_ptr());
    let target = &target;
    // The residues, and the quotients after them.
    blocks(n, (source.len() + 1) * BLOCK, |scaled, start| {
        let to = target.0;
        with_vectors!(
            set,
            fn kernel<V>(
                start: usize,
                n: usize,
                reciprocals: &[u64],
                columns: &[Column],
                source: &[&[u32]],
                scaled: *mut u32,
                to: *mut u32,
            ) {
                // SAFETY: rows have n words and the block lies inside them; the scratch has a row per source limb and one more.
                unsafe {
                    quotients::<V>(start, reciprocals, source, scaled);
                    rows::<V>(start, n, source.len(), columns, scaled, to, source);
                }
            }
        )
    });
}

/// All target rows of one block, four at a time. Meanwhile the next block of `fetched` comes to the caches: it lies in as many places
/// as there are rows, each too short for the processor to see what comes next.
///
/// # Safety
/// As in [`run`]; the scratch is filled; the instruction set is present.
#[inline(always)]
pub(super) unsafe fn rows<V: Vector>(
    start: usize,
    n: usize,
    k: usize,
    columns: &[Column],
    scaled: *const u32,
    to: *mut u32,
    fetched: &[&[u32]],
) {
    let groups = columns.chunks(4);
    let share = fetched.len().div_ceil(groups.len().max(1));
    let mut shares = fetched.chunks(share.max(1));
    for (group, columns) in groups.enumerate() {
        let from = (scaled, shares.next().unwrap_or(&[]));
        // SAFETY: the caller's.
        unsafe {
            let to = to.add(4 * group * n);
            match columns.len() {
                1 => sums::<V, 1>(start, n, k, columns, from, to),
                2 => sums::<V, 2>(start, n, k, columns, from, to),
                3 => sums::<V, 3>(start, n, k, columns, from, to),
                _ => sums::<V, 4>(start, n, k, columns, from, to),
            }
        }
    }
}

/// Gathers the residues of one block and finds its quotients.
///
/// # Safety
/// As in [`run`]; the instruction set is present.
#[inline(always)]
pub(super) unsafe fn quotients<V: Vector>(
    start: usize,
    reciprocals: &[u64],
    source: &[&[u32]],
    scaled: *mut u32,
) {
    // SAFETY: the block lies inside every row and the scratch holds source.len() + 1 rows.
    unsafe {
        // Row by row: rows are a power of two apart, so the same word of all of them falls into one set of the caches, which holds eight.
        for (i, row) in source.iter().enumerate() {
            let from = row.as_ptr().add(start);
            std::ptr::copy_nonoverlapping(from, scaled.add(i * BLOCK), BLOCK);
        }
        let is_word = |&r: &u64| u32::try_from(r).is_ok();
        let words = reciprocals.iter().all(is_word);
        for j in (0..BLOCK).step_by(V::LANES) {
            let mut sum = V::wide_add(V::wide_zero(), 1 << (QUOTIENT_BITS - 1));
            for (i, &reciprocal) in reciprocals.iter().enumerate() {
                let y = V::load(scaled.add(i * BLOCK + j));
                sum = match words {
                    true => V::mac_splat(sum, y, reciprocal as u32),
                    false => V::mac_splat_wide(sum, y, reciprocal),
                };
            }
            V::wide_top(sum).store(scaled.add(source.len() * BLOCK + j));
        }
    }
}

/// `T` target rows of one block, while the next block of some rows is fetched.
///
/// # Safety
/// As in [`run`]; `columns` has at least `T` entries; the instruction set is present.
#[inline(always)]
unsafe fn sums<V: Vector, const T: usize>(
    start: usize,
    n: usize,
    k: usize,
    columns: &[Column],
    (scaled, fetched): (*const u32, &[&[u32]]),
    to: *mut u32,
) {
    // SAFETY: the block lies inside every row; weights have k entries.
    unsafe {
        let weights: [*const u32; T] = std::array::from_fn(|t| columns[t].weights.as_ptr());
        // A sum of k products and of u's, below (k/16 + 2^-26) p 2^32, reduces to less than (1 + k/16 + 2^-26) p.
        let many = k > 15;
        for j in (0..BLOCK).step_by(V::LANES) {
            if j.is_multiple_of(LINE) {
                for row in fetched {
                    prefetch(row.as_ptr().wrapping_add(start + BLOCK + j));
                }
            }
            let u = V::load(scaled.add(k * BLOCK + j));
            let mut sum: [V::Wide; T] = [V::wide_zero(); T];
            for t in 0..T {
                sum[t] = V::mac_splat(sum[t], u, columns[t].correction);
            }
            for i in 0..k {
                let y = V::load(scaled.add(i * BLOCK + j));
                for t in 0..T {
                    sum[t] = V::mac_splat(sum[t], y, *weights[t].add(i));
                }
            }
            for t in 0..T {
                let c = &columns[t].reducer;
                let q = V::splat(c.q);
                let mut r = V::montgomery(sum[t], q, V::splat(c.q_inverse));
                if many {
                    r = r.fold(V::splat(4 * c.q)).fold(V::splat(2 * c.q));
                }
                r.fold(q).store(to.add(t * n + start + j));
            }
        }
    }
}
