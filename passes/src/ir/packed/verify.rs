//! What a packed graph promises.

use super::{Kernel, PackedGraph, PackedOp};
use crate::ir::graph::ValueId;
use crate::pass::Ir;

impl PackedGraph {
    fn operand_ops(&self, v: ValueId) -> Vec<&PackedOp> {
        self.graph
            .operands(v)
            .into_iter()
            .map(|o| &self.graph.node(o).op)
            .collect()
    }

    fn verify_value(&self, v: ValueId) -> Result<(), String> {
        let op = &self.graph.node(v).op;
        let operands = self.operand_ops(v);
        let n = self.geometry.virtual_slots();
        let out = op.layout.ciphertexts();
        if out == 0 || !n.is_multiple_of(op.layout.period()) {
            return Err(format!(
                "layout of {out} ciphertexts with period {} does not fit {n} virtual slots",
                op.layout.period()
            ));
        }
        let part_exists = |p: &(usize, usize)| {
            operands
                .get(p.0)
                .is_some_and(|o| p.1 < o.layout.ciphertexts())
        };
        match &op.kernel {
            Kernel::Input { port } => {
                if *port >= self.ports.len() {
                    return Err(format!("port {port} does not exist"));
                }
            }
            Kernel::Linear(outs) => {
                let sources: usize = operands.iter().map(|o| o.layout.ciphertexts()).sum();
                if outs.len() != out {
                    return Err(format!(
                        "{} linear results for {out} ciphertexts",
                        outs.len()
                    ));
                }
                for o in outs.iter() {
                    for t in o.giants.iter().flat_map(|(_, t)| t) {
                        let len = self.plaintexts.get(t.plaintext).len();
                        if t.source >= sources || len == 0 || !n.is_multiple_of(len) {
                            return Err(format!("term {t:?} names no source or no vector"));
                        }
                    }
                    if o.giants.is_empty() && o.bias.is_none() {
                        return Err("a linear result reads nothing".into());
                    }
                }
            }
            Kernel::Rotate { steps } => {
                let source = operands.first().map_or(0, |o| o.layout.ciphertexts());
                if operands.len() != 1 || out != source * steps.len() {
                    return Err(format!(
                        "{out} results of {} rotations of {source} ciphertexts",
                        steps.len()
                    ));
                }
            }
            Kernel::MulSum { pairs, factor, .. } => {
                if pairs.len() != out || pairs.iter().any(Vec::is_empty) || *factor == 0 {
                    return Err(format!("{} sums for {out} ciphertexts", pairs.len()));
                }
                if let Some(bad) = pairs
                    .iter()
                    .flatten()
                    .find(|(a, b)| !part_exists(a) || !part_exists(b))
                {
                    return Err(format!("pair {bad:?} names no ciphertext"));
                }
            }
            Kernel::Combine { coefficients, .. } => {
                if coefficients.len() != operands.len() || operands.is_empty() {
                    return Err(format!(
                        "{} coefficients for {} operands",
                        coefficients.len(),
                        operands.len()
                    ));
                }
                for o in &operands {
                    if o.layout.ciphertexts() != out && o.layout.ciphertexts() != 1 {
                        return Err(format!(
                            "operand of {} ciphertexts in a sum of {out}",
                            o.layout.ciphertexts()
                        ));
                    }
                    if !o.layout.same_cells(&op.layout) && !o.layout.is_unnamed() {
                        return Err(format!(
                            "layouts differ in a sum: {} and {}",
                            o.layout, op.layout
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Ir for PackedGraph {
    const STAGE: &'static str = "packed";

    fn print(&self) -> String {
        self.to_string()
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
        if self.output_factors.len() != self.graph.outputs.len() {
            return Err(format!(
                "{} output factors for {} outputs",
                self.output_factors.len(),
                self.graph.outputs.len()
            ));
        }
        Ok(())
    }
}
