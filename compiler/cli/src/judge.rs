//! What choosing parameters asks of a compiled schedule: the memory of a run, and its noise on calibration inputs.

use crate::depth_report::key_bytes;
use crate::inputs::{Accuracy, OutputSet};
use crate::server::key_request;
use heron_compiler::calibration::UserInput;
use heron_compiler::choose::Judge;
use heron_passes::to_poly::Named;
use heron_runtime::exec::clear::Clear;
use heron_runtime::exec::ports::{embedding_table, pack};
use heron_runtime::exec::walk;
use heron_schedule::params::ParameterSet;
use heron_schedule::proto::Program;
use heron_schedule::Schedule;

/// Calibration inputs of which the noise is taken, at most.
const INPUTS: usize = 16;
/// Matrices of bootstrapping and what is alive in one, at N = 2^16: measured, peak less keys of `heron bench bootstrap` (8.3 - 5.8 GiB).
const BOOTSTRAPPING: u64 = 5 << 29;
/// The program, its libraries and buffers.
const PROCESS: u64 = 64 << 20;
/// Polynomials over all limbs and special limbs that an instruction has alive besides registers: rotated sources, plaintexts, sums.
const SCRATCH: u64 = 40;

/// Judges schedules by inputs whose results are known.
pub struct Calibrated<'a> {
    /// Inputs as the user gives them.
    pub users: &'a [UserInput],
    /// The plaintext model's results for the first of them.
    pub reference: &'a [Named],
}

/// Bytes of a run: keys, registers at the highest level used, tables of the ring, and what instructions have alive.
pub fn run_bytes(program: &Program, params: &ParameterSet) -> u64 {
    let n = 1u64 << params.log_n();
    let keys = key_request(program, params).map_or(0, |request| key_bytes(&request, params));
    let levels = program.inputs.iter().map(|p| p.level);
    let top = match program.bootstraps.is_empty() {
        true => levels.max().unwrap_or(0) as u8,
        false => params.top_usable().0,
    };
    let limbs = params.limbs(heron_schedule::params::Level(top));
    let limbs = limbs.map_or(0, <[_]>::len) as u64;
    let registers = u64::from(program.registers) * 2 * 4 * n * limbs;
    // Twiddle factors both ways with their quotients.
    let tables = 16 * n * params.primes().len() as u64;
    let scratch = SCRATCH * 4 * n * (limbs + params.special().len() as u64);
    let bootstrapping = match program.bootstraps.is_empty() {
        true => 0,
        false => (BOOTSTRAPPING >> 16) << params.log_n(),
    };
    PROCESS + keys + registers + tables + scratch + bootstrapping
}

impl Judge for Calibrated<'_> {
    fn peak_bytes(&self, program: &Program, params: &ParameterSet) -> u64 {
        run_bytes(program, params)
    }

    fn error(&self, schedule: &Schedule) -> Option<f64> {
        let program = schedule.program();
        let batch = program.batch.max(1) as usize;
        let count = self.users.len().min(self.reference.len()).min(INPUTS);
        let users = self.users.get(..count).filter(|u| !u.is_empty())?;
        let mut found = OutputSet::new(program);
        for (number, users) in users.chunks(batch).enumerate() {
            let mut slots = Vec::new();
            for port in &program.inputs {
                let table = embedding_table(port, program, schedule.weights()).ok()?;
                let lanes: Option<Vec<&[f64]>> = users
                    .iter()
                    .map(|u| u.get(&port.name).map(Vec::as_slice))
                    .collect();
                let size = schedule.params().slots();
                slots.push(pack(port, table.as_deref(), batch, size, &lanes?).ok()?);
            }
            let mut clear = Clear::new(schedule, slots, Some(number as u64)).ok()?;
            walk(program, &mut clear, &mut |_| {}).ok()?;
            let (outputs, _) = clear.into_outputs();
            found.extend(program, &outputs, users.len()).ok()?;
        }
        let mut expected = OutputSet::new(program);
        for (port, values) in program.outputs.iter().zip(&mut expected.ports) {
            for result in self.reference.iter().take(count) {
                values.push(result.get(&port.name)?.clone());
            }
        }
        Some(Accuracy::new(program, &found, &expected).relative)
    }
}
