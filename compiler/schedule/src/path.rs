//! The critical path of a program and the flow of ciphertexts between its layers, from the instructions alone.

use crate::proto::{instruction::Op, Program};
use crate::recount::{reads, writes};
use std::collections::BTreeMap;

/// What an instruction of the path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Step {
    Input,
    Linear,
    Combine,
    Product,
    Rotate,
    Bootstrap,
}

impl Step {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Step::Input => "input",
            Step::Linear => "linear",
            Step::Combine => "combine",
            Step::Product => "ciphertext_product",
            Step::Rotate => "rotation",
            Step::Bootstrap => "bootstrap",
        }
    }
}

/// One instruction of the critical path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStep {
    /// Its position in the program.
    pub instruction: usize,
    /// Index of its layer.
    pub layer: u32,
    /// What it does.
    pub step: Step,
    /// Level of the value it takes from the step before (its own for an input).
    pub level_in: u32,
    /// Level of its result.
    pub level_out: u32,
    /// Level-consuming operations up to and including it, bootstraps and mere alignments ignored.
    pub depth: u32,
}

/// The longest path, and how it was reached.
#[derive(Clone, Copy)]
struct Node {
    step: PathStep,
    bootstraps: u32,
    before: Option<usize>,
}

fn step_of(op: &Op) -> Option<Step> {
    Some(match op {
        Op::Input(_) => Step::Input,
        Op::Linear(_) => Step::Linear,
        Op::Combine(_) => Step::Combine,
        Op::MulSum(_) => Step::Product,
        Op::Rotate(_) => Step::Rotate,
        Op::Bootstrap(_) => Step::Bootstrap,
        Op::Output(_) => return None,
    })
}

/// The longest path of level-consuming operations from an input to any value, in order; of equally long ones one with most bootstraps,
/// then the first in the program. Its last step's depth is the program's multiplicative depth. Never fails: reads of registers that
/// hold nothing count as nothing, as in [`crate::recount`].
pub fn critical_path(program: &Program) -> Vec<PathStep> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut registers: BTreeMap<u32, (usize, u32)> = BTreeMap::new();
    let mut deepest: Option<usize> = None;
    for (instruction, i) in program.instructions.iter().enumerate() {
        let Some(step) = i.op.as_ref().and_then(step_of) else {
            continue;
        };
        let mut best: Option<(u32, u32, usize, u32)> = None;
        for (register, cost) in reads(i) {
            let Some(&(node, level)) = registers.get(&register) else {
                continue;
            };
            let Some(from) = nodes.get(node) else {
                continue;
            };
            let found = (from.step.depth + cost, from.bootstraps, node, level);
            if best.is_none_or(|b| (found.0, found.1) > (b.0, b.1)) {
                best = Some(found);
            }
        }
        let written = writes(i);
        let level_out = written.first().map_or(0, |w| w.1);
        let (depth, bootstraps, before, level_in) = match best {
            Some((depth, bootstraps, node, level)) => (depth, bootstraps, Some(node), level),
            None => (0, 0, None, level_out),
        };
        let number = nodes.len();
        nodes.push(Node {
            step: PathStep {
                instruction,
                layer: i.layer,
                step,
                level_in,
                level_out,
                depth,
            },
            bootstraps: bootstraps + u32::from(step == Step::Bootstrap),
            before,
        });
        for (register, level) in written {
            registers.insert(register, (number, level));
        }
        let rank = |n: usize| nodes.get(n).map(|x| (x.step.depth, x.bootstraps));
        if deepest.is_none_or(|d| rank(number) > rank(d)) {
            deepest = Some(number);
        }
        for register in &i.free {
            registers.remove(register);
        }
    }
    let mut path = Vec::new();
    let mut at = deepest;
    while let Some(node) = at.and_then(|a| nodes.get(a)) {
        path.push(node.step);
        at = node.before;
    }
    path.reverse();
    path
}

/// Where a ciphertext comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// An input port, by number.
    Input(u32),
    /// A layer, by index.
    Layer(u32),
    /// An output port, by number.
    Output(u32),
}

/// One edge of the layer graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Different ciphertexts that pass.
    pub ciphertexts: u32,
    /// Highest level of any of them.
    pub level: u32,
}

/// What passes between ports and layers, by (from, to). Edges within a layer are left out; an input instruction belongs to the
/// port, so that its layer receives from it.
pub fn layer_flow(program: &Program) -> BTreeMap<(End, End), Flow> {
    let mut flow: BTreeMap<(End, End), Flow> = BTreeMap::new();
    // Register → (number of the ciphertext in order of creation, level, maker).
    let mut registers: BTreeMap<u32, (u32, u32, End)> = BTreeMap::new();
    let mut passed: std::collections::BTreeSet<(u32, End)> = Default::default();
    let mut made = 0u32;
    let mut pass = |wire: u32, level: u32, from: End, to: End| {
        if from != to && passed.insert((wire, to)) {
            let entry = flow.entry((from, to)).or_insert(Flow {
                ciphertexts: 0,
                level: 0,
            });
            entry.ciphertexts += 1;
            entry.level = entry.level.max(level);
        }
    };
    for i in &program.instructions {
        let here = match &i.op {
            Some(Op::Output(op)) => End::Output(op.port),
            _ => End::Layer(i.layer),
        };
        for (register, _) in reads(i) {
            if let Some(&(wire, level, from)) = registers.get(&register) {
                pass(wire, level, from, here);
            }
        }
        for (register, level) in writes(i) {
            if let Some(Op::Input(op)) = &i.op {
                pass(made, level, End::Input(op.port), here);
            }
            registers.insert(register, (made, level, here));
            made += 1;
        }
        for register in &i.free {
            registers.remove(register);
        }
    }
    flow
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{ParameterSet, Profile};
    use crate::recount::recount;
    use crate::sample::sample_program;

    #[test]
    fn the_path_is_connected_and_as_deep_as_the_recount_says() {
        let (program, _) = sample_program(Profile::Toy).expect("sample");
        let params = ParameterSet::new(Profile::Toy).expect("parameters");
        let path = critical_path(&program);
        let depth = recount(&program, params.slots()).multiplicative_depth;
        assert_eq!(path.last().map(|s| s.depth), Some(depth));
        assert_eq!(path.first().map(|s| s.step), Some(Step::Input));
        for pair in path.windows(2) {
            assert!(pair[1].depth >= pair[0].depth);
            assert!(pair[1].depth <= pair[0].depth + 1);
            assert_eq!(pair[1].level_in, pair[0].level_out);
            let rises = pair[1].level_out > pair[1].level_in;
            assert_eq!(rises, pair[1].step == Step::Bootstrap, "{:?}", pair[1]);
        }
    }

    #[test]
    fn flow_joins_inputs_to_outputs_through_layers() {
        let (program, _) = sample_program(Profile::Toy).expect("sample");
        let flow = layer_flow(&program);
        assert!(flow.keys().any(|(from, _)| *from == End::Input(0)));
        assert!(flow.keys().any(|(_, to)| *to == End::Output(0)));
        assert!(flow
            .iter()
            .all(|((from, to), f)| from != to && f.ciphertexts > 0));
    }

    #[test]
    fn a_program_without_instructions_has_no_path() {
        assert!(critical_path(&Program::default()).is_empty());
        assert!(layer_flow(&Program::default()).is_empty());
    }
}
