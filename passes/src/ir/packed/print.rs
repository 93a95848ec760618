//! The text of a packed graph.

use std::fmt;

use super::{Kernel, LinearOut, PackedGraph};

/// Counts of a linear map: (products, rotations of sources, rotations of sums).
pub fn linear_counts(outs: &[LinearOut]) -> (usize, usize, usize) {
    let mut babies = std::collections::BTreeSet::new();
    let (mut products, mut giants) = (0, 0);
    for out in outs {
        for (g, terms) in &out.giants {
            giants += usize::from(*g != 0);
            products += terms.len();
            babies.extend(
                terms
                    .iter()
                    .filter(|t| t.baby != 0)
                    .map(|t| (t.source, t.baby)),
            );
        }
    }
    (products, babies.len(), giants)
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kernel::Input { port } => write!(f, "input {port}"),
            Kernel::Linear(outs) => {
                let (products, babies, giants) = linear_counts(outs);
                write!(f, "linear products {products} rotations {babies}+{giants}")
            }
            Kernel::Rotate { steps } => {
                write!(f, "rotate by")?;
                for s in steps {
                    write!(f, " {s}")?;
                }
                Ok(())
            }
            Kernel::MulSum {
                pairs,
                factor,
                constant,
            } => {
                let products: usize = pairs.iter().map(Vec::len).sum();
                write!(f, "mul_sum products {products} relins {}", pairs.len())?;
                if *factor != 1 {
                    write!(f, " times {factor}")?;
                }
                if *constant != 0.0 {
                    write!(f, " plus {constant:.4}")?;
                }
                Ok(())
            }
            Kernel::Combine {
                coefficients,
                constant,
            } => {
                write!(f, "combine")?;
                for c in coefficients {
                    write!(f, " {c:.4}")?;
                }
                if *constant != 0.0 {
                    write!(f, " plus {constant:.4}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for PackedGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "packed {} {} {{", self.graph.name, self.geometry)?;
        for v in self.graph.topological() {
            let node = self.graph.node(v);
            write!(f, "  %{} = {}", node.name, node.op.kernel)?;
            let operands = self.graph.operands(v);
            for (i, o) in operands.iter().enumerate() {
                let sep = if i == 0 { " of " } else { ", " };
                write!(f, "{sep}%{}", self.graph.node(*o).name)?;
            }
            writeln!(f, " : {}", node.op.layout)?;
        }
        for (name, v) in &self.graph.outputs {
            writeln!(f, "  output {name} = %{}", self.graph.node(*v).name)?;
        }
        writeln!(f, "}}")
    }
}
