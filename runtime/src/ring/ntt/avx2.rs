//! The loops of transforms with 256-bit vectors (AVX2).

use super::codelets::{self, loops, passes, Loops, Pair, Passes, Tables};
use super::Reducer;

/// Words of a vector.
const LANES: usize = 8;

type Broadcast = [u32; LANES];

/// What the loops read beside words and tables, at the offsets that `codelets::residue` has.
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

    fn set_sum_factor(&mut self, pair: Pair) {
        self.set_twiddle(LANES, pair);
    }
}

passes! {
    /// A first pass of two stages.
    forward_first4 = "narrow_forward_first4";
    /// A first pass of three stages.
    forward_first8 = "narrow_forward_first8";
    /// A later pass of two stages.
    forward_later4 = "narrow_forward_later4";
    /// A later pass of three stages.
    forward_later8 = "narrow_forward_later8";
    /// An inverse pass before the last of two stages.
    inverse_later4 = "narrow_inverse_later4";
    /// An inverse pass before the last of three stages.
    inverse_later8 = "narrow_inverse_later8";
    /// A last inverse pass of two stages.
    inverse_last4 = "narrow_inverse_last4";
    /// A last inverse pass of three stages.
    inverse_last8 = "narrow_inverse_last8";
}

loops! {
    /// The last six stages.
    forward_squares(words: *mut u32, squares: usize, tables: *const Tables<Constants>) = "narrow_forward_squares";
    /// The first six stages of an inverse transform.
    inverse_squares(from: *const u32, to: *mut u32, squares: usize, tables: *const Tables<Constants>) = "narrow_inverse_squares";
}

/// The loops.
pub(super) struct Narrow;

impl Loops for Narrow {
    const LANES: usize = LANES;
    const PASS: u32 = 3;
    const SHOUP_LANES: usize = 3;
    type Constants = Constants;

    const FORWARD_FIRST: Passes<Constants> = [Some(forward_first4), Some(forward_first8), None];
    const FORWARD_LATER: Passes<Constants> = [Some(forward_later4), Some(forward_later8), None];
    const FORWARD_SQUARES: unsafe extern "sysv64" fn(*mut u32, usize, *const Tables<Constants>) =
        forward_squares;
    const INVERSE_SQUARES: unsafe extern "sysv64" fn(
        *const u32,
        *mut u32,
        usize,
        *const Tables<Constants>,
    ) = inverse_squares;
    const INVERSE_LATER: Passes<Constants> = [Some(inverse_later4), Some(inverse_later8), None];
    const INVERSE_LAST: Passes<Constants> = [Some(inverse_last4), Some(inverse_last8), None];
}
