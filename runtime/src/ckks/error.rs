//! What can go wrong above the keys.

use crate::rlwe::RlweError;
use heron_schedule::params::{Level, ParameterError};
use thiserror::Error;

/// A refusal of the CKKS layer. Nothing is clamped or guessed.
#[derive(Debug, Error)]
pub enum CkksError {
    /// Operands at different levels.
    #[error("{op}: operands at different levels, {lhs} and {rhs}; adjust the higher one first")]
    LevelMismatch {
        /// The operation.
        op: &'static str,
        /// Level of the first operand.
        lhs: Level,
        /// Level of the other.
        rhs: Level,
    },
    /// Operands at different scales.
    #[error("{op}: operands at different scales, 2^{lhs:.9} and 2^{rhs:.9}; adjust one first")]
    ScaleMismatch {
        /// The operation.
        op: &'static str,
        /// log2 of the first scale.
        lhs: f64,
        /// log2 of the other.
        rhs: f64,
    },
    /// No row below.
    #[error("{op}: no level left below {found}; bootstrap first")]
    NoLevelLeft {
        /// The operation.
        op: &'static str,
        /// Level of the operand.
        found: Level,
    },
    /// A ciphertext of another number of polynomials than the operation takes.
    #[error("{op}: expected a ciphertext of {expected} polynomials, found {found}; {remedy}")]
    Degree {
        /// The operation.
        op: &'static str,
        /// Polynomials expected.
        expected: usize,
        /// Polynomials found.
        found: usize,
        /// What to do.
        remedy: &'static str,
    },
    /// A scale beyond what is kept, or a constant that is not finite.
    #[error("{op}: the constant {value} at scale 2^{scale:.3} has no integer")]
    Constant {
        /// The operation.
        op: &'static str,
        /// The constant.
        value: f64,
        /// log2 of the scale.
        scale: f64,
    },
    /// A scale leaves its bounds.
    #[error("{op}: the scale of the result leaves its bounds")]
    ScaleRange {
        /// The operation.
        op: &'static str,
    },
    /// An operation on nothing, or an index beyond a list.
    #[error("{op}: {what}; expected {expected}, found {found}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What is wrong.
        what: &'static str,
        /// The bound.
        expected: usize,
        /// The value.
        found: usize,
    },
    /// Slots that cannot be encoded or residues that cannot be decoded.
    #[error(transparent)]
    Encoding(#[from] super::encoding::EncodingError),
    /// Keys, rows or residues.
    #[error(transparent)]
    Rlwe(#[from] RlweError),
    /// The level table.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
}

impl From<crate::ring::RingError> for CkksError {
    fn from(error: crate::ring::RingError) -> Self {
        CkksError::Rlwe(error.into())
    }
}
