//! Levelled graph → program and weights.
//!
//! One instruction per ciphertext, except for linear maps, hoisted rotations and pairs of bootstraps; registers are given out by
//! liveness. The same graph gives the same bytes on any machine.

mod order;
mod ports;
mod registers;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use heron_passes::client_head::ClientHead;
use heron_passes::cost::folding::{parts, Folding, LinearPart};
use heron_passes::cost::BootstrapKind;
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::levelled::{LevelledGraph, LevelledKernel, LevelledOp};
use heron_passes::ir::packed::{Kernel, LinearOut, MatrixId, PlaintextId, Run};
use heron_passes::ir::weight::Weight;
use heron_passes::linear_siblings::{families, outs};
use heron_schedule::base::Base;
use heron_schedule::client::ClientGraph;
use heron_schedule::keys::{required_bootstraps, required_keys};
use heron_schedule::params::ParameterSet;
use heron_schedule::proto::{self, bootstrap::Kind, instruction::Op, Instruction, Program};
use heron_schedule::recount::writes;
use heron_schedule::weights::{Weights, WeightsBuilder};

use crate::numbers::base_of;

/// What the graph does not know.
#[derive(Clone, Debug)]
pub struct EmitOptions<'a> {
    /// Parameters the program is for.
    pub params: &'a ParameterSet,
    /// Shapes of the graph outputs for one input, without the batch axis; where missing, that of the value.
    pub output_shapes: &'a [Vec<usize>],
    /// What the report says beyond the instructions, as JSON.
    pub report_json: Vec<u8>,
    /// What the client computes for input ports.
    pub client: &'a ClientGraph,
    /// What the client computes of the only output.
    pub head: Option<&'a ClientHead>,
    /// Numbers that come first among the program's bases.
    pub bases: &'a [Base],
    /// Where given, numbers of model files stay there and are found from this folder.
    pub external: Option<&'a Path>,
}

/// Why a graph could not be written as a program.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EmitError {
    /// The parameters are not those that the graph was made for.
    #[error("the graph was made for {expected}, the parameters have {found}; compile again for this profile")]
    Parameters {
        /// Slots and levels of the graph.
        expected: String,
        /// Slots and levels of the parameters.
        found: String,
    },
    /// A number does not fit the format.
    #[error("value `%{value}`: {what} {number} does not fit the schedule's format; this model is too large for this version")]
    TooLarge {
        /// Name of the value.
        value: String,
        /// What it counts.
        what: &'static str,
        /// The number.
        number: i64,
    },
    /// The graph contradicts itself; its verifier should have said so.
    #[error("value `%{value}`: {what}; please report this with the graph (--dump-ir)")]
    Malformed {
        /// Name of the value.
        value: String,
        /// What is missing.
        what: String,
    },
}

/// A ciphertext before registers are given out: number in order of creation.
type Wire = u32;

struct Emitter<'a> {
    graph: &'a LevelledGraph,
    weights: WeightsBuilder,
    plaintexts: BTreeMap<(PlaintextId, bool), u32>,
    /// Bases by the place of their bytes.
    bases: BTreeMap<(usize, usize), u32>,
    matrices: BTreeMap<MatrixId, u32>,
    listed: Vec<proto::Matrix>,
    wires: BTreeMap<ValueId, Vec<Wire>>,
    /// Linear maps that are one instruction, by the first of them.
    families: BTreeMap<ValueId, Vec<ValueId>>,
    next: Wire,
    instructions: Vec<Instruction>,
}

/// For each value the instruction and the number of the result that make each of its ciphertexts.
pub type Places = BTreeMap<ValueId, Vec<(u32, u32)>>;

/// Writes a program and its weights section, and says where each value is made.
pub fn emit(
    graph: &LevelledGraph,
    options: &EmitOptions<'_>,
) -> Result<(Program, Weights, Places), EmitError> {
    let params = options.params;
    let top = u32::from(params.top_usable().0);
    if params.slots() != graph.geometry.slots || graph.costs.top > top {
        return Err(EmitError::Parameters {
            expected: format!(
                "{} slots and {} levels",
                graph.geometry.slots, graph.costs.top
            ),
            found: format!("{} slots and {top} levels", params.slots()),
        });
    }
    let mut emitter = Emitter {
        graph,
        weights: WeightsBuilder::new(),
        plaintexts: BTreeMap::new(),
        bases: BTreeMap::new(),
        matrices: BTreeMap::new(),
        listed: Vec::new(),
        wires: BTreeMap::new(),
        families: families(graph),
        next: 0,
        instructions: Vec::new(),
    };
    for base in options.bases {
        emitter.base(base.clone());
    }
    for v in graph.graph.topological() {
        if !emitter.wires.contains_key(&v) {
            emitter.value(v)?;
        }
    }
    emitter.outputs()?;
    let inputs = emitter.input_ports()?;
    let mut outputs = emitter.output_ports(options.output_shapes)?;
    if let (Some(head), Some(port)) = (options.head, outputs.first_mut()) {
        emitter.client_head(head, port);
    }
    emitter.instructions = order::order(emitter.instructions, emitter.next);
    let places = places(&emitter);
    let client = emitter.client(options.client, &inputs);
    let mut instructions = emitter.instructions;
    let registers = registers::assign(&mut instructions);
    let matrices = emitter.listed;
    let (plaintexts, weights) = emitter.weights.finish();
    let layers = graph.graph.layers.iter().map(|l| proto::Layer {
        name: l.name.clone(),
        kind: l.kind.name().into(),
        onnx_nodes: l.onnx_nodes.clone(),
    });
    let mut program = Program {
        name: graph.graph.name.clone(),
        parameters: Some(proto::Parameters {
            profile: params.profile().name().into(),
            log_n: params.log_n(),
            params_id: params.id().to_vec(),
        }),
        batch: graph.geometry.batch as u32,
        registers,
        layers: layers.collect(),
        inputs,
        outputs,
        instructions,
        keys: Vec::new(),
        bootstraps: Vec::new(),
        plaintexts,
        report_json: options.report_json.clone(),
        client,
        bases: weights.list_bases(options.external),
        matrices,
    };
    program.keys = required_keys(&program, params.slots());
    program.bootstraps = required_bootstraps(&program);
    Ok((program, weights, places))
}

/// Before registers are given out every wire is written once.
fn places(emitter: &Emitter<'_>) -> Places {
    let mut made: BTreeMap<Wire, (u32, u32)> = BTreeMap::new();
    for (i, instruction) in (0u32..).zip(&emitter.instructions) {
        for (n, (wire, _)) in (0u32..).zip(writes(instruction)) {
            made.insert(wire, (i, n));
        }
    }
    let values = emitter.wires.iter();
    values
        .map(|(v, wires)| {
            (
                *v,
                wires.iter().filter_map(|w| made.get(w).copied()).collect(),
            )
        })
        .collect()
}

impl Emitter<'_> {
    fn malformed(&self, v: ValueId, what: impl Into<String>) -> EmitError {
        EmitError::Malformed {
            value: self.graph.graph.node(v).name.clone(),
            what: what.into(),
        }
    }

    fn step(&self, v: ValueId, virtual_step: i64) -> Result<i32, EmitError> {
        let slots = virtual_step.saturating_mul(self.graph.geometry.batch as i64);
        i32::try_from(slots).map_err(|_| EmitError::TooLarge {
            value: self.graph.graph.node(v).name.clone(),
            what: "a rotation by",
            number: slots,
        })
    }

    /// Factors are stored in f32, as models store their weights: each is off by at most 2^-25 of itself, an eighth of what one
    /// bootstrap adds. What is added (`single` false) stays in f64.
    fn plaintext(&mut self, id: PlaintextId, single: bool) -> u32 {
        if let Some(known) = self.plaintexts.get(&(id, single)) {
            return *known;
        }
        let plaintexts = &self.graph.plaintexts;
        let number = match plaintexts.elements(id) {
            Some(elements) => {
                let runs = elements.runs.iter();
                let run = |r: &Run| [r.slot as i32, r.count as i32, r.element as i32, r.step];
                let length = elements.period;
                self.weights.push_runs(length, runs.flat_map(run).collect())
            }
            None => self.weights.push(&plaintexts.get(id, None), single),
        };
        self.plaintexts.insert((id, single), number);
        number
    }

    fn base(&mut self, base: Base) -> u32 {
        let place = (base.bytes().as_ptr() as usize, base.bytes().len());
        let weights = &mut self.weights;
        *self
            .bases
            .entry(place)
            .or_insert_with(|| weights.push_base(base))
    }

    /// A matrix by what it is made of; one of numbers becomes a base of its own, in f32.
    fn matrix(&mut self, v: ValueId, id: MatrixId) -> Result<u32, EmitError> {
        if let Some(known) = self.matrices.get(&id) {
            return Ok(*known);
        }
        let Some(weight) = self.graph.plaintexts.matrix(id) else {
            return Err(self.malformed(v, "its matrix does not exist"));
        };
        let (rows, cols) = weight.size();
        let mut made = proto::Matrix {
            rows: rows as u32,
            cols: cols as u32,
            base_cols: cols as u32,
            factor: 1.0,
            ..proto::Matrix::default()
        };
        match weight {
            Weight::Stored(s) => {
                made.base = self.base(base_of(&s.base));
                made.base_cols = s.base_cols as u32;
                made.factor = s.factor;
                made.pick = s.pick.as_ref().map_or(Vec::new(), |p| p.to_vec());
                let mut vector = |values: &Option<Arc<[f64]>>| {
                    let values = values.as_ref()?;
                    let plaintext = self.weights.push(values, false);
                    Some(proto::BiasRef { plaintext })
                };
                (made.row, made.col, made.mean) = (vector(&s.row), vector(&s.col), vector(&s.mean));
            }
            weight => {
                let dense = weight.dense();
                made.base = self.base(Base::of_singles(dense.data.into_iter()));
            }
        }
        let number = self.listed.len() as u32;
        self.listed.push(made);
        self.matrices.insert(id, number);
        Ok(number)
    }

    fn fresh(&mut self, count: usize) -> Vec<Wire> {
        let first = self.next;
        self.next += count as u32;
        (first..self.next).collect()
    }

    fn push(&mut self, v: ValueId, op: Op) {
        self.instructions.push(Instruction {
            layer: self.graph.graph.node(v).layer as u32,
            op: Some(op),
            free: Vec::new(),
        });
    }

    fn value(&mut self, v: ValueId) -> Result<(), EmitError> {
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

    fn linear(
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
    fn family(
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
            giant,
            bias,
            matrix,
        })
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

    fn outputs(&mut self) -> Result<(), EmitError> {
        for (port, (_, v)) in self.graph.graph.outputs.iter().enumerate() {
            let wires = self.wires.get(v).cloned();
            let wires = wires.ok_or_else(|| self.malformed(*v, "an output is not computed"))?;
            for (ciphertext, src) in wires.into_iter().enumerate() {
                self.push(
                    *v,
                    Op::Output(proto::Output {
                        port: port as u32,
                        ciphertext: ciphertext as u32,
                        src,
                    }),
                );
            }
        }
        Ok(())
    }
}
