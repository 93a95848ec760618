//! CKKS on top of `rlwe`: ciphertexts with exact scales and the operations on them.

pub mod batch;
pub mod ciphertext;
pub mod diagonals;
pub mod encoding;
pub mod error;
pub mod evaluator;
pub mod file;
#[cfg(test)]
mod levelled_tests;
pub mod linear;
pub mod linear_sums;
#[cfg(test)]
mod linear_tests;
pub mod measure;
mod multiply;
pub mod noise;
mod rotate;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod transfer;

pub use batch::ProductSum;
pub use ciphertext::{Basis, Ciphertext, Plaintext, RotationStep};
pub use diagonals::{EncodeOnDemand, EncodedDiagonals};
pub use error::CkksError;
pub use evaluator::Evaluator;
pub use file::{CiphertextFile, FileKind, PortCiphertext, PortGroup};
pub use linear::{DiagonalSource, GiantStep, LinearOutput, LinearTerm};
pub use multiply::Operands;
pub use noise::NoiseModel;
pub use transfer::Transfer;
