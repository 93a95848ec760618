//! Kernels as instructions, one per ciphertext.

use heron_passes::cost::BootstrapKind;
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::levelled::{LevelledKernel, LevelledOp};
use heron_passes::ir::packed::Kernel;
use heron_schedule::proto::{self, bootstrap::Kind, instruction::Op};

use super::{EmitError, Emitter, Wire};

impl Emitter<'_> {
    pub(super) fn value(&mut self, v: ValueId) -> Result<(), EmitError> {
        let graph = self.graph;
        let op = &graph.graph.node(v).op;
        let operands = graph.graph.operands(v);
        let mut sources = Vec::new();
        for o in &operands {
            let wires = self.wires.get(o).cloned();
            let wires = wires.ok_or_else(|| self.malformed(v, "an operand is made later"))?;
            sources.push((wires, graph.graph.node(*o).op.level));
        }
        let wires = match &op.kernel {
            LevelledKernel::Bootstrap { kind } => self.bootstrap(v, op, *kind, &sources)?,
            LevelledKernel::Packed(Kernel::Input { port }) => {
                let wires = self.fresh(op.layout.ciphertexts());
                for (i, dst) in wires.iter().enumerate() {
                    self.push(
                        v,
                        Op::Input(proto::Input {
                            port: *port as u32,
                            ciphertext: i as u32,
                            dst: *dst,
                            level: op.level,
                        }),
                    );
                }
                wires
            }
            LevelledKernel::Packed(Kernel::Linear(outs)) => match self.families.remove(&v) {
                Some(members) => return self.family(v, &members, &sources),
                None => self.linear(v, op, outs, &sources)?,
            },
            LevelledKernel::Packed(Kernel::Rotate { steps }) => {
                self.rotate(v, op, steps, &sources)?
            }
            LevelledKernel::Packed(Kernel::MulSum {
                pairs,
                factor,
                constant,
            }) => {
                let wires = self.fresh(pairs.len());
                for (terms, dst) in pairs.iter().zip(&wires) {
                    let mut pair = Vec::new();
                    for (a, b) in terms {
                        pair.push(proto::Pair {
                            a: self.part(v, &sources, *a)?,
                            b: self.part(v, &sources, *b)?,
                        });
                    }
                    self.push(
                        v,
                        Op::MulSum(proto::MulSum {
                            dst: *dst,
                            level_in: op.level + 1,
                            pair,
                            factor: *factor,
                            constant: *constant,
                        }),
                    );
                }
                wires
            }
            LevelledKernel::Packed(Kernel::Combine {
                coefficients,
                constant,
            }) => {
                let wires = self.fresh(op.layout.ciphertexts());
                for (k, dst) in wires.iter().enumerate() {
                    let mut term = Vec::new();
                    for (i, (from, level)) in sources.iter().enumerate() {
                        let at = if from.len() == 1 { 0 } else { k };
                        term.push(proto::CombineTerm {
                            src: self.part(v, &sources, (i, at))?,
                            level: *level,
                            coefficient: coefficients.get(i).copied().unwrap_or(0.0),
                        });
                    }
                    self.push(
                        v,
                        Op::Combine(proto::Combine {
                            dst: *dst,
                            level_out: op.level,
                            term,
                            constant: *constant,
                            bias: None,
                        }),
                    );
                }
                wires
            }
        };
        self.wires.insert(v, wires);
        Ok(())
    }

    fn part(
        &self,
        v: ValueId,
        sources: &[(Vec<Wire>, u32)],
        (operand, ciphertext): (usize, usize),
    ) -> Result<Wire, EmitError> {
        sources
            .get(operand)
            .and_then(|(wires, _)| wires.get(ciphertext))
            .copied()
            .ok_or_else(|| {
                self.malformed(
                    v,
                    format!("ciphertext {ciphertext} of operand {operand} does not exist"),
                )
            })
    }

    fn bootstrap(
        &mut self,
        v: ValueId,
        op: &LevelledOp,
        kind: BootstrapKind,
        sources: &[(Vec<Wire>, u32)],
    ) -> Result<Vec<Wire>, EmitError> {
        let Some((from, level_in)) = sources.first() else {
            return Err(self.malformed(v, "a bootstrap of nothing"));
        };
        let wires = self.fresh(from.len());
        let (size, single, log_slots) = match kind {
            BootstrapKind::Sparse { log_slots } => (1, Kind::Sparse, log_slots),
            BootstrapKind::Full | BootstrapKind::ComplexPair => (2, Kind::Full, 0),
        };
        for (src, dst) in from.chunks(size).zip(wires.chunks(size)) {
            let kind = if src.len() == 2 {
                Kind::ComplexPair
            } else {
                single
            };
            self.push(
                v,
                Op::Bootstrap(proto::Bootstrap {
                    kind: kind.into(),
                    src: src.to_vec(),
                    dst: dst.to_vec(),
                    level_in: *level_in,
                    level_out: op.level,
                    log_slots,
                }),
            );
        }
        Ok(wires)
    }

    fn rotate(
        &mut self,
        v: ValueId,
        op: &LevelledOp,
        steps: &[i64],
        sources: &[(Vec<Wire>, u32)],
    ) -> Result<Vec<Wire>, EmitError> {
        let Some((from, _)) = sources.first() else {
            return Err(self.malformed(v, "a rotation of nothing"));
        };
        let mut wires = vec![0; steps.len() * from.len()];
        for (k, src) in from.iter().enumerate() {
            let mut out = Vec::new();
            for (s, step) in steps.iter().enumerate() {
                let at = s * from.len() + k;
                if *step == 0 {
                    wires[at] = *src;
                    continue;
                }
                let dst = self.fresh(1)[0];
                wires[at] = dst;
                out.push(proto::Rotated {
                    step: self.step(v, *step)?,
                    dst,
                });
            }
            if out.is_empty() {
                continue;
            }
            self.push(
                v,
                Op::Rotate(proto::Rotate {
                    src: *src,
                    level: op.level,
                    out,
                }),
            );
        }
        Ok(wires)
    }
}
