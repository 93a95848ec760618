//! How deep a model is before it is packed.

use std::collections::BTreeMap;

use heron_passes::ir::poly::{Evaluation, PolyGraph, PolyOp};

/// Levels that any packing of the graph uses at least.
pub fn least_depth(graph: &PolyGraph) -> u32 {
    let mut depths = BTreeMap::new();
    let mut most = 0;
    for v in graph.topological() {
        let operands = graph.operands(v);
        let own = match &graph.node(v).op {
            PolyOp::Input { .. } | PolyOp::Add | PolyOp::Sub | PolyOp::Affine { .. } => 0,
            PolyOp::Linear(_)
            | PolyOp::Multiply
            | PolyOp::KeySum { .. }
            | PolyOp::ScaleHeads
            | PolyOp::ColumnSum { .. }
            | PolyOp::ScaleRows => 1,
            PolyOp::Scores { .. } => 2,
            PolyOp::Values { .. } => 1,
            PolyOp::Evaluate { evaluation, .. } => match evaluation {
                Evaluation::Polynomial(p) => (p.coefficients.len().max(1) as u32)
                    .next_power_of_two()
                    .ilog2(),
                Evaluation::Reciprocal { shifts, .. } => shifts.len() as u32,
                Evaluation::InverseSqrt { relaxation, .. } => relaxation.len() as u32,
            },
        };
        let before = operands.iter().filter_map(|o| depths.get(o)).max();
        let depth = before.copied().unwrap_or(0) + own;
        depths.insert(v, depth);
        most = most.max(depth);
    }
    most
}
