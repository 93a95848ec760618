//! What the client computes before it encrypts: position ids, masks, sums of looked-up embeddings.
//!
//! A short program on row-major arrays of f64 (integers and booleans exact to 2^53). Step i makes value i and reads values before it, so
//! that evaluation is one pass and always ends. Results feed input ports by name; the runtime sees the values only.

mod evaluate;
mod format;
mod function;
mod head;
#[cfg(test)]
mod tests;

pub use format::user_inputs;
pub use function::{Function, Reduction};
pub use head::{result_shape, Head};

use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// Bounds the elements of one value.
pub const MAX_ELEMENTS: usize = 1 << 26;
/// An additive mask is 0 where it keeps, and below this where it removes.
pub const REMOVED: f64 = -1e4;

/// Why the client could not compute.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ClientError {
    /// An input that was not given.
    #[error("input `{0}` is missing")]
    Missing(String),
    /// An input of another size.
    #[error("input `{name}`: expected {expected} values, found {found}")]
    Size {
        /// The input.
        name: String,
        /// Values of one input.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// An id outside its table.
    #[error("id {found} is not in 0..{rows}; inputs: {inputs}")]
    Id {
        /// The id.
        found: f64,
        /// Rows of the table.
        rows: usize,
        /// The inputs it came from.
        inputs: String,
    },
    /// A mask of other values than the program was compiled for.
    #[error("an attention mask holds {found}, expected {expected}; inputs: {inputs}")]
    Mask {
        /// The value.
        found: f64,
        /// What masks hold.
        expected: &'static str,
        /// The inputs it came from.
        inputs: String,
    },
    /// The program contradicts itself.
    #[error("client step {step}: {reason}")]
    Malformed {
        /// Which step.
        step: usize,
        /// What was expected and found.
        reason: String,
    },
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// What the user gives for [`ClientGraph::sources`] of that number.
    Source(usize),
    /// Elements of the operands, joined end to end: `factor · element + summand`.
    Arrange {
        /// Which element, -1 for none; empty takes the operands as they are.
        element: Vec<i32>,
        /// Empty is 1; one number is for all.
        factor: Vec<f64>,
        /// Empty is 0; one number is for all.
        summand: Vec<f64>,
    },
    /// Rows of a table chosen by ids; ids below 0 count from the end.
    Lookup {
        /// Row-major.
        table: Arc<Vec<f64>>,
        /// Values of a row.
        cols: usize,
    },
    /// Elementwise on operands of one size.
    Apply(Function),
    /// Groups of `length` consecutive values to one each.
    Reduce {
        /// How.
        how: Reduction,
        /// Values of a group.
        length: usize,
    },
    /// Running sums within groups of `length` consecutive values.
    CumulativeSum {
        /// Values of a group.
        length: usize,
    },
}

/// One step of a client's program.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub operation: Operation,
    /// Numbers of earlier steps.
    pub operands: Vec<u32>,
}

/// A graph input that the user gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name of the graph input.
    pub name: String,
    /// Shape for one input, without the batch axis.
    pub shape: Vec<usize>,
    /// Whether values are integers.
    pub integer: bool,
}

/// A client's program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientGraph {
    /// What the user gives.
    pub sources: Vec<Source>,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Port and the step that makes its values.
    pub results: Vec<(String, u32)>,
}

impl ClientGraph {
    /// Whether nothing is computed.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// Inputs whose values are looked up in a table as they are, and the number of its rows.
    pub fn vocabularies(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for step in &self.steps {
            let Operation::Lookup { table, cols } = &step.operation else {
                continue;
            };
            let from = step
                .operands
                .first()
                .and_then(|&o| self.steps.get(o as usize));
            if let Some(Operation::Source(i)) = from.map(|s| &s.operation) {
                if let Some(source) = self.sources.get(*i) {
                    let rows = table.len() / (*cols).max(1);
                    let least = found.entry(source.name.clone()).or_insert(rows);
                    *least = rows.min(*least);
                }
            }
        }
        found
    }
}
