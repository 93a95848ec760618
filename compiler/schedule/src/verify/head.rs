//! All but the instructions: parameters, ports and their tables, bases.

use super::{VerifyError, MAX_FACTOR, MAX_REGISTERS};
use crate::client::{ClientGraph, Head};
use crate::params::ParameterSet;
use crate::proto::{Port, Program};
use crate::weights::Weights;
use std::collections::BTreeSet;

/// Bounds the elements of one input or output.
const MAX_ELEMENTS: u64 = 1 << 24;

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
    ClientGraph::read(program, weights).map_err(VerifyError::Program)?;
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
        Head::read(port, program, weights).map_err(|r| port_error(port, r))?;
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

pub(super) fn port_error(port: &Port, reason: String) -> VerifyError {
    VerifyError::Port {
        port: port.name.clone(),
        reason,
    }
}
