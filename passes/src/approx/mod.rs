//! Polynomials in place of what CKKS cannot evaluate: activations, the division, the inverse square root.
//!
//! Transcendental functions come from `libm` (one implementation in Rust), so that a compilation gives the same bytes
//! on every machine.

pub mod chebyshev;
pub mod functions;
pub mod inverse_sqrt;
pub mod minimax;
pub mod reciprocal;
pub mod relu;
pub mod remez;
pub mod softmax;
pub mod softmax_rows;
