//! Transforms whose loops are in `runtime/codelets`, ordered when the crate is built: here are their tables, and which loop runs where. The
//! loops are [`super::avx2`] and [`super::avx512`].
//!
//! Words are signed and of a size up to 8q. A product in the form of Shoup, `x w - floor(x quotient / 2^32) q` with
//! `quotient = round(w 2^32 / q)` and w of size below q/2, is in `[-B/32 q, (1 + B/32) q]` for x of size below `B q`: it is added to and taken off
//! another word without the 2q that unsigned words need, and differences are multiplied as they are. What is not multiplied, the row that the sums of a
//! forward network begin with or the sums of an inverse one, is brought nearer to zero when `codelets::residue` finds that its range asks for
//! it.

use super::{Last, Reducer};
use crate::arith::{Modulus, ShoupFactor};
use crate::ring::words::Words;

/// Twiddles of a square's last stages, by lane, the first of a network, which are kept in the form of Shoup; the others in that of Montgomery.
const SHOUP_LANES: usize = 3;

/// A twiddle in the form of Shoup: quotient, value.
pub(super) type Pair = [u32; 2];

/// A pass from rows at the one to rows at the other, so many bytes apart: constants and turns come after.
pub(super) type Pass<C> = unsafe extern "sysv64" fn(*const u32, *mut u32, usize, *const C, usize);

/// The loop over squares of a forward transform, in place: words, how many squares.
pub(super) type Squares<C> = unsafe extern "sysv64" fn(*mut u32, usize, *const Tables<C>);

/// That of an inverse transform: from, to, how many squares. Pairs are read backwards.
pub(super) type InverseSquares<C> =
    unsafe extern "sysv64" fn(*const u32, *mut u32, usize, *const Tables<C>);

/// What the loops over squares read.
#[repr(C)]
pub(super) struct Tables<C> {
    /// Pairs at the first square's entry, at twice, four times and eight times that entry.
    pairs: [*const Pair; 4],
    /// The first square's twiddles by lane.
    lanes: *const u32,
    constants: *const C,
}

/// The loops for the vectors of one instruction set; passes by their stages, two first.
pub(super) trait Loops {
    /// Words of a vector. A square has as many vectors.
    const LANES: usize;
    /// What loops read beside words and tables.
    type Constants: Constants;

    /// A first pass takes canonical words.
    const FORWARD_FIRST: &'static [Pass<Self::Constants>];
    const FORWARD_LATER: &'static [Pass<Self::Constants>];
    const FORWARD_SQUARES: Squares<Self::Constants>;
    const INVERSE_SQUARES: InverseSquares<Self::Constants>;
    const INVERSE_LATER: &'static [Pass<Self::Constants>];
    /// A last pass multiplies by a factor and gives canonical words.
    const INVERSE_LAST: &'static [Pass<Self::Constants>];
}

/// Constants of a prime, and the twiddles of one pass.
pub(super) trait Constants: Clone + 'static {
    fn new(reducer: &Reducer) -> Self;

    /// Sets twiddle `t` (heap order, from 1) of the pass's network; after as many as a pass can have, the factor of the last sums.
    fn set_twiddle(&mut self, t: usize, pair: Pair);

    /// Sets the twiddles of a network whose first butterfly uses entry `root` of the table, for all its stages.
    fn set_network(&mut self, pairs: &[Pair], stages: u32, root: usize) {
        for level in 0..stages {
            let first = 1usize << level;
            for (k, pair) in pairs[root << level..][..first].iter().enumerate() {
                self.set_twiddle(first + k, *pair);
            }
        }
    }
}

/// Twiddles of one prime.
pub(super) struct Twiddles<L: Loops> {
    constants: L::Constants,
    squares: usize,
    /// Stages of the strided passes, zeros after them.
    pub passes: [u32; 4],
    /// `psi^bitrev(k)` for `k < N / LANES`.
    pairs: Vec<Pair>,
    forward: LaneTable,
    /// Mirrored, in the order that an inverse transform reads them in: backwards, the processor does not fetch them ahead.
    inverse: LaneTable,
}

/// Twiddles of the last stages. Per square, for each lane `l` descendant `t` (heap order) of the butterfly tree on the `l`-th run of LANES words:
/// vectors of quotients and of values, or of values in Montgomery form. One word may be read after the last.
struct LaneTable(Words);

impl LaneTable {
    /// From the twiddles' numbers and lanes, vector after vector.
    fn new<I: Iterator<Item = u32> + Clone>(
        modulus: &Modulus,
        vectors: impl Iterator<Item = (usize, I)>,
    ) -> Self {
        let radix = modulus.shoup(modulus.reduce_u64(1 << 32));
        let mut words = Vec::new();
        for (t, lanes) in vectors {
            if t <= SHOUP_LANES {
                let pairs = lanes.map(|w| pair(modulus.value(), w));
                words.extend(pairs.clone().map(|[quotient, _]| quotient));
                words.extend(pairs.map(|[_, value]| value));
            } else {
                words.extend(lanes.map(|w| modulus.mul_shoup(w, radix)));
            }
        }
        words.push(0);
        Self(Words::from(&words[..]))
    }

    /// The twiddles from a square of so many vectors on.
    fn from(&self, square: usize, lanes: usize) -> *const u32 {
        let words = (lanes - 1 + SHOUP_LANES) * lanes;
        self.0[square * words..].as_ptr()
    }
}

/// A twiddle for signed words, its value of size below q/2.
fn pair(q: u32, w: u32) -> Pair {
    let (q, w) = (i64::from(q), i64::from(w));
    let value = if w > q / 2 { w - q } else { w };
    let half = if value < 0 { -q / 2 } else { q / 2 };
    // |value| < q/2, so the quotient is below 2^31.
    [(((value << 32) + half) / q) as u32, value as u32]
}

/// Stages of the strided passes before the squares of a transform of so many words, as even as possible, larger ones first, zeros after them; none
/// where a transform is too short for a pass of two.
fn plan<L: Loops>(n: usize) -> Option<[u32; 4]> {
    let stages = n.ilog2().checked_sub((L::LANES * L::LANES).ilog2())?;
    let most = L::LANES.ilog2();
    let count = stages.div_ceil(most).max(1);
    let passes = std::array::from_fn(|i| match (i as u32) < count {
        true => (stages + count - 1 - i as u32) / count,
        false => 0,
    });
    let fine = |&stages: &u32| stages == 0 || (2..=most).contains(&stages);
    (passes.iter().all(fine) && passes[0] > 0).then_some(passes)
}

/// The pass of so many stages.
fn pass<C>(passes: &[Pass<C>], stages: u32) -> Pass<C> {
    passes[stages as usize - 2]
}

impl<L: Loops> Twiddles<L> {
    /// Words of a square.
    const SQUARE: usize = L::LANES * L::LANES;

    /// Tables from `psi^bitrev(k)` for `k < N`, or none where N is too short for the vectors.
    pub(super) fn new(modulus: &Modulus, powers: &[u32]) -> Option<Self> {
        let passes = plan::<L>(powers.len())?;
        let (runs, squares) = (powers.len() / L::LANES, powers.len() / Self::SQUARE);
        let twiddle = |square: usize, t: usize, lane: usize| {
            let root = runs + square * L::LANES + lane;
            powers[(root << t.ilog2()) + t - (1 << t.ilog2())]
        };
        let forward = (0..squares).flat_map(|square| {
            let lanes = move |t| (0..L::LANES).map(move |lane| twiddle(square, t, lane));
            (1..L::LANES).map(move |t| (t, lanes(t)))
        });
        let inverse = (0..squares).rev().flat_map(|square| {
            let lanes = move |t| {
                (0..L::LANES)
                    .rev()
                    .map(move |lane| twiddle(square, t, lane))
            };
            (1..L::LANES).rev().map(move |t| (t, lanes(t)))
        });
        let pair = |&w: &u32| pair(modulus.value(), w);
        Some(Self {
            constants: L::Constants::new(&Reducer::new(modulus)),
            squares,
            passes,
            pairs: powers[..runs].iter().map(pair).collect(),
            forward: LaneTable::new(modulus, forward),
            inverse: LaneTable::new(modulus, inverse),
        })
    }

    /// What the loops over squares read from square `number` on.
    fn forward_tables(&self, number: usize, constants: &L::Constants) -> Tables<L::Constants> {
        Tables {
            pairs: self.pairs_at(self.squares + number),
            lanes: self.forward.from(number, L::LANES),
            constants,
        }
    }

    /// What those of an inverse transform read.
    fn inverse_tables(&self, number: usize, constants: &L::Constants) -> Tables<L::Constants> {
        Tables {
            pairs: self.pairs_at(2 * self.squares - 1 - number),
            lanes: self.inverse.from(number, L::LANES),
            constants,
        }
    }

    /// The pairs at an entry, at twice, four times and eight times that entry: into all of a table, which is read backwards too.
    fn pairs_at(&self, entry: usize) -> [*const Pair; 4] {
        [1, 2, 4, 8].map(|times| self.pairs.as_ptr().wrapping_add(times * entry))
    }

    /// Coefficients of `n` words at `from` to values at `to`.
    ///
    /// # Safety
    /// Both point to `n` words and are the same or do not overlap; the machine has the instruction set of the loops.
    pub(super) unsafe fn forward(&self, from: *const u32, to: *mut u32, n: usize) {
        assert_eq!(n, self.squares * Self::SQUARE);
        let passes = self.passes;
        let mut constants = self.constants.clone();
        // SAFETY: every block and square lies inside the n words, and tables have entries for all of them.
        unsafe {
            constants.set_network(&self.pairs, passes[0], 1);
            let (stride, turns) = Self::strides(n, passes[0]);
            pass(L::FORWARD_FIRST, passes[0])(from, to, stride, &constants, turns);
            // The blocks are independent now: each is finished while it is in the first-level cache.
            let length = n >> passes[0];
            for block in 0..1usize << passes[0] {
                let base = to.add(block * length);
                let (mut count, mut size) = (1usize, length);
                let mut root = (1usize << passes[0]) + block;
                for &stages in passes[1..].iter().filter(|&&stages| stages > 0) {
                    let (stride, turns) = Self::strides(size, stages);
                    for i in 0..count {
                        let at = base.add(i * size);
                        constants.set_network(&self.pairs, stages, root + i);
                        pass(L::FORWARD_LATER, stages)(at, at, stride, &constants, turns);
                    }
                    (count, size, root) = (count << stages, size >> stages, root << stages);
                }
                L::FORWARD_SQUARES(base, count, &self.forward_tables(block * count, &constants));
            }
        }
    }

    /// The last of the stages on `count` squares in place from square `number` on, those along lanes, by their loop.
    ///
    /// # Safety
    /// As for [`Twiddles::forward`], with the words of those squares.
    pub(super) unsafe fn forward_lanes(
        &self,
        squares: Squares<L::Constants>,
        words: *mut u32,
        number: usize,
        count: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { squares(words, count, &self.forward_tables(number, &self.constants)) }
    }

    /// Values of `n` words at `from` to coefficients at `to`, times what `last` says.
    ///
    /// # Safety
    /// As for [`Twiddles::forward`].
    pub(super) unsafe fn inverse(&self, from: *const u32, to: *mut u32, n: usize, last: &Last) {
        assert_eq!(n, self.squares * Self::SQUARE);
        let passes = self.passes;
        let mut constants = self.constants.clone();
        // SAFETY: every block and square lies inside the n words, and tables have entries for all of them.
        unsafe {
            let length = n >> passes[0];
            let per_block = self.squares >> passes[0];
            for block in 0..1usize << passes[0] {
                let base = to.add(block * length);
                let tables = self.inverse_tables(block * per_block, &constants);
                L::INVERSE_SQUARES(from.add(block * length), base, per_block, &tables);
                let mut count = per_block;
                for &stages in passes[1..].iter().rev().filter(|&&stages| stages > 0) {
                    count >>= stages;
                    let size = length / count;
                    let m = count << passes[0];
                    let (stride, turns) = Self::strides(size, stages);
                    for i in 0..count {
                        let at = base.add(i * size);
                        // Root m + b is mirrored to 2m - 1 - b.
                        let mirror = 2 * m - 1 - (block * count + i);
                        constants.set_network(&self.pairs, stages, mirror);
                        pass(L::INVERSE_LATER, stages)(at, at, stride, &constants, turns);
                    }
                }
            }
            constants.set_network(&self.pairs, passes[0], 1);
            let words = |f: &ShoupFactor| [f.quotient, f.value];
            // The last stage has one twiddle, the first of the heap.
            constants.set_twiddle(1, words(&last.difference));
            constants.set_twiddle(L::LANES, words(&last.sum));
            let (stride, turns) = Self::strides(n, passes[0]);
            pass(L::INVERSE_LAST, passes[0])(to, to, stride, &constants, turns);
        }
    }

    /// Bytes between the rows of a pass, and turns of its loop: one takes as many vectors as a square has, of each row the same number.
    fn strides(length: usize, stages: u32) -> (usize, usize) {
        let stride = (length >> stages) * size_of::<u32>();
        (stride, length / Self::SQUARE)
    }
}

/// A loop that the build script printed, as a function of these arguments. It needs the instruction set, and all that is pointed to as
/// `codelets::transform` says.
macro_rules! printed {
    ($name:expr, ($($arg:ident: $ty:ty),*)) => {{
        #[unsafe(naked)]
        unsafe extern "sysv64" fn codelet($($arg: $ty),*) {
            std::arch::naked_asm!(include_str!(concat!(env!("OUT_DIR"), "/", $name, ".s")))
        }
        codelet
    }};
}

/// The printed passes of a kind, by their rows.
macro_rules! passes {
    ($kind:expr, $($rows:literal)*) => { &[$(
        printed!(concat!($kind, $rows),
            (from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize))
    ),*] };
}

/// The printed loops for vectors of so many lanes; "narrow" or "wide" stands before their names.
macro_rules! loops {
    ($loops:ident, $vectors:literal, $lanes:expr, passes of $($rows:literal)*) => {
        impl Loops for $loops {
            const LANES: usize = $lanes;
            type Constants = Constants;

            const FORWARD_FIRST: &'static [Pass<Constants>] = passes!(concat!($vectors, "_forward_first"), $($rows)*);
            const FORWARD_LATER: &'static [Pass<Constants>] = passes!(concat!($vectors, "_forward_later"), $($rows)*);
            const FORWARD_SQUARES: Squares<Constants> =
                printed!(concat!($vectors, "_forward_squares"), (words: *mut u32, squares: usize, tables: *const Tables<Constants>));
            const INVERSE_SQUARES: InverseSquares<Constants> =
                printed!(concat!($vectors, "_inverse_squares"), (from: *const u32, to: *mut u32, squares: usize, tables: *const Tables<Constants>));
            const INVERSE_LATER: &'static [Pass<Constants>] = passes!(concat!($vectors, "_inverse_later"), $($rows)*);
            const INVERSE_LAST: &'static [Pass<Constants>] = passes!(concat!($vectors, "_inverse_last"), $($rows)*);
        }
    };
}
pub(super) use {loops, passes, printed};
