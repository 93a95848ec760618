//! The graphs: one module per rung of the ladder, and what they share.

pub mod graph;
pub mod levelled;
pub mod packed;
pub mod poly;
pub(crate) mod product;
pub mod shape;
pub mod stored;
pub mod tensor;
pub mod text;
pub mod weight;
