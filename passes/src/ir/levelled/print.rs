//! The text of a levelled graph: counts for reading, or everything to be read back.

use std::fmt;

use super::{LevelledGraph, LevelledKernel};
use crate::cost::prices::Target;
use crate::cost::{BootstrapKind, ChainCost, CostTable};
use crate::ir::packed::print::{origin_lines, port_lines, write_plaintexts, Layouts};
use crate::ir::text::{self, Notation};

impl LevelledKernel {
    /// The operation without its operands.
    fn text(&self, n: &mut Notation) -> String {
        match self {
            LevelledKernel::Packed(kernel) => kernel.text(n),
            LevelledKernel::Bootstrap { kind } => match kind {
                BootstrapKind::Full => "bootstrap full".into(),
                BootstrapKind::ComplexPair => "bootstrap pairs".into(),
                BootstrapKind::Sparse { log_slots } => format!("bootstrap sparse 2^{log_slots}"),
            },
        }
    }
}

impl fmt::Display for LevelledKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&mut Notation::short()))
    }
}

impl LevelledGraph {
    /// The text that reads back to the same graph.
    pub(super) fn full_text(&self) -> String {
        let mut n = Notation::full();
        let order = self.graph.topological();
        let all = order.iter().map(|v| &self.graph.node(*v).op.layout);
        let layouts = Layouts::write(all, &mut n);
        write_plaintexts(&self.plaintexts, &mut n);
        let mut lines = port_lines(&self.ports, &self.approximations, &mut n);
        let placement = &self.placement;
        lines.push(format!(
            "placement {}, bootstraps {}, at least {}, cost {}, at least {}",
            text::name(&placement.method),
            placement.bootstraps,
            placement.lower_bound_bootstraps,
            text::number(placement.cost_seconds),
            text::number(placement.lower_bound_seconds)
        ));
        for policy in &placement.policies {
            lines.push(format!(
                "policy {}, bootstraps {}, cost {}",
                text::name(&policy.name),
                policy.bootstraps,
                text::number(policy.cost_seconds)
            ));
        }
        let op = |v, n: &mut Notation| {
            let op = &self.graph.node(v).op;
            let mut text = op.kernel.text(n);
            let names = self.graph.operand_names(v);
            for (i, (o, name)) in self.graph.operands(v).iter().zip(names).enumerate() {
                let before = if i == 0 { " of" } else { "," };
                text += &format!("{before} {name}@{}", self.graph.node(*o).op.level);
            }
            let layout = layouts.text(&op.layout, op.bound);
            format!("{text} -> @{}, {layout}", op.level)
        };
        let CostTable {
            log_n,
            top,
            chain,
            target,
        } = self.costs;
        // Chains other than the usual one that bootstraps say how theirs is made.
        let made = match chain == ChainCost::BOOTSTRAPPED {
            true => String::new(),
            false => format!(
                " step {} special {} digit {}{}",
                if chain.one_limb_levels { 27 } else { 40 },
                chain.special,
                chain.digit,
                chain
                    .bootstrap_from
                    .map_or(String::new(), |l| format!(" bootstrap {l}")),
            ),
        };
        let made_for = match target {
            Target::Cpu => String::new(),
            other => format!(" target {}", other.name()),
        };
        let head = format!(
            " levels {top} ring 2^{log_n}{made}{made_for} {}",
            self.geometry
        );
        let factors = &self.output_factors;
        let origins = origin_lines(&self.graph, &self.origins);
        text::full(
            &self.graph,
            ("levelled", &head),
            n,
            (&lines, &origins),
            op,
            factors,
        )
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
