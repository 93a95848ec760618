//! The noise that `clear` adds; the compiler predicts errors by the same model.

pub use heron_schedule::noise::{NoiseModel, NoiseStream};
