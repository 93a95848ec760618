//! What must hold of a program before anything runs it: everything a file could get wrong.

mod head;
mod instructions;

pub use head::{port_elements, verify_head};

use crate::keys::{required_bootstraps, KeyNeeds};
use crate::matrix::Matrix;
use crate::params::{ParameterError, ParameterSet};
use crate::proto::{instruction::Op, Body, Program};
use crate::weights::{Weights, WeightsError};
use head::port_error;
use instructions::Walker;
use std::collections::BTreeSet;
use thiserror::Error;

/// More registers than any program needs; bounds what a file can make a reader allocate.
pub const MAX_REGISTERS: u32 = 1 << 20;
/// More terms of linear maps than any program has, bodies counted as often as they are used: what a small file can make a reader do.
const MAX_TERMS: usize = 1 << 28;
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
    let terms = terms(program);
    if terms > MAX_TERMS {
        return Err(VerifyError::Program(format!(
            "linear maps of {terms} terms, at most {MAX_TERMS} are expected"
        )));
    }
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
        used: BTreeSet::new(),
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
    if let Some(body) = (0..program.bodies.len()).find(|b| !walker.used.contains(&(*b as u32))) {
        return Err(VerifyError::Program(format!("no result has body {body}")));
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

/// Terms of all linear maps, every body as often as it is used.
fn terms(program: &Program) -> usize {
    let of = |b: &Body| b.giant.iter().map(|g| g.term.len()).sum();
    let sizes: Vec<usize> = program.bodies.iter().map(of).collect();
    let maps = program.instructions.iter().filter_map(|i| match &i.op {
        Some(Op::Linear(op)) => Some(op),
        _ => None,
    });
    maps.flat_map(|op| &op.out)
        .filter_map(|out| sizes.get(out.body as usize))
        .fold(0, |sum: usize, size| sum.saturating_add(*size))
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
