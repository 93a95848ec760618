//! The text of a levelled graph.

use std::fmt;

use super::{LevelledGraph, LevelledKernel};
use crate::cost::BootstrapKind;

impl fmt::Display for LevelledKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LevelledKernel::Packed(kernel) => write!(f, "{kernel}"),
            LevelledKernel::Bootstrap { kind } => match kind {
                BootstrapKind::Full => write!(f, "bootstrap full"),
                BootstrapKind::ComplexPair => write!(f, "bootstrap pairs"),
                BootstrapKind::Sparse { log_slots } => write!(f, "bootstrap sparse 2^{log_slots}"),
            },
        }
    }
}

impl fmt::Display for LevelledGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "levelled {} levels {} {} {{",
            self.graph.name, self.costs.top, self.geometry
        )?;
        for v in self.graph.topological() {
            let node = self.graph.node(v);
            write!(f, "  %{} = {}", node.name, node.op.kernel)?;
            let operands = self.graph.operands(v);
            for (i, o) in operands.iter().enumerate() {
                let operand = self.graph.node(*o);
                let sep = if i == 0 { " of " } else { ", " };
                write!(f, "{sep}%{}@{}", operand.name, operand.op.level)?;
            }
            writeln!(
                f,
                " -> @{} : ct[{}]",
                node.op.level,
                node.op.layout.ciphertexts()
            )?;
        }
        for (name, v) in &self.graph.outputs {
            writeln!(f, "  output {name} = %{}", self.graph.node(*v).name)?;
        }
        let (full, pairs, sparse) = self.bootstraps();
        writeln!(
            f,
            "}} bootstraps {full} full, {pairs} pairs, {sparse} sparse"
        )
    }
}
