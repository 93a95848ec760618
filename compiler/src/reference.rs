//! The plaintext reference: the ONNX model run by tract in f32.

use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

use heron_passes::ir::tensor::TensorGraph;
use heron_schedule::client::ClientGraph;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

use crate::calibration::UserInput;
use crate::onnx::{ImportError, InputSpec, OutputSpec};

/// A model ready to run on plain inputs, one at a time (so a batch axis fixed to 1 is no obstacle).
pub struct Reference {
    engine: Engine,
    inputs: Vec<InputSpec>,
    outputs: Vec<OutputSpec>,
}

/// What runs the model.
enum Engine {
    Tract(Arc<TypedRunnableModel>),
    /// The imported graph in f64, where tract lacks an operator.
    Own(Box<(TensorGraph, ClientGraph)>),
}

/// Why the reference could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The checks of the importer refused the file.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// tract could not load the model.
    #[error("{path}: the reference engine refused the model: {reason}")]
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
            let mut proto = onnx.proto_model_for_path(path)?;
            count_in_floats(&mut proto);
            let parsed = onnx.parse(&proto, path.parent().and_then(Path::to_str))?;
            if !parsed.unresolved_inputs.is_empty() {
                tract_onnx::tract_core::internal::bail!(
                    "inputs that nothing makes: {:?}",
                    parsed.unresolved_inputs
                );
            }
            let mut model = parsed.model;
            drop(proto);
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
            engine: Engine::Tract(plan),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
        })
    }

    /// The imported graph itself, in f64, for a model with operators that tract does not know. It shows what approximation and
    /// encryption change, not what the import might.
    pub fn own(
        graph: TensorGraph,
        client: ClientGraph,
        inputs: &[InputSpec],
        outputs: &[OutputSpec],
    ) -> Reference {
        Reference {
            engine: Engine::Own(Box::new((graph, client))),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
        }
    }

    /// Runs one input; returns the outputs in order, row-major, without batch axis; of an output whose last position is kept that one.
    /// Inputs that are not given are zeros.
    pub fn run(&self, number: usize, input: &UserInput) -> Result<Vec<Vec<f64>>, ReferenceError> {
        let mut out = self.run_whole(number, input)?;
        for (values, spec) in out.iter_mut().zip(&self.outputs) {
            let kept: usize = spec.shape.iter().product();
            if spec.last && values.len() > kept {
                values.drain(..values.len() - kept);
            }
        }
        Ok(out)
    }

    fn run_whole(&self, number: usize, input: &UserInput) -> Result<Vec<Vec<f64>>, ReferenceError> {
        let failed = |reason: String| ReferenceError::Run { number, reason };
        let plan = match &self.engine {
            Engine::Tract(plan) => plan,
            Engine::Own(own) => {
                let mut given = input.clone();
                own.1
                    .extend(&mut given)
                    .map_err(|e| failed(e.to_string()))?;
                return own.0.outputs_for(&given).map_err(|e| failed(e.to_string()));
            }
        };
        let go = || -> TractResult<Vec<Vec<f64>>> {
            let model = plan.model();
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
            let results = plan.run(values)?;
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

/// tract counts integers symbolically and then cannot sum them up: CumSum (position ids) runs on floats and is cast back to the
/// type it was cast to before, else int64. Exact up to 2^24.
fn count_in_floats(proto: &mut pb::ModelProto) {
    let Some(graph) = &mut proto.graph else {
        return;
    };
    let cast = |from: &str, to: String, elem: i64| pb::NodeProto {
        op_type: "Cast".into(),
        // Nodes may be named as what they make is: the sum keeps that name.
        name: format!("{to}/Cast"),
        input: vec![from.into()],
        output: vec![to],
        attribute: vec![pb::AttributeProto {
            name: "to".into(),
            i: elem,
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            ..Default::default()
        }],
        ..Default::default()
    };
    let of_cast = |n: &pb::NodeProto| {
        let to = n.attribute.iter().find(|a| a.name == "to")?.i;
        (n.op_type == "Cast").then(|| Some((n.output.first()?.clone(), to)))?
    };
    let types: BTreeMap<String, i64> = graph.node.iter().filter_map(of_cast).collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        let plain = node.op_type == "CumSum" && matches!(node.domain.as_str(), "" | "ai.onnx");
        let (Some(x), Some(y)) = (node.input.first().cloned(), node.output.first().cloned()) else {
            nodes.push(node);
            continue;
        };
        if !plain {
            nodes.push(node);
            continue;
        }
        let (single, sums) = (format!("{y}/single"), format!("{y}/sums"));
        nodes.push(cast(&x, single.clone(), 1));
        node.input[0] = single;
        node.output[0] = sums.clone();
        nodes.push(node);
        nodes.push(cast(&sums, y, types.get(&x).copied().unwrap_or(7)));
    }
    graph.node = nodes;
}

fn onnx_shape(spec: &InputSpec) -> Vec<usize> {
    let mut shape = spec.shape.clone();
    if spec.batched {
        shape.insert(0, 1);
    }
    shape
}
