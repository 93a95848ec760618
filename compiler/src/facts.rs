//! What the compiler knows about a program beyond its instructions, for the depth report: approximations, placement,
//! calibration, estimates. Kept as JSON in the program; the report adds what is counted from the instructions.

use crate::bisect::record::Plain;
use heron_passes::client_head::ClientHead;
use heron_passes::cost::prices::Target;
use heron_passes::ir::levelled::{LevelledGraph, LevelledKernel};
use heron_passes::ir::packed::Kernel;
use heron_passes::ir::poly::Approximation;
use heron_passes::ir::shape::Interval;
use heron_passes::ir::tensor::TensorGraph;
use heron_passes::placement::value_seconds;
use heron_passes::plots::Plot;
use heron_schedule::client::ClientGraph;
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::predict::Prediction;

/// What is known before packing.
#[derive(Clone, Debug, Default)]
pub struct ModelFacts {
    /// What the schedule is made for.
    pub target: Target,
    /// ONNX operator set.
    pub opset: Option<i64>,
    /// Number of weights of the model.
    pub parameters: Option<u64>,
    /// Where calibration inputs came from.
    pub calibration_source: Option<String>,
    /// How many there were.
    pub calibration_inputs: Option<usize>,
    /// Why these parameters.
    pub chosen_because: Option<String>,
    /// Functions and their fits.
    pub plots: Vec<Plot>,
    /// By layer, the range of its last value over the calibration inputs, in the model's units.
    pub ranges: Vec<Option<Interval>>,
    /// What the model would cost with plain softmax ([`crate::softmax_variant`]).
    pub softmax_variant: Value,
    /// The model itself, for `heron bisect`.
    pub plain: Option<Plain>,
    /// Where given, numbers of model files stay there and are found from this folder.
    pub external: Option<PathBuf>,
    /// What the client computes before it encrypts.
    pub client: ClientGraph,
    /// What the client computes of what it decrypts.
    pub head: Option<ClientHead>,
}

/// By layer, the calibrated range of its last value.
pub fn layer_ranges(graph: &TensorGraph) -> Vec<Option<Interval>> {
    let mut ranges = vec![None; graph.layers.len()];
    for v in graph.topological() {
        let node = graph.node(v);
        if let Some(range) = ranges.get_mut(node.layer) {
            *range = node.range.or(*range);
        }
    }
    ranges
}

/// Seconds of each layer by the cost table.
pub fn layer_seconds(graph: &LevelledGraph) -> Vec<f64> {
    let mut seconds = vec![0.0; graph.graph.layers.len()];
    for (v, cost) in value_seconds(graph) {
        if let Some(s) = seconds.get_mut(graph.graph.node(v).layer) {
            *s += cost;
        }
    }
    seconds
}

/// Seconds by kind of instruction, under the names that runs are timed by.
fn primitive_seconds(graph: &LevelledGraph) -> Vec<Value> {
    let mut kinds: BTreeMap<&str, f64> = BTreeMap::new();
    for (v, cost) in value_seconds(graph) {
        let kind = match &graph.graph.node(v).op.kernel {
            LevelledKernel::Bootstrap { .. } => "bootstrap",
            LevelledKernel::Packed(Kernel::Linear(_)) => "linear",
            LevelledKernel::Packed(Kernel::MulSum { .. }) => "ciphertext_product",
            LevelledKernel::Packed(Kernel::Rotate { .. }) => "rotation",
            LevelledKernel::Packed(Kernel::Combine { .. }) => "combine",
            LevelledKernel::Packed(Kernel::Input { .. }) => continue,
        };
        *kinds.entry(kind).or_default() += cost;
    }
    let entries = kinds.into_iter();
    entries
        .map(|(kind, s)| json!({"kind": kind, "seconds": rounded(s)}))
        .collect()
}

/// The samples of an approximation, if there are any, to eight digits.
fn plot(model: &ModelFacts, layer: usize, a: &Approximation) -> Value {
    let known = model.plots.iter().find(|p| {
        (p.layer, p.function.as_str(), p.interval) == (layer, a.function.as_str(), a.interval)
    });
    known.map_or(Value::Null, |p| {
        let digits = |x: &f64| format!("{x:.7e}").parse::<f64>().unwrap_or(*x);
        let point = |p: &[f64; 3]| p.iter().map(digits).collect::<Vec<f64>>();
        json!({"points": p.points.iter().map(point).collect::<Vec<_>>()})
    })
}

/// Milliseconds are as fine as the table is.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

/// Three digits: an estimate is no finer.
fn significant(x: f64) -> f64 {
    format!("{x:.2e}").parse().unwrap_or(x)
}

/// The facts as JSON: `model`, `placement`, `calibration`, `estimate`, `layers`.
pub fn facts(graph: &LevelledGraph, model: &ModelFacts, error: Option<Prediction>) -> Value {
    let seconds = layer_seconds(graph);
    let total: f64 = seconds.iter().sum();
    let cost = graph.placement.cost_seconds;
    let bound = graph.placement.lower_bound_seconds;
    let layers: Vec<Value> = graph
        .graph
        .layers
        .iter()
        .enumerate()
        .map(|(i, layer)| {
            let approximation = graph.approximations.iter().find(|(at, _)| *at == i);
            let approximation = approximation.map_or(Value::Null, |(_, a)| {
                json!({
                    "function": a.function,
                    "interval": [a.interval.0, a.interval.1],
                    "method": a.method,
                    "degree_or_iterations": a.degree_or_iterations,
                    "max_error": a.max_error,
                    "plot": plot(model, i, a),
                })
            });
            json!({
                "name": layer.name,
                "approximation": approximation,
                "range": model.ranges.get(i).copied().flatten().map(|r| [r.lo, r.hi]),
                "estimate_seconds": rounded(seconds[i]),
            })
        })
        .collect();
    let policies: Vec<Value> = graph
        .placement
        .policies
        .iter()
        .map(|p| {
            json!({
                "name": p.name,
                "bootstraps": p.bootstraps,
                "cost_seconds": rounded(p.cost_seconds),
            })
        })
        .collect();
    let mut all = Map::new();
    all.insert(
        "model".into(),
        json!({"opset": model.opset, "parameters": model.parameters}),
    );
    all.insert(
        "parameters".into(),
        json!({"chosen_because": model.chosen_because}),
    );
    all.insert(
        "placement".into(),
        json!({
            "method": graph.placement.method,
            "cost_seconds": rounded(cost),
            "lower_bound_seconds": rounded(bound),
            "gap": if cost > 0.0 { ((cost - bound) / cost * 1e4).round() / 1e4 } else { 0.0 },
            "lower_bound_bootstraps": graph.placement.lower_bound_bootstraps,
            "policies": policies,
        }),
    );
    all.insert(
        "calibration".into(),
        json!({"source": model.calibration_source, "inputs": model.calibration_inputs}),
    );
    all.insert(
        "estimate".into(),
        json!({
            "target": model.target.name(),
            "basis": model.target.basis(),
            "measured": model.target.is_measured(),
            "seconds": rounded(total),
            "output_error": error.map(|e| significant(e.total)),
            "output_error_parts": error.map(|e| json!({
                "approximation": significant(e.approximation),
                "noise": significant(e.noise),
            })),
        }),
    );
    all.insert(
        "by_primitive".into(),
        Value::Array(primitive_seconds(graph)),
    );
    all.insert("softmax_variant".into(), model.softmax_variant.clone());
    all.insert("layers".into(), Value::Array(layers));
    Value::Object(all)
}
