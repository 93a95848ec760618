//! What can go wrong with keys and rows.

use super::keys::KeyKind;
use crate::ring::RingError;
use heron_schedule::params::{Level, ParameterError, SecurityError};
use thiserror::Error;

/// A refusal of the RLWE layer.
#[derive(Debug, Error)]
pub enum RlweError {
    /// The level table has no such row.
    #[error("row {found} does not exist: the level table has {rows} rows from @0")]
    NoSuchRow {
        /// The row asked for.
        found: Level,
        /// Rows there are.
        rows: usize,
    },
    /// A key is missing.
    #[error(
        "no {kind} key: the keys were made for another schedule; run `heron keygen` with this one"
    )]
    NoKey {
        /// The key asked for.
        kind: KeyKind,
    },
    /// A key does not reach the row it is used at.
    #[error("the {kind} key lacks {missing} of the limbs of row {row}: it was made for other rows; run `heron keygen` with this schedule")]
    KeyRow {
        /// The key.
        kind: KeyKind,
        /// Row it is used at.
        row: Level,
        /// Limbs it lacks.
        missing: usize,
    },
    /// A key's residues do not fill its shape.
    #[error("the {kind} key holds {found} words where its shape needs {expected}")]
    KeySize {
        /// The key.
        kind: KeyKind,
        /// Words of its shape.
        expected: usize,
        /// Words found.
        found: usize,
    },
    /// A key was asked for at rows it may not exist at.
    #[error("the {kind} key may exist at {allowed} only; asked for row {found}")]
    KeyNotAllowed {
        /// The key.
        kind: KeyKind,
        /// Where it may exist.
        allowed: &'static str,
        /// Row asked for.
        found: Level,
    },
    /// The operating system gave no randomness.
    #[error("cannot read random bytes from the operating system: {0}")]
    Entropy(std::io::Error),
    /// The device that computes failed.
    #[error("{0}")]
    Device(String),
    /// The ring refused.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The parameter set refused.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// A key would be below 128 bits.
    #[error(transparent)]
    Security(#[from] SecurityError),
}
