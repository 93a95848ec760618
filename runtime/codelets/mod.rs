//! Codelets: the straight-line loop bodies of transforms, put in order when the crate is built.
//!
//! A processor looks ahead only so far: it keeps some hundred results that are not final yet and some sixty operations that wait for operands.
//! A butterfly is ten operations in a chain of thirteen cycles, so code that finishes one before it begins the next, as compilers order it,
//! leaves a third of the vector units idle. Here the loop bodies are written as expressions ([`transform`], [`network`], [`residue`]), ordered
//! for a simple model of a processor ([`order`]) and printed as assembly. (The idea of generated codelets is FFTW's: Frigo, PLDI 1999.)

pub mod block;
pub mod network;
pub mod order;
pub mod residue;
pub mod transform;
