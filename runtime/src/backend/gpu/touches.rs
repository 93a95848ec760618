//! Which polynomials a launch reads and which it writes: what decides whether two launches may change places. Keys and tables are left out,
//! as no launch writes them.

use super::arguments::{
    AutomorphismArgs, EncodeArgs, ExtensionArgs, KeyProductArgs, LinearSumsArgs, PipeArgs,
    PointwiseArgs, ProductArgs, RotatedSumsArgs, SharedProductsArgs, TransformArgs,
};

/// First words of what a launch reads and writes, somewhere within the polynomials' buffers; 0 is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    pub reads: Vec<u64>,
    /// What is written may be read too.
    pub writes: Vec<u64>,
}

/// A kernel's arguments.
pub(super) trait Touches {
    /// What the launch touches.
    fn touched(&self) -> Touched;
}

fn touched<'a>(
    reads: impl IntoIterator<Item = &'a u64>,
    writes: impl IntoIterator<Item = &'a u64>,
) -> Touched {
    let some = |address: &&u64| **address != 0;
    Touched {
        reads: reads.into_iter().filter(some).copied().collect(),
        writes: writes.into_iter().filter(some).copied().collect(),
    }
}

impl Touches for TransformArgs {
    fn touched(&self) -> Touched {
        touched(self.from.iter().chain(&self.addend), &self.to)
    }
}

impl Touches for PointwiseArgs {
    fn touched(&self) -> Touched {
        touched([&self.a, &self.b], [&self.to])
    }
}

impl Touches for AutomorphismArgs {
    fn touched(&self) -> Touched {
        touched([&self.from], [&self.to])
    }
}

impl Touches for EncodeArgs {
    fn touched(&self) -> Touched {
        touched([&self.from], [&self.to])
    }
}

impl Touches for PipeArgs {
    fn touched(&self) -> Touched {
        touched([], [&self.to])
    }
}

impl Touches for ExtensionArgs {
    fn touched(&self) -> Touched {
        touched(&self.from, &self.to)
    }
}

impl Touches for ProductArgs {
    fn touched(&self) -> Touched {
        touched(
            self.a.iter().chain(&self.b).chain(&self.c),
            [&self.low, &self.high],
        )
    }
}

impl Touches for SharedProductsArgs {
    fn touched(&self) -> Touched {
        let right = self.b.iter().chain(&self.c).flatten();
        touched(
            right.chain(self.a.iter().flatten()),
            self.low.iter().chain(&self.high).flatten(),
        )
    }
}

impl Touches for KeyProductArgs {
    fn touched(&self) -> Touched {
        let digits = self.original.iter().chain(&self.digits_at);
        touched(
            digits.chain(self.addend.iter().flatten()),
            self.low.iter().chain(&self.high),
        )
    }
}

impl Touches for RotatedSumsArgs {
    fn touched(&self) -> Touched {
        let sources = self.original.iter().chain(&self.digits_at);
        touched(
            sources
                .chain(&self.first)
                .chain(self.diagonal.iter().flatten()),
            self.low.iter().chain(&self.high).flatten(),
        )
    }
}

/// Its sums are named by a list that is brought for one launch, so that no recording has one.
impl Touches for LinearSumsArgs {
    fn touched(&self) -> Touched {
        let sources = self.original.iter().chain(&self.digits_at);
        touched(sources.chain(&self.first), [])
    }
}
