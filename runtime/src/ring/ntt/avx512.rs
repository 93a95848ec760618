//! The loops of transforms with 512-bit vectors (AVX-512 F, BW, DQ and VL).

use super::codelets::{
    self, loops, passes, printed, InverseSquares, Loops, Pair, Pass, Squares, Tables,
};
use super::Reducer;

/// Words of a vector.
const LANES: usize = 16;

/// What the loops read beside words and tables, at the offsets that `codelets::residue` has.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Constants {
    /// `floor(t 2^b / q) q` for `2^b <= q < 2^(b+1)`: a word `x` less that of `t = floor(x / 2^b)` is below `q + 2^b`.
    remainders: [u32; 32],
    /// q times 1 to 8.
    multiples: [u32; 8],
    q_inverse: u32,
    /// How far to shift a word's leading bits, from that of q's first on.
    shift: u32,
    /// Of one pass: quotient and value of the twiddles of its network, in heap order; and of the factor of the last sums.
    twiddles: [Pair; LANES],
}

impl codelets::Constants for Constants {
    fn new(reducer: &Reducer) -> Self {
        let q = reducer.q;
        Self {
            remainders: std::array::from_fn(|t| {
                let multiple = ((t as u64) << q.ilog2()) / u64::from(q) * u64::from(q);
                // Words end at 2^32: leading bits of larger numbers do not occur.
                u32::try_from(multiple).unwrap_or(0)
            }),
            multiples: std::array::from_fn(|m| (m as u32 + 1) * q),
            q_inverse: reducer.q_inverse,
            shift: q.ilog2(),
            twiddles: [[0; 2]; LANES],
        }
    }

    fn set_twiddle(&mut self, t: usize, pair: Pair) {
        self.twiddles[t - 1] = pair;
    }
}

/// The loops.
pub(super) struct Wide;

loops!(Wide, "wide", LANES, passes of 4 8 16);

/// The last four stages on squares, along lanes.
pub(super) const FORWARD_LANES: Squares<Constants> = printed!("wide_forward_lanes", (words: *mut u32, squares: usize, tables: *const Tables<Constants>));
