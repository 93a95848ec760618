//! defer-normalisation: poly → poly.
//! before   %p = scale_heads %n, %r      after   %u = values %n, %v
//!          %o = values %p, %v                   %o = scale_heads %u, %r
//! Needs    `%p` used only by `values`. Constant factors (`affine` without shift) in between move along.
//! Error    none: an exact identity.    Depth  the division leaves the path of the scores until after A·V.
//! Why      the rows × keys scores are never multiplied by 1/den, only the narrower result is; and the division has A·V's levels to
//!          finish in (encrypted-transformers, section 2).
//! Source   ours: the division of PowerSoftmax (arXiv 2410.09457) commutes with the product with V.

use crate::ir::graph::ValueId;
use crate::ir::poly::{PolyGraph, PolyOp};
use crate::pass::{Changed, Pass, PassCx, PassError};

/// The pass; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeferNormalisation;

impl Pass for DeferNormalisation {
    type Ir = PolyGraph;
    const NAME: &'static str = "defer-normalisation";
    const NEEDED: bool = true;

    fn run(&self, graph: &mut PolyGraph, _cx: &mut PassCx) -> Result<Changed, PassError> {
        let mut changed = false;
        for o in graph.topological() {
            if !matches!(graph.node(o).op, PolyOp::Values { .. }) {
                continue;
            }
            let [p, v] = graph.operands(o)[..] else {
                continue;
            };
            let Some((n, r, factor)) = scaled_by(graph, p) else {
                continue;
            };
            move_after(graph, o, (n, r, factor), v);
            changed = true;
        }
        if changed {
            graph.remove_dead(|op| matches!(op, PolyOp::Input { .. }));
        }
        for v in graph.topological() {
            // Weights that are used again (squared, summed) are kept: a softmax normalises on the way.
            let scores = matches!(graph.node(v).shape, crate::ir::shape::Shape::Scores { .. });
            let given_out = scores && given_out(graph, v);
            if given_out && matches!(graph.node(v).op, PolyOp::ScaleHeads) {
                return Err(PassError::Refused {
                    pass: Self::NAME,
                    value: graph.node(v).name.clone(),
                    reason: "the normalised attention weights are used by something else than A·V"
                        .into(),
                    remedy: "give out A·V instead of the weights, or split the model there".into(),
                });
            }
        }
        Ok(Changed::from_bool(changed))
    }
}

/// Whether a value, but for constant factors, is an output of the graph.
fn given_out(graph: &PolyGraph, v: ValueId) -> bool {
    graph.outputs.iter().any(|(_, o)| *o == v)
        || graph.users(v).into_iter().any(|u| {
            matches!(graph.node(u).op, PolyOp::Affine { .. } | PolyOp::Add) && given_out(graph, u)
        })
}

/// `p` as n · r · factor, where the scaling may go past A·V.
fn scaled_by(graph: &PolyGraph, p: ValueId) -> Option<(ValueId, ValueId, f64)> {
    let mut v = p;
    let mut factor = 1.0;
    while let PolyOp::Affine { scale, shift } = graph.node(v).op {
        if shift != 0.0 {
            return None;
        }
        factor *= scale;
        v = *graph.operands(v).first()?;
    }
    if !matches!(graph.node(v).op, PolyOp::ScaleHeads) {
        return None;
    }
    let [n, r] = graph.operands(v)[..] else {
        return None;
    };
    Some((n, r, factor))
}

fn move_after(
    graph: &mut PolyGraph,
    o: ValueId,
    (n, r, factor): (ValueId, ValueId, f64),
    v: ValueId,
) {
    let node = graph.node(o);
    let (name, shape, layer) = (node.name.clone(), node.shape, node.layer);
    graph.set_operands(o, &[n, v]);
    let layer_of_r = graph.node(r).layer;
    let scaled = graph.add(
        &format!("{name}_scaled"),
        PolyOp::ScaleHeads,
        &[],
        shape,
        layer_of_r,
    );
    let mut last = scaled;
    if factor != 1.0 {
        last = graph.add(
            &format!("{name}_unit"),
            PolyOp::Affine {
                scale: factor,
                shift: 0.0,
            },
            &[scaled],
            shape,
            layer,
        );
    }
    graph.replace_uses(o, last);
    graph.set_operands(scaled, &[o, r]);
}
