//! Polynomials in `Z_Q[X]/(X^N + 1)` held as residues modulo many small primes.
//!
//! Everything is integer arithmetic on canonical residues in `[0, q)`, so a result depends neither on the number of threads nor
//! on the instruction set: lazy representatives never leave a kernel.

pub mod automorphism;
pub mod context;
mod diagonal_sums;
pub mod error;
pub mod extension;
mod gaussian;
mod kernels;
mod limb_switch;
mod matrix;
mod ntt;
mod ops;
pub mod poly;
pub mod pool;
pub mod rescale;
pub mod sampling;
mod simd;
mod sparse;
#[cfg(target_arch = "x86_64")]
mod tiles;
pub mod words;

#[cfg(test)]
pub(crate) mod testing;

pub use automorphism::GaloisElement;
pub use context::{LimbId, RingContext};
pub(crate) use diagonal_sums::DiagonalSum;
pub use error::RingError;
pub(crate) use limb_switch::LimbSwitch;
pub(crate) use ops::limb_columns;
pub use poly::{Form, RnsPoly};
pub use pool::Buffer;
pub(crate) use rescale::Kept;
pub use sampling::RandomSource;
pub use simd::InstructionSet;
pub use words::Words;
pub(crate) use words::APART;
