//! Tests of passes: a case each changes (snapshot as a difference), one it leaves alone, one it refuses.

mod support;

mod defer_normalisation;
mod fold_centring;
mod fold_linear;
mod normalise;
mod substitute_polynomials;
