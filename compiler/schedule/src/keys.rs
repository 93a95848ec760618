//! Which evaluation keys a program uses, and at which levels.

use crate::body::all_giants;
use crate::folding::conjugations;
use crate::proto::{instruction::Op, BootstrapUse, KeyUse, Program};
use std::collections::{BTreeMap, BTreeSet};

/// A left rotation by `step` slots as a number in 0..slots; `slots` is a power of two.
pub fn normal_step(step: i32, slots: usize) -> i32 {
    i64::from(step).rem_euclid(slots.max(1) as i64) as i32
}

/// What a program needs: levels at which each rotation (normalised step, never 0) and the relinearisation is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyNeeds {
    /// Levels of each rotation, by normalised step.
    pub rotations: BTreeMap<i32, BTreeSet<u32>>,
    /// Levels of products of ciphertexts.
    pub relinearisation: BTreeSet<u32>,
    /// Levels of conjugations.
    pub conjugation: BTreeSet<u32>,
}

impl KeyNeeds {
    /// Collects the needs of the instructions. `slots`: slots of a ciphertext.
    pub fn of_instructions(program: &Program, slots: usize) -> KeyNeeds {
        let mut needs = KeyNeeds::default();
        let rotations = &mut needs.rotations;
        let mut rotation = |step: i32, level: u32| {
            let step = normal_step(step, slots);
            if step != 0 {
                rotations.entry(step).or_default().insert(level);
            }
        };
        for instruction in &program.instructions {
            match &instruction.op {
                Some(Op::Linear(op)) => {
                    for giant in all_giants(&program.bodies, op) {
                        rotation(giant.step, op.level_in);
                        giant
                            .term
                            .iter()
                            .for_each(|t| rotation(t.baby, op.level_in));
                    }
                    if conjugations(op) > 0 {
                        let below = op.level_in.saturating_sub(1);
                        needs.conjugation.insert(below);
                    }
                }
                Some(Op::Rotate(op)) => op.out.iter().for_each(|out| rotation(out.step, op.level)),
                _ => {}
            }
        }
        for instruction in &program.instructions {
            if let Some(Op::MulSum(op)) = &instruction.op {
                needs.relinearisation.insert(op.level_in);
            }
        }
        needs
    }

    /// Reads a list of [`KeyUse`] back.
    pub fn of_list(list: &[KeyUse], slots: usize) -> KeyNeeds {
        let mut needs = KeyNeeds::default();
        for key in list {
            let levels = if key.relinearisation {
                &mut needs.relinearisation
            } else if key.conjugation {
                &mut needs.conjugation
            } else {
                needs
                    .rotations
                    .entry(normal_step(key.step, slots))
                    .or_default()
            };
            levels.extend(&key.level);
        }
        needs
    }

    /// The list for `Program.keys`: relinearisation, conjugation, then rotations by ascending step; absent where not needed.
    pub fn to_list(&self) -> Vec<KeyUse> {
        let mut list = Vec::new();
        let levels = |set: &BTreeSet<u32>| set.iter().copied().collect::<Vec<u32>>();
        if !self.relinearisation.is_empty() {
            list.push(KeyUse {
                level: levels(&self.relinearisation),
                relinearisation: true,
                ..KeyUse::default()
            });
        }
        if !self.conjugation.is_empty() {
            list.push(KeyUse {
                level: levels(&self.conjugation),
                conjugation: true,
                ..KeyUse::default()
            });
        }
        list.extend(self.rotations.iter().map(|(&step, set)| KeyUse {
            step,
            level: levels(set),
            ..KeyUse::default()
        }));
        list
    }
}

/// The list for `Program.keys`, from the instructions.
pub fn required_keys(program: &Program, slots: usize) -> Vec<KeyUse> {
    KeyNeeds::of_instructions(program, slots).to_list()
}

/// The list for `Program.bootstraps`, from the instructions: each kind and size once, ascending.
pub fn required_bootstraps(program: &Program) -> Vec<BootstrapUse> {
    let uses: BTreeSet<(i32, u32)> = program
        .instructions
        .iter()
        .filter_map(|instruction| match &instruction.op {
            Some(Op::Bootstrap(op)) => Some((op.kind, op.log_slots)),
            _ => None,
        })
        .collect();
    uses.into_iter()
        .map(|(kind, log_slots)| BootstrapUse { kind, log_slots })
        .collect()
}
