//! last-position: tensor → tensor.
//! before   %n = layer_norm %x          : [128,512]     after   %y = linear %x, rows 1 of 128 : [1,512]
//!          %l = linear %n, @W          : [128,50304]           %n = layer_norm %y            : [1,512]
//!                                                              %l = linear %n, @W            : [1,50304]
//! Needs    outputs with one row per position; outputs of one row are left alone.
//! Error    none: the rows that are left are computed as before.
//! Depth    one more where a residual stream is cut (choosing a row is a linear map); none where a projection reads it.
//! Why      what comes after the keys and values of the last attention acts on each position alone: a next token needs one query and one row
//!          of what follows instead of all.
//! Refuses  graphs none of whose outputs has more than one row.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::graph::ValueId;
use crate::ir::shape::{Matrix, Shape};
use crate::ir::tensor::{Linear, LinearTerm, RowMap, TensorGraph, TensorOp};
use crate::ir::weight::Weight;
use crate::pass::{Changed, Pass, PassCx, PassError};

/// The pass; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastPosition;

impl Pass for LastPosition {
    type Ir = TensorGraph;
    const NAME: &'static str = "last-position";
    const NEEDED: bool = true;

    fn run(&self, graph: &mut TensorGraph, _: &mut PassCx) -> Result<Changed, PassError> {
        let cut: BTreeSet<ValueId> = graph
            .outputs
            .iter()
            .map(|(_, v)| *v)
            .filter(|v| rows(graph, *v) > 1)
            .collect();
        if cut.is_empty() {
            return Err(PassError::Refused {
                pass: LastPosition::NAME,
                value: graph
                    .outputs
                    .first()
                    .map_or(String::new(), |(name, _)| name.clone()),
                reason: "expected an output with several positions, found one row in every output"
                    .into(),
                remedy: "compile with --positions all: such a model returns one position already"
                    .into(),
            });
        }
        let short = shortened(graph, &cut);
        let mut last = Last::default();
        for v in graph.topological() {
            if short.contains(&v) {
                shorten(graph, v, &short, &mut last);
            }
        }
        for i in 0..graph.outputs.len() {
            let v = graph.outputs[i].1;
            if cut.contains(&v) && !short.contains(&v) {
                graph.outputs[i].1 = last.of(graph, v);
            }
        }
        graph.remove_dead(|op| matches!(op, TensorOp::Input { .. }));
        Ok(Changed::Yes)
    }
}

fn rows(graph: &TensorGraph, v: ValueId) -> usize {
    match graph.node(v).shape {
        Shape::Matrix { rows, .. } => rows,
        _ => 1,
    }
}

/// Scores, softmax and product with the values of each attention that nothing else reads in between: one query gives one row of all.
fn attentions(graph: &TensorGraph) -> BTreeSet<ValueId> {
    let outputs: BTreeSet<ValueId> = graph.outputs.iter().map(|(_, v)| *v).collect();
    let alone = |v: ValueId, user: ValueId| graph.users(v) == [user] && !outputs.contains(&v);
    let mut found = BTreeSet::new();
    for values in graph.topological() {
        if !matches!(graph.node(values).op, TensorOp::Values { .. }) {
            continue;
        }
        let Some(&softmax) = graph.operands(values).first() else {
            continue;
        };
        // A mask that is an operand has all its rows.
        let [scores] = graph.operands(softmax)[..] else {
            continue;
        };
        let by_row = matches!(
            (&graph.node(softmax).op, &graph.node(scores).op),
            (
                TensorOp::PowerSoftmax { .. } | TensorOp::Softmax { .. },
                TensorOp::Scores { .. }
            )
        );
        if by_row && alone(softmax, values) && alone(scores, softmax) {
            found.extend([values, softmax, scores]);
        }
    }
    found
}

/// Values of which only the last row is read and that can be computed for it alone.
fn shortened(graph: &TensorGraph, cut: &BTreeSet<ValueId>) -> BTreeSet<ValueId> {
    let mut whole: BTreeSet<ValueId> = graph.outputs.iter().map(|(_, v)| *v).collect();
    whole.retain(|v| !cut.contains(v));
    let mut short = BTreeSet::new();
    let attentions = attentions(graph);
    for v in graph.topological().into_iter().rev() {
        let read = cut.contains(&v) || graph.users(v).iter().any(|u| short.contains(u));
        let by_row = match &graph.node(v).op {
            TensorOp::Linear(_)
            | TensorOp::Add
            | TensorOp::Sub
            | TensorOp::Multiply
            | TensorOp::LayerNorm { .. }
            | TensorOp::Activation(_) => rows(graph, v) > 1,
            TensorOp::Scores { .. }
            | TensorOp::PowerSoftmax { .. }
            | TensorOp::Softmax { .. }
            | TensorOp::Values { .. } => attentions.contains(&v),
            TensorOp::Input { .. } => false,
        };
        if read && by_row && !whole.contains(&v) {
            short.insert(v);
        }
        // Other values need their operands whole, and so does a map that mixes rows.
        let mixes = match &graph.node(v).op {
            TensorOp::Linear(l) => l.terms.iter().any(|t| t.rows != RowMap::Identity),
            _ => false,
        };
        if !short.contains(&v) || mixes {
            whole.extend(graph.operands(v));
        } else if reads_keys(&graph.node(v).op) {
            whole.extend(graph.operands(v).get(1));
        }
    }
    short
}

/// Whether the second operand is read by every row.
fn reads_keys(op: &TensorOp) -> bool {
    matches!(op, TensorOp::Scores { .. } | TensorOp::Values { .. })
}

/// Values whose last row was asked for, and that row.
#[derive(Default)]
struct Last(BTreeMap<ValueId, ValueId>);

impl Last {
    /// The last row of a value, by a map that is made once.
    fn of(&mut self, graph: &mut TensorGraph, v: ValueId) -> ValueId {
        if let Some(known) = self.0.get(&v) {
            return *known;
        }
        let node = graph.node(v);
        let (name, layer, range) = (format!("{}.last", node.name), node.layer, node.range);
        let Shape::Matrix { rows, cols } = node.shape else {
            return v;
        };
        let choice = Linear {
            terms: vec![LinearTerm {
                rows: RowMap::Mix(last_of(rows)),
                weight: Weight::identity(cols),
                post: None,
            }],
            bias: None,
        };
        let shape = Shape::Matrix { rows: 1, cols };
        let made = graph.add(&name, TensorOp::Linear(choice), &[v], shape, layer);
        graph.node_mut(made).range = range;
        self.0.insert(v, made);
        made
    }
}

/// The (1 × rows) matrix that chooses the last row.
fn last_of(rows: usize) -> Matrix {
    let mut m = Matrix::zeros(1, rows);
    if let Some(x) = m.data.last_mut() {
        *x = 1.0;
    }
    m
}

/// The last row of a matrix.
fn last_row(m: &Matrix) -> Matrix {
    Matrix {
        rows: 1,
        cols: m.cols,
        data: m.data[m.data.len() - m.cols..].to_vec(),
    }
}

/// Makes `v` compute its last row only. Its operands are done already.
fn shorten(graph: &mut TensorGraph, v: ValueId, short: &BTreeSet<ValueId>, last: &mut Last) {
    let mut operands = graph.operands(v);
    match &mut graph.node_mut(v).op {
        TensorOp::Linear(l) => {
            l.bias = l.bias.as_ref().map(last_row);
            for t in &mut l.terms {
                t.post = t.post.as_ref().map(last_row);
            }
        }
        TensorOp::Scores { mask, .. } | TensorOp::Softmax { mask } => {
            *mask = mask.as_ref().map(last_row);
        }
        _ => {}
    }
    let keys = reads_keys(&graph.node(v).op);
    let whole = |o: ValueId| !short.contains(&o);
    if let [x] = operands[..] {
        let of = rows(graph, x);
        if let (TensorOp::Linear(l), true) = (&mut graph.node_mut(v).op, whole(x)) {
            for t in &mut l.terms {
                t.rows = RowMap::Mix(match &t.rows {
                    RowMap::Identity => last_of(of),
                    RowMap::Mix(m) => last_row(m),
                });
            }
            operands.clear();
        }
    }
    if !operands.is_empty() {
        let by_row = if keys { 1 } else { operands.len() };
        for o in operands.iter_mut().take(by_row) {
            if whole(*o) {
                *o = last.of(graph, *o);
            }
        }
        graph.set_operands(v, &operands);
    }
    let node = graph.node_mut(v);
    match &mut node.shape {
        Shape::Matrix { rows, .. } | Shape::Scores { rows, .. } => *rows = 1,
        Shape::PerHead { .. } | Shape::PerRow { .. } => {}
    }
}
