//! client-head: tensor → tensor, and what the client is to do.
//! before   %l = linear %n, @W + @b     : [1,50304]     after   %n is the output; the client computes %n · @W + @b
//! Needs    one output, a linear map of one value: the head of a language model, the last layer of a classifier.
//! Error    none for the client's part: it computes in f64 on what it decrypts.
//! Depth    one less, and nothing of the head is encrypted: for a vocabulary of 50,304 that is most of the last layer.
//! Why      who holds the key sees the logits anyway; the head's weights are disclosed to the client, as an embedding table is.
//! Refuses  several outputs, and outputs that are no linear map of one value.

use crate::ir::graph::ValueId;
use crate::ir::shape::{LayerKind, Matrix, Shape};
use crate::ir::tensor::{Linear, LinearTerm, RowMap, TensorGraph, TensorOp};
use crate::ir::weight::Weight;
use crate::pass::PassError;

/// The name in messages and among the stages.
pub const NAME: &str = "client-head";

/// A head: each row x of the decrypted value becomes x · weight + bias.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientHead {
    /// (in_cols × out_cols).
    pub weight: Weight,
    /// (1 × out_cols) for every row, or one row each; `None` is zero.
    pub bias: Option<Matrix>,
    /// (rows × in_cols) of the value that is decrypted.
    pub shape: (usize, usize),
    /// Shape of the model's output for one input: what the client gives in the end.
    pub output: Vec<usize>,
}

/// Takes the head off a graph: its output is then what the head reads. `output`: the shape of the model's output.
///
/// # Errors
/// Refused where the model does not end in a linear map of one value.
pub fn take_head(graph: &mut TensorGraph, output: &[usize]) -> Result<ClientHead, PassError> {
    let refused = |value: &str, reason: String| PassError::Refused {
        pass: NAME,
        value: value.into(),
        reason,
        remedy: "compile with --head server".into(),
    };
    let (name, v) = match &graph.outputs[..] {
        [(name, v)] => (name.clone(), *v),
        outputs => {
            let names: Vec<String> = outputs.iter().map(|(n, _)| format!("`{n}`")).collect();
            let reason = format!(
                "a head is left to the client where a model has one output, found {}: {}",
                outputs.len(),
                names.join(", ")
            );
            return Err(refused(outputs.first().map_or("", |o| &o.0), reason));
        }
    };
    let expected = "expected an output that is a linear map of one value (the head of a language model, the last layer of a classifier)";
    let TensorOp::Linear(map) = graph.node(v).op.clone() else {
        let kind = graph.layers.get(graph.node(v).layer);
        let kind = kind.map_or("another operation", |l| l.kind.name());
        return Err(refused(&name, format!("{expected}, found {kind}")));
    };
    let (mut terms, operands) = (map.terms, graph.operands(v));
    let (Some(term), [operand], true) = (terms.pop(), &operands[..], terms.is_empty()) else {
        let found = terms.len() + 1;
        return Err(refused(
            &name,
            format!("{expected}, found a sum of {found}"),
        ));
    };
    if term.post.is_some() {
        let found = "found one whose results are multiplied by constants";
        return Err(refused(&name, format!("{expected}, {found}")));
    }
    if matches!(graph.node(*operand).op, TensorOp::Input { .. }) {
        let reason = "the model is a linear map of its input: nothing would be left for the server";
        return Err(refused(&name, reason.into()));
    }
    let hidden = rows_of(graph, *operand, v, term.rows);
    let shape = match graph.node(hidden).shape {
        Shape::Matrix { rows, cols } => (rows, cols),
        ref other => {
            return Err(refused(
                &name,
                format!("{expected}, found one of {other:?}"),
            ))
        }
    };
    for (_, output) in &mut graph.outputs {
        *output = hidden;
    }
    graph.remove_dead(|op| matches!(op, TensorOp::Input { .. }));
    Ok(ClientHead {
        weight: term.weight,
        bias: map.bias,
        shape,
        output: output.to_vec(),
    })
}

/// The rows of `x` that the head `v` reads. Choosing or mixing rows stays with the server.
fn rows_of(graph: &mut TensorGraph, x: ValueId, v: ValueId, rows: RowMap) -> ValueId {
    let RowMap::Mix(mix) = rows else {
        return x;
    };
    let node = graph.node(x);
    let (name, range) = (format!("{}.rows", node.name), node.range);
    let Shape::Matrix { cols, .. } = node.shape else {
        return x;
    };
    let layer = graph.node(v).layer;
    if let Some(layer) = graph.layers.get_mut(layer) {
        layer.kind = LayerKind::Pool;
    }
    let shape = Shape::Matrix {
        rows: mix.rows,
        cols,
    };
    let choice = Linear {
        terms: vec![LinearTerm {
            rows: RowMap::Mix(mix),
            weight: Weight::identity(cols),
            post: None,
        }],
        bias: None,
    };
    let made = graph.add(&name, TensorOp::Linear(choice), &[x], shape, layer);
    graph.node_mut(made).range = range;
    made
}
