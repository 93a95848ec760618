//! ONNX to tensor graph. Nothing outside this module (and [`crate::reference`]) sees tract's types.
//!
//! The raw protobuf is validated first ([`proto`]), then run once with one symbolic input ([`graph`], [`ops`]): constants are
//! computed, data movement becomes index maps, constant factors and summands are carried by the maps. What remains
//! is a small expression graph from which blocks are recognised ([`recognise`]) by what they do, not by their spelling.

mod axes;
mod check;
mod error;
mod expr;
mod graph;
mod nd;
mod ops;
mod proto;
mod recognise;
mod view;
mod weights;

pub use axes::{axes, Axis};
pub use check::{check, CheckReport};
pub use error::{ErrorKind, ImportError, Obstacle};
pub use graph::{import, import_with_arrays, Imported, InputSpec, OutputSpec, Shapes};
