//! Linear maps as instructions: one per part, maps of one operand together.

use heron_passes::cost::folding::{parts, Folding, LinearPart};
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::levelled::LevelledOp;
use heron_passes::ir::packed::LinearOut;
use heron_passes::linear_siblings::outs;
use heron_schedule::proto::{self, instruction::Op};

use super::{EmitError, Emitter, Wire};

impl Emitter<'_> {
    pub(super) fn linear(
        &mut self,
        v: ValueId,
        op: &LevelledOp,
        outs: &[LinearOut],
        sources: &[(Vec<Wire>, u32)],
    ) -> Result<Vec<Wire>, EmitError> {
        let src: Vec<Wire> = sources.iter().flat_map(|(w, _)| w).copied().collect();
        let wires = self.fresh(outs.len());
        for part in parts(outs) {
            let mut out = Vec::new();
            for o in &part.outs {
                out.push(self.linear_out(v, &outs[*o], wires[*o], &part)?);
            }
            let read = part.sources.iter().map(|s| src.get(*s).copied());
            let read = read.collect::<Option<Vec<Wire>>>();
            self.push(
                v,
                Op::Linear(proto::Linear {
                    src: read.ok_or_else(|| self.malformed(v, "a term reads no source"))?,
                    level_in: op.level + 1,
                    out,
                    folding: match part.folding {
                        Folding::None => proto::linear::Folding::None,
                        Folding::Sources => proto::linear::Folding::Sources,
                        Folding::Results => proto::linear::Folding::Results,
                    }
                    .into(),
                }),
            );
        }
        Ok(wires)
    }

    /// Linear maps of one operand as one.
    pub(super) fn family(
        &mut self,
        v: ValueId,
        members: &[ValueId],
        sources: &[(Vec<Wire>, u32)],
    ) -> Result<(), EmitError> {
        let graph = self.graph;
        let maps: Vec<&[LinearOut]> = members.iter().filter_map(|m| outs(graph, *m)).collect();
        let mut wires = self.linear(v, &graph.graph.node(v).op, &maps.concat(), sources)?;
        for (member, map) in members.iter().zip(maps) {
            let rest = wires.split_off(map.len().min(wires.len()));
            self.wires
                .insert(*member, std::mem::replace(&mut wires, rest));
        }
        Ok(())
    }

    fn linear_out(
        &mut self,
        v: ValueId,
        o: &LinearOut,
        dst: Wire,
        part: &LinearPart,
    ) -> Result<proto::LinearOut, EmitError> {
        let mut giant = Vec::new();
        for (step, terms) in o.giants.iter() {
            let mut term = Vec::new();
            for t in terms {
                let place = part.sources.binary_search(&t.source);
                let place = place.map_err(|_| self.malformed(v, "a term reads no source"))?;
                term.push(proto::Term {
                    src: place as u32,
                    baby: self.step(v, t.baby)?,
                    plaintext: self.plaintext(t.plaintext, true),
                });
            }
            giant.push(proto::Giant {
                step: self.step(v, *step)?,
                term,
            });
        }
        let matrix = match o.matrix.filter(|_| !giant.is_empty()) {
            Some(m) => 1 + self.matrix(v, m)?,
            None => 0,
        };
        if giant.is_empty() {
            // A constant: the format wants a term, so a source times zero.
            let plaintext = self.weights.push(&[0.0], false);
            let term = vec![proto::Term {
                src: 0,
                baby: 0,
                plaintext,
            }];
            giant.push(proto::Giant { step: 0, term });
        }
        let bias = o.bias.map(|b| proto::BiasRef {
            plaintext: self.plaintext(b, false),
        });
        Ok(proto::LinearOut {
            dst,
            bias,
            matrix,
            body: self.bodies.number(giant),
        })
    }
}
