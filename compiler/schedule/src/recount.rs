//! Counts of operations, depth and levels, from the instructions alone: what the report claims must equal this.

use crate::folding::{baby_rotations, conjugations, folding, sums};
use crate::keys::normal_step;
use crate::proto::{
    bootstrap::Kind, instruction::Op, linear::Folding, Body, Instruction, Linear, Program,
};

/// Operations of one run. Key switches are `rotate + conjugate + relinearize`, bootstrapping's own excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationCounts {
    /// Products of two ciphertexts, before any relinearisation.
    pub ct_ct_multiply: u64,
    /// Products of a ciphertext with a plaintext vector, or with the constant of an adjustment.
    pub ct_pt_multiply: u64,
    /// Rotations by a non-zero step; a rotation shared by several sums counts once.
    pub rotate: u64,
    /// Conjugations outside bootstrapping.
    pub conjugate: u64,
    /// Relinearisations: one per sum of products.
    pub relinearize: u64,
    /// Rescalings, adjustments included.
    pub rescale: u64,
    /// Additions of ciphertexts, plaintexts or constants.
    pub add: u64,
    /// Bootstraps.
    pub bootstrap: u64,
}

impl OperationCounts {
    /// Rotations, conjugations and relinearisations.
    pub fn key_switches(&self) -> u64 {
        self.rotate + self.conjugate + self.relinearize
    }

    /// Adds the operations of `other`.
    pub fn merge(&mut self, other: OperationCounts) {
        self.ct_ct_multiply += other.ct_ct_multiply;
        self.ct_pt_multiply += other.ct_pt_multiply;
        self.rotate += other.rotate;
        self.conjugate += other.conjugate;
        self.relinearize += other.relinearize;
        self.rescale += other.rescale;
        self.add += other.add;
        self.bootstrap += other.bootstrap;
    }
}

/// What [`recount`] finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recount {
    /// Operations of the whole program.
    pub operations: OperationCounts,
    /// Longest path of level-consuming operations, bootstraps and mere alignments ignored.
    pub multiplicative_depth: u32,
    /// Bootstraps of each kind: full, complex pair, sparse.
    pub bootstraps_by_kind: [u64; 3],
    /// The same for each layer, in the order of `Program.layers`.
    pub layers: Vec<LayerCount>,
    /// Most registers alive at once.
    pub peak_registers: usize,
}

/// What one layer does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerCount {
    /// Its operations.
    pub operations: OperationCounts,
    /// Its bootstraps of each kind: full, complex pair, sparse.
    pub bootstraps_by_kind: [u64; 3],
    /// Longest path of level-consuming operations from the inputs to any of its results.
    pub depth_out: u32,
    /// Largest depth of anything it reads from other layers (0 for the inputs of the program).
    pub depth_in: u32,
    /// Highest level of what it reads.
    pub level_in: Option<u32>,
    /// Lowest level of what it writes last.
    pub level_out: Option<u32>,
    /// Ciphertexts it writes.
    pub ciphertexts: u64,
}

impl LayerCount {
    /// Levels the layer consumes on its longest path.
    pub fn depth(&self) -> u32 {
        self.depth_out.saturating_sub(self.depth_in)
    }
}

/// Whether a coefficient of a combination is applied exactly, without a level.
pub fn is_free_coefficient(c: f64) -> bool {
    c.fract() == 0.0 && c.abs() <= 256.0
}

/// Operations of a linear step. Folding a pair of sources takes one addition, and so does each result of a conjugation.
fn count_linear(bodies: &[Body], op: &Linear, slots: usize) -> OperationCounts {
    let conjugate = conjugations(op) as u64;
    let mut c = OperationCounts {
        rotate: baby_rotations(bodies, op, slots).len() as u64,
        conjugate,
        ..OperationCounts::default()
    };
    for sum in sums(bodies, op, slots) {
        let products: u64 = sum.iter().map(|(_, p)| p.len() as u64).sum();
        c.rotate += sum.iter().filter(|(step, _)| *step != 0).count() as u64;
        c.ct_pt_multiply += products;
        c.add += products.saturating_sub(1);
        c.rescale += 1;
    }
    c.add += op.out.iter().filter(|o| o.bias.is_some()).count() as u64;
    c.add += match folding(op) {
        Folding::None => 0,
        Folding::Sources => conjugate + op.src.len() as u64 / 2,
        Folding::Results => 2 * conjugate,
    };
    c
}

/// Operations of one instruction of a program with these bodies. `slots`: slots of a ciphertext.
pub fn count_instruction(
    bodies: &[Body],
    instruction: &Instruction,
    slots: usize,
) -> OperationCounts {
    let mut c = OperationCounts::default();
    match &instruction.op {
        Some(Op::Linear(op)) => {
            c.merge(count_linear(bodies, op, slots));
        }
        Some(Op::Combine(op)) => {
            let adjusted = op.term.iter().filter(|t| t.level > op.level_out).count() as u64;
            c.ct_pt_multiply += adjusted;
            c.rescale += adjusted;
            c.add += (op.term.len() as u64).saturating_sub(1)
                + u64::from(op.constant != 0.0)
                + u64::from(op.bias.is_some());
        }
        Some(Op::MulSum(op)) => {
            c.ct_ct_multiply += op.pair.len() as u64;
            c.relinearize += 1;
            c.rescale += 1;
            c.add += (op.pair.len() as u64).saturating_sub(1) + u64::from(op.constant != 0.0);
        }
        Some(Op::Rotate(op)) => {
            let turned = op.out.iter().filter(|o| normal_step(o.step, slots) != 0);
            c.rotate += turned.count() as u64;
        }
        Some(Op::Bootstrap(_)) => c.bootstrap += 1,
        Some(Op::Input(_)) | Some(Op::Output(_)) | None => {}
    }
    c
}

/// Registers an instruction reads, with the levels it consumes of each.
pub fn reads(instruction: &Instruction) -> Vec<(u32, u32)> {
    match &instruction.op {
        Some(Op::Output(op)) => vec![(op.src, 0)],
        Some(Op::Linear(op)) => op.src.iter().map(|&r| (r, 1)).collect(),
        Some(Op::Combine(op)) => op
            .term
            .iter()
            .map(|t| (t.src, u32::from(!is_free_coefficient(t.coefficient))))
            .collect(),
        Some(Op::MulSum(op)) => op.pair.iter().flat_map(|p| [(p.a, 1), (p.b, 1)]).collect(),
        Some(Op::Rotate(op)) => vec![(op.src, 0)],
        Some(Op::Bootstrap(op)) => op.src.iter().map(|&r| (r, 0)).collect(),
        Some(Op::Input(_)) | None => vec![],
    }
}

/// Registers an instruction writes, with the level of each.
pub fn writes(instruction: &Instruction) -> Vec<(u32, u32)> {
    match &instruction.op {
        Some(Op::Input(op)) => vec![(op.dst, op.level)],
        Some(Op::Linear(op)) => {
            let level = op.level_in.saturating_sub(1);
            op.out.iter().map(|o| (o.dst, level)).collect()
        }
        Some(Op::Combine(op)) => vec![(op.dst, op.level_out)],
        Some(Op::MulSum(op)) => vec![(op.dst, op.level_in.saturating_sub(1))],
        Some(Op::Rotate(op)) => op.out.iter().map(|o| (o.dst, op.level)).collect(),
        Some(Op::Bootstrap(op)) => op.dst.iter().map(|&r| (r, op.level_out)).collect(),
        Some(Op::Output(_)) | None => vec![],
    }
}

/// What a register holds while counting.
#[derive(Clone, Copy)]
struct Held {
    depth: u32,
    level: u32,
    layer: usize,
}

/// Counts a program. Never fails: what [`crate::verify`] would refuse counts as nothing.
pub fn recount(program: &Program, slots: usize) -> Recount {
    let mut found = Recount {
        layers: vec![LayerCount::default(); program.layers.len()],
        ..Recount::default()
    };
    let mut registers: std::collections::BTreeMap<u32, Held> = Default::default();
    for instruction in &program.instructions {
        let layer = instruction.layer as usize;
        let counts = count_instruction(&program.bodies, instruction, slots);
        found.operations.merge(counts);
        if let Some(Op::Bootstrap(op)) = &instruction.op {
            let index = match op.kind() {
                Kind::Full => 0,
                Kind::ComplexPair => 1,
                Kind::Sparse => 2,
            };
            found.bootstraps_by_kind[index] += 1;
            if let Some(entry) = found.layers.get_mut(layer) {
                entry.bootstraps_by_kind[index] += 1;
            }
        }
        let sources: Vec<(Held, u32)> = reads(instruction)
            .into_iter()
            .filter_map(|(r, cost)| Some((*registers.get(&r)?, cost)))
            .collect();
        let depth = sources
            .iter()
            .map(|(held, cost)| held.depth + cost)
            .max()
            .unwrap_or(0);
        let written = writes(instruction);
        found.multiplicative_depth = found.multiplicative_depth.max(depth);
        if let Some(entry) = found.layers.get_mut(layer) {
            entry.operations.merge(counts);
            entry.depth_out = entry.depth_out.max(depth);
            for (held, _) in sources.iter().filter(|(held, _)| held.layer != layer) {
                entry.depth_in = entry.depth_in.max(held.depth);
                entry.level_in = entry.level_in.max(Some(held.level));
            }
            entry.ciphertexts += written.len() as u64;
            entry.level_out = written.iter().map(|w| w.1).min().or(entry.level_out);
        }
        for (register, level) in written {
            let held = Held {
                depth,
                level,
                layer,
            };
            registers.insert(register, held);
        }
        found.peak_registers = found.peak_registers.max(registers.len());
        for register in &instruction.free {
            registers.remove(register);
        }
    }
    found
}
