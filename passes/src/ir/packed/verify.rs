//! What a packed graph promises.

use super::layout::{Geometry, Layout};
use super::{Kernel, LinearOut, PackedGraph, Plaintexts};
use crate::ir::graph::ValueId;
use crate::ir::weight::Weight;
use crate::pass::Ir;

/// What a kernel is checked against.
pub(in crate::ir) struct Around<'a> {
    /// How slots are cut up.
    pub(in crate::ir) geometry: Geometry,
    /// Plaintext vectors.
    pub(in crate::ir) plaintexts: &'a Plaintexts,
    /// Number of ports.
    pub(in crate::ir) ports: usize,
}

impl Around<'_> {
    /// Checks that a layout fits the slots.
    pub(in crate::ir) fn layout(&self, layout: &Layout) -> Result<(), String> {
        let n = self.geometry.virtual_slots();
        let out = layout.ciphertexts();
        if out == 0 || !n.is_multiple_of(layout.period()) {
            return Err(format!(
                "layout of {out} ciphertexts with period {} does not fit {n} virtual slots",
                layout.period()
            ));
        }
        Ok(())
    }

    /// Checks that vectors made of elements lie inside the matrix of the result, which exists.
    fn elements(&self, out: &LinearOut) -> Result<(), String> {
        let matrix = out.matrix.map(|m| {
            let known = self.plaintexts.matrix(m);
            known.map(Weight::elements).ok_or(m)
        });
        let size = match matrix {
            Some(Err(m)) => return Err(format!("matrix {} does not exist", m.0)),
            Some(Ok(size)) => Some(size),
            None => None,
        };
        for t in out.giants.iter().flat_map(|(_, t)| t) {
            let Some(elements) = self.plaintexts.elements(t.plaintext) else {
                continue;
            };
            let Some(size) = size else {
                return Err(format!("term {t:?} takes elements of no matrix"));
            };
            if let Some((_, e)) = elements.ends().find(|(_, e)| *e >= size) {
                return Err(format!("term {t:?} takes element {e} of {size}"));
            }
        }
        Ok(())
    }

    /// Checks a kernel with its result's layout and its operands' layouts.
    pub(in crate::ir) fn kernel(
        &self,
        kernel: &Kernel,
        layout: &Layout,
        operands: &[&Layout],
    ) -> Result<(), String> {
        let n = self.geometry.virtual_slots();
        let out = layout.ciphertexts();
        self.layout(layout)?;
        let part_exists =
            |p: &(usize, usize)| operands.get(p.0).is_some_and(|o| p.1 < o.ciphertexts());
        match kernel {
            Kernel::Input { port } => {
                if *port >= self.ports {
                    return Err(format!("port {port} does not exist"));
                }
            }
            Kernel::Linear(outs) => {
                let sources: usize = operands.iter().map(|o| o.ciphertexts()).sum();
                if outs.len() != out {
                    return Err(format!(
                        "{} linear results for {out} ciphertexts",
                        outs.len()
                    ));
                }
                for o in outs.iter() {
                    for t in o.giants.iter().flat_map(|(_, t)| t) {
                        let len = self.plaintexts.period(t.plaintext);
                        if t.source >= sources || len == 0 || !n.is_multiple_of(len) {
                            return Err(format!("term {t:?} names no source or no vector"));
                        }
                    }
                    self.elements(o)?;
                    if o.giants.is_empty() && o.bias.is_none() {
                        return Err("a linear result reads nothing".into());
                    }
                }
            }
            Kernel::Rotate { steps } => {
                let source = operands.first().map_or(0, |o| o.ciphertexts());
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
                for o in operands {
                    if o.ciphertexts() != out && o.ciphertexts() != 1 {
                        return Err(format!(
                            "operand of {} ciphertexts in a sum of {out}",
                            o.ciphertexts()
                        ));
                    }
                    if !o.same_cells(layout) && !o.is_unnamed() {
                        return Err(format!("layouts differ in a sum: {} and {}", o, layout));
                    }
                }
            }
        }
        Ok(())
    }
}

impl PackedGraph {
    fn verify_value(&self, v: ValueId) -> Result<(), String> {
        let around = Around {
            geometry: self.geometry,
            plaintexts: &self.plaintexts,
            ports: self.ports.len(),
        };
        let operands = self.graph.operands(v);
        let operands: Vec<&Layout> = operands.iter().map(|o| &**self.layout(*o)).collect();
        let op = &self.graph.node(v).op;
        around.kernel(&op.kernel, &op.layout, &operands)
    }
}

impl Ir for PackedGraph {
    const STAGE: &'static str = "packed";

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
