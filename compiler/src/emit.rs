//! Levelled graph → program and weights.
//!
//! One instruction per ciphertext, except for linear maps, hoisted rotations and pairs of bootstraps; registers are given out by
//! liveness. The same graph gives the same bytes on any machine.

mod kernels;
mod linear;
mod order;
mod plaintexts;
mod ports;
mod registers;

use std::collections::BTreeMap;
use std::path::Path;

use heron_passes::client_head::ClientHead;
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::levelled::LevelledGraph;
use heron_passes::ir::packed::{MatrixId, PlaintextId};
use heron_passes::linear_siblings::families;
use heron_schedule::base::Base;
use heron_schedule::body::Bodies;
use heron_schedule::client::ClientGraph;
use heron_schedule::keys::{required_bootstraps, required_keys};
use heron_schedule::params::ParameterSet;
use heron_schedule::proto::{self, instruction::Op, Instruction, Program};
use heron_schedule::recount::writes;
use heron_schedule::weights::{Weights, WeightsBuilder};

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
    bodies: Bodies,
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
        bodies: Bodies::default(),
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
    emitter.instructions = order::order(emitter.instructions, &mut emitter.bodies, emitter.next);
    let places = places(&emitter);
    let client = emitter.client(options.client, &inputs);
    let mut instructions = emitter.instructions;
    let registers = registers::assign(&mut instructions);
    let bodies = emitter.bodies.finish(&mut instructions);
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
        bodies,
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
