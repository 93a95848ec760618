//! The last stages of a vector transform: a square of `LANES` vectors is loaded once, transformed along its rows with broadcast twiddles,
//! transposed, transformed along the other axis with one twiddle per lane, transposed back and stored.

use super::super::simd::{Avx512, Vector};
use super::passes::{
    fold_rows, forward_rows, forward_stage, inverse_last_stage, inverse_rows, inverse_stage,
    twiddle, Constants,
};
use super::{Last, VectorTable};

/// Vectors that can transform a square of `LANES * LANES` words.
pub(super) trait Square: Vector {
    /// log2 of the lanes.
    const LOG: u32;
    /// Most stages in one strided pass: limited by the registers.
    const PASS: u32;

    /// Forward, to canonical residues; `square` numbers the squares of the array, `FOLD` says that bound 16 comes in.
    unsafe fn forward_square<const FOLD: bool>(
        a: *mut u32,
        square: usize,
        table: &VectorTable,
        c: &Constants<Self>,
    );
    /// Inverse, from canonical residues at `from` to bound 2 at `to`, or to the finished transform if `LAST`.
    unsafe fn inverse_square<const LAST: bool>(
        from: *const u32,
        to: *mut u32,
        square: usize,
        table: &VectorTable,
        factors: &Last,
        c: &Constants<Self>,
    );
}

/// The vectors of a square, by constant index so that they stay in registers.
macro_rules! load_rows {
    ($a:ident, $($k:literal)*) => { [$( Self::load($a.add($k * Self::LANES)) ),*] };
}

macro_rules! store_rows {
    ($x:ident, $a:ident, $($k:literal)*) => { $( $x[$k].store($a.add($k * Self::LANES)); )* };
}

/// The last four stages of a forward transform on 256 words, along lanes, from the rows of a square to canonical words at `a`. Rows come with
/// bound 16 if `FOLD`, else 9.
///
/// Sums hold row 0 as it is, and a product adds or takes off less than q: with row 0 in `[0, q)`, plus 4q, words end in `[0, 9q)`. Every other
/// row that products are added to before it is multiplied itself gets as much as keeps it positive.
///
/// # Safety
/// 256 words at `a`, a square of the table, and the instruction set.
#[inline(always)]
pub(super) unsafe fn forward_lanes<const FOLD: bool>(
    x: [Avx512; 16],
    a: *mut u32,
    square: usize,
    table: &VectorTable,
    c: &Constants<Avx512>,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut x = Avx512::transpose(x);
        let inner = table
            .inner
            .as_ptr()
            .add(table.inner_start + square * 15 * 16);
        if FOLD {
            fold_rows!(x, c; q8: 0 1 2 3 4 5 6 7);
        } else {
            fold_rows!(x, c; q8: 0);
        }
        fold_rows!(x, c; q4: 0; q2: 0; q: 0);
        x[0] = x[0].add(c.q4);
        x[1] = x[1].add(c.q2).add(c.q);
        x[2] = x[2].add(c.q2);
        x[3] = x[3].add(c.q2);
        x[4] = x[4].add(c.q);
        x[5] = x[5].add(c.q);
        x[6] = x[6].add(c.q);
        x[7] = x[7].add(c.q);
        macro_rules! stage {
            ($(($i:literal, $j:literal, $t:literal))*) => { $(
                let t = x[$j].montgomery_product_at(inner.add(($t - 1) * 16), c.q, c.q_inverse);
                x[$j] = x[$i].sub(t);
                x[$i] = x[$i].add(t);
            )* };
        }
        stage!((0, 8, 1)(1, 9, 1)(2, 10, 1)(3, 11, 1)(4, 12, 1)(5, 13, 1)(
            6, 14, 1
        )(7, 15, 1));
        stage!((0, 4, 2)(1, 5, 2)(2, 6, 2)(3, 7, 2)(8, 12, 3)(9, 13, 3)(
            10, 14, 3
        )(11, 15, 3));
        stage!((0, 2, 4)(1, 3, 4)(4, 6, 5)(5, 7, 5)(8, 10, 6)(9, 11, 6)(
            12, 14, 7
        )(13, 15, 7));
        stage!(
            (0, 1, 8)(2, 3, 9)(4, 5, 10)(6, 7, 11)(8, 9, 12)(10, 11, 13)(12, 13, 14)(14, 15, 15)
        );
        let remainder = table.remainder();
        macro_rules! finish {
            ($($k:literal)*) => { $( x[$k] = remainder.of(x[$k], c.q); )* };
        }
        finish!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        let x = Avx512::transpose(x);
        macro_rules! store {
            ($($k:literal)*) => { $( x[$k].store(a.add($k * 16)); )* };
        }
        store!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
}

/// The first four stages of an inverse transform on 256 words, along lanes, from canonical words to the rows of a square, bound 2.
///
/// # Safety
/// 256 words at `from`, a (mirrored) square of the table, and the instruction set.
#[inline(always)]
unsafe fn inverse_lanes(
    from: *const u32,
    mirror: usize,
    table: &VectorTable,
    c: &Constants<Avx512>,
) -> [Avx512; 16] {
    // SAFETY: the caller's.
    unsafe {
        macro_rules! load {
            ($($k:literal)*) => { [$( Avx512::load(from.add($k * 16)) ),*] };
        }
        let mut x = Avx512::transpose(load!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15));
        let inner = table
            .inner
            .as_ptr()
            .add(table.inner_start + mirror * 15 * 16);
        macro_rules! stage {
            ($(($i:literal, $j:literal, $t:literal, $bound:ident))*) => { $(
                let w = Avx512::load(inner.add(($t - 1) * 16)).reverse();
                let d = x[$j].add(c.$bound).sub(x[$i]);
                x[$i] = x[$i].add(x[$j]);
                x[$j] = d.montgomery_product(w, c.q, c.q_inverse).add(c.q);
            )* };
        }
        stage!((0, 1, 15, q2)(2, 3, 14, q2)(4, 5, 13, q2)(6, 7, 12, q2)(
            8, 9, 11, q2
        )(10, 11, 10, q2)(12, 13, 9, q2)(14, 15, 8, q2));
        stage!((0, 2, 7, q4)(1, 3, 7, q2)(4, 6, 6, q4)(5, 7, 6, q2)(
            8, 10, 5, q4
        )(9, 11, 5, q2)(12, 14, 4, q4)(13, 15, 4, q2));
        stage!((0, 4, 3, q8)(1, 5, 3, q4)(2, 6, 3, q2)(3, 7, 3, q2)(
            8, 12, 2, q8
        )(9, 13, 2, q4)(10, 14, 2, q2)(11, 15, 2, q2));
        fold_rows!(x, c; q8: 0 8);
        stage!((0, 8, 1, q8)(1, 9, 1, q8)(2, 10, 1, q4)(3, 11, 1, q4)(
            4, 12, 1, q2
        )(5, 13, 1, q2)(6, 14, 1, q2)(7, 15, 1, q2));
        fold_rows!(x, c; q8: 0 1; q4: 0 1 2 3; q2: 0 1 2 3 4 5 6 7);
        Avx512::transpose(x)
    }
}

impl Square for Avx512 {
    const LOG: u32 = 4;
    const PASS: u32 = 3;

    #[inline(always)]
    unsafe fn forward_square<const FOLD: bool>(
        a: *mut u32,
        square: usize,
        table: &VectorTable,
        c: &Constants<Self>,
    ) {
        // SAFETY: the caller vouches for 256 words at `a`, a square of the table, and the instruction set.
        unsafe {
            let mut x = load_rows!(a, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            let root = table.squares + square;
            forward_rows!(16, x, c, table, root, FOLD);
            forward_lanes::<true>(x, a, square, table, c);
        }
    }

    #[inline(always)]
    unsafe fn inverse_square<const LAST: bool>(
        from: *const u32,
        to: *mut u32,
        square: usize,
        table: &VectorTable,
        factors: &Last,
        c: &Constants<Self>,
    ) {
        // SAFETY: as for the forward square.
        unsafe {
            let mirror = table.squares - 1 - square;
            let mut x = inverse_lanes(from, mirror, table, c);
            let root = table.squares + mirror;
            inverse_rows!(16, x, c, table, root, LAST, factors);
            store_rows!(x, to, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        }
    }
}
