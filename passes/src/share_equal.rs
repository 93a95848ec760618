//! share-equal: poly → poly.
//! before   %a = square %x          after   %a = square %x
//!          %b = square %x                  (readers of %b read %a)
//! Needs    values made by the same operation with the same constants from the same operands.
//! Error    none.    Depth  none.
//! Why      the two LayerNorms of a parallel residual block read one stream: one variance and one inverse root serve both.
//! Refuses  nothing.
//! Source   common subexpressions, as every compiler finds them.

use std::collections::HashMap;

use crate::ir::graph::ValueId;
use crate::ir::poly::{PolyGraph, PolyOp};
use crate::pass::{Changed, Pass, PassCx, PassError};

/// The pass; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShareEqual;

impl Pass for ShareEqual {
    type Ir = PolyGraph;
    const NAME: &'static str = "share-equal";
    const NEEDED: bool = false;

    fn run(&self, graph: &mut PolyGraph, _: &mut PassCx) -> Result<Changed, PassError> {
        let mut changed = false;
        let mut by_operands: HashMap<Vec<ValueId>, Vec<ValueId>> = HashMap::new();
        for v in graph.topological() {
            let (op, shape) = (&graph.node(v).op, graph.node(v).shape);
            // Inputs are what the user gives, whatever their preparation.
            if matches!(op, PolyOp::Input { .. }) {
                continue;
            }
            let known = by_operands.entry(graph.operands(v)).or_default();
            let same = |o: &&ValueId| graph.node(**o).shape == shape && graph.node(**o).op == *op;
            match known.iter().find(same).copied() {
                Some(first) => {
                    graph.replace_uses(v, first);
                    changed = true;
                }
                None => known.push(v),
            }
        }
        if changed {
            graph.remove_dead(|op| matches!(op, PolyOp::Input { .. }));
        }
        Ok(Changed::from_bool(changed))
    }
}
