//! The loops of transforms with 512-bit vectors (AVX-512 F, BW, DQ and VL).

use super::codelets::{self, loops, passes, Lanes, Loops, Pair, Passes, Tables};
use super::Reducer;

/// Words of a vector.
const LANES: usize = 16;

/// What the loops read beside words and tables, at the offsets that `codelets::residue` has.
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

    fn set_sum_factor(&mut self, pair: Pair) {
        self.set_twiddle(LANES, pair);
    }
}

passes! {
    /// A first pass of two stages.
    forward_first4 = "wide_forward_first4";
    /// A first pass of three stages.
    forward_first8 = "wide_forward_first8";
    /// A first pass of four stages.
    forward_first16 = "wide_forward_first16";
    /// A later pass of two stages.
    forward_later4 = "wide_forward_later4";
    /// A later pass of three stages.
    forward_later8 = "wide_forward_later8";
    /// A later pass of four stages.
    forward_later16 = "wide_forward_later16";
    /// An inverse pass before the last of two stages.
    inverse_later4 = "wide_inverse_later4";
    /// An inverse pass before the last of three stages.
    inverse_later8 = "wide_inverse_later8";
    /// An inverse pass before the last of four stages.
    inverse_later16 = "wide_inverse_later16";
    /// A last inverse pass of two stages.
    inverse_last4 = "wide_inverse_last4";
    /// A last inverse pass of three stages.
    inverse_last8 = "wide_inverse_last8";
    /// A last inverse pass of four stages.
    inverse_last16 = "wide_inverse_last16";
}

loops! {
    /// The last eight stages.
    forward_squares(words: *mut u32, squares: usize, tables: *const Tables<Constants>) = "wide_forward_squares";
    /// The last four stages, along lanes.
    forward_lanes(words: *mut u32, squares: usize, tables: *const Tables<Constants>) = "wide_forward_lanes";
    /// The first eight stages of an inverse transform.
    inverse_squares(from: *const u32, to: *mut u32, squares: usize, tables: *const Tables<Constants>) = "wide_inverse_squares";
}

/// The loops.
pub(super) struct Wide;

impl Loops for Wide {
    const LANES: usize = LANES;
    const PASS: u32 = 4;
    const SHOUP_LANES: usize = 3;
    type Constants = Constants;

    const FORWARD_FIRST: Passes<Constants> = [
        Some(forward_first4),
        Some(forward_first8),
        Some(forward_first16),
    ];
    const FORWARD_LATER: Passes<Constants> = [
        Some(forward_later4),
        Some(forward_later8),
        Some(forward_later16),
    ];
    const FORWARD_SQUARES: unsafe extern "sysv64" fn(*mut u32, usize, *const Tables<Constants>) =
        forward_squares;
    const INVERSE_SQUARES: unsafe extern "sysv64" fn(
        *const u32,
        *mut u32,
        usize,
        *const Tables<Constants>,
    ) = inverse_squares;
    const INVERSE_LATER: Passes<Constants> = [
        Some(inverse_later4),
        Some(inverse_later8),
        Some(inverse_later16),
    ];
    const INVERSE_LAST: Passes<Constants> = [
        Some(inverse_last4),
        Some(inverse_last8),
        Some(inverse_last16),
    ];
}

impl Lanes for Wide {
    const FORWARD_LANES: unsafe extern "sysv64" fn(*mut u32, usize, *const Tables<Constants>) =
        forward_lanes;
}
