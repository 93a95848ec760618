//! CKKS on top of `rlwe`: ciphertexts with exact scales and the operations on them.

pub mod ciphertext;
pub mod encoding;
pub mod error;
pub mod evaluator;
mod multiply;
mod rotate;

pub use ciphertext::{Ciphertext, Plaintext, RotationStep};
pub use error::CkksError;
pub use evaluator::Evaluator;
