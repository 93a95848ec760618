//! What can go wrong when a ring is built or limbs are named.

use super::context::LimbId;

/// A refusal of the ring layer. Shape mismatches between two polynomials of one program are bugs and panic instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The degree is not one the transforms support.
    #[error("ring degree 2^{log_n} is not supported: expected 2^{min} to 2^{max}")]
    Degree {
        /// Requested log2 N.
        log_n: u32,
        /// Smallest supported log2 N.
        min: u32,
        /// Largest supported log2 N.
        max: u32,
    },
    /// A modulus is not a usable prime.
    #[error("limb {index}: {q} is not a prime below 2^28 that is 1 modulo {order}; take one from the parameter table")]
    Prime {
        /// Position in the given list.
        index: usize,
        /// The value found there.
        q: u32,
        /// 2N, which must divide q - 1.
        order: u32,
    },
    /// A prime occurs twice.
    #[error("limb {index}: prime {q} occurs twice in the chain; residues must be modulo distinct primes")]
    Duplicate {
        /// Position of the second occurrence.
        index: usize,
        /// The prime.
        q: u32,
    },
    /// A limb number beyond the chain.
    #[error("limb {limb:?} does not exist: the chain has {count} limbs")]
    UnknownLimb {
        /// The limb asked for.
        limb: LimbId,
        /// Limbs in the chain.
        count: usize,
    },
    /// A polynomial lacks a limb.
    #[error("polynomial has no limb {limb:?}: it holds {held} limbs of another row")]
    MissingLimb {
        /// The limb asked for.
        limb: LimbId,
        /// How many limbs it has.
        held: usize,
    },
    /// Basis extension from no limb or from too many.
    #[error("basis extension from {count} limbs: expected 1 to {max}, all different")]
    Source {
        /// Limbs given.
        count: usize,
        /// Largest count for which the accumulators cannot overflow.
        max: usize,
    },
}
