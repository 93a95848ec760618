//! Straight-line blocks of vector instructions on values that are assigned once.

/// Vectors of one instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// 256 bits: AVX2.
    Narrow,
    /// 512 bits: AVX-512 F, BW, DQ and VL.
    Wide,
}

impl Vectors {
    pub const fn bytes(self) -> usize {
        match self {
            Self::Narrow => 32,
            Self::Wide => 64,
        }
    }

    /// Words of 32 bits.
    pub const fn lanes(self) -> usize {
        self.bytes() / 4
    }

    /// How many registers there are.
    pub const fn registers(self) -> usize {
        match self {
            Self::Narrow => 16,
            Self::Wide => 32,
        }
    }

    pub fn register(self, number: usize) -> String {
        match self {
            Self::Narrow => format!("ymm{number}"),
            Self::Wide => format!("zmm{number}"),
        }
    }
}

/// The result of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub usize);

/// What an instruction reads, or writes if it is the first operand of a store.
#[derive(Clone, Debug)]
pub enum Operand {
    Value(Value),
    /// An address, as in `rdi + 32`.
    Memory(String),
    /// The word at an address, in all lanes of a 512-bit vector.
    Everywhere(String),
    /// A register that the loop does not write to.
    Kept(String),
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

/// A value in whose register an instruction leaves its result, reading it first; it is the value's last reader.
#[derive(Clone, Copy, Debug)]
pub struct Tied {
    pub value: Value,
    /// What follows the register: a mask, or nothing.
    pub mask: &'static str,
}

/// The mask of even lanes, as the text of inline assembly has it.
pub const EVEN_LANES: &str = "{{k1}}";

/// One instruction.
#[derive(Clone, Debug)]
pub struct Operation {
    pub mnemonic: &'static str,
    /// None for a store.
    pub result: Option<Value>,
    /// In the order of Intel's syntax, after the destination.
    pub operands: Vec<Operand>,
    pub tied: Option<Tied>,
}

impl Operation {
    /// The values it reads.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        let operands = self.operands.iter().filter_map(|operand| match operand {
            Operand::Value(value) => Some(*value),
            _ => None,
        });
        self.tied.map(|tied| tied.value).into_iter().chain(operands)
    }

    /// Cycles until others can read the result.
    pub fn latency(&self) -> usize {
        match self.mnemonic {
            "vpmuldq" | "vpmuludq" | "vpmulld" => 3,
            "vperm2i128" | "vshufi32x4" | "vpermi2d" => 3,
            "vmovdqu" | "vmovdqu32" | "vpbroadcastd" => 7,
            _ => 1,
        }
    }

    /// The instruction with the register that `name` has for each value, its braces doubled for inline assembly.
    pub fn print(&self, name: impl Fn(Value) -> String) -> String {
        let mask = self.tied.map_or("", |tied| tied.mask);
        let result = self.result.map(|result| name(result) + mask);
        let operands = self.operands.iter().map(|operand| match operand {
            Operand::Value(value) => name(*value),
            Operand::Memory(address) => format!("[{address}]"),
            Operand::Everywhere(address) => format!("dword ptr [{address}]{{{{1to16}}}}"),
            Operand::Kept(register) => register.clone(),
            Operand::Immediate(number) => number.to_string(),
        });
        let all: Vec<String> = result.into_iter().chain(operands).collect();
        format!("{} {}", self.mnemonic, all.join(", "))
    }
}

/// Operations, each after those it reads from.
pub struct Block {
    pub vectors: Vectors,
    pub operations: Vec<Operation>,
    /// Those that nobody waits for.
    pub prefetches: Vec<Operation>,
    values: usize,
}

impl Block {
    pub fn new(vectors: Vectors) -> Self {
        Self {
            vectors,
            operations: Vec::new(),
            prefetches: Vec::new(),
            values: 0,
        }
    }

    fn append(
        &mut self,
        mnemonic: &'static str,
        operands: Vec<Operand>,
        tied: Option<Tied>,
    ) -> Value {
        let result = Value(self.values);
        self.values += 1;
        self.operations.push(Operation {
            mnemonic,
            result: Some(result),
            operands,
            tied,
        });
        result
    }

    /// Appends an instruction that has a result.
    pub fn make(&mut self, mnemonic: &'static str, operands: Vec<Operand>) -> Value {
        self.append(mnemonic, operands, None)
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

    /// An instruction that writes over a value.
    pub fn over(&mut self, mnemonic: &'static str, tied: Tied, operands: Vec<Operand>) -> Value {
        self.append(mnemonic, operands, Some(tied))
    }

    fn whole(&self) -> &'static str {
        match self.vectors {
            Vectors::Narrow => "vmovdqu",
            Vectors::Wide => "vmovdqu32",
        }
    }

    pub fn load(&mut self, from: Operand) -> Value {
        self.make(self.whole(), vec![from])
    }

    /// Brings a line to the caches, somewhere in the block.
    pub fn prefetch(&mut self, line: Operand) {
        self.prefetches.push(Operation {
            mnemonic: "prefetcht0",
            result: None,
            operands: vec![line],
            tied: None,
        });
    }

    pub fn store(&mut self, to: Operand, value: Value) {
        self.operations.push(Operation {
            mnemonic: self.whole(),
            result: None,
            operands: vec![to, value.into()],
            tied: None,
        });
    }
}
