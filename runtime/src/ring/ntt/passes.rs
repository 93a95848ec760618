//! Strided passes of two to sixteen rows: the outer stages of a vector transform.
//!
//! Residues are lazy: `q < 2^28`, so a word holds values below `16q`. A forward butterfly `(u + t, u + 2q - t)` with `t = v w` in `[0, 2q)` adds
//! `2q` to the bound whatever `v` was; an inverse butterfly `(u + v, (v - u + bound) w)` doubles the bound of sums, so sums are folded back
//! to `2q` at the end of a pass. In comments "bound b" means values below `b q`.

use super::super::simd::Vector;
use super::{Last, VectorTable};

/// Broadcast constants of one modulus.
#[derive(Clone, Copy)]
pub(super) struct Constants<V> {
    pub q: V,
    pub q2: V,
    pub q4: V,
    pub q8: V,
    pub q_inverse: V,
}

impl<V: Vector> Constants<V> {
    #[inline(always)]
    pub unsafe fn new(table: &VectorTable) -> Self {
        let q = table.reducer.q;
        // SAFETY: the caller has the instruction set.
        unsafe {
            Self {
                q: V::splat(q),
                q2: V::splat(2 * q),
                q4: V::splat(4 * q),
                q8: V::splat(8 * q),
                q_inverse: V::splat(table.reducer.q_inverse),
            }
        }
    }
}

/// Twiddle of descendant `t` (heap order: 1; 2, 3; 4 .. 7; ...) of the butterfly tree rooted at entry `root` of the table.
#[inline(always)]
pub(super) unsafe fn twiddle<V: Vector>(table: &VectorTable, root: usize, t: usize) -> (V, V) {
    let level = t.ilog2();
    let index = (root << level) + t - (1 << level);
    debug_assert!(index < table.values.len());
    // SAFETY: index is below the number of outer twiddles by construction of the passes; instruction set is the caller's.
    unsafe {
        (
            V::splat(*table.values.get_unchecked(index)),
            V::splat(*table.quotients.get_unchecked(index)),
        )
    }
}

/// One forward stage: each `(i, j, t)` is a butterfly of rows i and j with twiddle t. With `fold`, rows i come with bound 16.
macro_rules! forward_stage {
    ($x:ident, $c:ident, $table:expr, $root:expr, $fold:expr; $(($i:literal, $j:literal, $t:literal))*) => { $(
        let (w, quotient) = twiddle($table, $root, $t);
        let t = $x[$j].shoup(w, quotient, $c.q);
        let u = if $fold { $x[$i].fold($c.q8) } else { $x[$i] };
        $x[$i] = u.add(t);
        $x[$j] = u.add($c.q2).sub(t);
    )* };
}

/// One inverse stage: each `(i, j, t, bound)` has rows i and j below the bound given as a field of the constants.
macro_rules! inverse_stage {
    ($x:ident, $c:ident, $table:expr, $root:expr; $(($i:literal, $j:literal, $t:literal, $bound:ident))*) => { $(
        let (w, quotient) = twiddle($table, $root, $t);
        let d = $x[$j].add($c.$bound).sub($x[$i]);
        $x[$i] = $x[$i].add($x[$j]);
        $x[$j] = d.shoup(w, quotient, $c.q);
    )* };
}

/// The last inverse stage of the whole transform: a factor is multiplied into both outputs, which become canonical.
macro_rules! inverse_last_stage {
    ($x:ident, $c:ident, $factors:expr; $(($i:literal, $j:literal, $bound:ident))*) => {
        let scale = (Vector::splat($factors.sum.value), Vector::splat($factors.sum.quotient));
        let twisted = (Vector::splat($factors.difference.value), Vector::splat($factors.difference.quotient));
        $(
            let d = $x[$j].add($c.$bound).sub($x[$i]);
            $x[$i] = $x[$i].add($x[$j]).shoup(scale.0, scale.1, $c.q).fold($c.q);
            $x[$j] = d.shoup(twisted.0, twisted.1, $c.q).fold($c.q);
        )*
    };
}

/// The butterflies of a forward network on `$x`; the first stage folds when told.
macro_rules! forward_rows {
    (16, $x:ident, $c:ident, $table:expr, $root:expr, $fold:expr) => {
        forward_stage!($x, $c, $table, $root, $fold; (0, 8, 1) (1, 9, 1) (2, 10, 1) (3, 11, 1) (4, 12, 1) (5, 13, 1) (6, 14, 1) (7, 15, 1));
        forward_stage!($x, $c, $table, $root, false; (0, 4, 2) (1, 5, 2) (2, 6, 2) (3, 7, 2) (8, 12, 3) (9, 13, 3) (10, 14, 3) (11, 15, 3));
        forward_stage!($x, $c, $table, $root, false; (0, 2, 4) (1, 3, 4) (4, 6, 5) (5, 7, 5) (8, 10, 6) (9, 11, 6) (12, 14, 7) (13, 15, 7));
        forward_stage!($x, $c, $table, $root, false; (0, 1, 8) (2, 3, 9) (4, 5, 10) (6, 7, 11) (8, 9, 12) (10, 11, 13) (12, 13, 14) (14, 15, 15));
    };
    (8, $x:ident, $c:ident, $table:expr, $root:expr, $fold:expr) => {
        forward_stage!($x, $c, $table, $root, $fold; (0, 4, 1) (1, 5, 1) (2, 6, 1) (3, 7, 1));
        forward_stage!($x, $c, $table, $root, false; (0, 2, 2) (1, 3, 2) (4, 6, 3) (5, 7, 3));
        forward_stage!($x, $c, $table, $root, false; (0, 1, 4) (2, 3, 5) (4, 5, 6) (6, 7, 7));
    };
    (4, $x:ident, $c:ident, $table:expr, $root:expr, $fold:expr) => {
        forward_stage!($x, $c, $table, $root, $fold; (0, 2, 1) (1, 3, 1));
        forward_stage!($x, $c, $table, $root, false; (0, 1, 2) (2, 3, 3));
    };
    (2, $x:ident, $c:ident, $table:expr, $root:expr, $fold:expr) => {
        forward_stage!($x, $c, $table, $root, $fold; (0, 1, 1));
    };
}

/// Brings rows back to bound 2 after an inverse network.
macro_rules! fold_rows {
    ($x:ident, $c:ident; $($bound:ident: $($i:literal)*);*) => { $( $( $x[$i] = $x[$i].fold($c.$bound); )* )* };
}

/// The butterflies of an inverse network on `$x`, bound 2 in and out; twiddles are those of the mirrored root.
macro_rules! inverse_rows {
    (16, $x:ident, $c:ident, $table:expr, $root:expr, $last:expr, $factors:expr) => {
        inverse_stage!($x, $c, $table, $root; (0, 1, 15, q2) (2, 3, 14, q2) (4, 5, 13, q2) (6, 7, 12, q2) (8, 9, 11, q2) (10, 11, 10, q2) (12, 13, 9, q2) (14, 15, 8, q2));
        inverse_stage!($x, $c, $table, $root; (0, 2, 7, q4) (1, 3, 7, q2) (4, 6, 6, q4) (5, 7, 6, q2) (8, 10, 5, q4) (9, 11, 5, q2) (12, 14, 4, q4) (13, 15, 4, q2));
        inverse_stage!($x, $c, $table, $root; (0, 4, 3, q8) (1, 5, 3, q4) (2, 6, 3, q2) (3, 7, 3, q2) (8, 12, 2, q8) (9, 13, 2, q4) (10, 14, 2, q2) (11, 15, 2, q2));
        // Rows 0 and 8 are sums of sums of sums: bound 16.
        fold_rows!($x, $c; q8: 0 8);
        if $last {
            inverse_last_stage!($x, $c, $factors; (0, 8, q8) (1, 9, q8) (2, 10, q4) (3, 11, q4) (4, 12, q2) (5, 13, q2) (6, 14, q2) (7, 15, q2));
        } else {
            inverse_stage!($x, $c, $table, $root; (0, 8, 1, q8) (1, 9, 1, q8) (2, 10, 1, q4) (3, 11, 1, q4) (4, 12, 1, q2) (5, 13, 1, q2) (6, 14, 1, q2) (7, 15, 1, q2));
            fold_rows!($x, $c; q8: 0 1; q4: 0 1 2 3; q2: 0 1 2 3 4 5 6 7);
        }
    };
    (8, $x:ident, $c:ident, $table:expr, $root:expr, $last:expr, $factors:expr) => {
        inverse_stage!($x, $c, $table, $root; (0, 1, 7, q2) (2, 3, 6, q2) (4, 5, 5, q2) (6, 7, 4, q2));
        inverse_stage!($x, $c, $table, $root; (0, 2, 3, q4) (1, 3, 3, q2) (4, 6, 2, q4) (5, 7, 2, q2));
        if $last {
            inverse_last_stage!($x, $c, $factors; (0, 4, q8) (1, 5, q4) (2, 6, q2) (3, 7, q2));
        } else {
            inverse_stage!($x, $c, $table, $root; (0, 4, 1, q8) (1, 5, 1, q4) (2, 6, 1, q2) (3, 7, 1, q2));
            fold_rows!($x, $c; q8: 0; q4: 0 1; q2: 0 1 2 3);
        }
    };
    (4, $x:ident, $c:ident, $table:expr, $root:expr, $last:expr, $factors:expr) => {
        inverse_stage!($x, $c, $table, $root; (0, 1, 3, q2) (2, 3, 2, q2));
        if $last {
            inverse_last_stage!($x, $c, $factors; (0, 2, q4) (1, 3, q2));
        } else {
            inverse_stage!($x, $c, $table, $root; (0, 2, 1, q4) (1, 3, 1, q2));
            fold_rows!($x, $c; q4: 0; q2: 0 1);
        }
    };
    (2, $x:ident, $c:ident, $table:expr, $root:expr, $last:expr, $factors:expr) => {
        if $last {
            inverse_last_stage!($x, $c, $factors; (0, 1, q2));
        } else {
            inverse_stage!($x, $c, $table, $root; (0, 1, 1, q2));
            fold_rows!($x, $c; q2: 0);
        }
    };
}
pub(super) use {
    fold_rows, forward_rows, forward_stage, inverse_last_stage, inverse_rows, inverse_stage,
};

macro_rules! define_passes {
    ($rows:tt, $forward:ident, $inverse:ident; $($k:literal)*) => {
        /// One forward pass over a block of `rows * stride` words.
        #[inline(always)]
        unsafe fn $forward<V: Vector, const FOLD: bool>(from: *const u32, to: *mut u32, stride: usize, root: usize, table: &VectorTable) {
            // SAFETY: the rows lie inside the caller's block.
            unsafe {
                let c = Constants::<V>::new(table);
                let mut j = 0;
                while j < stride {
                    let mut x = [$( V::load(from.add($k * stride + j)) ),*];
                    forward_rows!($rows, x, c, table, root, FOLD);
                    $( x[$k].store(to.add($k * stride + j)); )*
                    j += V::LANES;
                }
            }
        }
        /// One inverse pass over a block of `rows * stride` words; `LAST` finishes the transform.
        #[inline(always)]
        unsafe fn $inverse<V: Vector, const LAST: bool>(a: *mut u32, stride: usize, mirror: usize, table: &VectorTable, factors: &Last) {
            // SAFETY: the rows lie inside the caller's block.
            unsafe {
                let c = Constants::<V>::new(table);
                let mut j = 0;
                while j < stride {
                    let mut x = [$( V::load(a.add($k * stride + j)) ),*];
                    inverse_rows!($rows, x, c, table, mirror, LAST, factors);
                    $( x[$k].store(a.add($k * stride + j)); )*
                    j += V::LANES;
                }
            }
        }
    };
}
define_passes!(16, forward16, inverse16; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
define_passes!(8, forward8, inverse8; 0 1 2 3 4 5 6 7);
define_passes!(4, forward4, inverse4; 0 1 2 3);
define_passes!(2, forward2, inverse2; 0 1);

/// A forward pass of `stages` (1 to 4) from the block of `length` words at `from`, whose first butterfly uses table entry `root`, to that at `to`.
///
/// # Safety
/// Both point to `length` words and are the same or do not overlap, `length >> stages` is a multiple of the lanes; the instruction set is present.
#[inline(always)]
pub(super) unsafe fn forward_pass<V: Vector>(
    from: *const u32,
    to: *mut u32,
    length: usize,
    stages: u32,
    root: usize,
    table: &VectorTable,
    fold: bool,
) {
    let stride = length >> stages;
    // SAFETY: handed on.
    unsafe {
        match (stages, fold) {
            (4, false) => forward16::<V, false>(from, to, stride, root, table),
            (4, true) => forward16::<V, true>(from, to, stride, root, table),
            (3, false) => forward8::<V, false>(from, to, stride, root, table),
            (3, true) => forward8::<V, true>(from, to, stride, root, table),
            (2, false) => forward4::<V, false>(from, to, stride, root, table),
            (2, true) => forward4::<V, true>(from, to, stride, root, table),
            (_, false) => forward2::<V, false>(from, to, stride, root, table),
            (_, true) => forward2::<V, true>(from, to, stride, root, table),
        }
    }
}

/// The inverse of [`forward_pass`]; `mirror` is the mirrored root, `last` marks the final pass of the transform, which multiplies by `factors`.
///
/// # Safety
/// As [`forward_pass`].
#[inline(always)]
pub(super) unsafe fn inverse_pass<V: Vector>(
    a: *mut u32,
    length: usize,
    stages: u32,
    mirror: usize,
    table: &VectorTable,
    factors: &Last,
    last: bool,
) {
    let stride = length >> stages;
    // SAFETY: handed on.
    unsafe {
        match (stages, last) {
            (4, false) => inverse16::<V, false>(a, stride, mirror, table, factors),
            (4, true) => inverse16::<V, true>(a, stride, mirror, table, factors),
            (3, false) => inverse8::<V, false>(a, stride, mirror, table, factors),
            (3, true) => inverse8::<V, true>(a, stride, mirror, table, factors),
            (2, false) => inverse4::<V, false>(a, stride, mirror, table, factors),
            (2, true) => inverse4::<V, true>(a, stride, mirror, table, factors),
            (_, false) => inverse2::<V, false>(a, stride, mirror, table, factors),
            (_, true) => inverse2::<V, true>(a, stride, mirror, table, factors),
        }
    }
}
