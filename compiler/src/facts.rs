//! What the compiler knows about a program beyond its instructions, for the depth report: approximations, placement,
//! calibration, estimates. Kept as JSON in the program; the report adds what is counted from the instructions.

use heron_passes::cost::limbs;
use heron_passes::ir::levelled::LevelledGraph;
use heron_passes::placement::value_seconds;
use heron_schedule::proto::Program;
use serde_json::{json, Map, Value};

/// What is known before packing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelFacts {
    /// ONNX operator set.
    pub opset: Option<i64>,
    /// Number of weights of the model.
    pub parameters: Option<u64>,
    /// Where calibration inputs came from.
    pub calibration_source: Option<String>,
    /// How many there were.
    pub calibration_inputs: Option<usize>,
    /// Predicted error over the standard deviation of the reference output.
    pub output_error: Option<f64>,
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

/// Milliseconds are as fine as the table is.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

/// The facts as JSON: `model`, `placement`, `calibration`, `estimate`, `layers`.
pub fn facts(graph: &LevelledGraph, program: &Program, model: &ModelFacts) -> Value {
    let seconds = layer_seconds(graph);
    let total: f64 = seconds.iter().sum();
    let ciphertext = (2 * 4 * limbs(graph.costs.top)) << graph.costs.log_n;
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
                })
            });
            json!({
                "name": layer.name,
                "approximation": approximation,
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
            "target": "cpu",
            "seconds": rounded(total),
            "peak_bytes": program.registers as usize * ciphertext,
            "output_error": model.output_error,
        }),
    );
    all.insert("layers".into(), Value::Array(layers));
    Value::Object(all)
}
