//! What must hold of a program before anything runs it: everything a file could get wrong.

use crate::folding::conjugations;
use crate::keys::{normal_step, required_bootstraps, KeyNeeds};
use crate::matrix::{reach, Matrix};
use crate::params::{ParameterError, ParameterSet};
use crate::proto::{
    bootstrap::Kind, instruction::Op, linear::Folding, BiasRef, Instruction, Port, Program,
};
use crate::recount::{is_free_coefficient, reads, writes};
use crate::weights::{Weights, WeightsError};
use std::collections::BTreeSet;
use thiserror::Error;

/// More registers than any program needs; bounds what a file can make a reader allocate.
pub const MAX_REGISTERS: u32 = 1 << 20;
/// Bounds the elements of one input or output.
const MAX_ELEMENTS: u64 = 1 << 24;
/// Bounds every factor, coefficient and constant.
const MAX_FACTOR: f64 = 1e12;

/// Why a program was refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum VerifyError {
    /// The parameters are not those of this version.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// A statement about the whole program.
    #[error("program: {0}")]
    Program(String),
    /// An input or output.
    #[error("port `{port}`: {reason}")]
    Port {
        /// Its name.
        port: String,
        /// What was expected and found.
        reason: String,
    },
    /// An instruction.
    #[error("instruction {index} (layer `{layer}`): {reason}")]
    Instruction {
        /// Its position from 0.
        index: usize,
        /// The layer it belongs to.
        layer: String,
        /// What was expected and found.
        reason: String,
    },
    /// A plaintext vector.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// Checks a program and its weights; returns the parameter set it names.
pub fn verify(program: &Program, weights: &Weights) -> Result<ParameterSet, VerifyError> {
    let params = verify_head(program, weights)?;
    let slots = params.slots();
    let mut walker = Walker {
        program,
        params: &params,
        virtual_slots: slots / program.batch.max(1) as usize,
        listed: KeyNeeds::of_list(&program.keys, slots),
        levels: vec![None; program.registers as usize],
        checked: vec![None; program.plaintexts.len()],
        matrices: Matrix::read_all(program, weights)?,
        stored: BTreeSet::new(),
        weights,
    };
    for (index, instruction) in program.instructions.iter().enumerate() {
        walker.instruction(instruction).map_err(|reason| {
            let layer = program.layers.get(instruction.layer as usize);
            VerifyError::Instruction {
                index,
                layer: layer.map_or(String::new(), |l| l.name.clone()),
                reason,
            }
        })?;
    }
    for (number, port) in program.outputs.iter().enumerate() {
        for ciphertext in 0..port.ciphertexts.len() {
            if !walker.stored.contains(&(number as u32, ciphertext as u32)) {
                return Err(port_error(
                    port,
                    format!("ciphertext {ciphertext} is never written"),
                ));
            }
        }
    }
    let needed = KeyNeeds::of_instructions(program, slots);
    if needed != walker.listed {
        return Err(VerifyError::Program(key_difference(
            &needed,
            &walker.listed,
        )));
    }
    if required_bootstraps(program) != program.bootstraps {
        return Err(VerifyError::Program(format!(
            "the list of bootstraps has {} entries and differs from what the instructions use",
            program.bootstraps.len()
        )));
    }
    Ok(params)
}

fn key_difference(needed: &KeyNeeds, listed: &KeyNeeds) -> String {
    if needed.relinearisation != listed.relinearisation {
        return format!(
            "relinearisation is used at levels {:?}, listed at {:?}",
            needed.relinearisation, listed.relinearisation
        );
    }
    let steps: BTreeSet<i32> = needed
        .rotations
        .keys()
        .chain(listed.rotations.keys())
        .copied()
        .collect();
    for step in steps {
        let (a, b) = (needed.rotations.get(&step), listed.rotations.get(&step));
        if a != b {
            let show = |x: Option<&BTreeSet<u32>>| x.map_or("none".into(), |s| format!("{s:?}"));
            let (a, b) = (show(a), show(b));
            return format!("rotation by {step} is used at levels {a}, listed at {b}");
        }
    }
    format!(
        "conjugation is used at levels {:?}, listed at {:?}",
        needed.conjugation, listed.conjugation
    )
}

fn port_error(port: &Port, reason: String) -> VerifyError {
    VerifyError::Port {
        port: port.name.clone(),
        reason,
    }
}

/// Checks all but the instructions: what a client file has too.
pub fn verify_head(program: &Program, weights: &Weights) -> Result<ParameterSet, VerifyError> {
    let refuse = |reason: String| Err(VerifyError::Program(reason));
    let Some(named) = &program.parameters else {
        return refuse("names no parameter set".into());
    };
    let params = ParameterSet::from_id(&named.profile, named.log_n, &named.params_id)?;
    let slots = params.slots();
    let batch = program.batch as usize;
    if !batch.is_power_of_two() || batch > slots {
        return refuse(format!(
            "batch {batch} is no power of two of at most {slots}"
        ));
    }
    if program.registers > MAX_REGISTERS {
        return refuse(format!(
            "{} registers; at most {MAX_REGISTERS}",
            program.registers
        ));
    }
    let mut names = BTreeSet::new();
    for port in &program.inputs {
        if !names.insert(&port.name) {
            return Err(port_error(port, "two inputs of this name".into()));
        }
        verify_port(port, &params, batch)?;
        if port.head.is_some() {
            return Err(port_error(port, "an input has no head".into()));
        }
        if let Some(embedding) = &port.embedding {
            let width = u64::from(embedding.vocabulary) * u64::from(embedding.cols);
            let table = weights.vector(&program.plaintexts, embedding.plaintext)?;
            if table.len() as u64 != width {
                let found = table.len();
                return Err(port_error(
                    port,
                    format!("an embedding table of {width} values expected, found {found}"),
                ));
            }
        }
    }
    crate::client::ClientGraph::read(program, weights).map_err(VerifyError::Program)?;
    verify_bases(program, weights)?;
    names.clear();
    for port in &program.outputs {
        if !names.insert(&port.name) {
            return Err(port_error(port, "two outputs of this name".into()));
        }
        verify_port(port, &params, batch)?;
        if port.embedding.is_some() {
            return Err(port_error(port, "an output has no embedding".into()));
        }
        crate::client::Head::read(port, program, weights).map_err(|r| port_error(port, r))?;
        if let Some(head) = &port.head {
            // Every number is finite.
            weights.vector(&program.plaintexts, head.weight)?;
        }
        let placed: BTreeSet<i32> = port
            .ciphertexts
            .iter()
            .flat_map(|c| &c.element)
            .copied()
            .filter(|e| *e >= 0)
            .collect();
        let elements = port_elements(port);
        if placed.len() as u64 != elements {
            let found = placed.len();
            return Err(port_error(
                port,
                format!("{elements} elements, of which {found} have a slot"),
            ));
        }
    }
    Ok(params)
}

/// The bases are those listed, and all their numbers finite.
fn verify_bases(program: &Program, weights: &Weights) -> Result<(), VerifyError> {
    let refuse = |reason: String| Err(VerifyError::Program(reason));
    let bases = weights.bases();
    if bases.len() != program.bases.len() {
        let (listed, found) = (program.bases.len(), bases.len());
        return refuse(format!("{listed} bases are listed, {found} are there"));
    }
    for (number, (listed, base)) in program.bases.iter().zip(bases).enumerate() {
        if (listed.kind, listed.values) != (base.kind() as u32, base.len() as u64) {
            return refuse(format!(
                "base {number} is listed as {} floats of kind {}",
                listed.values, listed.kind
            ));
        }
        if let Some(bad) = base.not_finite() {
            return refuse(format!("base {number} holds {bad}"));
        }
    }
    Ok(())
}

/// Elements one input or output has in slots: for an embedding, tokens times columns.
pub fn port_elements(port: &Port) -> u64 {
    let cols = port.embedding.as_ref().map_or(1, |e| e.cols);
    port.shape
        .iter()
        .fold(1u64, |n, &d| n.saturating_mul(u64::from(d)))
        .saturating_mul(u64::from(cols))
}

fn verify_port(port: &Port, params: &ParameterSet, batch: usize) -> Result<(), VerifyError> {
    let refuse = |reason: String| Err(port_error(port, reason));
    let top = u32::from(params.top_usable().0);
    let (elements, virtual_slots) = (port_elements(port), params.slots() / batch);
    if port.name.is_empty() || elements == 0 || elements > MAX_ELEMENTS {
        return refuse(format!("needs a name and 1 to 2^24 elements; {elements}"));
    }
    if port.level > top {
        return refuse(format!(
            "level {} above the top usable level {top}",
            port.level
        ));
    }
    let bounded = |x: f64| x.is_finite() && x.abs() <= MAX_FACTOR;
    if port.factor == 0.0 || !bounded(port.factor) || !bounded(port.fill) {
        return refuse("its factor or fill is zero, not finite or huge".into());
    }
    if port.ciphertexts.is_empty() {
        return refuse("has no ciphertext".into());
    }
    for (number, ciphertext) in port.ciphertexts.iter().enumerate() {
        let length = ciphertext.element.len();
        if !length.is_power_of_two() || length > virtual_slots {
            return refuse(format!(
                "ciphertext {number} maps {length} slots; a power of two of at most {virtual_slots} expected"
            ));
        }
        let bad = |e: &&i32| **e < -1 || i64::from(**e) >= elements as i64;
        if let Some(e) = ciphertext.element.iter().find(bad) {
            return refuse(format!(
                "ciphertext {number} holds element {e} of {elements}"
            ));
        }
    }
    Ok(())
}

/// What a plaintext vector is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// Numbers.
    Numbers,
    /// Elements of a matrix of at least so many.
    Elements(usize),
}

struct Walker<'a> {
    program: &'a Program,
    params: &'a ParameterSet,
    virtual_slots: usize,
    listed: KeyNeeds,
    levels: Vec<Option<u32>>,
    /// What is known of each plaintext that was looked at.
    checked: Vec<Option<Taken>>,
    matrices: Vec<Matrix>,
    stored: BTreeSet<(u32, u32)>,
    weights: &'a Weights,
}

impl Walker<'_> {
    fn instruction(&mut self, instruction: &Instruction) -> Result<(), String> {
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
                    if out.giant.iter().all(|g| g.term.is_empty()) {
                        return Err(format!("no term for register {}", out.dst));
                    }
                    for giant in &out.giant {
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
