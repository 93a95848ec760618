//! Bootstrapping: from level 0 back to the usable levels, by ModRaise, CoeffsToSlots, EvalMod and SlotsToCoeffs.

mod bootstrapper;
pub mod cosine;
pub mod diagonals;
mod error;
mod eval_mod;
mod kind;
mod linear;
pub mod measure;
mod scales;
pub mod split;
pub mod stages;
#[cfg(test)]
mod tests;

pub use bootstrapper::Bootstrapper;
pub use error::BootstrapError;
pub use kind::{requirements, Kind};
pub use scales::{Rows, ScalePlan, Tuning};
