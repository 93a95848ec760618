//! What the client computes before it encrypts: position ids, masks, sums of looked-up embeddings.
//!
//! A short program on row-major arrays of f64 (integers and booleans exact to 2^53). Step i makes value i and reads values before it, so
//! that evaluation is one pass and always ends. Results feed input ports by name; the runtime sees the values only.

mod format;
mod head;
#[cfg(test)]
mod tests;

pub use format::user_inputs;
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

/// Functions of one, two or three arguments, elementwise. Truth is 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Function {
    Not,
    IsTrue,
    Truncate,
    Abs,
    Sign,
    Floor,
    Ceil,
    Round,
    Sqrt,
    Exp,
    Log,
    Sin,
    Cos,
    Reciprocal,
    /// 1 for 0 and 0 below [`REMOVED`]; anything else is an error.
    Kept,
    /// The argument, which must be 0 or 1.
    Binary,
    Add,
    Multiply,
    Divide,
    DivideTruncated,
    Modulo,
    Remainder,
    Power,
    Min,
    Max,
    And,
    Or,
    Xor,
    Equal,
    Less,
    LessOrEqual,
    /// The second where the first is not 0, else the third.
    Select,
}

/// All functions, in the order of their numbers in the file.
const FUNCTIONS: [Function; 32] = {
    use Function::*;
    [
        Not,
        IsTrue,
        Truncate,
        Abs,
        Sign,
        Floor,
        Ceil,
        Round,
        Sqrt,
        Exp,
        Log,
        Sin,
        Cos,
        Reciprocal,
        Kept,
        Binary,
        Add,
        Multiply,
        Divide,
        DivideTruncated,
        Modulo,
        Remainder,
        Power,
        Min,
        Max,
        And,
        Or,
        Xor,
        Equal,
        Less,
        LessOrEqual,
        Select,
    ]
};

impl Function {
    /// Number of arguments.
    pub fn arguments(self) -> usize {
        match self {
            Function::Select => 3,
            f if f < Function::Add => 1,
            _ => 2,
        }
    }

    /// The function in f64; missing arguments count as 0. `None` where a mask holds what it must not.
    fn value(self, x: &[f64]) -> Option<f64> {
        let at = |i: usize| x.get(i).copied().unwrap_or(0.0);
        let (a, b) = (at(0), at(1));
        let truth = |t: bool| f64::from(u8::from(t));
        Some(match self {
            Function::Not => truth(a == 0.0),
            Function::IsTrue => truth(a != 0.0),
            Function::Truncate => a.trunc(),
            Function::Abs => a.abs(),
            Function::Sign if a == 0.0 => 0.0,
            Function::Sign => a.signum(),
            Function::Floor => a.floor(),
            Function::Ceil => a.ceil(),
            Function::Round => a.round_ties_even(),
            Function::Sqrt => a.sqrt(),
            Function::Exp => libm::exp(a),
            Function::Log => libm::log(a),
            Function::Sin => libm::sin(a),
            Function::Cos => libm::cos(a),
            Function::Reciprocal => 1.0 / a,
            Function::Kept if a == 0.0 => 1.0,
            Function::Kept if a < REMOVED => 0.0,
            Function::Binary if a == 0.0 || a == 1.0 => a,
            Function::Kept | Function::Binary => return None,
            Function::Add => a + b,
            Function::Multiply => a * b,
            Function::Divide => a / b,
            Function::DivideTruncated => (a / b).trunc(),
            Function::Modulo if b == 0.0 => 0.0,
            Function::Modulo => a - b * (a / b).floor(),
            Function::Remainder => a % b,
            Function::Power => libm::pow(a, b),
            Function::Min => a.min(b),
            Function::Max => a.max(b),
            Function::And => truth(a != 0.0 && b != 0.0),
            Function::Or => truth(a != 0.0 || b != 0.0),
            Function::Xor => truth((a != 0.0) != (b != 0.0)),
            Function::Equal => truth(a == b),
            Function::Less => truth(a < b),
            Function::LessOrEqual => truth(a <= b),
            Function::Select if a != 0.0 => b,
            Function::Select => at(2),
        })
    }
}

/// How a group of values becomes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reduction {
    Sum,
    Max,
    Min,
    Product,
}

const REDUCTIONS: [Reduction; 4] = [
    Reduction::Sum,
    Reduction::Max,
    Reduction::Min,
    Reduction::Product,
];

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

    /// The result of every port for one input; `given` maps graph inputs to their values.
    pub fn evaluate(
        &self,
        given: &BTreeMap<String, Vec<f64>>,
    ) -> Result<BTreeMap<String, Vec<f64>>, ClientError> {
        let mut values: Vec<Vec<f64>> = Vec::with_capacity(self.steps.len());
        for (number, step) in self.steps.iter().enumerate() {
            values.push(self.step(number, step, &values, given)?);
        }
        let mut out = BTreeMap::new();
        for (port, value) in &self.results {
            let v = values
                .get(*value as usize)
                .ok_or_else(|| malformed(*value as usize, "a result that no step makes"))?;
            out.insert(port.clone(), v.clone());
        }
        Ok(out)
    }

    /// Adds the results to what the user gave.
    pub fn extend(&self, given: &mut BTreeMap<String, Vec<f64>>) -> Result<(), ClientError> {
        if !self.is_empty() {
            let found = self.evaluate(given)?;
            given.extend(found);
        }
        Ok(())
    }

    fn step(
        &self,
        number: usize,
        step: &Step,
        values: &[Vec<f64>],
        given: &BTreeMap<String, Vec<f64>>,
    ) -> Result<Vec<f64>, ClientError> {
        let operands = step
            .operands
            .iter()
            .map(|&o| {
                values
                    .get(o as usize)
                    .ok_or_else(|| malformed(number, "an operand that no step before makes"))
            })
            .collect::<Result<Vec<&Vec<f64>>, ClientError>>()?;
        let one = || match operands[..] {
            [x] => Ok(x),
            _ => Err(malformed(number, "one operand expected")),
        };
        match &step.operation {
            Operation::Source(i) => {
                let source = self
                    .sources
                    .get(*i)
                    .ok_or_else(|| malformed(number, "no such source"))?;
                let v = given
                    .get(&source.name)
                    .ok_or_else(|| ClientError::Missing(source.name.clone()))?;
                let expected = source.shape.iter().product();
                if v.len() != expected {
                    return Err(ClientError::Size {
                        name: source.name.clone(),
                        expected,
                        found: v.len(),
                    });
                }
                Ok(v.clone())
            }
            Operation::Arrange {
                element,
                factor,
                summand,
            } => arrange(number, &operands, element, factor, summand),
            Operation::Lookup { table, cols } => {
                let rows = table.len() / (*cols).max(1);
                let mut out = Vec::new();
                for &id in one()? {
                    let row = if id < 0.0 { id + rows as f64 } else { id };
                    let known = row.fract() == 0.0 && row >= 0.0 && row < rows as f64;
                    let found = known
                        .then(|| table.chunks_exact((*cols).max(1)).nth(row as usize))
                        .flatten();
                    out.extend_from_slice(found.ok_or_else(|| ClientError::Id {
                        found: id,
                        rows,
                        inputs: self.inputs_of(number),
                    })?);
                    if out.len() > MAX_ELEMENTS {
                        return Err(malformed(number, "too many elements"));
                    }
                }
                Ok(out)
            }
            Operation::Apply(f) => {
                let n = operands.first().map_or(0, |x| x.len());
                if operands.len() != f.arguments() || operands.iter().any(|x| x.len() != n) {
                    return Err(malformed(
                        number,
                        "operands of one size expected, as many as the function takes",
                    ));
                }
                (0..n)
                    .map(|i| {
                        let mut x = [0.0; 3];
                        for (to, from) in x.iter_mut().zip(&operands) {
                            *to = from.get(i).copied().unwrap_or(0.0);
                        }
                        f.value(&x).ok_or_else(|| ClientError::Mask {
                            found: x[0],
                            expected: if *f == Function::Kept {
                                "0 or less than -10000"
                            } else {
                                "0 or 1"
                            },
                            inputs: self.inputs_of(number),
                        })
                    })
                    .collect()
            }
            Operation::Reduce { how, length } => {
                let groups = groups(number, one()?, *length)?;
                Ok(groups
                    .map(|g| match how {
                        Reduction::Sum => g.iter().sum(),
                        Reduction::Product => g.iter().product(),
                        Reduction::Max => g.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                        Reduction::Min => g.iter().copied().fold(f64::INFINITY, f64::min),
                    })
                    .collect())
            }
            Operation::CumulativeSum { length } => {
                let mut out = Vec::new();
                for g in groups(number, one()?, *length)? {
                    let mut sum = 0.0;
                    out.extend(g.iter().map(|x| {
                        sum += x;
                        sum
                    }));
                }
                Ok(out)
            }
        }
    }

    /// The graph inputs that a step depends on, for messages.
    fn inputs_of(&self, step: usize) -> String {
        let mut wanted = vec![false; step + 1];
        wanted[step] = true;
        let mut names = Vec::new();
        for i in (0..=step).rev() {
            let Some(s) = self.steps.get(i).filter(|_| wanted[i]) else {
                continue;
            };
            if let Operation::Source(k) = s.operation {
                names.extend(self.sources.get(k).map(|s| format!("`{}`", s.name)));
            }
            for &o in &s.operands {
                if let Some(w) = wanted.get_mut(o as usize) {
                    *w = true;
                }
            }
        }
        names.sort();
        names.join(", ")
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

fn malformed(step: usize, reason: &str) -> ClientError {
    ClientError::Malformed {
        step,
        reason: reason.into(),
    }
}

fn groups(
    number: usize,
    x: &[f64],
    length: usize,
) -> Result<std::slice::ChunksExact<'_, f64>, ClientError> {
    if length == 0 || !x.len().is_multiple_of(length) {
        return Err(malformed(number, "groups that do not fill the operand"));
    }
    Ok(x.chunks_exact(length))
}

fn arrange(
    number: usize,
    operands: &[&Vec<f64>],
    element: &[i32],
    factor: &[f64],
    summand: &[f64],
) -> Result<Vec<f64>, ClientError> {
    let joined: Vec<f64> = operands.iter().flat_map(|x| x.iter().copied()).collect();
    let n = if element.is_empty() {
        joined.len()
    } else {
        element.len()
    };
    let fits = |v: &[f64]| v.len() < 2 || v.len() == n;
    if !fits(factor) || !fits(summand) {
        return Err(malformed(
            number,
            "factors and summands for every element expected",
        ));
    }
    let pick = |v: &[f64], i: usize, none: f64| match v {
        [] => none,
        [x] => *x,
        all => all.get(i).copied().unwrap_or(none),
    };
    (0..n)
        .map(|i| {
            let place = element.get(i).map_or(i as i64, |&e| i64::from(e));
            let add = pick(summand, i, 0.0);
            if place < 0 {
                return Ok(add);
            }
            let x = joined
                .get(place as usize)
                .ok_or_else(|| malformed(number, "an element that no operand has"))?;
            Ok(x * pick(factor, i, 1.0) + add)
        })
        .collect()
}
