//! `heron compile --sweep`: what a model costs at several sizes of a symbolic axis. Nothing is written.

use super::report::of_schedule;
use super::{print_json, print_text};
use crate::args::{Compile, CompileOptions, TextOrJson};
use crate::console::Progress;
use crate::depth_report::units::{bytes, count, float, seconds};
use crate::failure::{Failure, Outcome};
use crate::frontend;
use heron_compiler::onnx::{axes, Axis};
use heron_schedule::recount::recount;
use serde_json::{json, Value};
use std::fmt::Write;
use std::time::Instant;

/// Compiles at one size after the other, one model in memory at a time, and prints a row for each.
pub fn run(args: &Compile, name: &str, sizes: &[usize], progress: &mut Progress) -> Outcome {
    let axes = axes(&args.model)?;
    let open = inputs_with(&axes, name)?;
    let mut rows = Vec::new();
    for &size in sizes {
        progress.note(&format!(
            "compiling {} with {name} = {size}",
            args.model.display()
        ));
        let shape = open.iter().map(|(input, dims)| {
            let dims = dims.iter().map(|d| d.unwrap_or(size)).collect();
            (input.clone(), dims)
        });
        let options = CompileOptions {
            shape: shape.chain(args.options.shape.iter().cloned()).collect(),
            fit_calibration: true,
            ..args.options.clone()
        };
        let row = row(args, &options, size);
        rows.push(
            row.map_err(|e| Failure::new(e.kind, format!("--sweep {name}={size}: {}", e.message)))?,
        );
    }
    let found = json!({
        "axis": name,
        "target": rows.first().map(|r: &Value| r["target"].clone()),
        "rows": rows,
    });
    match args.format {
        TextOrJson::Json => print_json(&found),
        TextOrJson::Text => print_text(&to_text(&found)),
    }
}

/// Inputs that have the axis, with their shapes, batch axis included; `None` is the axis.
type Swept = Vec<(String, Vec<Option<usize>>)>;

fn inputs_with(axes: &[(String, Vec<Axis>)], name: &str) -> Outcome<Swept> {
    let is = |axis: &Axis| matches!(axis, Axis::Symbolic(n) if n == name);
    let mut found = Swept::new();
    for (input, dims) in axes {
        if !dims.iter().any(is) {
            continue;
        }
        // A leading axis that is open or 1 is the batch.
        let mut shape = Vec::new();
        for (i, axis) in dims.iter().enumerate() {
            shape.push(match axis {
                axis if is(axis) && i == 0 => {
                    let message = format!(
                        "--sweep {name}: this is the batch axis of input `{input}`, which heron packs itself; see --batch"
                    );
                    return Err(Failure::new("shape", message));
                }
                axis if is(axis) => None,
                Axis::Fixed(n) => Some(*n),
                _ if i == 0 => Some(1),
                other => {
                    let message = format!(
                        "--sweep {name}: input `{input}` has another axis without a size, {}; export it with a fixed one",
                        described(other)
                    );
                    return Err(Failure::new("shape", message));
                }
            });
        }
        found.push((input.clone(), shape));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let inputs: Vec<String> = axes
        .iter()
        .map(|(input, dims)| {
            let dims: Vec<String> = dims.iter().map(described).collect();
            format!("`{input}` [{}]", dims.join(", "))
        })
        .collect();
    let open = axes.iter().flat_map(|(_, dims)| dims.iter().skip(1));
    let remedy = match open.into_iter().any(|a| matches!(a, Axis::Symbolic(_))) {
        true => "name one of the symbolic axes",
        false => "every axis but the batch is fixed: export the model with a symbolic one",
    };
    let message = format!(
        "--sweep {name}: no input has an axis of this name; inputs are {}; {remedy}",
        inputs.join(", ")
    );
    Err(Failure::new("shape", message))
}

fn described(axis: &Axis) -> String {
    match axis {
        Axis::Fixed(n) => n.to_string(),
        Axis::Symbolic(name) => name.clone(),
        Axis::Open => "?".into(),
    }
}

/// Compiles once; what is kept is the row.
fn row(args: &Compile, options: &CompileOptions, size: usize) -> Outcome<Value> {
    let started = Instant::now();
    let compiled = frontend::compile(&args.model, options, None)?;
    let schedule = &compiled.schedule;
    let report = of_schedule(schedule)?;
    let estimate = &report["estimate"];
    let program = schedule.program();
    let inputs = program.inputs.iter().map(|p| p.ciphertexts.len());
    Ok(json!({
        "size": size,
        "target": estimate["target"],
        "seconds": estimate["seconds"],
        "peak_bytes": estimate["peak_bytes"],
        "keys": report["keys"],
        "file_bytes": estimate["file_bytes"],
        "ciphertexts": recount(program, schedule.params().slots()).peak_registers,
        "input_ciphertexts": inputs.sum::<usize>(),
        "inputs_per_run": program.batch,
        "log2_n": schedule.params().log_n(),
        "bootstraps": report["bootstraps"],
        "bootstraps_by_kind": report["bootstraps_by_kind"],
        "key_switches": report["key_switches"],
        "per_attention": report["per_attention"],
        "ct_pt_multiply": report["operations"]["ct_pt_multiply"],
        "compile_seconds": started.elapsed().as_secs_f64(),
    }))
}

/// The rows for reading: 80 columns.
fn to_text(found: &Value) -> String {
    let mut text = String::new();
    let mut line = |cells: [String; 9]| {
        let [first, rest @ ..] = cells;
        // Writing to a string cannot fail.
        let _ = write!(text, "{first:>8}");
        for cell in rest {
            let _ = write!(text, " {cell:>8}");
        }
        text.push('\n');
    };
    let axis = found["axis"].as_str().unwrap_or("-");
    let heads = [
        axis, "seconds", "memory", "keys", "cts", "boots", "switches", "products", "per run",
    ];
    line(heads.map(|h| crate::depth_report::units::fit(h, 8)));
    for row in found["rows"].as_array().into_iter().flatten() {
        let number = |v: &Value| count(v.as_u64().unwrap_or(0));
        let size = |v: &Value| float(v).map_or("-".into(), bytes);
        line([
            number(&row["size"]),
            float(&row["seconds"]).map_or("-".into(), seconds),
            size(&row["peak_bytes"]),
            size(&row["keys"]["bytes"]),
            number(&row["ciphertexts"]),
            number(&row["bootstraps"]),
            number(&row["key_switches"]),
            number(&row["ct_pt_multiply"]),
            number(&row["inputs_per_run"]),
        ]);
    }
    let _ = writeln!(
        text,
        "estimates on {}; cts: ciphertexts alive at once; switches: key switches;\nproducts: products with plaintexts",
        found["target"].as_str().unwrap_or("-")
    );
    text
}
