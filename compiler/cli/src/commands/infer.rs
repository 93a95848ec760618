//! `heron infer`: compile, make keys, encrypt, run, decrypt and compare, in one process.

use super::{by_kind, print_json, print_text};
use crate::args::{BackendChoice, CompileOptions, Infer, Positions, ServerBackend, TextOrJson};
use crate::breakdown::{by_layer_kind, by_primitive, table};
use crate::client::Client;
use crate::console::{on_threads, peak_bytes, peak_line, warn_if_insecure, Progress};
use crate::failure::{At, Outcome};
use crate::frontend;
use crate::inputs::{
    arg_max, is_witness, left_interval_warning, left_intervals, width, Accuracy, InputSet,
    OutputSet,
};
use crate::machine::{self, server_backend, Machine};
use crate::memory::run_bytes;
use crate::server::{key_request, Server};
use heron_compiler::npz;
use heron_runtime::client::ClientKey;
use heron_runtime::exec::clear::{Clear, RangeFlag};
use heron_runtime::exec::{walk, Timing};
use heron_runtime::ring::RandomSource;
use heron_runtime::rlwe::RlweContext;
use heron_schedule::Schedule;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The seed of the modelled noise: `clear` gives the same results every time.
pub(super) const NOISE_SEED: u64 = 1;

#[derive(Default)]
struct Seconds {
    compile: f64,
    keygen: f64,
    encrypt: f64,
    run: f64,
    decrypt: f64,
}

#[derive(Default)]
struct Results {
    outputs: OutputSet,
    timing: Timing,
    seconds: Seconds,
    flags: Vec<(usize, RangeFlag)>,
}

/// Leading axis that all arrays share: the number of inputs, most likely.
fn leading(arrays: &npz::Arrays) -> Option<usize> {
    let mut axes = arrays.0.values().map(npz::Array::batch);
    let first = axes.next()?;
    axes.all(|n| n == first).then_some(first)
}

fn is_schedule(path: &Path) -> Outcome<bool> {
    let mut magic = [0u8; 8];
    let mut file = std::fs::File::open(path).at(path)?;
    Ok(file.read(&mut magic).at(path)? == 8 && &magic == b"HERONSCH")
}

/// Runs the command.
pub fn run(args: &Infer, quiet: bool) -> Outcome {
    machine::check(server_backend(args.backend))?;
    on_threads(args.threads, || run_on_pool(args, quiet))
}

fn run_on_pool(args: &Infer, quiet: bool) -> Outcome {
    let mut progress = Progress::new(quiet);
    let started = Instant::now();
    let arrays = npz::read(&args.input)?;
    let (schedule, model) = if is_schedule(&args.model)? {
        (Schedule::open(&args.model)?, None)
    } else {
        progress.note(&format!("compiling {}", args.model.display()));
        let options = CompileOptions {
            inputs: leading(&arrays).map(|n| n.min(args.limit.unwrap_or(n)).max(1)),
            ..args.options.clone()
        };
        let compiled = frontend::compile(&args.model, &options, None)?;
        let program = compiled.schedule.program();
        if let Some(warning) = frontend::too_inaccurate(program, args.options.tolerance) {
            progress.note(&warning);
        }
        (compiled.schedule, Some(compiled.model))
    };
    let compile = started.elapsed().as_secs_f64();
    warn_if_insecure(schedule.params());
    let (program, weights) = (schedule.program().clone(), schedule.weights().clone());
    let inputs = InputSet::new(&program, &weights, &arrays, args.limit).at(&args.input)?;
    let runs = inputs.runs(program.batch);
    let lanes: Vec<String> = runs.iter().map(|r| r.len().to_string()).collect();
    progress.note(&format!(
        "{} inputs in {} runs of {}",
        inputs.count,
        runs.len(),
        lanes.join(" + ")
    ));
    // Nothing is encrypted on the clear backend, so there is nothing to estimate.
    let estimated = match args.backend {
        BackendChoice::Clear => None,
        _ => Some(run_bytes(&program, schedule.params())),
    };
    let (backend, mut results) = match args.backend {
        BackendChoice::Clear => ("clear", run_clear(&schedule, &inputs, &mut progress)?),
        choice => {
            let asked = server_backend(choice);
            run_encrypted(schedule, &inputs, asked, &mut progress)?
        }
    };
    results.seconds.compile = compile;
    let has_heads = program.outputs.iter().any(|port| port.head.is_some());
    let decrypted = has_heads.then(|| results.outputs.clone());
    let started = Instant::now();
    results.outputs.apply_heads(&program, &weights)?;
    results.seconds.decrypt += started.elapsed().as_secs_f64();
    let mut hidden_error = None;
    let reference = match (&args.expect, &model) {
        (Some(path), _) => {
            let arrays = npz::read(path)?;
            let hidden = OutputSet::expected_hidden(&program, &arrays, inputs.count);
            hidden_error = decrypted
                .zip(hidden)
                .map(|(found, told)| Accuracy::new(&program, &found, &told).over_rms);
            let last = args.options.positions == Positions::Last;
            Some(OutputSet::expected(&program, &arrays, inputs.count, last).at(path)?)
        }
        (None, Some(model)) => Some(model.reference(&program, &arrays, inputs.count)?),
        (None, None) => None,
    };
    let accuracy = reference
        .as_ref()
        .map(|r| Accuracy::new(&program, &results.outputs, r));
    if let Some(path) = &args.output {
        npz::write(path, &results.outputs.to_arrays(&program))?;
    }
    let flagged = flagged(&results.flags, program.batch);
    for (input, worst) in &flagged {
        progress.note(&format!(
            "warning: input {input} leaves its calibrated range before a bootstrap (up to {worst:.3})"
        ));
    }
    let left = left_intervals(&program, &results.outputs);
    for (input, (name, worst)) in &left {
        progress.note(&left_interval_warning(*input, name, *worst));
    }
    let bootstraps = program.instructions.iter();
    let bootstraps = bootstraps
        .filter(|i| {
            matches!(
                i.op,
                Some(heron_schedule::proto::instruction::Op::Bootstrap(_))
            )
        })
        .count();
    let summary = json!({
        "backend": backend,
        "inputs": inputs.count,
        "runs": runs.len(),
        "seconds": {
            "compile": results.seconds.compile,
            "keygen": results.seconds.keygen,
            "encrypt": results.seconds.encrypt,
            "run": results.seconds.run,
            "decrypt": results.seconds.decrypt,
        },
        "bootstraps": bootstraps,
        "error": accuracy.map(|a| json!({
            "max_abs": a.max_abs, "mean_abs": a.mean_abs, "relative": a.relative,
            "predicted": frontend::predicted_error(&program),
        })),
        "hidden_error": hidden_error,
        "top1_agreement": accuracy.map(|a| a.top1_agreement),
        "by_kind": by_kind(&results.timing),
        "by_primitive": by_primitive(&results.timing),
        "by_layer_kind": by_layer_kind(&program, &results.timing),
        "out_of_range": flagged.keys().collect::<Vec<_>>(),
        "left_intervals": program.outputs.iter().any(is_witness).then(|| left.keys().collect::<Vec<_>>()),
        "peak_bytes": peak_bytes(),
        "estimated_peak_bytes": estimated,
    });
    match args.format {
        TextOrJson::Json => print_json(&summary),
        TextOrJson::Text => {
            let width = program.outputs.first().map_or(1, width);
            let table = predictions(&results.outputs, reference.as_ref(), width);
            print_text(&(table + &to_text(&summary)))
        }
    }
}

/// For each input that left [-1, 1] before a bootstrap, the largest size found.
fn flagged(flags: &[(usize, RangeFlag)], batch: u32) -> BTreeMap<usize, f64> {
    let mut found = BTreeMap::new();
    for (run, flag) in flags {
        let worst: &mut f64 = found.entry(run * batch as usize + flag.lane).or_default();
        *worst = worst.max(flag.worst);
    }
    found
}

fn run_clear(schedule: &Schedule, inputs: &InputSet, progress: &mut Progress) -> Outcome<Results> {
    let program = schedule.program();
    let mut results = Results {
        outputs: OutputSet::new(program),
        ..Results::default()
    };
    for (number, range) in inputs.runs(program.batch).into_iter().enumerate() {
        let count = range.len();
        let started = Instant::now();
        let slots = inputs.pack(program, schedule.weights(), schedule.params(), range)?;
        results.seconds.encrypt += started.elapsed().as_secs_f64();
        let mut clear = Clear::new(schedule, slots, Some(NOISE_SEED + number as u64))?;
        let timing = walk(program, &mut clear, &mut |p| {
            progress.step(p.index, p.total, p.layer);
        })?;
        results.timing.merge(&timing);
        let (outputs, flags) = clear.into_outputs();
        // Spare lanes repeat inputs that are reported already.
        let used = flags.into_iter().filter(|f| f.lane < count);
        results.flags.extend(used.map(|f| (number, f)));
        let started = Instant::now();
        results.outputs.extend(program, &outputs, count)?;
        results.seconds.decrypt += started.elapsed().as_secs_f64();
    }
    results.seconds.run = results.timing.seconds;
    Ok(results)
}

fn run_encrypted(
    schedule: Schedule,
    inputs: &InputSet,
    asked: ServerBackend,
    progress: &mut Progress,
) -> Outcome<(&'static str, Results)> {
    let program = schedule.program().clone();
    let params = schedule.params().clone();
    let weights = schedule.weights().clone();
    let mut results = Results {
        outputs: OutputSet::new(&program),
        ..Results::default()
    };
    let started = Instant::now();
    let request = key_request(&program, &params)?;
    progress.note(&format!("making {} evaluation keys", request.len()));
    let context = RlweContext::new(params.clone())?;
    let random = RandomSource::from_entropy()?;
    let key = ClientKey::generate(Arc::clone(&context), &random.derive("client key", &[]));
    let keys = key.evaluation_keys(&request, &random.derive("evaluation keys", &[]))?;
    progress.note(&format!(
        "{:.2} GiB of keys",
        keys.bytes() as f64 / 2f64.powi(30)
    ));
    let client = Client::new(&program, &key)?;
    let machine = Machine::choose(asked, &context, progress)?;
    let name = machine.name();
    let server = Server::new(schedule, context, keys, machine)?;
    results.seconds.keygen = started.elapsed().as_secs_f64();
    for (number, range) in inputs.runs(program.batch).into_iter().enumerate() {
        let count = range.len();
        let started = Instant::now();
        let slots = inputs.pack(&program, &weights, &params, range)?;
        let encrypted = client.encrypt(number, &slots)?;
        results.seconds.encrypt += started.elapsed().as_secs_f64();
        let (outputs, timing) = server.run(encrypted, progress)?;
        results.timing.merge(&timing);
        let started = Instant::now();
        let slots = outputs
            .iter()
            .map(|cts| client.decrypt(cts))
            .collect::<Outcome<Vec<_>>>()?;
        results.outputs.extend(&program, &slots, count)?;
        results.seconds.decrypt += started.elapsed().as_secs_f64();
    }
    results.seconds.run = results.timing.seconds;
    Ok((name, results))
}

/// One line per input: what was predicted, what the plaintext model predicts, the largest difference.
fn predictions(found: &OutputSet, reference: Option<&OutputSet>, width: usize) -> String {
    let mut text = String::new();
    let Some(port) = found.ports.first() else {
        return text;
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "input  prediction  plaintext  largest difference");
    for (i, values) in port.iter().enumerate() {
        let plain = reference
            .and_then(|r| r.ports.first())
            .and_then(|p| p.get(i));
        let (expected, error) = match plain {
            Some(plain) => {
                let differences = values.iter().zip(plain).map(|(a, b)| (a - b).abs());
                let worst = differences.fold(0.0, f64::max);
                (arg_max(plain, width).to_string(), format!("{worst:.6}"))
            }
            None => ("-".into(), "-".into()),
        };
        let _ = writeln!(
            text,
            "{i:>5}  {:>10}  {expected:>9}  {error:>18}",
            arg_max(values, width)
        );
    }
    text
}

fn to_text(summary: &Value) -> String {
    let mut text = String::new();
    let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n{} inputs in {} runs on {}, {} bootstraps per run",
        summary["inputs"], summary["runs"], summary["backend"], summary["bootstraps"]
    );
    if summary["error"].is_object() {
        let e = &summary["error"];
        let _ = writeln!(
            text,
            "agreement {:.1} %, error max {:.6} mean {:.6} relative {:.2e}{}",
            100.0 * number(&summary["top1_agreement"]),
            number(&e["max_abs"]),
            number(&e["mean_abs"]),
            number(&e["relative"]),
            match e["predicted"].as_f64() {
                Some(p) => format!(" (predicted at most {p:.2e})"),
                None => String::new(),
            }
        );
    }
    if let Some(error) = summary["hidden_error"].as_f64() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "what the client's head reads: largest difference over root mean square {error:.2e}"
        );
    }
    let seconds = summary["seconds"].as_object().into_iter().flatten();
    let parts: Vec<String> = seconds
        .map(|(k, v)| format!("{k} {:.2}", number(v)))
        .collect();
    let _ = writeln!(text, "seconds: {}", parts.join(", "));
    text.push_str(&table(&summary["by_layer_kind"], &summary["by_primitive"]));
    let peak = summary["peak_bytes"].as_u64().unwrap_or(0);
    let estimated = summary["estimated_peak_bytes"].as_u64();
    let _ = writeln!(text, "{}", peak_line(peak, estimated));
    text
}
