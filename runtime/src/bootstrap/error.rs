//! What can go wrong in a bootstrap.

use crate::ckks::encoding::EncodingError;
use crate::ckks::CkksError;
use crate::rlwe::RlweError;
use heron_schedule::params::{Level, ParameterError};
use thiserror::Error;

/// A refusal of the bootstrapping layer.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// The parameter set's rows do not fit the circuit.
    #[error("bootstrap: the level table has {found} rows of kind {kind}, the circuit needs {expected}; choose a profile with bootstrapping")]
    Rows {
        /// Kind of row.
        kind: &'static str,
        /// Rows the circuit needs.
        expected: usize,
        /// Rows there are.
        found: usize,
    },
    /// A period that is no power of two between 2 and N/4.
    #[error("bootstrap: a sparse ciphertext repeats with period 2^{found}; expected 2^1 to 2^{most}, or a full bootstrap")]
    Period {
        /// Largest period's exponent.
        most: u32,
        /// The exponent asked for.
        found: u32,
    },
    /// The circuit was not prepared for this kind.
    #[error("bootstrap: not prepared for {kind}; name it when the bootstrapper is built")]
    NotPrepared {
        /// The kind asked for.
        kind: String,
    },
    /// The result's level is not usable.
    #[error("bootstrap: result asked for at level {found}, the highest is {highest}")]
    LevelOut {
        /// Level asked for.
        found: Level,
        /// Highest usable level.
        highest: Level,
    },
    /// A polynomial the split does not take, or a scale out of bounds.
    #[error("bootstrap: {what}")]
    Circuit {
        /// What is wrong.
        what: &'static str,
    },
    /// The evaluator refused.
    #[error(transparent)]
    Ckks(#[from] CkksError),
    /// Encoding a diagonal failed.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// Keys or rows.
    #[error(transparent)]
    Rlwe(#[from] RlweError),
    /// The level table.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
}
