//! The functions that steps apply, and how groups become one value.

use super::REMOVED;

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
pub(super) const FUNCTIONS: [Function; 32] = {
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
    pub(super) fn value(self, x: &[f64]) -> Option<f64> {
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

pub(super) const REDUCTIONS: [Reduction; 4] = [
    Reduction::Sum,
    Reduction::Max,
    Reduction::Min,
    Reduction::Product,
];
