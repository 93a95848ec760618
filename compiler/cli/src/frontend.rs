//! The compiler as the commands see it: a model in, a schedule and its plaintext twin out.

use crate::args::CompileOptions;
use crate::failure::{At, Failure, Outcome};
use crate::inputs::OutputSet;
use heron_compiler::calibration;
use heron_compiler::npz::Arrays;
use heron_compiler::onnx::{InputSpec, OutputSpec};
use heron_compiler::reference::Reference;
use heron_schedule::proto::Program;
use heron_schedule::Schedule;
use std::path::{Path, PathBuf};

/// What compiling gives.
pub struct Compiled {
    /// For the server.
    pub schedule: Schedule,
    /// The model in the clear.
    pub model: PlainModel,
}

/// The ONNX model, to compare with.
pub struct PlainModel {
    path: PathBuf,
    inputs: Vec<InputSpec>,
    outputs: Vec<OutputSpec>,
}

impl PlainModel {
    /// The model's results on the first `count` inputs, in the order of the program's outputs.
    pub fn reference(
        &self,
        program: &Program,
        arrays: &Arrays,
        count: usize,
    ) -> Outcome<OutputSet> {
        let reference = Reference::load(&self.path, &self.inputs, &self.outputs)?;
        let inputs = calibration::user_inputs(&self.inputs, arrays)?;
        let mut set = OutputSet::new(program);
        for (number, input) in inputs.iter().take(count).enumerate() {
            let results = reference.run(number, input)?;
            for (port, values) in program.outputs.iter().zip(&mut set.ports) {
                let found = self.outputs.iter().position(|o| o.name == port.name);
                let result = found.and_then(|i| results.get(i)).ok_or_else(|| {
                    Failure::new("graph", format!("the model has no output `{}`", port.name))
                })?;
                values.push(result.clone());
            }
        }
        Ok(set)
    }
}

/// Compiles a model.
pub fn compile(
    model: &Path,
    options: &CompileOptions,
    dump_ir: Option<&Path>,
) -> Outcome<Compiled> {
    let _ = (options, dump_ir);
    Err(Failure::not_yet("compiling", "wait for the passes")).at(model)
}
