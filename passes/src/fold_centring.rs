//! fold-centring: poly → poly.
//! before   %x1 = add %x0, %f                      after   the maps that write %x0 and %f have centred columns,
//!          %c = linear %x1, I − 11ᵀ/d                     and %c is %x1
//! Needs    every reader of the residual stream starts by centring (LayerNorm) or chooses rows of it for such readers, every writer
//!          is a linear map without `post` factors or an embedding table; otherwise the stream is left alone.
//! Error    none: LayerNorm does not see the mean.    Depth  one level less per LayerNorm.
//! Refuses  nothing: a stream it cannot centre stays as it is, which is correct and only deeper.
//! Source   ours: x − mean(x) is linear, so that it may be done where x is written.

use std::collections::BTreeSet;

use crate::fold_linear::composed;
use crate::ir::graph::ValueId;
use crate::ir::poly::{PolyGraph, PolyOp};
use crate::ir::shape::Shape;
use crate::ir::tensor::{ClientInput, Linear};
use crate::ir::weight::Weight;
use crate::pass::{Changed, Pass, PassCx, PassError};
use crate::substitute_polynomials::centring;

/// The pass; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoldCentring;

impl Pass for FoldCentring {
    type Ir = PolyGraph;
    const NAME: &'static str = "fold-centring";
    const NEEDED: bool = false;

    fn run(&self, graph: &mut PolyGraph, _cx: &mut PassCx) -> Result<Changed, PassError> {
        let streams = meanless(graph);
        if streams.is_empty() {
            return Ok(Changed::No);
        }
        for &v in &streams {
            let Shape::Matrix { rows, cols } = graph.node(v).shape else {
                continue;
            };
            let c = centring(cols);
            match &mut graph.node_mut(v).op {
                PolyOp::Linear(linear) if mixes_rows_only(linear) => {}
                PolyOp::Linear(linear) => *linear = composed(linear, &c, rows, rows, cols),
                PolyOp::Input {
                    client: ClientInput::Embedding { table, .. },
                    ..
                } => {
                    *table = table.then(&c.terms[0].weight);
                }
                _ => {}
            }
        }
        for v in graph.topological() {
            if let Some(x) = centres(graph, v) {
                if streams.contains(&x) {
                    graph.replace_uses(v, x);
                }
            }
        }
        graph.remove_dead(|op| matches!(op, PolyOp::Input { .. }));
        Ok(Changed::Yes)
    }
}

/// The operand of `v` if `v` does nothing but subtract the mean of its columns.
fn centres(graph: &PolyGraph, v: ValueId) -> Option<ValueId> {
    let Shape::Matrix { cols, .. } = graph.node(v).shape else {
        return None;
    };
    match &graph.node(v).op {
        PolyOp::Linear(linear) if is_centring(linear, cols) => graph.operands(v).first().copied(),
        _ => None,
    }
}

/// Whether a map makes rows of whole rows (choosing or averaging positions): what has no mean before has none after.
fn mixes_rows_only(linear: &Linear) -> bool {
    let [term] = &linear.terms[..] else {
        return false;
    };
    let w = &term.weight;
    linear.bias.is_none()
        && term.post.is_none()
        && w.rows() == w.cols()
        && *w == Weight::identity(w.cols())
}

fn is_centring(linear: &Linear, cols: usize) -> bool {
    linear.terms.len() == 1 && linear.terms[0].weight.rows() == cols && *linear == centring(cols)
}

/// Values whose mean over columns no reader sees and whose writers can drop it: the largest such set.
fn meanless(graph: &PolyGraph) -> BTreeSet<ValueId> {
    let can_drop = |v: ValueId| match &graph.node(v).op {
        PolyOp::Linear(linear) => {
            centres(graph, v).is_none() && linear.terms.iter().all(|t| t.post.is_none())
        }
        PolyOp::Input {
            client: ClientInput::Embedding { .. },
            ..
        } => true,
        PolyOp::Add | PolyOp::Sub => matches!(graph.node(v).shape, Shape::Matrix { .. }),
        _ => false,
    };
    let mut set: BTreeSet<ValueId> = graph
        .topological()
        .into_iter()
        .filter(|&v| can_drop(v))
        .collect();
    loop {
        let keep: BTreeSet<ValueId> = set
            .iter()
            .copied()
            .filter(|&v| {
                let users = graph.users(v);
                let is_sum = |v: ValueId| match &graph.node(v).op {
                    PolyOp::Add | PolyOp::Sub => true,
                    PolyOp::Linear(linear) => mixes_rows_only(linear),
                    _ => false,
                };
                !users.is_empty()
                    && graph.outputs.iter().all(|(_, o)| *o != v)
                    && users
                        .iter()
                        .all(|&u| centres(graph, u).is_some() || (is_sum(u) && set.contains(&u)))
                    && (!is_sum(v) || graph.operands(v).iter().all(|o| set.contains(o)))
            })
            .collect();
        if keep == set {
            return set;
        }
        set = keep;
    }
}
