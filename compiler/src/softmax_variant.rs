//! What a PowerSoftmax model would cost with plain softmax: the same graph with every PowerSoftmax replaced, calibrated
//! again in f64 and compiled by the same passes, so that the report can show both side by side.

use heron_passes::budget::Budget;
use heron_passes::calibrate_ranges::calibrate_ranges;
use heron_passes::cost::prices::Target;
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::tensor::{TensorGraph, TensorOp};
use heron_passes::pass::Manager;
use heron_passes::to_poly::{to_poly, Named};
use heron_schedule::client::ClientGraph;
use heron_schedule::params::ParameterSet;
use heron_schedule::recount::recount;
use serde_json::{json, Value};

use crate::calibration::UserInput;
use crate::emit::{emit, EmitOptions};
use crate::facts::layer_seconds;
use crate::pipeline::lower_poly;

/// Models with more weights are not compiled a second time: it would double the time of the compiler.
pub const LARGEST: usize = 1_000_000;
/// Calibration inputs on which the errors of the variant are measured; ranges come from all.
const MEASURED: usize = 16;

/// What the variant is compiled with: the same as the model.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// What schedules are made for.
    pub target: Target,
    /// The user's calibration inputs.
    pub users: &'a [UserInput],
    /// The same, prepared by the client; the first ones do.
    pub inputs: &'a [Named],
    /// As of the model.
    pub tolerance: f64,
    /// As of the model.
    pub params: &'a ParameterSet,
    /// As of the model.
    pub batch: Option<usize>,
    /// Weights of the model.
    pub parameters: usize,
    /// What the client computes.
    pub client: &'a ClientGraph,
}

/// The fact `softmax_variant`: null for a model without PowerSoftmax; otherwise depth, bootstraps and estimated seconds, or
/// nulls with a note of why there are none.
pub fn softmax_variant(tensor: &TensorGraph, setting: &Setting<'_>) -> Value {
    let Some(twin) = twin(tensor) else {
        return Value::Null;
    };
    let unknown = |note: String| json!({"multiplicative_depth": null, "bootstraps": null, "estimate_seconds": null, "note": note});
    if setting.parameters > LARGEST {
        return unknown(format!(
            "not computed for models of more than {LARGEST} weights"
        ));
    }
    match costs(twin, setting) {
        Ok(found) => found,
        Err(reason) => unknown(format!(
            "cannot be compiled: {}",
            reason.replace('\n', "; ")
        )),
    }
}

/// The graph with plain softmax over the same scores and keys; `None` if there is nothing to replace.
pub fn twin(tensor: &TensorGraph) -> Option<TensorGraph> {
    let mut twin = tensor.clone();
    let mut replaced = false;
    for v in twin.topological() {
        if !matches!(twin.node(v).op, TensorOp::PowerSoftmax { .. }) {
            continue;
        }
        let operands = twin.operands(v);
        let s = *operands.first()?;
        // A mask that is an input multiplies the scores before the power.
        let (s, input) = match (&twin.node(s).op, &twin.operands(s)[..]) {
            (TensorOp::Multiply, [a, b]) => match (is_scores(&twin, *a), is_scores(&twin, *b)) {
                (true, false) => (*a, Some(*b)),
                (false, true) => (*b, Some(*a)),
                _ => (s, None),
            },
            _ => (s, None),
        };
        let alone = twin.users(s).len() == 1;
        let mask = match &mut twin.node_mut(s).op {
            TensorOp::Scores { mask, .. } if alone => mask.take(),
            TensorOp::Scores { mask, .. } => mask.clone(),
            _ => None,
        };
        twin.node_mut(v).op = TensorOp::Softmax { mask };
        let operands: Vec<ValueId> = std::iter::once(s).chain(input).collect();
        twin.set_operands(v, &operands);
        replaced = true;
    }
    twin.remove_dead(|op| matches!(op, TensorOp::Input { .. }));
    replaced.then_some(twin)
}

fn is_scores(graph: &TensorGraph, v: ValueId) -> bool {
    matches!(graph.node(v).op, TensorOp::Scores { .. })
}

fn costs(mut twin: TensorGraph, setting: &Setting<'_>) -> Result<Value, String> {
    let sites = calibrate_ranges(&mut twin, setting.users).map_err(|e| e.to_string())?;
    let users = setting.users.iter().take(MEASURED);
    let mut reference = Vec::new();
    for user in users {
        let found = twin.outputs_for(user).map_err(|e| e.to_string())?;
        let names = twin.outputs.iter().map(|(name, _)| name.clone());
        reference.push(names.zip(found).collect::<Named>());
    }
    let count = reference.len().min(setting.inputs.len());
    let poly = to_poly(
        &twin,
        &sites,
        &setting.inputs[..count],
        &reference[..count],
        Budget::for_levels(usize::from(setting.params.levels_between_bootstraps()))
            .for_inputs(setting.users.len()),
        setting.tolerance,
        &mut Manager::new(),
    )
    .map_err(|e| e.to_string())?;
    let levelled = lower_poly(
        &poly.graph,
        (setting.params, setting.target),
        setting.batch,
        &mut Manager::new(),
    )
    .map_err(|e| e.to_string())?;
    let options = EmitOptions {
        params: setting.params,
        output_shapes: &[],
        report_json: Vec::new(),
        client: setting.client,
        head: None,
        bases: &[],
        external: None,
    };
    let (program, _, _) = emit(&levelled, &options).map_err(|e| e.to_string())?;
    let counts = recount(&program, setting.params.slots());
    let seconds: f64 = layer_seconds(&levelled).iter().sum();
    let methods = methods(&levelled.approximations);
    Ok(json!({
        "multiplicative_depth": counts.multiplicative_depth,
        "bootstraps": counts.operations.bootstrap,
        "estimate_seconds": (seconds * 1e3).round() / 1e3,
        "note": format!("the same model with softmax over the same scores, by {methods}"),
    }))
}

fn methods(all: &[(usize, heron_passes::ir::poly::Approximation)]) -> String {
    let mut found: Vec<&str> = all
        .iter()
        .filter(|(_, a)| a.function == "softmax")
        .map(|(_, a)| a.method.as_str())
        .collect();
    found.sort_unstable();
    found.dedup();
    found.join("; ")
}
