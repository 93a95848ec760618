//! `heron bisect`: a run beside the plaintext model, value by value.

use super::infer::NOISE_SEED;
use super::report::of_schedule;
use super::{print_json, print_text};
use crate::args::{BackendChoice, Bisect, ServerBackend, TextOrJson};
use crate::client::Client;
use crate::console::{warn_if_insecure, Progress};
use crate::depth_report::units::{fit, float, number, plural};
use crate::failure::{At, Failure, Outcome};
use crate::inputs::InputSet;
use crate::machine::{self, server_backend, Machine};
use crate::server::{key_request, Server};
use heron_compiler::bisect::compare::{Comparison, Left, Row};
use heron_compiler::bisect::record::Record;
use heron_compiler::npz;
use heron_passes::ir::shape::Interval;
use heron_runtime::client::ClientKey;
use heron_runtime::exec::clear::{Clear, RangeFlag};
use heron_runtime::exec::observe::Observed;
use heron_runtime::exec::{walk, ExecError};
use heron_runtime::ring::RandomSource;
use heron_runtime::rlwe::RlweContext;
use heron_schedule::proto::Program;
use heron_schedule::Schedule;
use serde_json::{json, Value};
use std::fmt::Write;
use std::sync::Arc;

/// Runs the command. A node beyond the tolerance is an answer, not a failure.
pub fn run(args: &Bisect, quiet: bool) -> Outcome {
    machine::check(server_backend(args.backend))?;
    let mut progress = Progress::new(quiet);
    let schedule = Schedule::open(&args.schedule)?;
    warn_if_insecure(schedule.params());
    let damaged = |e: heron_compiler::bisect::record::RecordError| {
        Failure::new("malformed", e.to_string()).at(&args.schedule)
    };
    let record = Record::read(schedule.record(), schedule.weights().bases()).map_err(damaged)?;
    let report = of_schedule(&schedule).at(&args.schedule)?;
    let program = schedule.program().clone();
    let arrays = npz::read(&args.input)?;
    let inputs = InputSet::new(&program, schedule.weights(), &arrays, args.limit).at(&args.input)?;
    let mut comparison = Comparison::new(record);
    let (backend, flags) = match args.backend {
        BackendChoice::Cpu | BackendChoice::Cuda => {
            let asked = server_backend(args.backend);
            let name = encrypted(schedule, &inputs, asked, &mut comparison, &mut progress)?;
            (name, Vec::new())
        }
        _ => {
            let flags = clear(&schedule, &inputs, &mut comparison, &mut progress)?;
            ("clear", flags)
        }
    };
    let (rows, left) = comparison.finish();
    let found = json!({
        "backend": backend,
        "inputs": inputs.count,
        "runs": inputs.runs(program.batch).len(),
        "tolerance": args.tolerance,
        "within_tolerance": rows.iter().all(|r| r.error() <= args.tolerance),
        "first_bad": rows.iter().find(|r| bad(r, args.tolerance)).map(|r| node(r, &program, args.tolerance)),
        "nodes": rows.iter().map(|r| node(r, &program, args.tolerance)).collect::<Value>(),
        "ranges_left": left.iter().map(|l| range(l, &program, &report)).collect::<Value>(),
        "bootstraps_out_of_range": flags.iter().map(|(run, f)| flag(*run, f, &program)).collect::<Value>(),
    });
    match args.format {
        TextOrJson::Json => print_json(&found),
        TextOrJson::Text => print_text(&to_text(&found)),
    }
}

fn bad(row: &Row, tolerance: f64) -> bool {
    // A NaN is beyond every tolerance.
    row.error().is_nan() || row.error() > tolerance
}

fn layer_name(program: &Program, layer: usize) -> &str {
    program.layers.get(layer).map_or("", |l| l.name.as_str())
}

fn node(row: &Row, program: &Program, tolerance: f64) -> Value {
    let c = &row.checkpoint;
    let layer = program.layers.get(c.layer as usize);
    let made = c.places.iter().map(|p| p.0);
    json!({
        "node": format!("{}{}", c.value, c.view.suffix()),
        "after_bootstrap": c.bootstrapped,
        "layer": layer.map_or("", |l| l.name.as_str()),
        "kind": layer.map_or("", |l| l.kind.as_str()),
        "onnx_nodes": layer.map_or(&[][..], |l| l.onnx_nodes.as_slice()),
        "first_instruction": made.clone().min(),
        "last_instruction": made.max(),
        "error": row.error(),
        "of_tolerance": row.error() / tolerance,
        "beyond": bad(row, tolerance),
        "worst": row.worst.map(|w| json!({
            "input": w.input,
            "element": w.element,
            "found": w.found,
            "expected": w.expected,
        })),
    })
}

/// The interval that the layer's function was fitted on, where the value is its argument.
fn fitted(left: &Left, layer: &str, report: &Value) -> Option<Interval> {
    if left.what == "value" {
        return None;
    }
    let layers = report["layers"].as_array()?;
    let found = layers.iter().find(|l| l["name"] == layer)?;
    let interval = &found["approximation"]["interval"];
    Some(Interval::new(
        float(interval.get(0)?)?,
        float(interval.get(1)?)?,
    ))
}

fn range(left: &Left, program: &Program, report: &Value) -> Value {
    let layer = layer_name(program, left.layer);
    let fitted = fitted(left, layer, report);
    let inside = fitted.map(|f| left.found.lo >= f.lo && left.found.hi <= f.hi);
    json!({
        "node": left.value,
        "what": left.what,
        "layer": layer,
        "calibrated": [left.calibrated.lo, left.calibrated.hi],
        "found": [left.found.lo, left.found.hi],
        "beyond_by": left.excess(),
        "input": left.input,
        "fitted": fitted.map(|f| [f.lo, f.hi]),
        "inside_fitted": inside,
    })
}

fn flag(run: usize, flag: &RangeFlag, program: &Program) -> Value {
    json!({
        "input": run * program.batch as usize + flag.lane,
        "instruction": flag.instruction,
        "layer": layer_name(program, flag.layer as usize),
        "found": flag.worst,
    })
}

fn clear(
    schedule: &Schedule,
    inputs: &InputSet,
    comparison: &mut Comparison,
    progress: &mut Progress,
) -> Outcome<Vec<(usize, RangeFlag)>> {
    let program = schedule.program();
    let batch = program.batch as usize;
    let mut flags = Vec::new();
    for (number, range) in inputs.runs(program.batch).into_iter().enumerate() {
        let count = range.len();
        begin(comparison, program, inputs, range.clone())?;
        let slots = inputs.pack(program, schedule.weights(), schedule.params(), range)?;
        let mut clear = Clear::new(schedule, slots, Some(NOISE_SEED + number as u64))?;
        let mut observed = Observed::new(&mut clear, |i, n, slots: &Vec<f64>| {
            comparison.see(i, n, slots, batch);
            Ok(())
        });
        walk(program, &mut observed, &mut |p| {
            progress.step(p.index, p.total, p.layer);
        })?;
        let (_, found) = clear.into_outputs();
        // Spare lanes repeat inputs that are reported already.
        let used = found.into_iter().filter(|f| f.lane < count);
        flags.extend(used.map(|f| (number, f)));
    }
    Ok(flags)
}

fn begin(
    comparison: &mut Comparison,
    program: &Program,
    inputs: &InputSet,
    range: std::ops::Range<usize>,
) -> Outcome {
    let users: Vec<_> = range.clone().map(|i| inputs.user(program, i)).collect();
    comparison
        .begin(range.start, &users)
        .map_err(|e| Failure::new("mismatch", format!("the plaintext model: {e}")))
}

fn encrypted(
    schedule: Schedule,
    inputs: &InputSet,
    asked: ServerBackend,
    comparison: &mut Comparison,
    progress: &mut Progress,
) -> Outcome<&'static str> {
    let program = schedule.program().clone();
    let (params, weights) = (schedule.params().clone(), schedule.weights().clone());
    let batch = program.batch as usize;
    let request = key_request(&program, &params)?;
    progress.note(&format!("making {} evaluation keys", request.len()));
    let context = RlweContext::new(params.clone())?;
    let random = RandomSource::from_entropy()?;
    let key = ClientKey::generate(Arc::clone(&context), &random.derive("client key", &[]));
    let keys = key.evaluation_keys(&request, &random.derive("evaluation keys", &[]))?;
    let client = Client::new(&program, &key)?;
    let machine = Machine::choose(asked, &context, progress)?;
    let name = machine.name();
    let server = Server::new(schedule, context, keys, machine)?;
    for (number, range) in inputs.runs(program.batch).into_iter().enumerate() {
        begin(comparison, &program, inputs, range.clone())?;
        let slots = inputs.pack(&program, &weights, &params, range)?;
        let encrypted = client.encrypt(number, &slots)?;
        server.run_observed(encrypted, progress, &mut |i, n, ct| {
            if comparison.wants(i, n) {
                let failed = |e: Failure| ExecError::Evaluator(e.message);
                let slots = client.decrypt([ct]).map_err(failed)?;
                for slots in &slots {
                    comparison.see(i, n, slots, batch);
                }
            }
            Ok(())
        })?;
    }
    Ok(name)
}

fn text_of(v: &Value) -> &str {
    v.as_str().unwrap_or("")
}

fn interval(v: &Value) -> String {
    crate::depth_report::units::interval(v).unwrap_or_else(|| "-".into())
}

/// The comparison for reading.
fn to_text(found: &Value) -> String {
    let mut t = String::new();
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let number_of = |v: &Value| float(v).map_or("-".into(), number);
    // Writing to a string cannot fail.
    let _ = writeln!(
        t,
        "{} in {} on {}, tolerance {}\n",
        plural(found["inputs"].as_u64().unwrap_or(0), "input"),
        plural(found["runs"].as_u64().unwrap_or(0), "run"),
        text_of(&found["backend"]),
        number_of(&found["tolerance"])
    );
    let _ = writeln!(
        t,
        "{:<38} {:<16} {:>9} {:>12}",
        "node", "kind", "error", "of tolerance"
    );
    let nodes = list(&found["nodes"]);
    for n in &nodes {
        let boot = match n["after_bootstrap"] == json!(true) {
            true => " (bootstrapped)",
            false => "",
        };
        let name = fit(text_of(&n["node"]), 38 - boot.len());
        let share = match float(&n["of_tolerance"]) {
            None => "-".into(),
            // What diverged has no share worth its digits.
            Some(s) if s >= 1e4 => format!("{:.0e} %", 100.0 * s),
            Some(s) => format!("{:.1} %", 100.0 * s),
        };
        let mark = if n["beyond"] == json!(true) {
            "  <<"
        } else {
            ""
        };
        let _ = writeln!(
            t,
            "{:<38} {:<16} {:>9} {share:>12}{mark}",
            format!("{name}{boot}"),
            fit(text_of(&n["kind"]), 16),
            number_of(&n["error"]),
        );
    }
    let _ = writeln!(t);
    let first = &found["first_bad"];
    if first.is_null() {
        let _ = writeln!(t, "all {} nodes within tolerance", nodes.len());
    } else {
        let w = &first["worst"];
        let _ = writeln!(
            t,
            "first node beyond the tolerance: {} in layer {} ({}), instructions {} to {}: input {} element {}: found {}, expected {}, error {}",
            fit(text_of(&first["node"]), 120),
            fit(text_of(&first["layer"]), 120),
            text_of(&first["kind"]),
            first["first_instruction"],
            first["last_instruction"],
            w["input"],
            w["element"],
            number_of(&w["found"]),
            number_of(&w["expected"]),
            number_of(&first["error"]),
        );
    }
    let left = list(&found["ranges_left"]);
    if left.is_empty() {
        let _ = writeln!(t, "every value stayed in its calibrated range");
    } else {
        let _ = writeln!(
            t,
            "{} left the calibrated range:",
            plural(left.len() as u64, "value")
        );
        for l in &left {
            let what = match text_of(&l["what"]) {
                "value" => String::new(),
                what => format!(" ({what})"),
            };
            let fit_note = match &l["inside_fitted"] {
                Value::Bool(true) => ", still inside the fitted interval".to_string(),
                Value::Bool(false) => format!(", OUTSIDE the fitted {}", interval(&l["fitted"])),
                _ => String::new(),
            };
            let _ = writeln!(
                t,
                "  {}{what}: calibrated {}, found {} (input {}{fit_note})",
                fit(text_of(&l["node"]), 60),
                interval(&l["calibrated"]),
                interval(&l["found"]),
                l["input"],
            );
        }
    }
    let flags = list(&found["bootstraps_out_of_range"]);
    for f in &flags {
        let _ = writeln!(
            t,
            "  bootstrap in layer {}: input {} reaches {}, bootstraps take [-1, 1]",
            fit(text_of(&f["layer"]), 60),
            f["input"],
            number_of(&f["found"])
        );
    }
    t
}
