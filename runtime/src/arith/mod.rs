//! Modular words: the prime fields every limb lives in.

pub mod modulus;
pub mod primes;

pub use modulus::{Modulus, ShoupFactor};
