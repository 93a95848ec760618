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

/// Bytes of a cache line.
const LINE: usize = 64;

/// A twiddle in the form of Shoup: quotient, value.
pub(super) type Pair = [u32; 2];

/// A pass from rows at the one to rows at the other, so many bytes apart: constants and turns come after.
pub(super) type Pass<C> = unsafe extern "sysv64" fn(*const u32, *mut u32, usize, *const C, usize);

/// The passes of a kind, of two, three and four stages; the last is not there where registers are few.
pub(super) type Passes<C> = [Option<Pass<C>>; 3];

/// What the loops over squares read.
#[repr(C)]
pub(super) struct Tables<C> {
    /// Pairs at the first square's entry, at twice, four times and eight times that entry.
    pairs: [*const Pair; 4],
    /// The first square's twiddles by lane.
    lanes: *const u32,
    constants: *const C,
}

/// The loops for the vectors of one instruction set.
pub(super) trait Loops {
    /// Words of a vector. A square has as many vectors.
    const LANES: usize;
    /// Most stages in one strided pass.
    const PASS: u32;
    /// Twiddles of a square's last stages, by lane, the first of a network, which are kept in the form of Shoup; the others in that of Montgomery.
    const SHOUP_LANES: usize;
    /// What loops read beside words and tables.
    type Constants: Constants;

    /// A first pass takes canonical words.
    const FORWARD_FIRST: Passes<Self::Constants>;
    const FORWARD_LATER: Passes<Self::Constants>;
    /// The last stages, on squares, in place: words, how many squares.
    const FORWARD_SQUARES: unsafe extern "sysv64" fn(
        *mut u32,
        usize,
        *const Tables<Self::Constants>,
    );
    /// The first stages of an inverse transform: from, to, how many squares. Pairs are read backwards.
    const INVERSE_SQUARES: unsafe extern "sysv64" fn(
        *const u32,
        *mut u32,
        usize,
        *const Tables<Self::Constants>,
    );
    const INVERSE_LATER: Passes<Self::Constants>;
    /// A last pass multiplies by a factor and gives canonical words.
    const INVERSE_LAST: Passes<Self::Constants>;
}

/// Those of squares without the stages along rows.
pub(super) trait Lanes: Loops {
    /// The last stages along lanes, in place: words, how many squares.
    const FORWARD_LANES: unsafe extern "sysv64" fn(
        *mut u32,
        usize,
        *const Tables<Self::Constants>,
    );
}

/// Constants of a prime, and the twiddles of one pass.
pub(super) trait Constants {
    fn new(reducer: &Reducer) -> Self;

    /// Sets twiddle `t` (heap order, from 1) of the pass's network.
    fn set_twiddle(&mut self, t: usize, pair: Pair);

    /// Sets the factor of the last sums.
    fn set_sum_factor(&mut self, pair: Pair);

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
pub(super) struct Twiddles {
    reducer: Reducer,
    squares: usize,
    /// Stages of the strided passes, zeros after them.
    passes: [u32; 4],
    /// `psi^bitrev(k)` for `k < N / LANES`.
    pairs: Vec<Pair>,
    forward: LaneTable,
    /// Mirrored, in the order that an inverse transform reads them in: backwards, the processor does not fetch them ahead.
    inverse: LaneTable,
}

/// Twiddles of the last stages. Per square, for each lane `l` descendant `t` (heap order) of the butterfly tree on the `l`-th run of LANES words:
/// vectors of quotients and of values, or of values in Montgomery form.
struct LaneTable {
    words: Vec<u32>,
    /// Where the first square's begin: a line of the cache.
    start: usize,
}

impl LaneTable {
    /// An empty table, with room for so many squares.
    fn new<L: Loops>(squares: usize) -> Self {
        let line = LINE / size_of::<u32>();
        let mut words: Vec<u32> = Vec::with_capacity(line + squares * Self::square::<L>() + 1);
        let start = words.as_ptr().align_offset(LINE).min(line);
        words.resize(start, 0);
        Self { words, start }
    }

    /// Words of a square.
    const fn square<L: Loops>() -> usize {
        (L::LANES - 1 + L::SHOUP_LANES) * L::LANES
    }

    /// Appends the next square's, or the same square's next, twiddles `t`.
    fn extend<L: Loops>(
        &mut self,
        modulus: &Modulus,
        t: usize,
        lanes: impl Iterator<Item = u32> + Clone,
    ) {
        if t <= L::SHOUP_LANES {
            let pairs = lanes.map(|w| pair(modulus.value(), w));
            self.words
                .extend(pairs.clone().map(|[quotient, _]| quotient));
            self.words.extend(pairs.map(|[_, value]| value));
        } else {
            let radix = modulus.shoup(modulus.reduce_u64(1 << 32));
            self.words
                .extend(lanes.map(|w| modulus.mul_shoup(w, radix)));
        }
    }

    /// One word may be read after the last.
    fn finished(mut self) -> Self {
        self.words.push(0);
        self
    }

    /// The twiddles from a square on.
    fn from<L: Loops>(&self, square: usize) -> *const u32 {
        self.words[self.start + square * Self::square::<L>()..].as_ptr()
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
pub(super) fn plan<L: Loops>(n: usize) -> Option<[u32; 4]> {
    let stages = n.ilog2().checked_sub((L::LANES * L::LANES).ilog2())?;
    let count = stages.div_ceil(L::PASS).max(1);
    let passes = std::array::from_fn(|i| match (i as u32) < count {
        true => (stages + count - 1 - i as u32) / count,
        false => 0,
    });
    let fine = |&stages: &u32| stages == 0 || (2..=L::PASS).contains(&stages);
    (passes.iter().all(fine) && passes[0] > 0).then_some(passes)
}

/// The pass of so many stages.
fn pass<C>(passes: Passes<C>, stages: u32) -> Pass<C> {
    let pass = passes.get(stages as usize - 2).copied().flatten();
    pass.expect("plans are made of passes that there are")
}

impl Twiddles {
    /// Tables from `psi^bitrev(k)` for `k < N`, or none where N is too short for the vectors.
    pub(super) fn new<L: Loops>(modulus: &Modulus, powers: &[u32]) -> Option<Self> {
        let passes = plan::<L>(powers.len())?;
        let q = modulus.value();
        let (runs, squares) = (
            powers.len() / L::LANES,
            powers.len() / (L::LANES * L::LANES),
        );
        let twiddle = |square: usize, t: usize, lane: usize| {
            let root = runs + square * L::LANES + lane;
            powers[(root << t.ilog2()) + t - (1 << t.ilog2())]
        };
        let mut forward = LaneTable::new::<L>(squares);
        let mut inverse = LaneTable::new::<L>(squares);
        for square in 0..squares {
            for t in 1..L::LANES {
                let lanes = (0..L::LANES).map(|lane| twiddle(square, t, lane));
                forward.extend::<L>(modulus, t, lanes);
            }
            for t in (1..L::LANES).rev() {
                let mirrored = |lane| twiddle(squares - 1 - square, t, L::LANES - 1 - lane);
                inverse.extend::<L>(modulus, t, (0..L::LANES).map(mirrored));
            }
        }
        Some(Self {
            reducer: Reducer::new(modulus),
            squares,
            passes,
            pairs: powers[..runs].iter().map(|&w| pair(q, w)).collect(),
            forward: forward.finished(),
            inverse: inverse.finished(),
        })
    }

    /// What the loops over squares read from square `number` on.
    fn forward_tables<L: Loops>(
        &self,
        number: usize,
        constants: &L::Constants,
    ) -> Tables<L::Constants> {
        Tables {
            pairs: self.pairs_at(self.squares + number),
            lanes: self.forward.from::<L>(number),
            constants,
        }
    }

    /// What those of an inverse transform read.
    fn inverse_tables<L: Loops>(
        &self,
        number: usize,
        constants: &L::Constants,
    ) -> Tables<L::Constants> {
        Tables {
            pairs: self.pairs_at(2 * self.squares - 1 - number),
            lanes: self.inverse.from::<L>(number),
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
    /// Both point to `n` words and are the same or do not overlap; the machine has the instruction set of the loops, which are those that the table was
    /// made for.
    pub(super) unsafe fn forward<L: Loops>(&self, from: *const u32, to: *mut u32, n: usize) {
        assert_eq!(n, self.squares * L::LANES * L::LANES);
        let passes = self.passes;
        let mut constants = L::Constants::new(&self.reducer);
        // SAFETY: every block and square lies inside the n words, and tables have entries for all of them.
        unsafe {
            constants.set_network(&self.pairs, passes[0], 1);
            let (stride, turns) = strides::<L>(n, passes[0]);
            pass(L::FORWARD_FIRST, passes[0])(from, to, stride, &constants, turns);
            // The blocks are independent now: each is finished while it is in the first-level cache.
            let length = n >> passes[0];
            for block in 0..1usize << passes[0] {
                let base = to.add(block * length);
                let (mut count, mut size) = (1usize, length);
                let mut root = (1usize << passes[0]) + block;
                for &stages in passes[1..].iter().filter(|&&stages| stages > 0) {
                    let (stride, turns) = strides::<L>(size, stages);
                    for i in 0..count {
                        let at = base.add(i * size);
                        constants.set_network(&self.pairs, stages, root + i);
                        pass(L::FORWARD_LATER, stages)(at, at, stride, &constants, turns);
                    }
                    (count, size, root) = (count << stages, size >> stages, root << stages);
                }
                L::FORWARD_SQUARES(
                    base,
                    count,
                    &self.forward_tables::<L>(block * count, &constants),
                );
            }
        }
    }

    /// The last of the stages on `count` squares in place, those along lanes, on words of size up to 8q.
    ///
    /// # Safety
    /// As for [`Twiddles::forward`], with the words of those squares.
    pub(super) unsafe fn forward_lanes<L: Lanes>(
        &self,
        words: *mut u32,
        number: usize,
        count: usize,
    ) {
        let constants = L::Constants::new(&self.reducer);
        // SAFETY: the caller's.
        unsafe { L::FORWARD_LANES(words, count, &self.forward_tables::<L>(number, &constants)) }
    }

    /// Values of `n` words at `from` to coefficients at `to`, times what `last` says.
    ///
    /// # Safety
    /// As for [`Twiddles::forward`].
    pub(super) unsafe fn inverse<L: Loops>(
        &self,
        from: *const u32,
        to: *mut u32,
        n: usize,
        last: &Last,
    ) {
        assert_eq!(n, self.squares * L::LANES * L::LANES);
        let passes = self.passes;
        let mut constants = L::Constants::new(&self.reducer);
        // SAFETY: every block and square lies inside the n words, and tables have entries for all of them.
        unsafe {
            let length = n >> passes[0];
            let per_block = self.squares >> passes[0];
            for block in 0..1usize << passes[0] {
                let base = to.add(block * length);
                let tables = self.inverse_tables::<L>(block * per_block, &constants);
                L::INVERSE_SQUARES(from.add(block * length), base, per_block, &tables);
                let mut count = per_block;
                for &stages in passes[1..].iter().rev().filter(|&&stages| stages > 0) {
                    count >>= stages;
                    let size = length / count;
                    let m = count << passes[0];
                    let (stride, turns) = strides::<L>(size, stages);
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
            constants.set_sum_factor(words(&last.sum));
            let (stride, turns) = strides::<L>(n, passes[0]);
            pass(L::INVERSE_LAST, passes[0])(to, to, stride, &constants, turns);
        }
    }
}

/// Bytes between the rows of a pass, and turns of its loop: one takes as many vectors as a square has, of each row the same number.
fn strides<L: Loops>(length: usize, stages: u32) -> (usize, usize) {
    let stride = (length >> stages) * size_of::<u32>();
    (stride, length / (L::LANES * L::LANES))
}

macro_rules! loops {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) = $file:literal;)*) => { $(
        $(#[$doc])*
        ///
        /// # Safety
        /// The machine has the instruction set, and all that is pointed to is as `codelets::transform` says.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn $name($($arg: $ty),*) {
            std::arch::naked_asm!(include_str!(concat!(env!("OUT_DIR"), "/", $file, ".s")))
        }
    )* };
}
macro_rules! passes {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => { $crate::ring::ntt::codelets::loops! { $(
        $(#[$doc])*
        $name(from: *const u32, to: *mut u32, stride: usize, constants: *const Constants, turns: usize) = $file;
    )* } };
}
pub(super) use {loops, passes};
