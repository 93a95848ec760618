//! Numbers that a matrix does not hold itself, and their place in a file.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Numbers kept elsewhere: the weights of a model file, for instance.
pub trait Numbers: Debug + Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads the numbers from `start` on, which must exist.
    fn fill(&self, start: usize, out: &mut [f64]);
    /// For whoever made them.
    fn as_any(&self) -> &dyn Any;
}

/// Gives other numbers for some; `None` for those it does not know.
pub type Bind<'a> = dyn FnMut(&Arc<dyn Numbers>) -> Option<Arc<dyn Numbers>> + 'a;

/// In place of numbers that somebody else keeps: what is written to a file and bound again after reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Which numbers.
    pub index: u32,
    /// How many there are.
    pub len: usize,
}

impl Numbers for Numbered {
    fn len(&self) -> usize {
        self.len
    }

    fn fill(&self, _: usize, out: &mut [f64]) {
        out.fill(f64::NAN);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
