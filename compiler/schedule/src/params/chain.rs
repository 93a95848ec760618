//! The shape of a generated chain table; the values are in `tables.rs`.

use super::RowKind;

/// A modulus chain as `models/parameters/derive.py` writes it. Indices point into `primes`.
pub(super) struct Chain {
    /// Digits one after the other (order of first use from the bottom row), then the special primes.
    pub primes: &'static [u32],
    /// How the chain primes are cut into key-switching digits.
    pub digit_sizes: &'static [usize],
    /// The special primes P.
    pub special: &'static [u16],
    /// The two primes beside q0 in the modulus of the ephemeral secret's key.
    pub encapsulation: &'static [u16],
    /// Canonical scale of the highest usable row, times 2^40.
    pub scale_top_times_2_40: u128,
    /// Rows 1..=usable_levels are the levels left after a bootstrap.
    pub usable_levels: u8,
    /// Rows bottom-up with the limbs alive.
    pub rows: &'static [(RowKind, &'static [u16])],
}
