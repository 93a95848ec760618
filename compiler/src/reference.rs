//! The plaintext reference: the ONNX model run by tract in f32.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

use crate::calibration::UserInput;
use crate::onnx::{ImportError, InputSpec, OutputSpec};

/// A model ready to run on plain inputs, one at a time (so a batch axis fixed to 1 is no obstacle).
pub struct Reference {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<InputSpec>,
    outputs: Vec<OutputSpec>,
}

/// Why the reference could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The checks of the importer refused the file.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// tract could not load the model.
    #[error("{path}: the reference engine refused the model: {reason}; give the expected outputs by --expect instead")]
    Load {
        /// The model.
        path: String,
        /// What tract said.
        reason: String,
    },
    /// tract could not run it.
    #[error("the reference engine failed on input {number}: {reason}")]
    Run {
        /// Which input, from 0.
        number: usize,
        /// What tract said.
        reason: String,
    },
}

impl Reference {
    /// Loads `path` with the shapes that the importer settled on.
    ///
    /// Runs behind the importer's checks: give what [`crate::onnx::import`] returned for the same file.
    pub fn load(
        path: &Path,
        inputs: &[InputSpec],
        outputs: &[OutputSpec],
    ) -> Result<Reference, ReferenceError> {
        let refused = |reason: String| ReferenceError::Load {
            path: path.display().to_string(),
            reason,
        };
        let build = || -> TractResult<Arc<TypedRunnableModel>> {
            let onnx = tract_onnx::onnx();
            let mut model = onnx.model_for_path(path)?;
            for (i, outlet) in model.input_outlets()?.to_vec().into_iter().enumerate() {
                let name = model.node(outlet.node).name.clone();
                let Some(spec) = inputs.iter().find(|s| s.name == name) else {
                    tract_onnx::tract_core::internal::bail!("input {name} is not known");
                };
                let dt = Factoid::concretize(&model.outlet_fact(outlet)?.datum_type);
                let fact =
                    InferenceFact::dt_shape(dt.unwrap_or(f32::datum_type()), onnx_shape(spec));
                model.set_input_fact(i, fact)?;
            }
            model.into_typed()?.into_decluttered()?.into_runnable()
        };
        let plan = catch_unwind(AssertUnwindSafe(build))
            .map_err(|_| refused("it failed while loading".into()))?
            .map_err(|e| refused(format!("{e:#}")))?;
        Ok(Reference {
            plan,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
        })
    }

    /// Runs one input; returns the outputs in order, row-major, without batch axis. Inputs that are not given are zeros.
    pub fn run(&self, number: usize, input: &UserInput) -> Result<Vec<Vec<f64>>, ReferenceError> {
        let failed = |reason: String| ReferenceError::Run { number, reason };
        let go = || -> TractResult<Vec<Vec<f64>>> {
            let model = self.plan.model();
            let mut values: TVec<TValue> = tvec!();
            for outlet in model.input_outlets()? {
                let name = &model.node(outlet.node).name;
                let Some(spec) = self.inputs.iter().find(|s| s.name == *name) else {
                    tract_onnx::tract_core::internal::bail!("input {name} is not known");
                };
                let shape = onnx_shape(spec);
                let n: usize = shape.iter().product();
                let zeros = vec![0.0; n];
                let numbers = input.get(name).unwrap_or(&zeros);
                let single: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
                let wide: Vec<i64> = numbers.iter().map(|&x| x as i64).collect();
                let dt = model.outlet_fact(*outlet)?.datum_type;
                let tensor = if dt.is_float() {
                    Tensor::from_shape(&shape, &single)?
                } else {
                    Tensor::from_shape(&shape, &wide)?
                };
                values.push(tensor.cast_to_dt(dt)?.into_owned().into());
            }
            let results = self.plan.run(values)?;
            let mut out = Vec::new();
            for r in results.iter() {
                let cast = r.cast_to::<f32>()?;
                let view = cast.to_plain_array_view::<f32>()?;
                out.push(view.iter().map(|&x| f64::from(x)).collect());
            }
            Ok(out)
        };
        let out = catch_unwind(AssertUnwindSafe(go))
            .map_err(|_| failed("it failed while running".into()))?
            .map_err(|e| failed(format!("{e:#}")))?;
        if out.len() != self.outputs.len() {
            return Err(failed(format!(
                "{} outputs instead of {}",
                out.len(),
                self.outputs.len()
            )));
        }
        Ok(out)
    }
}

fn onnx_shape(spec: &InputSpec) -> Vec<usize> {
    let mut shape = spec.shape.clone();
    if spec.batched {
        shape.insert(0, 1);
    }
    shape
}
