//! Bootstrapping: from level 0 back to the usable levels.
//!
//! ```text
//! ModRaise         message at level 0, times 2^3 → message + q0·I at the top row, |I| ≤ 16 under the ephemeral secret   bootstrapper.rs
//! CoeffsToSlots    its coefficients into slots: four sparse matrices, then real and imaginary parts               stages.rs, linear.rs
//! EvalMod          sin(2π t/q0), near 2π·message/q0: a cosine polynomial and two doublings, eight rows    cosine.rs, split.rs, eval_mod.rs
//! SlotsToCoeffs    back, three matrices, to the highest usable level and its canonical scale
//! ```
//! [`requirements`] lists the keys, [`Bootstrapper`] holds what is encoded once, [`ScalePlan`] the exact scales, [`measure`] measures.
//!
//! Precision (mean of 32,768 real slots at N = 2^16): 23 bits. Error sources: rounding in EvalMod (2^-40.2 of q0 per coefficient); the sine's
//! cubic term 6.6·c³/ratio² for coefficients of size c, which only messages with large coefficients notice (a constant vector c, or few
//! slots: [`Tuning::ARCSINE`] removes it for two levels). The interval cannot be left by messages below q0/64; for any message the
//! probability is [`measure::failure_probability_log2`].

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
