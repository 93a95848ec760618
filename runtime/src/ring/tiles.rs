//! The integer matrix product of a basis extension on the matrix unit of a processor (Intel AMX): tiles of 8-bit products.
//!
//! Residues come from the four sums of bytes ([`super::simd::amx`]) by some sixteen instructions for a vector of coefficients, whatever the number of
//! source limbs; the sum by 32-bit products ([`super::matrix`]) takes four per source limb.

use super::extension::Column;
use super::matrix::{blocks, quotients, rows, Target, BLOCK};
use super::simd::amx::{
    configure, load_four, put_weight, release, tile_load, tile_product, tile_store, Sums,
    TileReducer, BYTES, SIDE, TILE,
};
use super::simd::{Avx512, InstructionSet, Reducer};
use super::words::Words;
use std::arch::{asm, x86_64::*};
use std::ops::Range;

/// Squares across a block.
const ACROSS: usize = BLOCK / SIDE;
/// Source limbs that with the row of quotients fit one or two tiles; fewer are faster by [`super::matrix`].
const SOURCES: Range<usize> = 8..2 * SIDE;
/// So many targets beyond a multiple of sixteen are faster by [`super::matrix`] than in a tile that they do not fill.
const FEW_TARGETS: usize = 5;
/// Results of more words go past the caches: they would not stay there, and lines need not be read before they are written.
const MANY: usize = 1 << 19;

/// Weights of an extension as the matrix unit reads them.
pub(super) struct Tiles {
    /// Source limbs and the row of quotients, in tiles.
    depth: usize,
    /// By target tile, byte `b` and source tile: row t, word i holds byte `b` of `w_ti 2^(8a) mod p_t` at its byte a.
    weights: Words,
    /// The first columns, those that tiles are made of.
    targets: Vec<TileReducer>,
}

/// Two sums of bytes from two source tiles, whose weights are in registers 0 to 3. By turns, because a product takes a while to be added to.
macro_rules! products_deep {
    () => {
        asm!(
            "tilezero tmm5",
            "tilezero tmm6",
            "tdpbuud tmm5, tmm0, tmm4",
            "tdpbuud tmm6, tmm2, tmm4",
            "tdpbuud tmm5, tmm1, tmm7",
            "tdpbuud tmm6, tmm3, tmm7",
            out("tmm5") _, out("tmm6") _,
            options(nostack, nomem, preserves_flags)
        )
    };
}

/// What blocks are made from and where to.
struct Job<'a> {
    n: usize,
    reciprocals: &'a [u64],
    /// Columns that no tile is made of.
    rest: &'a [Column],
    source: &'a [&'a [u32]],
    to: Target,
}

impl Tiles {
    /// The weights of `columns` (in Montgomery form, as [`Column`] has them), if the set has a matrix unit and it pays.
    pub(super) fn new(set: InstructionSet, columns: &[Column]) -> Option<Self> {
        let sources = columns.first()?.weights.len();
        if !set.has_tiles() || !SOURCES.contains(&sources) {
            return None;
        }
        let tiled = match columns.len() % SIDE {
            few @ ..=FEW_TARGETS => &columns[..columns.len() - few],
            _ => columns,
        };
        if tiled.is_empty() {
            return None;
        }
        let targets: Option<_> = tiled
            .iter()
            .map(|c| TileReducer::new(c.reducer.q))
            .collect();
        let depth = (sources + 1).div_ceil(SIDE);
        let mut weights = Words::zeroed(tiled.len().div_ceil(SIDE) * BYTES * depth * TILE);
        for (t, column) in tiled.iter().enumerate() {
            let all = column.weights.iter().chain([&column.correction]);
            for (i, &weight) in all.enumerate() {
                let weight = plain(weight, &column.reducer);
                put_weight(&mut weights, weight, column.reducer.q, |b| {
                    let tile = (t / SIDE * BYTES + b) * depth + i / SIDE;
                    tile * TILE + t % SIDE * SIDE + i % SIDE
                });
            }
        }
        Some(Self {
            depth,
            weights,
            targets: targets?,
        })
    }

    /// As [`super::matrix::run`].
    pub(super) fn run(
        &self,
        (reciprocals, columns): (&[u64], &[Column]),
        source: &[&[u32]],
        target: &mut [u32],
        n: usize,
    ) {
        assert_eq!(target.len(), columns.len() * n);
        assert!(n.is_multiple_of(BLOCK) && source.iter().all(|row| row.len() == n));
        assert!(reciprocals.len() == source.len() && source.len() < self.depth * SIDE);
        assert!(self.targets.len() <= columns.len());
        let past = target.len() >= MANY && target.as_ptr().align_offset(4 * SIDE) == 0;
        let job = Job {
            n,
            reciprocals,
            rest: &columns[self.targets.len()..],
            source,
            to: Target(target.as_mut_ptr()),
        };
        blocks(n, self.depth * SIDE * BLOCK, |scaled, start| {
            // SAFETY: tables are only made for sets with tiles; rows have n words and the block lies inside them; the scratch has a row per source
            // limb and one for the quotients; past the caches go whole lines.
            unsafe {
                match (past, self.depth > 1) {
                    (true, false) => self.block::<true, false>(&job, start, scaled),
                    (true, true) => self.block::<true, true>(&job, start, scaled),
                    (false, false) => self.block::<false, false>(&job, start, scaled),
                    (false, true) => self.block::<false, true>(&job, start, scaled),
                }
            }
        });
    }

    /// One block of coefficients, from `start` on; `PAST` the caches, or not; `DEEP` if there are two source tiles.
    ///
    /// # Safety
    /// The instruction set is present; as in [`Tiles::run`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn block<const PAST: bool, const DEEP: bool>(
        &self,
        job: &Job<'_>,
        start: usize,
        scaled: *mut u32,
    ) {
        let (n, to) = (job.n, job.to.0);
        let mut sums = [const { Sums::zero() }; 2];
        // SAFETY: the caller's; the tiles' shapes are set before they are used and given up after.
        unsafe {
            quotients::<Avx512>(start, job.reciprocals, job.source, scaled);
            let beyond = to.add(self.targets.len() * n);
            let k = job.source.len();
            rows::<Avx512>(start, n, k, job.rest, scaled, beyond, &[]);
            configure();
            // A square is 16 targets by 16 coefficients. Sums come a while after they are asked for, and their registers are few: so some are asked for,
            // those before are stored, and meanwhile a quarter of the square before is reduced.
            let squares = self.targets.len().div_ceil(SIDE) * ACROSS;
            for i in 0..squares + 2 {
                let now = sums[i % 2].0.as_mut_ptr();
                let before = sums[(i + 1) % 2].0.as_mut_ptr();
                let weights = self.weights.as_ptr();
                let weights = weights.wrapping_add(i / ACROSS * BYTES * self.depth * TILE);
                let (made, reduced) = (i < squares, (1..=squares).contains(&i));
                for quarter in 0..4 {
                    match (DEEP, quarter) {
                        (false, 0) => {
                            if reduced {
                                tile_store!("tmm6", before.add(3 * TILE));
                            }
                            if made {
                                if i % ACROSS == 0 {
                                    load_four(weights);
                                }
                                tile_load!("tmm4", scaled.add(i % ACROSS * SIDE), BLOCK);
                                tile_product!("tmm5" = "tmm0", "tmm4");
                            }
                        }
                        (false, 1) if made => {
                            tile_store!("tmm5", now);
                            tile_product!("tmm6" = "tmm1", "tmm4");
                        }
                        (false, 2) if made => {
                            tile_store!("tmm6", now.add(TILE));
                            tile_product!("tmm5" = "tmm2", "tmm4");
                        }
                        (false, 3) if made => {
                            tile_store!("tmm5", now.add(2 * TILE));
                            tile_product!("tmm6" = "tmm3", "tmm4");
                        }
                        (true, 0) => {
                            if reduced {
                                tile_store!("tmm5", before.add(2 * TILE));
                                tile_store!("tmm6", before.add(3 * TILE));
                            }
                            if made {
                                let residues = scaled.add(i % ACROSS * SIDE);
                                tile_load!("tmm4", residues, BLOCK);
                                tile_load!("tmm7", residues.add(SIDE * BLOCK), BLOCK);
                                load_four(weights);
                                products_deep!();
                            }
                        }
                        (true, 2) if made => {
                            tile_store!("tmm5", now);
                            tile_store!("tmm6", now.add(TILE));
                            load_four(weights.add(4 * TILE));
                            products_deep!();
                        }
                        _ => {}
                    }
                    let reduce = |i: usize, sums: *const u32, rows: Range<usize>| {
                        let (t, j) = (i / ACROSS * SIDE, i % ACROSS * SIDE);
                        self.reduce::<PAST>(sums, t, rows, n, to.add(start + j));
                    };
                    match quarter {
                        0 if 2 <= i => reduce(i - 2, now, 12..16),
                        1.. if reduced => reduce(i - 1, before, 4 * quarter - 4..4 * quarter),
                        _ => {}
                    }
                }
            }
            release();
            if PAST {
                _mm_sfence();
            }
        }
    }

    /// From the sums of bytes to canonical residues, 16 of each target from `t` on that there is.
    ///
    /// # Safety
    /// Four tiles of words at `sums`, places for 16 words at `to` and every `n` words after; the instruction set.
    #[inline(always)]
    unsafe fn reduce<const PAST: bool>(
        &self,
        sums: *const u32,
        t: usize,
        rows: Range<usize>,
        n: usize,
        to: *mut u32,
    ) {
        for row in rows.start..rows.end.min(self.targets.len() - t) {
            // SAFETY: the caller's.
            unsafe {
                let r = self.targets[t + row].of(sums, row);
                let to: *mut __m512i = to.add((t + row) * n).cast();
                match PAST {
                    true => _mm512_stream_si512(to, r),
                    false => _mm512_storeu_si512(to, r),
                }
            }
        }
    }
}

/// `w 2^-32 mod q`, for `w` in `[0, q)`: with `k q = w mod 2^32`, it is `(w - k q) 2^-32`.
fn plain(w: u32, reducer: &Reducer) -> u32 {
    let k = w.wrapping_mul(reducer.q_inverse);
    let below = (u64::from(k) * u64::from(reducer.q)) >> 32;
    (reducer.q - below as u32) % reducer.q
}
