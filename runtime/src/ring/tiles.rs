//! The integer matrix product of a basis extension on the matrix unit of a processor (Intel AMX): tiles of 8-bit products.
//!
//! A residue is four bytes, `y = sum_a y_a 2^(8a)`, and `y w mod p = sum_a y_a v_a` with `v_a = w 2^(8a) mod p`, again four bytes each. So the
//! sum over source limbs of `y_i w_i` is `T = sum_b 2^(8b) C_b` where `C_b` is a sum of products of a byte of a residue and a byte of a weight: one
//! instruction makes it for 16 coefficients, 16 target limbs and 16 source limbs, and it reads residues as they lie in memory. A vector of
//! coefficients then takes some sixteen instructions from the four sums to the canonical residue, whatever the number of source limbs;
//! the sum by 32-bit products ([`super::matrix`]) takes four per source limb.

use super::extension::Column;
use super::matrix::{blocks, quotients, Target, BLOCK};
use super::simd::{Avx512, InstructionSet, Reducer};
use super::words::Words;
use std::arch::{asm, x86_64::*};
use std::ops::Range;

/// Rows of a tile, and words of a row.
const SIDE: usize = 16;
/// Squares across a block.
const ACROSS: usize = BLOCK / SIDE;
/// Words of a tile.
const TILE: usize = SIDE * SIDE;
/// Bytes of a residue.
const BYTES: usize = 4;
/// Source limbs that with the row of quotients fit one or two tiles; fewer are faster by [`super::matrix`].
const SOURCES: Range<usize> = 8..2 * SIDE;
/// `T 2^-16` is what the quotient by the prime is found from: for smaller primes the part left out counts.
const SMALLEST_PRIME: u32 = 1 << 18;

/// Weights of an extension as the matrix unit reads them.
pub(super) struct Tiles {
    /// Source limbs and the row of quotients, in tiles.
    depth: usize,
    /// By target tile, byte `b` and source tile: row t, word i holds byte `b` of `w_ti 2^(8a) mod p_t` at its byte a.
    weights: Words,
    targets: Vec<Remainder>,
}

/// What takes `T` to its remainder.
struct Remainder {
    p: u32,
    /// `2^16 / p`, less a part in 2^21: quotients never come out too large.
    quotient: f32,
}

/// The shapes of the tile registers, as `ldtilecfg` reads them (Intel SDM, volume 1, chapter 18).
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Every register: 16 rows of 64 bytes.
static SHAPES: Shapes = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (row_bytes[tile], rows[tile]) = (64, 16);
        tile += 1;
    }
    Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes,
        rows,
    }
};

/// Results of more words go past the caches: they would not stay there, and lines need not be read before they are written.
const MANY: usize = 1 << 19;

#[repr(C, align(64))]
struct Sums([u32; BYTES * TILE]);

/// Sums of bytes in a register, from the weights in another and the residues.
macro_rules! multiply {
    ($sums:literal, $weights:literal) => {
        asm!(concat!("tilezero ", $sums), concat!("tdpbuud ", $sums, ", ", $weights, ", tmm4"),
            out("tmm5") _, out("tmm6") _, options(nostack, nomem, preserves_flags))
    };
}

/// Two sums of bytes from two source tiles. By turns, because a product takes a while to be added to.
macro_rules! multiply_deep {
    ($weights:expr) => {
        asm!(
            "tileloadd tmm0, [{weights} + {line}]",
            "tileloadd tmm1, [{weights} + {line} + 1024]",
            "tileloadd tmm2, [{weights} + {line} + 2048]",
            "tileloadd tmm3, [{weights} + {line} + 3072]",
            "tilezero tmm5",
            "tilezero tmm6",
            "tdpbuud tmm5, tmm0, tmm4",
            "tdpbuud tmm6, tmm2, tmm4",
            "tdpbuud tmm5, tmm1, tmm7",
            "tdpbuud tmm6, tmm3, tmm7",
            weights = in(reg) $weights,
            line = in(reg) 4 * SIDE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm5") _, out("tmm6") _,
            options(nostack, readonly, preserves_flags)
        )
    };
}

/// Stores sums.
macro_rules! store {
    ($sums:literal, $to:expr) => {
        asm!(concat!("tilestored [{to} + {line}], ", $sums), to = in(reg) $to, line = in(reg) 4 * SIDE, options(nostack, preserves_flags))
    };
}

impl Tiles {
    /// The weights of `columns` (in Montgomery form, as [`Column`] has them), if the set has a matrix unit and it pays.
    pub(super) fn new(set: InstructionSet, columns: &[Column]) -> Option<Self> {
        let sources = columns.first()?.weights.len();
        let small = columns.iter().any(|c| c.reducer.q < SMALLEST_PRIME);
        if !set.has_tiles() || !SOURCES.contains(&sources) || small {
            return None;
        }
        let depth = (sources + 1).div_ceil(SIDE);
        let mut weights = Words::zeroed(columns.len().div_ceil(SIDE) * BYTES * depth * TILE);
        for (t, column) in columns.iter().enumerate() {
            let p = u64::from(column.reducer.q);
            let all = column.weights.iter().chain([&column.correction]);
            for (i, &weight) in all.enumerate() {
                let weight = u64::from(plain(weight, &column.reducer));
                for (a, b) in pairs() {
                    let tile = (t / SIDE * BYTES + b) * depth + i / SIDE;
                    let word = &mut weights[tile * TILE + t % SIDE * SIDE + i % SIDE];
                    *word |= byte((weight << (8 * a)) % p, b) << (8 * a);
                }
            }
        }
        let remainder = |c: &Column| Remainder {
            p: c.reducer.q,
            quotient: (65_536.0 / f64::from(c.reducer.q) * (1.0 - 1.0 / 2_097_152.0)) as f32,
        };
        Some(Self {
            depth,
            weights,
            targets: columns.iter().map(remainder).collect(),
        })
    }

    /// As [`super::matrix::run`].
    pub(super) fn run(&self, reciprocals: &[u64], source: &[&[u32]], target: &mut [u32], n: usize) {
        assert_eq!(target.len(), self.targets.len() * n);
        assert!(n.is_multiple_of(BLOCK) && source.iter().all(|row| row.len() == n));
        assert!(reciprocals.len() == source.len() && source.len() < self.depth * SIDE);
        let past = target.len() >= MANY && target.as_ptr().align_offset(4 * SIDE) == 0;
        let to = &Target(target.as_mut_ptr());
        blocks(n, self.depth * SIDE * BLOCK, |scaled, start| {
            // SAFETY: tables are only made for sets with tiles; rows have n words and the block lies inside them; the scratch has a row per source
            // limb and one for the quotients; past the caches go whole lines.
            unsafe {
                match (past, self.depth > 1) {
                    (true, false) => {
                        self.block::<true, false>(start, n, reciprocals, source, scaled, to.0)
                    }
                    (true, true) => {
                        self.block::<true, true>(start, n, reciprocals, source, scaled, to.0)
                    }
                    (false, false) => {
                        self.block::<false, false>(start, n, reciprocals, source, scaled, to.0)
                    }
                    (false, true) => {
                        self.block::<false, true>(start, n, reciprocals, source, scaled, to.0)
                    }
                }
            }
        });
    }

    /// One block of coefficients; `PAST` the caches, or not; `DEEP` if there are two source tiles.
    ///
    /// # Safety
    /// The instruction set is present; as in [`Tiles::run`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn block<const PAST: bool, const DEEP: bool>(
        &self,
        start: usize,
        n: usize,
        reciprocals: &[u64],
        source: &[&[u32]],
        scaled: *mut u32,
        to: *mut u32,
    ) {
        let mut sums = [const { Sums([0; BYTES * TILE]) }; 2];
        // SAFETY: the caller's; the tiles' shapes are set before they are used and given up after.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, preserves_flags));
            quotients::<Avx512>(start, reciprocals, source, scaled);
            // A square is 16 targets by 16 coefficients. Sums come a while after they are asked for, and their registers are few: so some are asked for,
            // those before are stored, and meanwhile a quarter of the square before is reduced.
            let squares = self.targets.len().div_ceil(SIDE) * ACROSS;
            for i in 0..squares + 2 {
                let now = sums[i % 2].0.as_mut_ptr();
                let before = sums[(i + 1) % 2].0.as_mut_ptr();
                let weights = self.weights.as_ptr();
                let weights = weights.wrapping_add(i / ACROSS * BYTES * self.depth * TILE);
                let (made, reduced) = (i < squares, 1 <= i && i <= squares);
                for quarter in 0..4 {
                    match (DEEP, quarter) {
                        (false, 0) => {
                            if reduced {
                                store!("tmm6", before.add(3 * TILE));
                            }
                            if made {
                                if i % ACROSS == 0 {
                                    load_weights(weights);
                                }
                                load_residues::<DEEP>(scaled.add(i % ACROSS * SIDE));
                                multiply!("tmm5", "tmm0");
                            }
                        }
                        (false, 1) if made => {
                            store!("tmm5", now);
                            multiply!("tmm6", "tmm1");
                        }
                        (false, 2) if made => {
                            store!("tmm6", now.add(TILE));
                            multiply!("tmm5", "tmm2");
                        }
                        (false, 3) if made => {
                            store!("tmm5", now.add(2 * TILE));
                            multiply!("tmm6", "tmm3");
                        }
                        (true, 0) => {
                            if reduced {
                                store!("tmm5", before.add(2 * TILE));
                                store!("tmm6", before.add(3 * TILE));
                            }
                            if made {
                                load_residues::<DEEP>(scaled.add(i % ACROSS * SIDE));
                                multiply_deep!(weights);
                            }
                        }
                        (true, 2) if made => {
                            store!("tmm5", now);
                            store!("tmm6", now.add(TILE));
                            multiply_deep!(weights.add(4 * TILE));
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
            asm!("tilerelease", options(nostack, nomem, preserves_flags));
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
            let remainder = &self.targets[t + row];
            // SAFETY: the caller's.
            unsafe {
                let load = |b: usize| _mm512_load_si512(sums.add(b * TILE + row * SIDE).cast());
                let low = _mm512_add_epi32(load(0), _mm512_slli_epi32::<8>(load(1)));
                let high = _mm512_add_epi32(load(2), _mm512_slli_epi32::<8>(load(3)));
                // floor(T 2^-16), below 2^28; then a quotient that is at most floor(T / p) and at least one less.
                let leading = _mm512_add_epi32(high, _mm512_srli_epi32::<16>(low));
                let quotient = _mm512_cvttps_epi32(_mm512_mul_ps(
                    _mm512_cvtepi32_ps(leading),
                    _mm512_set1_ps(remainder.quotient),
                ));
                let p = _mm512_set1_epi32(remainder.p as i32);
                let words = _mm512_add_epi32(low, _mm512_slli_epi32::<16>(high));
                let r = _mm512_sub_epi32(words, _mm512_mullo_epi32(quotient, p));
                let r = _mm512_min_epu32(r, _mm512_sub_epi32(r, p));
                let to: *mut __m512i = to.add((t + row) * n).cast();
                match PAST {
                    true => _mm512_stream_si512(to, r),
                    false => _mm512_storeu_si512(to, r),
                }
            }
        }
    }
}

/// Brings the weights of 16 targets into registers.
///
/// # Safety
/// Four tiles of words; shapes are set.
#[inline(always)]
unsafe fn load_weights(weights: *const u32) {
    // SAFETY: the caller's. Only the code here uses the registers.
    unsafe {
        asm!(
            "tileloadd tmm0, [{weights} + {line}]",
            "tileloadd tmm1, [{weights} + {line} + 1024]",
            "tileloadd tmm2, [{weights} + {line} + 2048]",
            "tileloadd tmm3, [{weights} + {line} + 3072]",
            weights = in(reg) weights,
            line = in(reg) 4 * SIDE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, readonly, preserves_flags)
        );
    }
}

/// Brings 16 rows of 16 residues into a register, and if `DEEP` the 16 rows after them into another.
///
/// # Safety
/// Rows of [`BLOCK`] words at `scaled`; shapes are set.
#[inline(always)]
unsafe fn load_residues<const DEEP: bool>(scaled: *const u32) {
    // SAFETY: the caller's.
    unsafe {
        asm!("tileloadd tmm4, [{scaled} + {apart}]", scaled = in(reg) scaled, apart = in(reg) 4 * BLOCK,
            out("tmm4") _, options(nostack, readonly, preserves_flags));
        if DEEP {
            asm!("tileloadd tmm7, [{scaled} + {apart}]", scaled = in(reg) scaled.add(SIDE * BLOCK), apart = in(reg) 4 * BLOCK,
                out("tmm7") _, options(nostack, readonly, preserves_flags));
        }
    }
}

/// All pairs of bytes of residues.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..BYTES).flat_map(|a| (0..BYTES).map(move |b| (a, b)))
}

/// Byte b.
fn byte(of: u64, b: usize) -> u32 {
    (of >> (8 * b)) as u32 & 0xff
}

/// `w 2^-32 mod q`, for `w` in `[0, q)`: with `k q = w mod 2^32`, it is `(w - k q) 2^-32`.
fn plain(w: u32, reducer: &Reducer) -> u32 {
    let k = w.wrapping_mul(reducer.q_inverse);
    let below = (u64::from(k) * u64::from(reducer.q)) >> 32;
    (reducer.q - below as u32) % reducer.q
}
