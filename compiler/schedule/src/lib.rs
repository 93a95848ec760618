//! The schedule: what compiler and runtime share.
//!
//! [`proto`] holds the messages, [`container`] the files, [`verify`] what must hold of them, [`recount`] what they cost, [`path`] their critical path, [`primitive`] where their
//! time goes, [`text`] how they read, [`weights`] the plaintext vectors, [`base`] and [`matrix`] the matrices that vectors take elements of, [`body`] what linear maps share, [`keys`] the evaluation keys they need, [`params`] the parameter sets,
//! [`noise`] how exact they are.

pub mod atomic;
pub mod base;
pub mod body;
pub mod client;
pub mod container;
pub mod folding;
pub mod keys;
pub mod matrix;
#[cfg(test)]
mod matrix_tests;
pub mod noise;
pub mod params;
pub mod path;
pub mod primitive;
pub mod proto;
pub mod recount;
pub mod sample;
#[cfg(test)]
mod tests;
pub mod text;
pub mod verify;
pub mod weights;

pub use container::{ClientSchedule, ContainerError, Schedule};
pub use verify::VerifyError;
pub use weights::{Weights, WeightsBuilder, WeightsError};
