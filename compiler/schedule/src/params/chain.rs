//! The shape of a modulus chain: `tables.rs` holds generated ones, `levelled.rs` derives others.

use super::RowKind;

/// A modulus chain. Indices point into `primes`.
pub(super) struct Chain<'a> {
    /// Digits one after the other (order of first use from the bottom row), then the special primes.
    pub primes: &'a [u32],
    /// How the chain primes are cut into key-switching digits.
    pub digit_sizes: &'a [usize],
    /// The special primes P.
    pub special: &'a [u16],
    /// The two primes beside q0 in the modulus of the ephemeral secret's key.
    pub encapsulation: &'a [u16],
    /// Canonical scale of the highest usable row, times 2^40.
    pub scale_top_times_2_40: u128,
    /// The highest row that a program may use.
    pub top_usable: u8,
    /// Rows bottom-up with the limbs alive.
    pub rows: &'a [(RowKind, &'a [u16])],
}
