//! Graphs as text that can be read back: what the printers and parsers of the four rungs share.
//!
//! Two forms. The *short* form (`Display`) is for people and snapshots: numbers rounded, constants named by their size. The *full*
//! form ([`crate::pass::Ir::full`]) is for `--dump-ir` and `heron opt`: the same lines, with every number exact (the shortest
//! decimal that reads back to the same `f64`) and large constants by name, in a section at the end:
//!
//! ```text
//! tensor head {
//!   %x = input x [4, 4] as given : [4,4] in [-1, 1]
//!   %q = linear %x, @q.weight    : [4,4] in [-1.31, 1.31]
//!   output q = %q
//! }
//! constants {
//!   @q.weight = matrix 4x4
//!     0.5 0*3
//!     …
//! }
//! ```
//! `#` starts a comment. One routine prints an operation in either form: [`Notation`] says which. Reading never panics.

mod cursor;
mod notation;
mod print;
mod read;

pub use cursor::{Cursor, ParseError, MOST};
pub use notation::{name, number, Notation};
pub(in crate::ir) use notation::{write_integers, write_runs};
pub use print::{facts_text, full};
pub(in crate::ir) use read::{integers, matrix, numbers};
pub use read::{parse, Reader, Rung};

#[cfg(test)]
mod tests;
