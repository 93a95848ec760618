//! The depth report: what a schedule costs. Counts come from the instructions; what only the compiler knows (approximations, calibration,
//! placement, estimates) comes from the facts it left in the file.

pub mod diff;
pub mod dot;
pub mod files;
pub mod html;
pub mod operations;
mod svg;
pub mod text;
pub mod units;

use heron_runtime::bootstrap::Tuning;
use heron_schedule::client::{result_shape, user_inputs};
use heron_schedule::params::{
    log2_interval_failure, Interval64, KeySecurity, ParameterSet, SecretKind,
};
use heron_schedule::path::{critical_path, Step};
use heron_schedule::proto::{Port, Program};
use heron_schedule::recount::{recount, Recount};
use serde_json::{json, Value};

/// The report as INTERFACE writes it. `facts`: what the compiler knows; keys it lacks become null or are recomputed; `files`: see [`files::bytes`].
pub fn report(
    program: &Program,
    params: &ParameterSet,
    facts: &Value,
    key_bytes: u64,
    files: Value,
) -> Value {
    let counts = recount(program, params.slots());
    let fact = |name: &str| facts.get(name).cloned().unwrap_or(Value::Null);
    let rotations = program
        .keys
        .iter()
        .filter(|k| !k.relinearisation && !k.conjugation);
    let kinds = program.layers.iter().map(|l| l.kind.as_str());
    json!({
        "heron": env!("CARGO_PKG_VERSION"),
        "model": model(program, facts),
        "parameters": parameters(program, params, counts.operations.bootstrap, facts),
        "multiplicative_depth": counts.multiplicative_depth,
        "bootstraps": counts.operations.bootstrap,
        "bootstraps_by_kind": operations::bootstraps(counts.bootstraps_by_kind),
        "placement": fact("placement"),
        "operations": operations::to_json(&counts.operations),
        "key_switches": counts.operations.key_switches(),
        "per_attention": operations::per_attention(kinds.zip(&counts.layers)),
        "keys": {"rotation": rotations.count(), "bytes": key_bytes},
        "calibration": fact("calibration"),
        "estimate": estimate(fact("estimate"), crate::memory::run_bytes(program, params), files),
        "softmax_variant": fact("softmax_variant"),
        "by_primitive": fact("by_primitive"),
        "critical_path": path(program),
        "layers": layers(program, &counts, facts),
    })
}

/// The steps of the critical path that change the level, and its inputs.
fn path(program: &Program) -> Value {
    let steps = critical_path(program);
    let telling = steps
        .iter()
        .filter(|s| s.level_in != s.level_out || matches!(s.step, Step::Bootstrap | Step::Input));
    telling
        .map(|s| {
            let layer = program.layers.get(s.layer as usize);
            json!({
                "layer": layer.map_or("", |l| l.name.as_str()),
                "instruction": s.instruction,
                "step": s.step.name(),
                "level_in": s.level_in,
                "level_out": s.level_out,
                "depth": s.depth,
            })
        })
        .collect()
}

/// What the compiler estimated, the peak of a run (what `--max-memory` is held against), and sizes of files.
fn estimate(mut estimate: Value, run_bytes: u64, files: Value) -> Value {
    if let Some(facts) = estimate.as_object_mut() {
        facts.insert("peak_bytes".into(), json!(run_bytes));
        facts.insert("file_bytes".into(), files);
    }
    estimate
}

fn ports(ports: &[Port]) -> Value {
    let list = ports.iter().map(|p| match p.head {
        Some(_) => json!({"name": p.name, "shape": result_shape(p), "head": "client"}),
        None => json!({"name": p.name, "shape": p.shape}),
    });
    list.collect()
}

fn model(program: &Program, facts: &Value) -> Value {
    let known = facts.get("model");
    let field = |name: &str| known.and_then(|m| m.get(name)).cloned();
    json!({
        "name": program.name,
        "opset": field("opset"),
        "parameters": field("parameters"),
        "inputs": user_inputs(program)
            .into_iter()
            .map(|(name, shape)| json!({"name": name, "shape": shape}))
            .collect::<Value>(),
        "outputs": ports(&program.outputs),
    })
}

fn parameters(program: &Program, params: &ParameterSet, bootstraps: u64, facts: &Value) -> Value {
    let security = match params.check_key(params.log2_qp(), params.secret()) {
        Ok(KeySecurity::Secure(bits)) => json!(bits.0.floor()),
        _ => json!(0),
    };
    let secret = match params.secret() {
        SecretKind::UniformTernary => "uniform ternary".to_string(),
        SecretKind::SparseTernary { hamming_weight } => {
            format!("sparse ternary, hamming weight {hamming_weight}")
        }
    };
    json!({
        "profile": params.profile().name(),
        "log2_n": params.log_n(),
        "log_qp": (params.log2_qp() * 100.0).round() / 100.0,
        "security_bits": security,
        "secret": secret,
        "slots": params.slots(),
        "digits": params.digits().len(),
        "levels_after_bootstrap": if params.can_bootstrap() { params.levels_between_bootstraps() } else { 0 },
        "usable_levels": params.top_usable().0,
        "scale_bits": params.default_scale_log2(),
        "word_bits": 32,
        "inputs_per_run": program.batch,
        "failure_probability_log2": failure(params, bootstraps),
        "chosen_because": facts.get("parameters").and_then(|p| p.get("chosen_because")),
    })
}

/// Base-two logarithm of the probability that any EvalMod of a run leaves its interval; null where it cannot happen.
fn failure(params: &ParameterSet, bootstraps: u64) -> Value {
    let SecretKind::SparseTernary { hamming_weight } = params.ephemeral_secret() else {
        return Value::Null;
    };
    if bootstraps == 0 {
        return Value::Null;
    }
    let interval = Interval64(64 * Tuning::STANDARD.cosine.range + 1);
    let coefficients = 1u64 << params.log_n();
    let found = log2_interval_failure(hamming_weight, interval, coefficients, bootstraps).0;
    match found.is_finite() {
        true => json!((found * 10.0).round() / 10.0),
        // Impossible, not merely unlikely: JSON has no infinity, so a number below every bound stands for it.
        false => json!(-1e9),
    }
}

fn layers(program: &Program, counts: &Recount, facts: &Value) -> Value {
    let known = facts.get("layers").and_then(Value::as_array);
    let entries = program
        .layers
        .iter()
        .zip(&counts.layers)
        .map(|(layer, count)| {
            let fact = known.and_then(|k| k.iter().find(|f| f["name"] == layer.name.as_str()));
            let field = |name: &str| fact.and_then(|f| f.get(name)).cloned();
            json!({
                "name": layer.name,
                "kind": layer.kind,
                "onnx_nodes": layer.onnx_nodes,
                "depth": count.depth(),
                "level_in": count.level_in,
                "level_out": count.level_out,
                "bootstraps": count.operations.bootstrap,
                "bootstraps_by_kind": operations::bootstraps(count.bootstraps_by_kind),
                "key_switches": count.operations.key_switches(),
                "operations": operations::to_json(&count.operations),
                "range": field("range"),
                "approximation": field("approximation"),
                "ciphertexts": count.ciphertexts,
                "estimate_seconds": field("estimate_seconds"),
            })
        });
    entries.collect()
}

/// Bytes of the residues of the evaluation keys a schedule uses, without making them: limbs of all rows of a key, and the special limbs,
/// for each digit and both halves.
pub fn key_bytes(request: &heron_runtime::rlwe::KeyRequest, params: &ParameterSet) -> u64 {
    use heron_runtime::rlwe::KeyKind;
    let n = 1u64 << params.log_n();
    let mut total = 0;
    for (kind, rows) in request.iter() {
        let mut limbs = std::collections::BTreeSet::new();
        for row in rows {
            limbs.extend(params.limbs(row).unwrap_or(&[]).iter().copied());
        }
        let (special, digits) = if kind == KeyKind::DenseToSparse {
            (params.encapsulation().len(), 1)
        } else {
            let alive = |d: &&Vec<_>| d.iter().any(|l| limbs.contains(l));
            (
                params.special().len(),
                params.digits().iter().filter(alive).count(),
            )
        };
        total += 4 * 2 * n * digits as u64 * (limbs.len() + special) as u64;
    }
    total
}
