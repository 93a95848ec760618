//! Transforms with 256-bit vectors. The loops are in `runtime/codelets`, ordered when the crate is built; here are their tables, and which
//! loop runs where.
//!
//! Words are signed and of a size up to 8q. A product in the form of Shoup, `x w - floor(x quotient / 2^32) q` with
//! `quotient = round(w 2^32 / q)` and w of size below q/2, is in `[-B/32 q, (1 + B/32) q]` for x of size below `B q`: it is added to and taken off
//! another word without the 2q that unsigned words need, and differences are multiplied as they are. What is not multiplied, the row that the sums of a
//! forward network begin with or the sums of an inverse one, is brought nearer to zero when `codelets::residue` finds that its range asks for
//! it.

use super::{plan, Last, VectorTable};
use crate::arith::{Modulus, ShoupFactor};
use std::arch::naked_asm;

/// Words of a vector.
const LANES: usize = 8;
/// Words of a square.
const SQUARE: usize = LANES * LANES;
/// Most stages in one strided pass.
const PASS: u32 = 3;
/// Twiddles of a square's last stages but one, by lane, which are kept in the form of Shoup; the others in that of Montgomery.
const SHOUP_LANES: usize = 3;
/// Words of a square's twiddles by lane, 5 lines of the cache.
const LANES_TABLE: usize = (LANES - 1 + SHOUP_LANES) * LANES;

type Broadcast = [u32; LANES];

/// What the loops read beside words and tables, at the offsets that `codelets::transform` has.
#[repr(C, align(64))]
struct Constants {
    /// q, 2q, 3q, 4q, 8q.
    multiples: [Broadcast; 5],
    q_inverse: Broadcast,
    /// Of one pass: quotient and value of the twiddles of its network, in heap order; and of the factor of the last sums.
    twiddles: [[Broadcast; 2]; LANES],
}

/// A twiddle in the form of Shoup: quotient, value.
type Pair = [u32; 2];

/// Twiddles for the loops.
pub(super) struct Twiddles {
    /// `psi^bitrev(k)` for `k < N / 8`.
    pairs: Vec<Pair>,
    /// Per square, for each lane `l` descendant `t` (heap order) of the butterfly tree on the `l`-th run of 8 words: vectors of quotients and of values,
    /// or of values in Montgomery form.
    lanes: Vec<u32>,
    /// Where the first square's begin: a line of the cache.
    lanes_start: usize,
}

/// A twiddle for signed words, its value of size below q/2.
fn pair(q: u32, w: u32) -> Pair {
    let (q, w) = (i64::from(q), i64::from(w));
    let value = if w > q / 2 { w - q } else { w };
    let half = if value < 0 { -q / 2 } else { q / 2 };
    // |value| < q/2, so the quotient is below 2^31.
    [(((value << 32) + half) / q) as u32, value as u32]
}

impl Twiddles {
    /// Tables from `psi^bitrev(k)` for `k < N`.
    pub(super) fn new(modulus: &Modulus, powers: &[u32]) -> Self {
        let q = modulus.value();
        let (runs, squares) = (powers.len() / LANES, powers.len() / SQUARE);
        let line = 16;
        // One word may be read after the last.
        let mut lanes: Vec<u32> = Vec::with_capacity(line + squares * LANES_TABLE + 1);
        let lanes_start = lanes.as_ptr().align_offset(64).min(line);
        lanes.resize(lanes_start, 0);
        let radix = modulus.shoup(modulus.reduce_u64(1 << 32));
        for square in 0..squares {
            for t in 1..LANES {
                let level = t.ilog2();
                let twiddle = |lane: usize| {
                    let root = runs + square * LANES + lane;
                    powers[(root << level) + t - (1 << level)]
                };
                let all = (0..LANES).map(twiddle);
                if t <= SHOUP_LANES {
                    let pairs = all.map(|w| pair(q, w));
                    lanes.extend(pairs.clone().map(|[quotient, _]| quotient));
                    lanes.extend(pairs.map(|[_, value]| value));
                } else {
                    lanes.extend(all.map(|w| modulus.mul_shoup(w, radix)));
                }
            }
        }
        lanes.push(0);
        Self {
            pairs: powers[..runs].iter().map(|&w| pair(q, w)).collect(),
            lanes,
            lanes_start,
        }
    }

    /// What the loops over squares read from square `number` of `squares` on, or back: pairs at its entry, at twice and at four times that entry, and
    /// its twiddles by lane.
    fn of_square(&self, squares: usize, number: usize) -> ([*const Pair; 3], *const u32) {
        let entry = squares + number;
        // Pointers into all of a table: it is read backwards too.
        let pairs = [1, 2, 4].map(|times| self.pairs.as_ptr().wrapping_add(times * entry));
        let lanes = self.lanes_start + number * LANES_TABLE;
        (pairs, self.lanes.as_ptr().wrapping_add(lanes))
    }
}

macro_rules! loops {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*);)*) => { $(
        $(#[$doc])*
        ///
        /// # Safety
        /// The machine has AVX2, and all that is pointed to is as `codelets::transform` says.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name($($arg: $ty),*) {
            naked_asm!(include_str!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".s")))
        }
    )* };
}

loops! {
    /// A first pass of three stages.
    forward_first8(from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize);
    /// A first pass of two.
    forward_first4(from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize);
    /// A later pass of three.
    forward_later8(from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize);
    /// A later pass of two.
    forward_later4(from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize);
    /// The last six stages.
    forward_squares(words: *mut u32, squares: usize, pairs: *const Pair, twice: *const Pair, four_times: *const Pair, lanes: *const u32,
        constants: *const Constants);
    /// The first six stages of an inverse transform.
    inverse_squares(from: *const u32, to: *mut u32, squares: usize, pairs: *const Pair, twice: *const Pair, four_times: *const Pair,
        lanes: *const u32, constants: *const Constants);
    /// A pass of three stages before the last pass.
    inverse_later8(from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize);
    /// A pass of two before the last.
    inverse_later4(from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize);
    /// A last pass of three.
    inverse_last8(from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize);
    /// A last pass of two.
    inverse_last4(from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize);
}

/// Where in a transform a pass stands: canonical words come into the first of a forward one and go out of the last of an inverse one.
#[derive(Clone, Copy)]
enum Place {
    Outermost,
    Within,
}

impl Constants {
    fn new(table: &VectorTable) -> Self {
        Self {
            multiples: [1, 2, 3, 4, 8].map(|m| [m * table.reducer.q; LANES]),
            q_inverse: [table.reducer.q_inverse; LANES],
            twiddles: [[[0; LANES]; 2]; LANES],
        }
    }

    /// Sets the twiddles of a network whose first butterfly uses entry `root` of the table, for all its stages.
    fn set_network(&mut self, pairs: &[Pair], stages: u32, root: usize) {
        for level in 0..stages {
            let first = 1usize << level;
            let from = &pairs[root << level..][..first];
            for (to, pair) in self.twiddles[first - 1..].iter_mut().zip(from) {
                *to = pair.map(|word| [word; LANES]);
            }
        }
    }

    /// A pass of two or three stages whose first butterfly uses entry `root`, from one block of `length` words to another.
    ///
    /// # Safety
    /// Both point to `length` words and are the same or do not overlap; the machine has AVX2.
    unsafe fn forward_pass(
        &mut self,
        twiddles: &Twiddles,
        place: Place,
        (stages, root): (u32, usize),
        (from, to): (*const u32, *mut u32),
        length: usize,
    ) {
        self.set_network(&twiddles.pairs, stages, root);
        let (stride, turns) = strides(length, stages);
        // SAFETY: the rows lie inside the caller's blocks.
        unsafe {
            match (place, stages) {
                (Place::Outermost, 3) => forward_first8(from, to, stride, self, turns),
                (Place::Outermost, _) => forward_first4(from, to, stride, self, turns),
                (Place::Within, 3) => forward_later8(from, to, stride, self, turns),
                (Place::Within, _) => forward_later4(from, to, stride, self, turns),
            }
        }
    }

    /// The inverse of a pass, in place: the root is mirrored. The outermost multiplies by `last`.
    ///
    /// # Safety
    /// `length` words at `words`; the machine has AVX2.
    unsafe fn inverse_pass(
        &mut self,
        twiddles: &Twiddles,
        last: Option<&Last>,
        (stages, mirror): (u32, usize),
        words: *mut u32,
        length: usize,
    ) {
        self.set_network(&twiddles.pairs, stages, mirror);
        if let Some(Last { sum, difference }) = last {
            let broadcast = |f: &ShoupFactor| [[f.quotient; LANES], [f.value; LANES]];
            // The last stage has one twiddle, the first of the heap.
            self.twiddles[0] = broadcast(difference);
            self.twiddles[LANES - 1] = broadcast(sum);
        }
        let (stride, turns) = strides(length, stages);
        // SAFETY: the rows lie inside the caller's block.
        unsafe {
            match (last.is_some(), stages) {
                (true, 3) => inverse_last8(words, words, stride, self, turns),
                (true, _) => inverse_last4(words, words, stride, self, turns),
                (false, 3) => inverse_later8(words, words, stride, self, turns),
                (false, _) => inverse_later4(words, words, stride, self, turns),
            }
        }
    }
}

/// Bytes between rows, and turns of a loop: one takes a vector of each of eight rows, or two of four.
fn strides(length: usize, stages: u32) -> (usize, usize) {
    ((length >> stages) * size_of::<u32>(), length / SQUARE)
}

/// Stages of the strided passes.
fn passes(table: &VectorTable, n: usize) -> [u32; 4] {
    assert_eq!(n, table.squares * SQUARE);
    let passes = plan(n.ilog2() - SQUARE.ilog2(), PASS);
    let fine = |&stages: &u32| stages == 0 || (2..=PASS).contains(&stages);
    assert!(passes.iter().all(fine) && passes[0] > 0);
    passes
}

/// Coefficients of `n` words at `from` to values at `to`.
///
/// # Safety
/// Both point to `n` words and are the same or do not overlap; the machine has AVX2.
pub(super) unsafe fn forward(
    table: &VectorTable,
    twiddles: &Twiddles,
    from: *const u32,
    to: *mut u32,
    n: usize,
) {
    let passes = passes(table, n);
    let mut constants = Constants::new(table);
    // SAFETY: every block and square lies inside the n words, and tables have entries for all of them.
    unsafe {
        constants.forward_pass(twiddles, Place::Outermost, (passes[0], 1), (from, to), n);
        // The blocks are independent now: each is finished while it is in the first-level cache.
        let length = n >> passes[0];
        for block in 0..1usize << passes[0] {
            let base = to.add(block * length);
            let (mut count, mut size) = (1usize, length);
            let mut root = (1usize << passes[0]) + block;
            for &stages in passes[1..].iter().filter(|&&stages| stages > 0) {
                for i in 0..count {
                    let at = base.add(i * size);
                    let network = (stages, root + i);
                    constants.forward_pass(twiddles, Place::Within, network, (at, at), size);
                }
                (count, size, root) = (count << stages, size >> stages, root << stages);
            }
            let ([pairs, twice, four_times], lanes) =
                twiddles.of_square(table.squares, block * count);
            forward_squares(base, count, pairs, twice, four_times, lanes, &constants);
        }
    }
}

/// Values of `n` words at `from` to coefficients at `to`, times what `last` says.
///
/// # Safety
/// Both point to `n` words and are the same or do not overlap; the machine has AVX2.
pub(super) unsafe fn inverse(
    table: &VectorTable,
    twiddles: &Twiddles,
    from: *const u32,
    to: *mut u32,
    n: usize,
    last: &Last,
) {
    let passes = passes(table, n);
    let mut constants = Constants::new(table);
    // SAFETY: every block and square lies inside the n words, and tables have entries for all of them.
    unsafe {
        let length = n >> passes[0];
        let per_block = length / SQUARE;
        for block in 0..1usize << passes[0] {
            let base = to.add(block * length);
            let mirror = table.squares - 1 - block * per_block;
            let ([pairs, twice, four_times], lanes) = twiddles.of_square(table.squares, mirror);
            let from = from.add(block * length);
            inverse_squares(
                from, base, per_block, pairs, twice, four_times, lanes, &constants,
            );
            let mut count = per_block;
            for &stages in passes[1..].iter().rev().filter(|&&stages| stages > 0) {
                count >>= stages;
                let size = length / count;
                let m = count << passes[0];
                for i in 0..count {
                    // Root m + b is mirrored to 2m - 1 - b.
                    let network = (stages, 2 * m - 1 - (block * count + i));
                    constants.inverse_pass(twiddles, None, network, base.add(i * size), size);
                }
            }
        }
        constants.inverse_pass(twiddles, Some(last), (passes[0], 1), to, n);
    }
}
