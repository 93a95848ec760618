//! Straight-line blocks of vector instructions on values that are assigned once.

/// The result of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub usize);

/// What an instruction reads, or writes if it is the first operand of a store.
#[derive(Clone, Debug)]
pub enum Operand {
    Value(Value),
    /// An address, as in `rdi + 32`.
    Memory(String),
    Immediate(u8),
}

impl From<Value> for Operand {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// The address `register + bytes`.
pub fn at(register: &str, bytes: usize) -> Operand {
    Operand::Memory(format!("{register} + {bytes}"))
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Operation {
    pub mnemonic: &'static str,
    /// None for a store.
    pub result: Option<Value>,
    /// In the order of Intel's syntax, after the destination.
    pub operands: Vec<Operand>,
}

impl Operation {
    /// The values it reads.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        self.operands.iter().filter_map(|operand| match operand {
            Operand::Value(value) => Some(*value),
            _ => None,
        })
    }

    /// Cycles until others can read the result.
    pub fn latency(&self) -> usize {
        match self.mnemonic {
            "vpmuldq" | "vpmuludq" | "vpmulld" | "vperm2i128" => 3,
            "vmovdqu" | "vpbroadcastd" => 7,
            _ => 1,
        }
    }

    /// The instruction with the register that `name` has for each value.
    pub fn print(&self, name: impl Fn(Value) -> String) -> String {
        let result = self.result.map(&name);
        let operands = self.operands.iter().map(|operand| match operand {
            Operand::Value(value) => name(*value),
            Operand::Memory(address) => format!("[{address}]"),
            Operand::Immediate(number) => number.to_string(),
        });
        let all: Vec<String> = result.into_iter().chain(operands).collect();
        format!("{} {}", self.mnemonic, all.join(", "))
    }
}

/// Operations, each after those it reads from.
#[derive(Default)]
pub struct Block {
    pub operations: Vec<Operation>,
    values: usize,
}

impl Block {
    /// Appends an instruction that has a result.
    pub fn make(&mut self, mnemonic: &'static str, operands: Vec<Operand>) -> Value {
        let result = Value(self.values);
        self.values += 1;
        self.operations.push(Operation {
            mnemonic,
            result: Some(result),
            operands,
        });
        result
    }

    /// An instruction of two operands.
    pub fn two(
        &mut self,
        mnemonic: &'static str,
        a: impl Into<Operand>,
        b: impl Into<Operand>,
    ) -> Value {
        self.make(mnemonic, vec![a.into(), b.into()])
    }

    pub fn load(&mut self, from: Operand) -> Value {
        self.make("vmovdqu", vec![from])
    }

    pub fn store(&mut self, to: Operand, value: Value) {
        self.operations.push(Operation {
            mnemonic: "vmovdqu",
            result: None,
            operands: vec![to, value.into()],
        });
    }
}
