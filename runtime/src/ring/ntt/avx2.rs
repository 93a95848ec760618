//! The loops of transforms with 256-bit vectors (AVX2).

use super::codelets::{
    self, loops, passes, printed, InverseSquares, Loops, Pair, Pass, Squares, Tables,
};
use super::Reducer;

/// Words of a vector.
const LANES: usize = 8;

type Broadcast = [u32; LANES];

/// What the loops read beside words and tables, at the offsets that `codelets::residue` has.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Constants {
    /// q, 2q, 3q, 4q, 8q.
    multiples: [Broadcast; 5],
    q_inverse: Broadcast,
    /// Of one pass: quotient and value of the twiddles of its network, in heap order; and of the factor of the last sums.
    twiddles: [[Broadcast; 2]; LANES],
}

impl codelets::Constants for Constants {
    fn new(reducer: &Reducer) -> Self {
        Self {
            multiples: [1, 2, 3, 4, 8].map(|m| [m * reducer.q; LANES]),
            q_inverse: [reducer.q_inverse; LANES],
            twiddles: [[[0; LANES]; 2]; LANES],
        }
    }

    fn set_twiddle(&mut self, t: usize, pair: Pair) {
        self.twiddles[t - 1] = pair.map(|word| [word; LANES]);
    }
}

/// The loops.
pub(super) struct Narrow;

loops!(Narrow, "narrow", LANES, passes of 4 8);
