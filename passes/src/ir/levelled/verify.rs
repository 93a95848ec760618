//! What a levelled graph promises.

use super::{LevelledGraph, LevelledKernel};
use crate::cost::BootstrapKind;
use crate::ir::graph::ValueId;
use crate::ir::packed::layout::Layout;
use crate::ir::packed::verify::Around;
use crate::ir::packed::Kernel;
use crate::pass::Ir;

/// Magnitude up to which values may be bootstrapped.
pub const BOOTSTRAP_BOUND: f64 = 1.05;

impl LevelledGraph {
    fn verify_value(&self, v: ValueId) -> Result<(), String> {
        let op = &self.graph.node(v).op;
        if op.level > self.costs.top {
            return Err(format!(
                "level {} above the highest, {}",
                op.level, self.costs.top
            ));
        }
        let operands = self.graph.operands(v);
        let around = Around {
            geometry: self.geometry,
            plaintexts: &self.plaintexts,
            ports: self.ports.len(),
        };
        around.layout(&op.layout)?;
        let ops: Vec<_> = operands
            .iter()
            .map(|o| (&self.graph.node(*o).name, &self.graph.node(*o).op))
            .collect();
        match &op.kernel {
            LevelledKernel::Bootstrap { kind } => {
                let [(name, source)] = ops[..] else {
                    return Err(format!("a bootstrap of {} values", ops.len()));
                };
                if source.bound.is_none_or(|b| b > BOOTSTRAP_BOUND) {
                    return Err(format!(
                        "`%{name}` is not known to lie in [-1, 1] and cannot be bootstrapped"
                    ));
                }
                let from = self.costs.chain.bootstrap_from;
                if from.is_none_or(|from| source.level < from) {
                    return Err(format!(
                        "`%{name}` at level {} cannot be bootstrapped: the lowest level for that is {}",
                        source.level,
                        from.map_or("none".into(), |l| l.to_string())
                    ));
                }
                if source.layout.is_unnamed() {
                    return Err(format!(
                        "`%{name}` holds partial results and cannot be bootstrapped"
                    ));
                }
                let period = source.layout.period() * self.geometry.batch;
                if matches!(kind, BootstrapKind::Sparse { log_slots } if period > 1 << log_slots) {
                    return Err(format!("`%{name}` repeats only after {period} slots"));
                }
                if !source.layout.same_cells(&op.layout) {
                    return Err("a bootstrap does not move slots".into());
                }
            }
            LevelledKernel::Packed(kernel) => {
                let layouts: Vec<&Layout> = ops.iter().map(|(_, o)| &*o.layout).collect();
                around.kernel(kernel, &op.layout, &layouts)?;
                for (i, (name, o)) in ops.iter().enumerate() {
                    let least = op.level + kernel.levels(i);
                    let fits = match kernel {
                        Kernel::Combine { .. } => o.level >= least,
                        _ => o.level == least,
                    };
                    if !fits {
                        return Err(format!(
                            "operand `%{name}` is at level {}, expected level {least}",
                            o.level
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Ir for LevelledGraph {
    const STAGE: &'static str = "levelled";

    fn print(&self) -> String {
        self.to_string()
    }

    fn full(&self) -> String {
        self.full_text()
    }

    fn renumber(&mut self) {
        let new = self.graph.renumber();
        for (_, v) in &mut self.origins {
            *v = new.get(v).copied().unwrap_or(*v);
        }
    }

    fn verify(&self) -> Result<(), String> {
        let order = self.graph.topological();
        if order.len() != self.graph.len() {
            return Err("the graph has a cycle".into());
        }
        for v in order {
            self.verify_value(v)
                .map_err(|e| format!("value `%{}`: {e}", self.graph.node(v).name))?;
        }
        Ok(())
    }
}
