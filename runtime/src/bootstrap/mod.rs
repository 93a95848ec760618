//! Bootstrapping: from level 0 back to the usable levels, by ModRaise, CoeffsToSlots, EvalMod and SlotsToCoeffs.

pub mod cosine;
pub mod diagonals;
mod error;
mod eval_mod;
mod scales;
pub mod split;
pub mod stages;

pub use error::BootstrapError;
pub use scales::{Rows, ScalePlan, Tuning};
