//! What choosing parameters asks of a compiled schedule: the memory of a run, and its noise on calibration inputs.

use crate::inputs::{Accuracy, OutputSet};
use crate::memory::run_bytes;
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

/// Judges schedules by inputs whose results are known.
pub struct Calibrated<'a> {
    /// Inputs as the user gives them.
    pub users: &'a [UserInput],
    /// The plaintext model's results for the first of them.
    pub reference: &'a [Named],
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
