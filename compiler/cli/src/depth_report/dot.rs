//! The layer graph of a schedule in the language of graphviz.

use super::units::{fit, plural, show};
use heron_schedule::path::{layer_flow, End};
use heron_schedule::proto::Program;
use serde_json::Value;
use std::fmt::Write;

/// A name as a quoted string of the dot language; control characters become spaces.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Lines of a label, joined by graphviz's line break.
fn label(lines: &[String]) -> String {
    let quoted: Vec<String> = lines
        .iter()
        .map(|l| {
            let q = quoted(l);
            q[1..q.len() - 1].to_string()
        })
        .collect();
    format!("\"{}\"", quoted.join("\\n"))
}

fn id(end: End) -> String {
    match end {
        End::Input(n) => format!("input{n}"),
        End::Layer(n) => format!("layer{n}"),
        End::Output(n) => format!("output{n}"),
    }
}

/// Layers with their levels and bootstraps, joined by the ciphertexts that pass between them. The same text on any machine.
pub fn to_dot(program: &Program, report: &Value) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "digraph {} {{", quoted(&program.name));
    let _ = writeln!(
        out,
        "  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\", fillcolor=\"#f4f4f4\", fontname=\"Helvetica\"];\n  edge [fontname=\"Helvetica\", fontsize=10];"
    );
    for (n, port) in program.inputs.iter().enumerate() {
        let text = label(&[
            format!("input {}", fit(&port.name, 60)),
            format!("level {}", port.level),
        ]);
        let _ = writeln!(out, "  input{n} [shape=ellipse, label={text}];");
    }
    let layers = report["layers"].as_array();
    for (n, layer) in layers.into_iter().flatten().enumerate() {
        let bootstraps = layer["bootstraps"].as_u64().unwrap_or(0);
        let mut lines = vec![
            fit(layer["name"].as_str().unwrap_or(""), 60),
            show(&layer["kind"]),
        ];
        let alone = layer["level_out"].is_null();
        lines.push(match layer["level_in"].as_u64() {
            _ if alone => "merged into other layers".into(),
            Some(level) => format!("level {level} > {}", show(&layer["level_out"])),
            None => format!("level {}", show(&layer["level_out"])),
        });
        let mut style = "";
        if bootstraps > 0 {
            lines.push(plural(bootstraps, "bootstrap"));
            style = ", fillcolor=\"#ffd9a8\", penwidth=2";
        } else if alone {
            style = ", style=dashed";
        }
        let _ = writeln!(out, "  layer{n} [label={}{style}];", label(&lines));
    }
    for (n, port) in program.outputs.iter().enumerate() {
        let text = label(&[
            format!("output {}", fit(&port.name, 60)),
            format!("level {}", port.level),
        ]);
        let _ = writeln!(out, "  output{n} [shape=ellipse, label={text}];");
    }
    for ((from, to), flow) in layer_flow(program) {
        let text = format!(
            "{} at level {}",
            plural(u64::from(flow.ciphertexts), "ciphertext"),
            flow.level
        );
        let _ = writeln!(
            out,
            "  {} -> {} [label={}];",
            id(from),
            id(to),
            quoted(&text)
        );
    }
    out.push_str("}\n");
    out
}
