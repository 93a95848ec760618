//! The outer stages of a forward transform in 64-bit lanes, with the 52-bit multiply-adds of AVX-512 IFMA.
//!
//! A product modulo q takes three instructions on eight lanes where 32-bit lanes take nine on sixteen, and 52 bits hold residues of 28 through
//! all stages: nothing is folded between the first stage and the last square. With `quotient = floor(w 2^52 / q)` the product
//! `x w - floor(x quotient / 2^52) q` is in `[0, q + x q 2^-52)` for `0 <= x < 2^52` (Shoup); the multiply-adds read 52 bits and ignore the
//! others, so a value need only be right modulo 2^52, but what is multiplied must not be negative. "[0, q]" below means that interval.
//!
//! A run of 16 words is kept as its eight words of even index, then its eight of odd index.

use super::super::pool::Buffer;
use super::codelets::{self, Loops};
use super::{avx512, Modulus};
use std::arch::x86_64::*;

/// Words of a run.
const RUN: usize = avx512::Wide::LANES;
/// Words of a square.
const SQUARE: usize = RUN * RUN;
/// Words between blocks of the scratch. Rows of a whole transform are a power of two apart, so the lines that a pass reads together share one
/// set of the first-level cache: they must not also share it with the lines that it writes and the next pass reads.
const PAD: usize = 16;

/// Twiddles of the outer stages in 52-bit Shoup form.
pub(super) struct Twiddles {
    /// `psi^bitrev(k)` and its quotient for `k < N / 16`.
    pairs: Vec<[u64; 2]>,
    q: u64,
    /// The quotient of 1.
    reciprocal: u64,
}

fn pair(q: u64, w: u32) -> [u64; 2] {
    [u64::from(w), ((u128::from(w) << 52) / u128::from(q)) as u64]
}

/// Broadcast constants.
#[derive(Clone, Copy)]
struct Wide {
    zero: __m512i,
    minus_q: __m512i,
    /// The low word of each lane.
    low: __m512i,
}

impl Twiddles {
    /// Tables for the transform of as many words as there are powers.
    pub(super) fn new(modulus: &Modulus, powers: &[u32]) -> Self {
        let q = u64::from(modulus.value());
        let outer = &powers[..powers.len() / RUN];
        Self {
            pairs: outer.iter().map(|&w| pair(q, w)).collect(),
            q,
            reciprocal: (1 << 52) / q,
        }
    }

    #[inline(always)]
    unsafe fn constants(&self) -> Wide {
        // SAFETY: the caller has the instruction set.
        unsafe {
            Wide {
                zero: _mm512_setzero_si512(),
                minus_q: splat((1 << 52) - self.q),
                low: splat(0xffff_ffff),
            }
        }
    }

    /// Twiddle of descendant `t` of the butterfly tree rooted at entry `root`.
    #[inline(always)]
    unsafe fn twiddle(&self, root: usize, t: usize) -> (__m512i, __m512i) {
        let level = t.ilog2();
        let index = (root << level) + t - (1 << level);
        debug_assert!(index < self.pairs.len());
        // SAFETY: the index is below N/16 by construction of the passes; instruction set is the caller's.
        unsafe {
            let [w, quotient] = *self.pairs.get_unchecked(index);
            (splat(w), splat(quotient))
        }
    }
}

#[inline(always)]
unsafe fn splat(word: u64) -> __m512i {
    // SAFETY: the caller has the instruction set.
    unsafe { _mm512_set1_epi64(word as i64) }
}

#[inline(always)]
unsafe fn load(from: *const u64) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

#[inline(always)]
unsafe fn store(to: *mut u64, x: __m512i) {
    // SAFETY: the caller's.
    unsafe { _mm512_storeu_si512(to.cast(), x) }
}

/// `x w mod q` plus `sum`, by the bounds at the top.
#[inline(always)]
unsafe fn shoup(sum: __m512i, x: __m512i, (w, quotient): (__m512i, __m512i), c: &Wide) -> __m512i {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let h = _mm512_madd52hi_epu64(c.zero, x, quotient);
        _mm512_madd52lo_epu64(_mm512_madd52lo_epu64(sum, x, w), h, c.minus_q)
    }
}

/// `x` less a multiple of q, in [0, q].
#[inline(always)]
unsafe fn remainder(x: __m512i, reciprocal: __m512i, c: &Wide) -> __m512i {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let h = _mm512_madd52hi_epu64(c.zero, x, reciprocal);
        _mm512_madd52lo_epu64(x, h, c.minus_q)
    }
}

/// Stores eight even words and eight odd words in order. The odd ones come from memory: then the merge costs no shuffle.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn join(even: __m512i, odd: *const u64, to: *mut u32) {
    let mut joined = even;
    // SAFETY: AVX-512F, eight words at `odd` and sixteen at `to` are the caller's.
    unsafe {
        std::arch::asm!("vmovsldup {joined}{{{mask}}}, [{odd}]", joined = inout(zmm_reg) joined, odd = in(reg) odd,
            mask = in(kreg) 0xaaaau16, options(pure, readonly, nostack, preserves_flags));
        store(to.cast(), joined);
    }
}

/// Each `(i j t)` is a butterfly of rows i and j with twiddle t.
macro_rules! forward_stage {
    ($x:ident $c:ident $wide:ident $root:ident; $(($i:literal $j:literal $t:literal))*) => { $(
        let sum = shoup($x[$i], $x[$j], $wide.twiddle($root, $t), &$c);
        $x[$j] = _mm512_sub_epi64(_mm512_add_epi64($x[$i], $x[$i]), sum);
        $x[$i] = sum;
    )* };
}

/// The butterflies of a forward network.
macro_rules! forward_rows {
    (16; $($s:ident)*) => {
        forward_stage!($($s)*; (0 8 1)(1 9 1)(2 10 1)(3 11 1)(4 12 1)(5 13 1)(6 14 1)(7 15 1));
        forward_stage!($($s)*; (0 4 2)(1 5 2)(2 6 2)(3 7 2)(8 12 3)(9 13 3)(10 14 3)(11 15 3));
        forward_stage!($($s)*; (0 2 4)(1 3 4)(4 6 5)(5 7 5)(8 10 6)(9 11 6)(12 14 7)(13 15 7));
        forward_stage!($($s)*; (0 1 8)(2 3 9)(4 5 10)(6 7 11)(8 9 12)(10 11 13)(12 13 14)(14 15 15));
    };
    (8; $($s:ident)*) => {
        forward_stage!($($s)*; (0 4 1)(1 5 1)(2 6 1)(3 7 1));
        forward_stage!($($s)*; (0 2 2)(1 3 2)(4 6 3)(5 7 3));
        forward_stage!($($s)*; (0 1 4)(2 3 5)(4 5 6)(6 7 7));
    };
    (4; $($s:ident)*) => {
        forward_stage!($($s)*; (0 2 1)(1 3 1));
        forward_stage!($($s)*; (0 1 2)(2 3 3));
    };
}

/// The even and the odd words of a run.
#[inline(always)]
unsafe fn split(from: *const u32, c: &Wide) -> (__m512i, __m512i) {
    // SAFETY: sixteen words and the instruction set are the caller's.
    unsafe {
        let words = load(from.cast());
        (
            _mm512_and_si512(words, c.low),
            _mm512_srli_epi64::<32>(words),
        )
    }
}

macro_rules! define_passes {
    ($rows:tt, $first:ident, $later:ident; $($k:literal)*) => {
        /// The first pass: from words at `a`, rows `stride` apart, to padded blocks of the scratch.
        #[inline(always)]
        unsafe fn $first(a: *const u32, scratch: *mut u64, stride: usize, wide: &Twiddles) {
            // SAFETY: the rows lie inside the caller's buffers.
            unsafe {
                let c = wide.constants();
                let root = 1;
                // Every value is one of these rows plus and minus one product in [0, q] per stage: the offset keeps it positive to the end.
                let offset = splat(wide.q << 4);
                let mut odd = [c.zero; $rows];
                for j in (0..stride).step_by(RUN) {
                    let mut x = [c.zero; $rows];
                    $(
                        (x[$k], odd[$k]) = split(a.add($k * stride + j), &c);
                        if $k < $rows / 2 {
                            x[$k] = _mm512_add_epi64(x[$k], offset);
                            odd[$k] = _mm512_add_epi64(odd[$k], offset);
                        }
                    )*
                    forward_rows!($rows; x c wide root);
                    $( store(scratch.add($k * (stride + PAD) + j), x[$k]); )*
                    let mut x = odd;
                    forward_rows!($rows; x c wide root);
                    $( store(scratch.add($k * (stride + PAD) + j + RUN / 2), x[$k]); )*
                }
            }
        }
        /// A later pass over a block of `rows * stride` words of the scratch.
        #[inline(always)]
        unsafe fn $later(a: *mut u64, stride: usize, root: usize, wide: &Twiddles) {
            // SAFETY: the rows lie inside the caller's block.
            unsafe {
                let c = wide.constants();
                for j in (0..stride).step_by(RUN / 2) {
                    let mut x = [$( load(a.add($k * stride + j)) ),*];
                    forward_rows!($rows; x c wide root);
                    $( store(a.add($k * stride + j), x[$k]); )*
                }
            }
        }
    };
}
define_passes!(16, first16, later16; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
define_passes!(8, first8, later8; 0 1 2 3 4 5 6 7);
define_passes!(4, first4, later4; 0 1 2 3);

/// The first four of the last eight stages on 256 words, along rows: signed words, [-4q, 5q].
#[inline(always)]
unsafe fn forward_rows_of_square(from: *const u64, to: *mut u32, root: usize, wide: &Twiddles) {
    // SAFETY: 256 words on both sides are the caller's.
    unsafe {
        let c = wide.constants();
        let reciprocal = splat(wide.reciprocal);
        // All sums of a row network hold row 0 as it is, in [0, q], and add or take off at most q per stage.
        macro_rules! rows {
            ($half:expr) => {{
                let mut x = [c.zero; 16];
                for (k, x) in x.iter_mut().enumerate() {
                    *x = load(from.add(k * RUN + $half));
                }
                x[0] = remainder(x[0], reciprocal, &c);
                forward_rows!(16; x c wide root);
                x
            }};
        }
        let odd = rows!(RUN / 2);
        let mut kept = [c.zero; 16];
        for (k, x) in odd.into_iter().enumerate() {
            store(kept.as_mut_ptr().add(k).cast(), x);
        }
        for (k, even) in rows!(0).into_iter().enumerate() {
            join(even, kept.as_ptr().add(k).cast(), to.add(k * RUN));
        }
    }
}

impl Twiddles {
    /// Coefficients of `n` words at `from` to values at `to`; the last stages with the other twiddles.
    ///
    /// # Safety
    /// Both point to `n` words and are the same or do not overlap; the instruction set is present.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
    pub(super) unsafe fn forward(
        &self,
        twiddles: &codelets::Twiddles<avx512::Wide>,
        from: *const u32,
        to: *mut u32,
        n: usize,
    ) {
        let squares = n / SQUARE;
        assert_eq!(n / RUN, self.pairs.len());
        let passes = twiddles.passes;
        let first = passes[0];
        let length = n >> first;
        let mut scratch = Buffer::scratch(2 * (length + PAD) * (1 << first) + 16);
        let start = scratch.as_ptr().align_offset(64).min(16);
        let scratch: *mut u64 = scratch[start..].as_mut_ptr().cast();
        // SAFETY: every pass and square stays inside the n words and the scratch; compiled with the set.
        unsafe {
            match first {
                4 => first16(from, scratch, length, self),
                3 => first8(from, scratch, length, self),
                _ => first4(from, scratch, length, self),
            }
            for block in 0..1usize << first {
                let base = scratch.add(block * (length + PAD));
                let (mut count, mut size) = (1usize, length);
                let mut root = (1usize << first) + block;
                for &stages in passes[1..].iter().filter(|&&s| s > 0) {
                    for i in 0..count {
                        let (at, stride) = (base.add(i * size), size >> stages);
                        match stages {
                            4 => later16(at, stride, root + i, self),
                            3 => later8(at, stride, root + i, self),
                            _ => later4(at, stride, root + i, self),
                        }
                    }
                    (count, size, root) = (count << stages, size >> stages, root << stages);
                }
                let to = to.add(block * length);
                for i in 0..count {
                    let root = squares + block * count + i;
                    forward_rows_of_square(base.add(i * SQUARE), to.add(i * SQUARE), root, self);
                }
                twiddles.forward_lanes(avx512::FORWARD_LANES, to, block * count, count);
            }
        }
    }
}
