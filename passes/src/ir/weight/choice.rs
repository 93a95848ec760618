//! Matrices that move, sign and leave out columns.

use serde::{Deserialize, Serialize};

/// Column c holds `factor[c]` in row `from[c]` and nothing else: diagonal matrices, choices and signs of columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Choice {
    /// Rows.
    pub rows: usize,
    /// One per column, below `rows`.
    pub from: Vec<u32>,
    /// One per column.
    pub factor: Vec<f64>,
}

impl Choice {
    pub(super) fn columns(&self, other: &Choice) -> Choice {
        let picks = || other.from.iter().map(|c| *c as usize).zip(&other.factor);
        Choice {
            rows: self.rows,
            from: picks().map(|(c, _)| self.from[c]).collect(),
            factor: picks().map(|(c, f)| f * self.factor[c]).collect(),
        }
    }

    /// The factors, where column c takes row c and there are as many.
    pub(super) fn diagonal(&self) -> Option<&[f64]> {
        let straight = self.from.iter().zip(0u32..).all(|(f, c)| *f == c);
        (straight && self.from.len() == self.rows).then_some(&self.factor)
    }
}
