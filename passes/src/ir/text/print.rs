//! The full text of a graph: head, layers, values, outputs, constants.

use std::fmt::Write;

use super::notation::{name, number, Notation};
use crate::ir::graph::{Graph, Node, ValueId};
use crate::ir::shape::{Interval, LayerKind};

fn interval(i: Interval) -> String {
    format!("[{}, {}]", number(i.lo), number(i.hi))
}

/// Shape, ranges and layer of a value, exact.
pub fn facts_text<O>(node: &Node<O>) -> String {
    let mut text = format!(": {}", node.shape);
    if let Some(range) = node.range {
        text += &format!(" in {}", interval(range));
    }
    if !node.arguments.is_empty() {
        let all: Vec<String> = node.arguments.iter().map(|a| interval(*a)).collect();
        text += &format!(" argument in {}", all.join(" "));
    }
    if node.layer != 0 {
        text += &format!(" layer {}", node.layer);
    }
    text
}

/// The full text: `head` follows the name of the graph, `lines` come before the values and after the outputs, `op` writes the operation of a value, `factors`
/// are what the client divides outputs by.
pub fn full<O>(
    graph: &Graph<O>,
    (stage, head): (&str, &str),
    mut notation: Notation,
    lines: (&[String], &[String]),
    op: impl Fn(ValueId, &mut Notation) -> String,
    factors: &[f64],
) -> String {
    let mut text = format!("{stage} {}{head} {{\n", name(&graph.name));
    // A single layer named after the graph says nothing.
    let plain = matches!(&graph.layers[..], [l] if l.name == graph.name && l.kind == LayerKind::Other && l.onnx_nodes.is_empty());
    // Writing to a string cannot fail.
    for layer in graph.layers.iter().filter(|_| !plain) {
        let _ = write!(text, "  layer {} {}", name(&layer.name), layer.kind.name());
        for (i, node) in layer.onnx_nodes.iter().enumerate() {
            let before = if i == 0 { " from" } else { "," };
            let _ = write!(text, "{before} {}", name(node));
        }
        text.push('\n');
    }
    for line in lines.0 {
        let _ = writeln!(text, "  {line}");
    }
    let values: Vec<(String, String)> = graph
        .topological()
        .into_iter()
        .map(|v| {
            let node = graph.node(v);
            notation.enter(&node.name);
            let op = op(v, &mut notation);
            (format!("  %{} = {op}", name(&node.name)), facts_text(node))
        })
        .collect();
    let width = values.iter().map(|(op, _)| op.chars().count()).max();
    let width = width.unwrap_or(0).min(100);
    for (op, facts) in values {
        let _ = writeln!(text, "{op:width$} {facts}");
    }
    for (i, (output, v)) in graph.outputs.iter().enumerate() {
        let made = name(&graph.node(*v).name);
        let _ = write!(text, "  output {} = %{made}", name(output));
        match factors.get(i) {
            Some(factor) if *factor != 1.0 => {
                let _ = writeln!(text, ", factor {}", number(*factor));
            }
            _ => text.push('\n'),
        }
    }
    for line in lines.1 {
        let _ = writeln!(text, "  {line}");
    }
    text + "}\n" + &notation.section()
}
