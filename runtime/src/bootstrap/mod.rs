//! Bootstrapping: from the bootstrap level back to the highest usable one.
//!
//! ```text
//! SlotsToCoeffs    values into coefficients, on the lowest rows where it costs least: three sparse matrices     stages.rs, linear.rs
//! ModRaise         message at row 0 → message + q0·I at the top row, |I| ≤ 16 under the ephemeral secret        bootstrapper.rs
//! CoeffsToSlots    coefficients into slots: three matrices, then real and imaginary parts
//! EvalMod          sin(2π t/q0), near 2π·message/q0: a cosine polynomial and two doublings, eight rows    cosine.rs, split.rs, eval_mod.rs
//! ```
//! SlotsToCoeffs comes first (as in eprint 2018/1043's variant and HEaaN), not last: it then works on 4 to 7 limbs instead of 20 to 23, real slots
//! leave half of the coefficients to nobody so that they need one EvalMod, and errors of EvalMod are errors of slots, not of coefficients
//! that sqrt(N/2) of them add up to. [`requirements`] lists the keys, [`Bootstrapper`] holds what is encoded once, [`ScalePlan`] the exact
//! scales, [`measure`] measures.
//!
//! Error sources for values of size up to 1: rounding in EvalMod; the sine's cubic term, 6.6·v³/ratio² for a value v. The interval cannot be
//! left by messages below q0/64; for any message the probability is [`measure::failure_probability_log2`].

mod bootstrapper;
pub mod cosine;
pub mod diagonals;
mod error;
mod eval_mod;
mod kind;
mod linear;
pub mod measure;
mod memory;
mod scales;
pub mod split;
pub mod stages;
#[cfg(test)]
mod tests;

pub use bootstrapper::Bootstrapper;
pub use error::BootstrapError;
pub use kind::{requirements, Kind};
pub use memory::{footprint, Footprint, Work};
pub use scales::{Rows, ScalePlan, Tuning};
