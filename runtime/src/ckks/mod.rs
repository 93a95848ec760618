//! CKKS on top of `rlwe`: ciphertexts with exact scales and the operations on them.

pub mod ciphertext;
pub mod encoding;
pub mod error;
pub mod evaluator;
mod multiply;
pub mod noise;
mod rotate;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use ciphertext::{Basis, Ciphertext, Plaintext, RotationStep};
pub use error::CkksError;
pub use evaluator::Evaluator;
pub use noise::NoiseModel;
