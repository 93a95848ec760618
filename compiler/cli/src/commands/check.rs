//! `heron check`.

use super::{print_json, print_text};
use crate::args::{Check, TextOrJson};
use crate::failure::{Failure, Outcome};
use heron_compiler::onnx::{self, CheckReport, Shapes};
use heron_compiler::{calibration, npz};
use serde_json::json;
use std::fmt::Write;

/// Prints what compiles and what does not; fails when there is an obstacle.
pub fn run(args: &Check) -> Outcome {
    let shapes = Shapes(args.shape.iter().cloned().collect());
    let beside = calibration::beside(&args.model);
    let arrays = if beside.exists() {
        Some(npz::read(&beside)?)
    } else {
        None
    };
    let found = onnx::check(&args.model, &shapes, arrays.as_ref())?;
    match args.format {
        TextOrJson::Json => print_json(&to_json(&found))?,
        TextOrJson::Text => print_text(&to_text(&found))?,
    }
    let Some(first) = found.obstacles.first() else {
        return Ok(());
    };
    let more = match found.obstacles.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more on stdout)"),
    };
    let message = format!("{}: {first}{more}", args.model.display());
    Err(Failure::new(first.kind.name(), message))
}

fn to_json(found: &CheckReport) -> serde_json::Value {
    let obstacles: Vec<_> = found
        .obstacles
        .iter()
        .map(|o| {
            json!({"kind": o.kind.name(), "node": o.node, "op": o.op, "reason": o.reason, "remedy": o.remedy})
        })
        .collect();
    json!({
        "compiles": found.compiles,
        "operators": found.operators,
        "blocks": found.blocks,
        "obstacles": obstacles,
    })
}

fn to_text(found: &CheckReport) -> String {
    let mut text = String::new();
    let list = |counts: &std::collections::BTreeMap<String, usize>| {
        let items: Vec<String> = counts.iter().map(|(k, n)| format!("{k} {n}")).collect();
        items.join(", ")
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "operators: {}", list(&found.operators));
    let _ = writeln!(text, "blocks:    {}", list(&found.blocks));
    for o in &found.obstacles {
        let _ = writeln!(text, "obstacle [{}]: {o}", o.kind.name());
    }
    let verdict = if found.compiles {
        "compiles"
    } else {
        "does not compile"
    };
    let _ = writeln!(text, "{verdict}");
    text
}
