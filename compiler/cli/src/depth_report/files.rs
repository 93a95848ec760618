//! Sizes of the files that a schedule leads to, before any of them is written.

use heron_schedule::params::{Level, ParameterSet};
use heron_schedule::proto::{Port, Program};
use heron_schedule::{Schedule, WeightsError};
use serde_json::{json, Value};

/// Bytes of a residue in a file.
const WORD: u64 = 4;
/// Contents of keys and ciphertexts begin at a multiple of this (docs/formats.md).
const PAGE: u64 = 4096;

/// Bytes of every file: those of the schedule and the client as they will be written, keys and ciphertexts by their residues and maps.
/// Ciphertexts are those of one run. Fails when a table of the client leaves the weights section.
pub fn bytes(schedule: &Schedule, key_bytes: u64) -> Result<Value, WeightsError> {
    let (program, params) = (schedule.program(), schedule.params());
    Ok(json!({
        "schedule": schedule.file_bytes(),
        "client": schedule.client()?.file_bytes(),
        "client_key": PAGE + (2u64 << params.log_n()),
        "server_keys": PAGE + key_bytes,
        "inputs_of_a_run": ciphertexts(&program.inputs, program, params),
        "outputs_of_a_run": ciphertexts(&program.outputs, program, params),
    }))
}

/// Both polynomials of each ciphertext, and the element of each virtual slot.
fn ciphertexts(ports: &[Port], program: &Program, params: &ParameterSet) -> u64 {
    let map = WORD * params.slots() as u64 / u64::from(program.batch.max(1));
    let mut maps = 0;
    let mut residues = 0;
    for port in ports {
        let level = Level(u8::try_from(port.level).unwrap_or(u8::MAX));
        let limbs = params.limbs(level).ok();
        let limbs = limbs.map_or(0, <[_]>::len) as u64;
        let count = port.ciphertexts.len() as u64;
        maps += count * map;
        residues += (count * 2 * WORD * limbs) << params.log_n();
    }
    (maps + 1).next_multiple_of(PAGE) + residues
}
