//! The instructions, in order: what each reads is there and at its level, the keys for it are listed.

use super::MAX_FACTOR;
use crate::body::giants;
use crate::folding::conjugations;
use crate::keys::{normal_step, KeyNeeds};
use crate::matrix::{reach, Matrix};
use crate::params::ParameterSet;
use crate::proto::{
    bootstrap::Kind, instruction::Op, linear::Folding, BiasRef, Instruction, Program,
};
use crate::recount::{is_free_coefficient, reads, writes};
use crate::weights::{Weights, WeightsError};
use std::collections::BTreeSet;

/// What a plaintext vector is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Numbers.
    Numbers,
    /// Elements of a matrix of at least so many.
    Elements(usize),
}

pub(super) struct Walker<'a> {
    pub(super) program: &'a Program,
    pub(super) params: &'a ParameterSet,
    pub(super) virtual_slots: usize,
    pub(super) listed: KeyNeeds,
    pub(super) levels: Vec<Option<u32>>,
    /// What is known of each plaintext that was looked at.
    pub(super) checked: Vec<Option<Taken>>,
    pub(super) matrices: Vec<Matrix>,
    pub(super) stored: BTreeSet<(u32, u32)>,
    pub(super) weights: &'a Weights,
    /// Bodies that the results met so far have.
    pub(super) used: BTreeSet<u32>,
}

impl Walker<'_> {
    pub(super) fn instruction(&mut self, instruction: &Instruction) -> Result<(), String> {
        let Some(op) = &instruction.op else {
            return Err("has no operation this version knows".into());
        };
        let layers = self.program.layers.len().max(1);
        if instruction.layer as usize >= layers {
            return Err(format!(
                "layer {} of {}",
                instruction.layer,
                self.program.layers.len()
            ));
        }
        for (register, _) in reads(instruction) {
            self.level(register)?;
        }
        match op {
            Op::Input(op) => {
                let port = self.program.inputs.get(op.port as usize);
                let port = port.ok_or(format!("no input port {}", op.port))?;
                if op.ciphertext as usize >= port.ciphertexts.len() || op.level != port.level {
                    return Err(format!(
                        "ciphertext {} at level {} of an input with {} at level {}",
                        op.ciphertext,
                        op.level,
                        port.ciphertexts.len(),
                        port.level
                    ));
                }
            }
            Op::Output(op) => {
                let port = self.program.outputs.get(op.port as usize);
                let port = port.ok_or(format!("no output port {}", op.port))?;
                self.expect_level(op.src, port.level)?;
                if op.ciphertext as usize >= port.ciphertexts.len()
                    || !self.stored.insert((op.port, op.ciphertext))
                {
                    return Err(format!(
                        "ciphertext {} of output {} does not exist or is written twice",
                        op.ciphertext, op.port
                    ));
                }
            }
            Op::Linear(op) => {
                self.goes_down(op.level_in)?;
                Folding::try_from(op.folding).map_err(|_| format!("folding {}", op.folding))?;
                let below = op.level_in - 1;
                if conjugations(op) > 0 && !self.listed.conjugation.contains(&below) {
                    return Err(format!(
                        "conjugation at level {below} is not among the keys"
                    ));
                }
                for &src in &op.src {
                    self.expect_level(src, op.level_in)?;
                }
                for out in &op.out {
                    let elements = match out.matrix.checked_sub(1) {
                        None => None,
                        Some(m) => {
                            let matrix = self.matrices.get(m as usize);
                            Some(matrix.ok_or(format!("no matrix {m}"))?.elements())
                        }
                    };
                    let bodies = &self.program.bodies;
                    if out.body as usize >= bodies.len() {
                        return Err(format!("no body {} of {}", out.body, bodies.len()));
                    }
                    self.used.insert(out.body);
                    let giants = giants(bodies, out);
                    if giants.iter().all(|g| g.term.is_empty()) {
                        return Err(format!("no term for register {}", out.dst));
                    }
                    for giant in giants {
                        self.rotation(giant.step, op.level_in)?;
                        for term in &giant.term {
                            if term.src as usize >= op.src.len() {
                                return Err(format!("term reads source {}", term.src));
                            }
                            self.rotation(term.baby, op.level_in)?;
                            self.plaintext(term.plaintext, elements)?;
                        }
                    }
                    self.bias(&out.bias)?;
                }
            }
            Op::Combine(op) => {
                for term in &op.term {
                    self.expect_level(term.src, term.level)?;
                    let c = term.coefficient;
                    if term.level < op.level_out {
                        return Err(format!(
                            "r{} at level {} below the result's {}",
                            term.src, term.level, op.level_out
                        ));
                    }
                    let free = term.level == op.level_out;
                    if !c.is_finite() || c.abs() > MAX_FACTOR || (free && !is_free_coefficient(c)) {
                        return Err(format!("coefficient {c} of r{}: at the result's own level an integer up to 256 is expected", term.src));
                    }
                }
                if op.term.is_empty() || !op.constant.is_finite() || op.constant.abs() > MAX_FACTOR
                {
                    return Err("needs a term and a finite constant".into());
                }
                self.bias(&op.bias)?;
            }
            Op::MulSum(op) => {
                self.goes_down(op.level_in)?;
                for pair in &op.pair {
                    self.expect_level(pair.a, op.level_in)?;
                    self.expect_level(pair.b, op.level_in)?;
                }
                let bounded = op.constant.is_finite() && op.constant.abs() <= MAX_FACTOR;
                if op.pair.is_empty() || !bounded || op.factor == 0 || op.factor.abs() > 256 {
                    return Err("needs a pair, a factor of 1 to 256 and a finite constant".into());
                }
                if !self.listed.relinearisation.contains(&op.level_in) {
                    return Err(format!(
                        "relinearisation at level {} is not among the keys",
                        op.level_in
                    ));
                }
            }
            Op::Rotate(op) => {
                self.expect_level(op.src, op.level)?;
                op.out
                    .iter()
                    .try_for_each(|o| self.rotation(o.step, op.level))?;
            }
            Op::Bootstrap(op) => {
                if !self.params.can_bootstrap() {
                    return Err("the parameter set has no rows for bootstrapping".into());
                }
                let kind = Kind::try_from(op.kind).map_err(|_| format!("kind {}", op.kind))?;
                let count = if kind == Kind::ComplexPair { 2 } else { 1 };
                if op.src.len() != count || op.dst.len() != count {
                    return Err(format!(
                        "{count} sources and results expected, found {} and {}",
                        op.src.len(),
                        op.dst.len()
                    ));
                }
                for &src in &op.src {
                    self.expect_level(src, op.level_in)?;
                }
                let least = u32::from(self.params.bootstrap_level().0);
                if op.level_in < least {
                    return Err(format!(
                        "bootstraps from level {}; the lowest to bootstrap from is {least}",
                        op.level_in
                    ));
                }
                if kind == Kind::Sparse && !(1..self.params.log_n() - 1).contains(&op.log_slots) {
                    return Err(format!("2^{} sparse slots", op.log_slots));
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (register, level) in writes(instruction) {
            let top = u32::from(self.params.top_usable().0);
            if level > top {
                return Err(format!(
                    "a result at level {level}; the top usable level is {top}"
                ));
            }
            let total = self.levels.len();
            let slot = self.levels.get_mut(register as usize);
            *slot.ok_or(format!("writes r{register} of {total}"))? = Some(level);
            if !seen.insert(register) {
                return Err(format!("writes r{register} twice"));
            }
        }
        for &register in &instruction.free {
            self.level(register)?;
            if let Some(slot) = self.levels.get_mut(register as usize) {
                *slot = None;
            }
        }
        Ok(())
    }

    fn level(&self, register: u32) -> Result<u32, String> {
        self.levels
            .get(register as usize)
            .copied()
            .flatten()
            .ok_or(format!("reads r{register}, which holds nothing here"))
    }

    fn expect_level(&self, register: u32, expected: u32) -> Result<(), String> {
        match self.level(register)? {
            found if found == expected => Ok(()),
            found => Err(format!(
                "r{register} is at level {found}, expected level {expected}"
            )),
        }
    }

    fn goes_down(&self, level: u32) -> Result<(), String> {
        if level == 0 {
            return Err("works at level 0, where no level is left".into());
        }
        Ok(())
    }

    fn rotation(&self, step: i32, level: u32) -> Result<(), String> {
        let slots = self.params.slots();
        let normal = normal_step(step, slots);
        if step.unsigned_abs() as usize >= slots {
            return Err(format!("rotation by {step} of {slots} slots"));
        }
        let levels = self.listed.rotations.get(&normal);
        if normal != 0 && !levels.is_some_and(|l| l.contains(&level)) {
            return Err(format!(
                "rotation by {step} at level {level} is not among the keys"
            ));
        }
        Ok(())
    }

    fn bias(&mut self, bias: &Option<BiasRef>) -> Result<(), String> {
        match bias {
            Some(bias) => self.plaintext(bias.plaintext, None),
            None => Ok(()),
        }
    }

    /// A vector for slots: inside the section, finite, a power of two of at most the virtual slots.
    /// With a matrix of `elements`, one that takes elements of it.
    fn plaintext(&mut self, index: u32, elements: Option<usize>) -> Result<(), String> {
        let taken = match self.checked.get(index as usize).copied().flatten() {
            Some(known) => known,
            None => self.look_at(index)?,
        };
        match (taken, elements) {
            (Taken::Numbers, None) => Ok(()),
            (Taken::Elements(reach), Some(elements)) if reach <= elements => Ok(()),
            (Taken::Elements(reach), Some(elements)) => Err(format!(
                "plaintext {index} takes element {} of a matrix of {elements}",
                reach - 1
            )),
            _ => Err(WeightsError::Kind { index }.to_string()),
        }
    }

    fn look_at(&mut self, index: u32) -> Result<Taken, String> {
        let list = &self.program.plaintexts;
        let entry = list.get(index as usize).filter(|p| !p.run.is_empty());
        let (length, taken) = match entry {
            Some(entry) => {
                let reach = reach(index, entry).map_err(|e| e.to_string())?;
                (entry.length as usize, Taken::Elements(reach))
            }
            None => {
                let values = self.weights.vector(list, index);
                let values = values.map_err(|e| e.to_string())?;
                (values.len(), Taken::Numbers)
            }
        };
        if !length.is_power_of_two() || length > self.virtual_slots {
            return Err(format!(
                "plaintext {index} has {length} values; a power of two of at most {} expected",
                self.virtual_slots
            ));
        }
        if let Some(checked) = self.checked.get_mut(index as usize) {
            *checked = Some(taken);
        }
        Ok(taken)
    }
}
